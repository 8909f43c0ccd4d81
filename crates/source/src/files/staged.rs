//! One file being staged: written in any order from any thread, seen by nobody until the switch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_model::{Entry, EntryPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;

use super::apply::{Owner, Setter, Unset};
use super::metadata::metadata;
use super::xattr::{self, Subject};
use crate::Error;
use crate::beneath::stat_fd;

/// Mode of a staged file until it is finished: nobody else reads half a file.
pub(crate) const STAGED_MODE: u32 = 0o600;

/// The disk is given so much at a time, while the rest is still being read.
const WRITE_BACK_BYTES: u64 = 1 << 20;

/// A staged file. `Send` and `Sync`: threads write disjoint stretches of it.
#[derive(Debug)]
pub struct StagedFile {
    file: OwnedFd,
    /// Without its extents.
    entry: Entry,
    /// Bytes that must be written: all but the holes. `None`: the entry came without extents.
    wanted: Option<u64>,
    owner: Owner,
    unset: Arc<Unset>,
    /// An earlier attempt made it, and may have given it attributes.
    is_earlier: bool,
    /// Bytes written so far, and the end of the farthest write.
    written: AtomicU64,
    end: AtomicU64,
}

/// A file of the live part, opened to copy stretches of it that are still good.
#[derive(Debug)]
pub struct LiveFile {
    pub(crate) file: OwnedFd,
    pub(crate) path: EntryPath,
}

impl LiveFile {
    /// Reads as much as there is, up to the buffer's length.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        read_at(&self.file, &self.path, offset, buffer)
    }
}

fn read_at(file: &OwnedFd, path: &EntryPath, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::io("cannot read the file", path.as_bytes(), errno)),
        }
    }
    Ok(filled)
}

impl StagedFile {
    pub(crate) fn new(file: OwnedFd, entry: &Entry, owner: Owner, unset: Arc<Unset>) -> Self {
        let wanted = entry.chunks().map(|chunk| u64::from(chunk.raw_len)).sum();
        Self {
            file,
            wanted: (!entry.extents.is_empty()).then_some(wanted),
            entry: Entry {
                path: entry.path.clone(),
                kind: entry.kind.clone(),
                metadata: entry.metadata.clone(),
                extents: Vec::new(),
            },
            owner,
            unset,
            is_earlier: false,
            written: AtomicU64::new(0),
            end: AtomicU64::new(0),
        }
    }

    /// The same of a file that an earlier attempt has made.
    pub(crate) fn earlier(self) -> Self {
        Self { is_earlier: true, ..self }
    }

    pub fn path(&self) -> &EntryPath {
        &self.entry.path
    }

    /// Reads what an earlier attempt left, as much as there is, up to the buffer's length.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        read_at(&self.file, &self.entry.path, offset, buffer)
    }

    /// Takes a stretch that an earlier attempt left for written: the caller has compared it.
    pub fn keep(&self, offset: u64, len: u64) -> Result<(), Error> {
        self.check_range(offset, len)?;
        self.written.fetch_add(len, Ordering::AcqRel);
        self.end.fetch_max(offset + len, Ordering::AcqRel);
        Ok(())
    }

    /// Writes one stretch. Holes are simply not written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.check_range(offset, bytes.len() as u64)?;
        let mut done = 0;
        while done < bytes.len() {
            match rustix::io::pwrite(&self.file, &bytes[done..], offset + done as u64) {
                Ok(0) => return Err(self.failed(Errno::IO)),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        self.count(offset, bytes.len() as u64);
        Ok(())
    }

    /// Takes `len` bytes at `from` of a live file over to `at`: shared blocks where the file system
    /// can, a copy inside the kernel where not. What is taken over is not checked here.
    pub fn copy_from_live(&self, live: &LiveFile, from: u64, at: u64, len: u64) -> Result<(), Error> {
        self.check_range(at, len)?;
        let (mut source, mut target) = (from, at);
        let end = at + len;
        while target < end {
            let want = usize::try_from(end - target).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(&live.file, Some(&mut source), &self.file, Some(&mut target), want) {
                Ok(0) => return Err(self.too_short(live)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    return self.copy_by_hand(live, source, target, end - target);
                }
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        self.count(at, len);
        Ok(())
    }

    fn copy_by_hand(&self, live: &LiveFile, from: u64, at: u64, len: u64) -> Result<(), Error> {
        let mut buffer = vec![0u8; 256 * 1024];
        let mut done = 0;
        while done < len {
            let want = buffer.len().min(usize::try_from(len - done).unwrap_or(usize::MAX));
            let count = live.read_at(from + done, &mut buffer[..want])?;
            if count == 0 {
                return Err(self.too_short(live));
            }
            self.write_at(at + done, &buffer[..count])?;
            done += count as u64;
        }
        Ok(())
    }

    /// Makes the file what the entry says: exact size, owner, attributes, mode, times. To be called
    /// once, after the last write.
    ///
    /// When the entry carries its extents, the bytes written must be exactly those of its chunks:
    /// a stretch that nobody wrote would be read as zeros.
    pub fn finish(&self) -> Result<(), Error> {
        let size = self.entry.metadata.size;
        let written = self.written.load(Ordering::Acquire);
        if let Some(wanted) = self.wanted.filter(|wanted| *wanted != written) {
            return Err(self.bad(format!("the file is not whole: wanted_bytes=`{wanted}`, written_bytes=`{written}`")));
        }
        if self.end.load(Ordering::Acquire) < size {
            rustix::fs::ftruncate(&self.file, size).map_err(|errno| self.failed(errno))?;
        }
        let subject = Subject::Open(self.file.as_fd());
        let setter = Setter { subject, entry: &self.entry, unset: &self.unset };
        if !self.is_earlier {
            return setter.apply_new(self.owner, Some(STAGED_MODE));
        }
        let stat = stat_fd(&self.file).map_err(|errno| self.failed(errno))?;
        let xattrs = xattr::read_all(subject).map_err(|errno| self.failed(errno))?;
        setter.apply_changes(&metadata(&stat, xattrs))
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        rustix::fs::fsync(&self.file).map_err(|errno| self.failed(errno))
    }

    fn count(&self, offset: u64, len: u64) {
        let before = self.written.fetch_add(len, Ordering::AcqRel);
        self.end.fetch_max(offset + len, Ordering::AcqRel);
        if before / WRITE_BACK_BYTES != (before + len) / WRITE_BACK_BYTES {
            self.write_back();
        }
    }

    /// Has the kernel write what is dirty, without waiting for it: else the disk would have nothing to do until all is
    /// staged, and then all of it. The advice that the file is not needed in memory is what begins that on Linux
    /// (`mm/fadvise.c`); where it is refused, the sync at the end does it all.
    fn write_back(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn check_range(&self, offset: u64, len: u64) -> Result<(), Error> {
        let size = self.entry.metadata.size;
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(()),
            _ => Err(self.bad(format!("a write beyond the file's end: offset=`{offset}`, len=`{len}`, size=`{size}`"))),
        }
    }

    fn bad(&self, detail: String) -> Error {
        let hint = "check the snapshot with `lifeboat check --read-data`".into();
        Error::Conflict { detail, path: self.entry.path.to_string(), hint }
    }

    fn too_short(&self, live: &LiveFile) -> Error {
        Error::Busy {
            path: live.path.to_string(),
            detail: "the live file became shorter while it was copied from".into(),
            hint: "run the same restore again".into(),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::io("cannot write the file", self.entry.path.as_bytes(), errno)
    }
}
