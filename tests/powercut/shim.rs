//! Puts `disk.c` under a program, and checks afterwards that it saw everything.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::{disk::Disk, journal::Journal, names::Rule};

/// A folder that one program lives in: `root` is the modelled disk, the journal lies beside it.
pub(crate) struct Shim {
    pub(crate) root: PathBuf,
    pub(crate) journal: PathBuf,
    /// Syncs of the file with this name do nothing.
    pub(crate) ignore_fdatasync: Option<&'static str>,
    /// `sync_file_range` does what `fdatasync` does.
    pub(crate) range_is_fdatasync: bool,
}

impl Shim {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let root = folder.join("disk");
        fs::create_dir(&root)?;
        Ok(Self {
            root,
            journal: folder.join("journal"),
            ignore_fdatasync: None,
            range_is_fdatasync: false,
        })
    }

    pub(crate) fn put_under(&self, program: &mut Command) {
        program.env("LD_PRELOAD", library()).env("POWERCUT_ROOT", &self.root);
        program.env("POWERCUT_JOURNAL", &self.journal);
        if let Some(name) = self.ignore_fdatasync {
            program.env("POWERCUT_IGNORE_FDATASYNC", name);
        }
        if self.range_is_fdatasync {
            program.env("POWERCUT_RANGE_IS_FDATASYNC", "1");
        }
    }

    /// Holds the program still between two changes of its disk. Kill it meanwhile, and the journal
    /// says exactly what was done.
    pub(crate) fn freeze(&self) -> io::Result<fs::File> {
        let journal = fs::File::open(&self.journal)?;
        journal.lock()?;
        Ok(journal)
    }

    /// Reads the journal of a program that has ended, and holds it against the files it left:
    /// whatever reached them by a way that the shim does not see makes this fail.
    pub(crate) fn finished(&self, skip: &[&str]) -> Journal {
        let journal = Journal::read(&self.journal).unwrap_or_else(|error| {
            panic!("no journal: is the program linked statically? ({error})")
        });
        if let Some(difference) = differs(&journal, &files_below(&self.root, skip), skip) {
            panic!("the journal does not explain the disk: {difference}");
        }
        journal
    }
}

fn differs(journal: &Journal, found: &BTreeMap<String, Vec<u8>>, skip: &[&str]) -> Option<String> {
    let mut disk = Disk::new(journal, Rule::Ordered, None);
    disk.advance(journal.records.len());
    let mut replayed = disk.live();
    replayed.retain(|name, _| !skip.contains(&base_name(name)));
    for name in replayed.keys().chain(found.keys()) {
        match (replayed.get(name), found.get(name)) {
            (Some(ours), Some(theirs)) if ours == theirs => {}
            (Some(ours), Some(theirs)) => {
                let first = ours.iter().zip(theirs).position(|(a, b)| a != b);
                let (ours, theirs) = (ours.len(), theirs.len());
                return Some(format!(
                    "{name}: {ours} bytes replayed, {theirs} found, first difference {first:?}"
                ));
            }
            (Some(_), None) => return Some(format!("{name} was replayed and is not there")),
            (None, _) => return Some(format!("{name} is there and was not replayed")),
        }
    }
    None
}

fn files_below(root: &Path, skip: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a readable directory") {
            let path = entry.expect("a directory entry").path();
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            if path.is_dir() {
                open.push(path);
            } else if path.is_file() && !skip.contains(&base_name(&name)) {
                files.insert(name, fs::read(path).expect("a readable file"));
            }
        }
    }
    files
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Where work and evidence lie.
pub(crate) fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("powercut");
    fs::create_dir_all(&folder).expect("a folder for the tests");
    folder
}

/// The compiled shim; built once by each test process, so it is never older than its source.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("powercut/disk.c");
        let library = scratch().join(format!("disk-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-o"])
            .arg(&library)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .output()
            .unwrap_or_else(|error| panic!("the power-cut tests need a C compiler, `cc`: {error}"));
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "cc could not build disk.c:\n{errors}");
        let shared = scratch().join("disk.so");
        fs::rename(&library, &shared).expect("put disk.so in place");
        shared
    })
}
