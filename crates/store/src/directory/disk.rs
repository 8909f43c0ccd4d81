//! What a directory store asks of a file system, and the real one.
//!
//! Every change a [`super::DirectoryStore`] makes goes through [`Disk`], so that a simulated disk
//! which forgets whatever was not synced can run the very same store.
//!
//! Paths are relative to the store's root, `/`-separated; the empty path is the root itself.
//!
//! What is not here: the order of the steps, which makes a create durable (`super`).

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// A file system, seen from one directory of it.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes an empty file that must not exist, readable by nobody else.
    fn create_file(&self, path: &str) -> io::Result<Box<dyn NewFile>>;

    /// Gives the file `from` the name `to`, which must not exist: of several racing callers exactly
    /// one succeeds, the others get [`io::ErrorKind::AlreadyExists`]. `from` may or may not remain.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes one directory that must not exist, closed to everybody else.
    fn make_dir(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &str) -> io::Result<()>;

    fn remove_file(&self, path: &str) -> io::Result<()>;

    /// The bytes of a regular file, or as many of `range` as it has.
    fn read(&self, path: &str, range: Option<Range<u64>>) -> io::Result<FilePart>;

    /// What a directory holds, in no order.
    fn read_dir(&self, path: &str) -> io::Result<Vec<DiskEntry>>;

    fn stat(&self, path: &str) -> io::Result<Stat>;
}

/// A file being written.
pub trait NewFile: Send {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable; its name is another matter ([`Disk::sync_dir`]).
    fn sync(&mut self) -> io::Result<()>;
}

#[derive(Debug)]
pub struct FilePart {
    pub bytes: Vec<u8>,
    /// Bytes of the whole file.
    pub file_len: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskEntry {
    pub name: String,
    pub kind: EntryKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Dir,
    /// A symbolic link, a socket: nothing a store makes.
    Other,
}

#[derive(Debug, Clone, Copy)]
pub struct Stat {
    pub kind: EntryKind,
    pub len: u64,
    pub modified: SystemTime,
}

/// A directory of a real file system.
///
/// Invariant (beneath-the-root): every path is walked from the root's descriptor component by
/// component without following a symbolic link, so that nothing placed inside the root can lead a
/// read or a write out of it.
#[derive(Debug)]
pub struct RootDir {
    root: OwnedFd,
    /// Whom what is made here is given to: root restores into every site, and the user who backs up
    /// every night, to whom the root belongs, must be able to read what such a restore recorded.
    owner: Option<(u32, u32)>,
}

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl RootDir {
    /// Opens a directory that exists; symbolic links on the way to it are the operator's business.
    pub fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&root)?;
        let owner = (rustix::process::geteuid().is_root() && stat.st_uid != 0).then_some((stat.st_uid, stat.st_gid));
        Ok(Self { root, owner })
    }

    /// Best effort: a file system that knows no owners needs none.
    fn give_away(&self, made: impl AsFd) {
        if let Some((user, group)) = self.owner {
            let _ = std::os::unix::fs::fchown(made, Some(user), Some(group));
        }
    }

    fn open_dir(&self, path: &str) -> io::Result<OwnedFd> {
        let mut at = rustix::fs::openat(&self.root, ".", DIR_FLAGS, Mode::empty())?;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            at = rustix::fs::openat(&at, plain(segment)?, DIR_FLAGS, Mode::empty())?;
        }
        Ok(at)
    }

    /// The directory that holds the last component, and that component.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (dir, last) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.open_dir(dir)?, plain(last)?))
    }
}

/// One component that stays in its directory; object names are such already, this is the second lock.
fn plain(segment: &str) -> io::Result<&str> {
    if segment.is_empty() || segment == "." || segment == ".." || segment.contains(['/', '\0']) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a plain file name"));
    }
    Ok(segment)
}

impl Disk for RootDir {
    fn create_file(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        let (dir, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, Mode::RUSR | Mode::WUSR)?;
        self.give_away(&file);
        Ok(Box::new(RealFile(File::from(file))))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        match rustix::fs::linkat(&from_dir, from_name, &to_dir, to_name, AtFlags::empty()) {
            // Some file systems have no hard links (exFAT, several network ones).
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                Ok(rustix::fs::renameat_with(&from_dir, from_name, &to_dir, to_name, flags)?)
            }
            other => Ok(other?),
        }
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        rustix::fs::mkdirat(&dir, name, Mode::RWXU)?;
        if self.owner.is_some() {
            self.give_away(rustix::fs::openat(&dir, name, DIR_FLAGS, Mode::empty())?);
        }
        Ok(())
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open_dir(path)?)?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&dir, name, AtFlags::empty())?)
    }

    fn read(&self, path: &str, range: Option<Range<u64>>) -> io::Result<FilePart> {
        let (dir, name) = self.parent(path)?;
        // NONBLOCK: opening a FIFO that somebody put there must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&dir, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(if metadata.is_dir() { Errno::ISDIR.into() } else { Errno::LOOP.into() });
        }
        let file_len = metadata.len();
        let range = range.unwrap_or(0..file_len);
        let len = range.end.min(file_len).saturating_sub(range.start);
        let len_wanted = usize::try_from(len).map_err(|_| Errno::FBIG)?;
        // Read into memory that nobody has written zeros to before: it is megabytes a request.
        let mut bytes = Vec::with_capacity(len_wanted);
        (&file).seek(SeekFrom::Start(range.start))?;
        if (&file).take(len).read_to_end(&mut bytes)? != len_wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(FilePart { bytes, file_len })
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        let fd = self.open_dir(path)?;
        let mut entries = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            // A name that is not UTF-8 is no object's name.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Dir,
                FileType::Unknown => match rustix::fs::statat(&fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => entry_kind(FileType::from_raw_mode(stat.st_mode)),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                },
                _ => EntryKind::Other,
            };
            entries.push(DiskEntry { name: name.to_owned(), kind });
        }
        Ok(entries)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        let (dir, name) = self.parent(path)?;
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
        let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        Ok(Stat {
            kind: entry_kind(FileType::from_raw_mode(stat.st_mode)),
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified: SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds),
        })
    }
}

fn entry_kind(file_type: FileType) -> EntryKind {
    match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        _ => EntryKind::Other,
    }
}

pub(super) struct RealFile(pub(super) File);

impl NewFile for RealFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Write::write_all(&mut self.0, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}
