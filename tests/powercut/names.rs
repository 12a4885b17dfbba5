//! Which names exist: now, for the program, and after a power cut.
//!
//! A name is not part of the file. Creating, renaming and removing are durable on their own terms:
//!
//! - [`Rule::Ordered`], as ext4 and XFS do it: changes of names go through one
//!   ordered journal, so those that survive are a prefix of those that happened. A sync commits the
//!   journal up to the last change that touched the synced file or directory; when it has to write
//!   a new file size too, up to the present.
//! - [`Rule::Strict`], as POSIX words it: a directory's changes survive in their order, and only
//!   `fsync` of that directory commits them.

use std::collections::BTreeMap;

use rand::{RngExt, rngs::StdRng};

/// A file or a directory, whatever it is called. The root is 0.
pub(crate) type Object = usize;
pub(crate) const ROOT: Object = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Ordered,
    Strict,
}

pub(crate) type Entries = BTreeMap<(Object, String), Object>;

pub(crate) struct Names {
    rule: Rule,
    live: Entries,
    edits: Vec<Edit>,
    /// How many operations there were; each made one or two edits.
    happened: usize,
    /// By domain, how many of them are certain.
    durable: BTreeMap<Object, usize>,
    /// By object, `happened` as it was after the last operation that touched it.
    touched: BTreeMap<Object, usize>,
}

struct Edit {
    operation: usize,
    directory: Object,
    name: String,
    /// `None` removes the name.
    object: Option<Object>,
}

impl Names {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            live: Entries::new(),
            edits: Vec::new(),
            happened: 0,
            durable: BTreeMap::new(),
            touched: BTreeMap::new(),
        }
    }

    pub(crate) fn live(&self) -> &Entries {
        &self.live
    }

    pub(crate) fn happened(&self) -> usize {
        self.happened
    }

    pub(crate) fn find(&self, path: &str) -> Option<Object> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |dir, name| self.live.get(&(dir, name.to_owned())).copied())
    }

    pub(crate) fn set(&mut self, path: &str, object: Object) {
        let place = self.place(path);
        self.operation(vec![(place, Some(object))], object);
    }

    pub(crate) fn remove(&mut self, path: &str) {
        let place = self.place(path);
        let Some(object) = self.live.get(&place).copied() else { return };
        self.operation(vec![(place, None)], object);
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let (old, new) = (self.place(from), self.place(to));
        let Some(object) = self.live.get(&old).copied() else { return };
        // Renaming one of two links onto the other changes nothing, says POSIX.
        if self.live.get(&new) != Some(&object) {
            self.operation(vec![(new, Some(object)), (old, None)], object);
        }
    }

    /// `object` was synced by a call that began after `seen` operations.
    pub(crate) fn synced(&mut self, object: Object, is_dir: bool, size_dirty: bool, seen: usize) {
        let last = self.touched.get(&object).copied().unwrap_or(0).min(seen);
        let (domain, certain) = match self.rule {
            Rule::Ordered => (ROOT, if size_dirty { seen } else { last }),
            Rule::Strict if is_dir => (object, seen),
            Rule::Strict => return,
        };
        let durable = self.durable.entry(domain).or_default();
        *durable = (*durable).max(certain);
    }

    /// The names after a cut: all that is certain, and a random part of what follows.
    pub(crate) fn after_cut(&self, dice: &mut StdRng) -> Entries {
        let mut kept: BTreeMap<Object, usize> = BTreeMap::new();
        let mut entries = Entries::new();
        for edit in &self.edits {
            let domain = self.domain(edit.directory);
            let limit = *kept.entry(domain).or_insert_with(|| {
                let certain = self.durable.get(&domain).copied().unwrap_or(0);
                // Half of the time nothing more: most cuts come before the journal's next commit.
                if dice.random_bool(0.5) {
                    certain
                } else {
                    dice.random_range(certain..=self.happened)
                }
            });
            if edit.operation >= limit {
                continue;
            }
            let place = (edit.directory, edit.name.clone());
            match edit.object {
                Some(object) => entries.insert(place, object),
                None => entries.remove(&place),
            };
        }
        entries
    }

    fn domain(&self, directory: Object) -> Object {
        match self.rule {
            Rule::Ordered => ROOT,
            Rule::Strict => directory,
        }
    }

    fn place(&self, path: &str) -> (Object, String) {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.find(parent).unwrap_or_else(|| panic!("no directory for {path}"));
        (directory, name.to_owned())
    }

    fn operation(&mut self, edits: Vec<((Object, String), Option<Object>)>, object: Object) {
        let operation = self.happened;
        self.happened += 1;
        self.touched.insert(object, self.happened);
        for ((directory, name), object) in edits {
            self.touched.insert(directory, self.happened);
            match object {
                Some(object) => self.live.insert((directory, name.clone()), object),
                None => self.live.remove(&(directory, name.clone())),
            };
            self.edits.push(Edit { operation, directory, name, object });
        }
    }
}
