//! A disk that is cut from power: replays a journal, and says what is left at any point of it.
//!
//! Promised: everything that a finished sync covers is in the image; of the rest, a random part
//! that a kernel could have written back by then (`file.rs`, `names.rs`). The same seed on the same
//! journal gives the same image. Not promised: a drive that lies about its own flush.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::rngs::StdRng;

use crate::{
    file::{FileState, PAGE},
    journal::{Journal, Op},
    names::{Entries, Names, Object, ROOT, Rule},
};

pub(crate) struct Disk<'a> {
    journal: &'a Journal,
    /// The index of the next record to replay.
    next: usize,
    objects: Vec<Node>,
    by_ino: HashMap<u64, Object>,
    names: Names,
    begun: HashMap<u64, Begun>,
    /// Syncs that were ignored become durable after this long, as background writeback would.
    writeback: Option<Duration>,
    ignored: VecDeque<(u64, u64)>,
}

enum Node {
    Dir,
    File(FileState),
}

/// What a sync saw when it began.
struct Begun {
    object: Object,
    names: usize,
    size_dirty: bool,
}

const PUNCH_HOLE: u64 = 2;
const KEEP_SIZE: u64 = 1;

impl<'a> Disk<'a> {
    pub(crate) fn new(journal: &'a Journal, rule: Rule, writeback: Option<Duration>) -> Self {
        Self {
            journal,
            next: 0,
            objects: vec![Node::Dir],
            by_ino: HashMap::new(),
            names: Names::new(rule),
            begun: HashMap::new(),
            writeback,
            ignored: VecDeque::new(),
        }
    }

    /// Replays all records before `cut`. Cuts are visited in rising order.
    pub(crate) fn advance(&mut self, cut: usize) {
        assert!(self.next <= cut, "a disk cannot be replayed backwards");
        let journal = self.journal;
        for record in &journal.records[self.next..cut] {
            self.write_back(record.ns);
            self.apply(record.seq, record.ns, &record.op);
        }
        self.next = cut;
    }

    /// Writes the disk as it would be found after a cut here into the new directory `to`.
    pub(crate) fn image(&self, keep: f64, dice: &mut StdRng, to: &Path) -> io::Result<()> {
        let entries = self.names.after_cut(dice);
        let mut written = BTreeMap::new();
        fs::create_dir_all(to)?;
        self.put_directory(ROOT, &entries, to, &mut written, &mut |file| {
            file.after_cut(keep, dice, &self.journal.bytes)
        })
    }

    /// The disk as the program itself sees it: all files below the root with their bytes.
    pub(crate) fn live(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut open = vec![(ROOT, String::new())];
        while let Some((dir, prefix)) = open.pop() {
            let names = self.names.live().range((dir, String::new())..(dir + 1, String::new()));
            for ((_, name), object) in names {
                let path = format!("{prefix}{name}");
                match &self.objects[*object] {
                    Node::Dir => open.push((*object, format!("{path}/"))),
                    Node::File(file) => {
                        files.insert(path, file.live(&self.journal.bytes));
                    }
                }
            }
        }
        files
    }

