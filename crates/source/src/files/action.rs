//! What a target is told to do, as plain data.

use lifeboat_model::{Entry, EntryKind, EntryPath, FileTime};

/// One change of one path. Every action can be repeated: a run that was killed is run again from
/// its first action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// `entry` comes to stand at its path, over what `over` says; the content of a file was staged before.
    Put { entry: Entry, over: Over },
    /// Owner, mode, attributes and times of something that stays; not for directories, which are
    /// finished last.
    SetMetadata { entry: Entry },
    /// Makes way for a later `Put` at the place of the directory that held it.
    Remove(Removal),
}

/// What may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nothing was there: what has appeared since is a conflict.
    Nothing,
    /// What was seen there, if nobody wrote to it since.
    Seen(Seen),
    Anything,
}

/// How a live entry is known again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub inode: u64,
    /// A write moves it; a directory's is moved by our own work and says nothing.
    pub modified: Option<FileTime>,
}

impl Seen {
    pub fn of(entry: &Entry) -> Self {
        let modified = (entry.kind != EntryKind::Directory).then_some(entry.metadata.modified);
        Self { inode: entry.metadata.inode, modified }
    }
}

/// An entry to be removed. A directory is removed only when it is empty; the root of the part may
/// be removed, last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub path: EntryPath,
    /// What was seen there and kept for undo; `None` removes whatever it is.
    pub seen: Option<Seen>,
}

impl Action {
    pub fn path(&self) -> &EntryPath {
        match self {
            Action::Put { entry, .. } | Action::SetMetadata { entry } => &entry.path,
            Action::Remove(removal) => &removal.path,
        }
    }
}
