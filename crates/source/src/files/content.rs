//! The content of one regular file, holes kept, and whether it stood still while it was read.

use std::time::{Duration, SystemTime};

use lifeboat_model::{Entry, EntryKind, EntryPath, FileTime};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, FileType, OFlags, SeekFrom, Statx};
use rustix::io::Errno;

use super::metadata::{metadata, time};
use super::xattr::{self, Subject};
use crate::beneath::{self, Mounts, file_type, stat_fd};
use crate::{Content, ContentCheck, Error, Read};

/// Files from this size on are announced to the kernel for sequential reading.
const ADVISE_BYTES_MIN: u64 = 256 * 1024;

/// Longer than one tick of the kernel's clock for file times (10 ms at the coarsest).
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct FileContent {
    file: OwnedFd,
    path: EntryPath,
    opened: Statx,
    offset: u64,
    /// Where the data that begins at or before `offset` ends.
    data_end: u64,
    sparse: bool,
}

impl FileContent {
    /// Opens the file at `path` beneath the part's root, as it is now.
    pub fn open(root: impl AsFd, path: &EntryPath) -> Result<Self, Error> {
        let mut content = Self::open_at_once(root, path)?;
        if let Some(wait) = until_settled(time(content.opened.stx_ctime), SystemTime::now()) {
            std::thread::sleep(wait);
            content.opened = stat_fd(&content.file).map_err(|errno| content.failed(errno))?;
        }
        content.begin();
        Ok(content)
    }

    /// Opens a file that nobody else writes to.
    pub fn open_ours(root: impl AsFd, path: &EntryPath) -> Result<Self, Error> {
        let mut content = Self::open_at_once(root, path)?;
        content.begin();
        Ok(content)
    }

    fn open_at_once(root: impl AsFd, path: &EntryPath) -> Result<Self, Error> {
        let failed = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Error::Gone { path: path.to_string() },
            Errno::LOOP | Errno::NXIO => swapped(path),
            errno => Error::io("cannot open the file", path.as_bytes(), errno),
        };
        // NONBLOCK: a FIFO put in the file's place since it was listed must not hang the walk.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file =
            open_quietly(|quiet| beneath::open(&root, path.as_bytes(), flags | quiet, Mounts::Stay)).map_err(failed)?;
        let opened = stat_fd(&file).map_err(failed)?;
        if file_type(&opened) != FileType::RegularFile {
            return Err(swapped(path));
        }
        Ok(Self { file, path: path.clone(), opened, offset: 0, data_end: 0, sparse: false })
    }

    fn begin(&mut self) {
        let size = self.opened.stx_size;
        if size >= ADVISE_BYTES_MIN {
            // Advice only: a file system that cannot take it reads as well without.
            let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::Sequential);
        }
        self.sparse = self.opened.stx_blocks.saturating_mul(512) < size;
        self.data_end = if self.sparse { 0 } else { size };
    }

    pub fn inode(&self) -> u64 {
        self.opened.stx_ino
    }

    pub fn size(&self) -> u64 {
        self.opened.stx_size
    }

    pub fn into_file(self) -> OwnedFd {
        self.file
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::io("cannot read the file", self.path.as_bytes(), errno)
    }

    /// Stands at the end of known data: the length of the hole here, or none when data begins.
    fn next_stretch(&mut self) -> Result<Option<u64>, Error> {
        let size = self.opened.stx_size;
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(self.offset)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.data_end = size;
                return Ok(None);
            }
            Err(errno) => return Err(self.failed(errno)),
        };
        if data > self.offset {
            let len = data - self.offset;
            self.offset = data;
            return Ok(Some(len));
        }
        let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(self.offset)).map_err(|errno| self.failed(errno))?;
        self.data_end = hole.clamp(self.offset + 1, size);
        Ok(None)
    }
}

impl Content for FileContent {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        if self.offset >= self.opened.stx_size {
            return Ok(Read::End);
        }
        if self.sparse
            && self.offset >= self.data_end
            && let Some(len) = self.next_stretch()?
        {
            return Ok(Read::Hole(len));
        }
        let want = usize::try_from(self.data_end - self.offset).unwrap_or(usize::MAX).min(buffer.len());
        let mut filled = 0;
        while filled < want {
            match rustix::io::pread(&self.file, &mut buffer[filled..want], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        self.offset += filled as u64;
        if filled == 0 && want > 0 {
            // Cut short while it was read: `check` sees it.
            self.offset = self.opened.stx_size;
            return Ok(Read::End);
        }
        Ok(Read::Data(filled))
    }

    fn check(&mut self) -> Result<ContentCheck, Error> {
        let now = stat_fd(&self.file).map_err(|errno| self.failed(errno))?;
        let evidence = |stat: &Statx| (stat.stx_ino, stat.stx_size, time(stat.stx_mtime), time(stat.stx_ctime));
        if evidence(&now) != evidence(&self.opened) {
            return Ok(ContentCheck::Changed);
        }
        let xattrs = xattr::read_all(Subject::Open(self.file.as_fd())).map_err(|errno| self.failed(errno))?;
        Ok(ContentCheck::Stable(Box::new(Entry {
            path: self.path.clone(),
            kind: EntryKind::File,
            metadata: metadata(&now, xattrs),
            extents: Vec::new(),
        })))
    }
}

fn swapped(path: &EntryPath) -> Error {
    Error::Busy {
        path: path.to_string(),
        detail: "it became another kind of file while it was read".into(),
        hint: "back the site up again, frozen if it is busy".into(),
    }
}

/// Opens without touching the access time where that is allowed (the owner's files, or as root).
pub(crate) fn open_quietly(open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        result => result,
    }
}

/// How long to wait until a write after this moment is sure to get a later time than `changed`.
///
/// The kernel stamps files with a coarse clock: two writes within one tick carry the same times, and
/// the second of them could not be told from the first, neither by `check` nor by the next backup.
fn until_settled(changed: FileTime, now: SystemTime) -> Option<Duration> {
    let seconds = u64::try_from(changed.seconds).ok()?;
    let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, changed.nanoseconds))?;
    let age = match now.duration_since(changed) {
        Ok(age) => age,
        Err(ahead) if ahead.duration() < TICK => Duration::ZERO,
        // A clock that runs ahead (another host's) says nothing about ours.
        Err(_) => return None,
    };
    (age < TICK).then(|| TICK - age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_written_within_this_tick_is_waited_for() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(10_000);
        let check = |millis_ago: i64, want: Option<u64>| {
            let at = 10_000 - millis_ago;
            let changed = FileTime { seconds: at / 1000, nanoseconds: (at % 1000) as u32 * 1_000_000 };
            assert_eq!(until_settled(changed, now), want.map(Duration::from_millis), "{millis_ago} ms ago");
        };
        check(0, Some(20));
        check(5, Some(15));
        check(20, None);
        check(5_000, None);
        check(-5, Some(20));
        check(-5_000, None);
    }
}
