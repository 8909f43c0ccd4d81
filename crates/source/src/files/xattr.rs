//! Extended attributes, POSIX ACLs among them, as raw names and values.
//!
//! Files and directories that are open are asked by descriptor; everything else by a name in an
//! open directory, through `/proc/self/fd`, so that nothing has to be opened that may not be
//! (unreadable files, symbolic links, FIFOs).

use lifeboat_model::Xattr;
use rustix::fd::BorrowedFd;
use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};

use crate::beneath::proc_path;

/// What carries metadata: an open file, or a name that is never followed.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    Open(BorrowedFd<'a>),
    Name { dir: BorrowedFd<'a>, name: &'a [u8] },
}

/// Every attribute of the subject, sorted by name. File systems without attributes have none.
pub(crate) fn read_all(subject: Subject<'_>) -> Result<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    let list = match names(subject) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP) => return Ok(xattrs),
        Err(errno) => return Err(errno),
    };
    for name in list.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        match value(subject, name) {
            Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
            // Removed since it was listed; or listed by the file system and not readable by anyone.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// The list of names, each ended by a zero byte. Nearly always empty: one call, no allocation.
fn names(subject: Subject<'_>) -> Result<Vec<u8>> {
    let list = |buffer: &mut [u8]| match subject {
        Subject::Open(fd) => rustix::fs::flistxattr(fd, buffer),
        Subject::Name { dir, name } => rustix::fs::llistxattr(proc_path(dir, name), buffer),
    };
    grown(list)
}

fn value(subject: Subject<'_>, attribute: &[u8]) -> Result<Vec<u8>> {
    let get = |buffer: &mut [u8]| match subject {
        Subject::Open(fd) => rustix::fs::fgetxattr(fd, attribute, buffer),
        Subject::Name { dir, name } => rustix::fs::lgetxattr(proc_path(dir, name), attribute, buffer),
    };
    grown(get)
}

/// Calls with a small buffer, then with the largest that Linux allows (64 KiB, xattr(7)).
fn grown(call: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut small = [0u8; 512];
    match call(&mut small) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut large = vec![0u8; 64 * 1024 + 1];
    let len = call(&mut large)?;
    large.truncate(len);
    Ok(large)
}

pub(crate) fn set(subject: Subject<'_>, xattr: &Xattr) -> Result<()> {
    let name = xattr.name.as_slice();
    match subject {
        Subject::Open(fd) => rustix::fs::fsetxattr(fd, name, &xattr.value, XattrFlags::empty()),
        Subject::Name { dir, name: file } => {
            rustix::fs::lsetxattr(proc_path(dir, file), name, &xattr.value, XattrFlags::empty())
        }
    }
}

pub(crate) fn remove(subject: Subject<'_>, attribute: &[u8]) -> Result<()> {
    match subject {
        Subject::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
        Subject::Name { dir, name } => rustix::fs::lremovexattr(proc_path(dir, name), attribute),
    }
}
