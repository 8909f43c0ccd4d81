//! A database file's mode, owner, times and extended attributes.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lifeboat_model::{EntryMetadata, FileTime, Xattr};
use rustix::fs::{Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::stat::FileStat;
use crate::Error;

/// Metadata of the file at `path` for an entry of `size` bytes; times and inode are those of `stat`.
pub(super) fn read(path: &Path, stat: &FileStat, size: u64) -> Result<EntryMetadata, Error> {
    let bytes = path.as_os_str().as_bytes();
    let metadata = std::fs::symlink_metadata(path).map_err(|io| Error::io("cannot look at the database", bytes, io))?;
    let xattrs = xattrs(path).map_err(|io| Error::io("cannot read extended attributes", bytes, io))?;
    Ok(EntryMetadata {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        modified: stat.modified,
        changed: stat.changed,
        inode: stat.inode,
        size,
        xattrs,
    })
}

fn xattrs(path: &Path) -> rustix::io::Result<Vec<Xattr>> {
    // Attributes rarely change; one that grows between asking and reading is read again.
    let filled = |len: &dyn Fn() -> rustix::io::Result<usize>,
                  read: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>| loop {
        let mut buffer = vec![0; len()?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match read(&mut buffer) {
            Err(Errno::RANGE) => continue,
            other => {
                buffer.truncate(other?);
                return Ok::<_, Errno>(buffer);
            }
        }
    };
    let names = match filled(&|| rustix::fs::llistxattr(path, &mut [0u8; 0]), &|b| rustix::fs::llistxattr(path, b)) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut xattrs = Vec::new();
    for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let value =
            filled(&|| rustix::fs::lgetxattr(path, name, &mut [0u8; 0]), &|b| rustix::fs::lgetxattr(path, name, b));
        match value {
            Err(Errno::NODATA) => {}
            value => xattrs.push(Xattr { name: name.to_vec(), value: value? }),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// Gives the file the entry's owner, mode and attributes; `with_times`: its time as well. Returns
/// what a user other than root was not allowed to set, for a person.
pub(super) fn apply(path: &Path, wanted: &EntryMetadata, with_times: bool) -> Result<Vec<String>, Error> {
    let bytes = path.as_os_str().as_bytes();
    let failed = |io: std::io::Error| Error::io("cannot set owner, mode or times", bytes, io);
    let now = std::fs::symlink_metadata(path).map_err(failed)?;
    let mut refused = Vec::new();
    if (now.uid(), now.gid()) != (wanted.uid, wanted.gid) {
        match std::os::unix::fs::lchown(path, Some(wanted.uid), Some(wanted.gid)) {
            Err(io) if io.kind() == std::io::ErrorKind::PermissionDenied => {
                refused.push(format!("the owner could not be set: uid=`{}`, gid=`{}`", wanted.uid, wanted.gid));
            }
            other => other.map_err(failed)?,
        }
    }
    if now.mode() & 0o7777 != wanted.mode {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(wanted.mode);
        std::fs::set_permissions(path, mode).map_err(failed)?;
    }
    for xattr in &wanted.xattrs {
        if let Err(errno) = rustix::fs::lsetxattr(path, xattr.name.as_slice(), &xattr.value, XattrFlags::empty()) {
            refused.push(format!(
                "an extended attribute could not be set: name=`{}`, {}",
                crate::error::shown(&xattr.name),
                std::io::Error::from(errno)
            ));
        }
    }
    if with_times {
        let time = |time: FileTime| Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
        let times = Timestamps { last_access: time(wanted.modified), last_modification: time(wanted.modified) };
        rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed(errno.into()))?;
    }
    Ok(refused)
}