    fn put_directory(
        &self,
        directory: Object,
        entries: &Entries,
        to: &Path,
        written: &mut BTreeMap<Object, PathBuf>,
        bytes: &mut dyn FnMut(&FileState) -> Vec<u8>,
    ) -> io::Result<()> {
        for ((_, name), object) in
            entries.range((directory, String::new())..(directory + 1, String::new()))
        {
            let path = to.join(name);
            match &self.objects[*object] {
                Node::Dir => {
                    fs::create_dir(&path)?;
                    self.put_directory(*object, entries, &path, written, bytes)?;
                }
                Node::File(_) if written.contains_key(object) => {
                    fs::hard_link(&written[object], &path)?;
                }
                Node::File(file) => {
                    put_file(&path, &bytes(file))?;
                    written.insert(*object, path);
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, seq: u64, ns: u64, op: &Op) {
        match op {
            Op::Open { ino, path, created, truncated } => {
                if *created {
                    self.create(*ino, path, Node::File(FileState::default()));
                }
                let object = self.learn(*ino, path);
                if let (true, Node::File(file)) = (truncated, &mut self.objects[object]) {
                    file.resize(seq, 0);
                }
            }
            Op::Mkdir { ino, path } => self.create(*ino, path, Node::Dir),
            Op::Write { ino, offset, data } => self.file(*ino).write(seq, *offset, data.clone()),
            Op::Resize { ino, len } => self.file(*ino).resize(seq, *len),
            Op::Allocate { ino, mode: 0, offset, len } => {
                self.file(*ino).extend(seq, offset + len);
            }
            Op::Allocate { mode, .. } => {
                assert!(
                    *mode & KEEP_SIZE != 0 && *mode & PUNCH_HOLE == 0,
                    "fallocate mode {mode} is not modelled"
                );
            }
            Op::SyncBegin { ino } => self.sync_begins(seq, *ino),
            Op::SyncEnd { begin, ok } => self.sync_ends(*begin, *ok),
            Op::SyncIgnored { ino } => {
                self.sync_begins(seq, *ino);
                self.ignored.push_back((ns, seq));
            }
            Op::SyncRange => {}
            Op::Rename { from, to } => self.names.rename(from, to),
            Op::Link { from, to } => {
                let object = self.names.find(from).unwrap_or_else(|| panic!("no file {from}"));
                self.names.set(to, object);
            }
            Op::Unlink { path } => self.names.remove(path),
        }
    }

    fn create(&mut self, ino: u64, path: &str, node: Node) {
        let object = self.objects.len();
        self.objects.push(node);
        self.by_ino.insert(ino, object);
        self.names.set(path, object);
    }

    fn learn(&mut self, ino: u64, path: &str) -> Object {
        let known = self.names.find(path);
        let object = known.unwrap_or_else(|| panic!("{path} was there before the journal began"));
        self.by_ino.insert(ino, object);
        object
    }

    fn file(&mut self, ino: u64) -> &mut FileState {
        match &mut self.objects[self.by_ino[&ino]] {
            Node::File(file) => file,
            Node::Dir => panic!("bytes were written to a directory"),
        }
    }

    fn sync_begins(&mut self, seq: u64, ino: u64) {
        let object = self.by_ino[&ino];
        let size_dirty = match &self.objects[object] {
            Node::File(file) => file.size_is_dirty(),
            Node::Dir => false,
        };
        self.begun.insert(seq, Begun { object, names: self.names.happened(), size_dirty });
    }

    fn sync_ends(&mut self, begin: u64, ok: bool) {
        let Some(begun) = self.begun.remove(&begin) else { return };
        if !ok {
            return;
        }
        let node = &mut self.objects[begun.object];
        let is_dir = matches!(node, Node::Dir);
        if let Node::File(file) = node {
            file.commit(begin, &self.journal.bytes);
        }
        self.names.synced(begun.object, is_dir, begun.size_dirty, begun.names);
    }

    fn write_back(&mut self, now: u64) {
        let Some(after) = self.writeback else { return };
        while let Some((ns, seq)) = self.ignored.front().copied() {
            if u128::from(now - ns) < after.as_nanos() {
                return;
            }
            self.ignored.pop_front();
            self.sync_ends(seq, true);
        }
    }
}

/// Leaves pages of zeros as holes, which is what they are on most disks, and quicker.
fn put_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create_new(path)?;
    file.set_len(bytes.len() as u64)?;
    let blank = |page: &[u8]| page == &[0; PAGE][..page.len()];
    let mut start = 0;
    while start < bytes.len() {
        let mut end = start;
        while end < bytes.len() && !blank(&bytes[end..bytes.len().min(end + PAGE)]) {
            end = bytes.len().min(end + PAGE);
        }
        file.write_all_at(&bytes[start..end], start as u64)?;
        start = end + PAGE;
    }
    Ok(())
}
