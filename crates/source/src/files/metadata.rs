//! What `statx` says, in the model's words.

use lifeboat_model::{EntryMetadata, FileTime, Xattr};
use rustix::fs::{FileType, Statx, StatxAttributes, StatxTimestamp};

use crate::beneath::file_type;

/// The metadata of anything in a part; only regular files have a size.
pub(crate) fn metadata(stat: &Statx, xattrs: Vec<Xattr>) -> EntryMetadata {
    EntryMetadata {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
        inode: stat.stx_ino,
        size: if file_type(stat) == FileType::RegularFile { stat.stx_size } else { 0 },
        xattrs,
    }
}

pub(crate) fn time(stamp: StatxTimestamp) -> FileTime {
    FileTime { seconds: stamp.tv_sec, nanoseconds: stamp.tv_nsec }
}

/// Which inode this is, over all file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct InodeId {
    device: (u32, u32),
    inode: u64,
}

impl InodeId {
    pub fn of(stat: &Statx) -> Self {
        Self { device: (stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino }
    }

    pub fn same_device(self, other: Self) -> bool {
        self.device == other.device
    }

    /// The inode with this number on the same file system.
    pub fn sibling(self, inode: u64) -> Self {
        Self { inode, ..self }
    }
}

/// Whether something else is mounted here (a bind mount of the same file system included), seen
/// from a part whose root is `root`.
pub(crate) fn is_mounted_over(stat: &Statx, root: InodeId) -> bool {
    stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) || !InodeId::of(stat).same_device(root)
}
