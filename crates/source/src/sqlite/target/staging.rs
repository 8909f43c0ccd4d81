//! Staging: a private file beside the database, written from many threads, then verified.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lifeboat_model::{Entry, EntryKind, EntryPath};

use super::bytes;
use crate::sqlite::check::{Depth, check};
use crate::sqlite::connect::{damaged, failure, open_immutable};
use crate::sqlite::metadata;
use crate::sqlite::pages::Pages;
use crate::sqlite::stat::{FileStat, file_stat};
use crate::{Content, ContentCheck, Error, Read};

/// Up to this size a staged database gets the full check, indexes against tables (about a second);
/// beyond it the structure alone, which every snapshot has passed as well.
const FULL_CHECK_BYTES_MAX: u64 = 64 << 20;

/// The staging file, mode 0600 until the switch. May be written from several threads.
#[derive(Debug)]
pub struct SqliteStaging {
    file: File,
    path: PathBuf,
}

impl SqliteStaging {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|io| Error::io("cannot make the staging file", bytes(path), io))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes content at its place; places may come in any order and must not overlap.
    pub fn write_at(&self, offset: u64, content: &[u8]) -> Result<(), Error> {
        self.file
            .write_all_at(content, offset)
            .map_err(|io| Error::io("cannot write the staging file", bytes(&self.path), io))
    }

    /// Ends the writing: the file has exactly `size` bytes and is durable.
    pub fn finish(self, size: u64) -> Result<StagedDatabase, Error> {
        let failed = |io| Error::io("cannot write the staging file", bytes(&self.path), io);
        let len = self.file.metadata().map_err(failed)?.len();
        if len > size {
            return Err(damaged(
                &self.path,
                format!("more was written than the entry has: len=`{len}`, size=`{size}`"),
            ));
        }
        // A database may end in zeros that came as a hole.
        self.file.set_len(size).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        Ok(StagedDatabase { path: self.path, size })
    }
}

/// A staging file that is complete and durable, but not verified.
#[derive(Debug)]
pub struct StagedDatabase {
    path: PathBuf,
    size: u64,
}

/// What the staged file must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// A sound database: for a snapshot.
    Sound { page_size: u32 },
    /// A database in whatever state it was kept by an undo.
    AsKept { page_size: u32 },
    /// Not a database at all: bytes that an undo kept ([`super::SqliteTarget::raw_live`]).
    RawFile,
}

/// A staged database that was read back and checked; the only thing a switch takes.
#[derive(Debug)]
pub struct VerifiedDatabase {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) stat: FileStat,
    pub(super) is_raw: bool,
    pub(super) page_size: u32,
    pub(super) notes: Vec<String>,
}

impl VerifiedDatabase {
    /// What the checks found that costs no data, for the receipt.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl StagedDatabase {
    /// Reads the staged file back and checks size, page size and structure.
    pub fn verify(self, expect: Expect) -> Result<VerifiedDatabase, Error> {
        let stat = file_stat(&self.path)?.filter(|stat| stat.size == self.size);
        let stat = stat.ok_or_else(|| damaged(&self.path, format!("the staging file is not size=`{}`", self.size)))?;
        let verified = |page_size, is_raw, notes| VerifiedDatabase {
            path: self.path.clone(),
            size: self.size,
            stat,
            is_raw,
            page_size,
            notes,
        };
        let (page_size, is_sound) = match expect {
            Expect::RawFile => return Ok(verified(0, true, Vec::new())),
            Expect::Sound { page_size } => (page_size, true),
            Expect::AsKept { page_size } => (page_size, false),
        };
        let failed = |error: &rusqlite::Error| failure("cannot read the staged database", &self.path, error);
        let pages = open_immutable(&self.path).and_then(Pages::begin).map_err(|error| failed(&error))?;
        if pages.len() != self.size || (self.size > 0 && pages.page_size() != page_size) {
            let detail = format!(
                "its header does not agree with the snapshot: pages=`{}`, page_size=`{}`, wanted size=`{}`, \
                 page_size=`{page_size}`",
                pages.page_count(),
                pages.page_size(),
                self.size
            );
            return Err(damaged(&self.path, detail));
        }
        let notes = if is_sound { self.check(&pages)? } else { Vec::new() };
        Ok(verified(pages.page_size(), false, notes))
    }

    fn check(&self, pages: &Pages) -> Result<Vec<String>, Error> {
        let run = |depth| {
            check(pages.connection(), depth)
                .map_err(|error| damaged(&self.path, format!("its structure cannot be checked: {error}")))
        };
        let mut findings = run(Depth::Structure)?;
        if !findings.damage.is_empty() {
            return Err(damaged(&self.path, format!("quick_check says `{}`", findings.damage.join("; "))));
        }
        if self.size <= FULL_CHECK_BYTES_MAX {
            // An index that does not match its table was so at the source: it is restored as it was
            // and named, because refusing would withhold rows that are all there.
            let full = run(Depth::Indexes)?;
            findings.notes = full.notes;
            findings.notes.extend(full.damage.into_iter().map(|line| format!("as at the source: {line}")));
        }
        Ok(findings.notes)
    }
}

/// A file that is no database, read as it is. SQLite holds no lock on such a file, so opening it
/// beside SQLite loses none.
pub(super) struct RawContent {
    file: File,
    path: PathBuf,
    stat: FileStat,
    name: EntryPath,
}

impl RawContent {
    pub fn open(path: &Path, name: EntryPath) -> Result<Self, Error> {
        let gone = || Error::Gone { path: crate::error::shown(bytes(path)) };
        let stat = file_stat(path)?.ok_or_else(gone)?;
        let file = File::open(path).map_err(|io| Error::io("cannot read the file", bytes(path), io))?;
        Ok(Self { file, path: path.to_owned(), stat, name })
    }
}

impl Content for RawContent {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        loop {
            match self.file.read(buffer) {
                Ok(0) => return Ok(Read::End),
                Ok(len) => return Ok(Read::Data(len)),
                Err(io) if io.kind() == ErrorKind::Interrupted => {}
                Err(io) => return Err(Error::io("cannot read the file", bytes(&self.path), io)),
            }
        }
    }

    fn check(&mut self) -> Result<ContentCheck, Error> {
        if file_stat(&self.path)? != Some(self.stat) {
            return Ok(ContentCheck::Changed);
        }
        let metadata = metadata::read(&self.path, &self.stat, self.stat.size)?;
        let entry = Entry { path: self.name.clone(), kind: EntryKind::File, metadata, extents: Vec::new() };
        Ok(ContentCheck::Stable(Box::new(entry)))
    }
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(io) if io.kind() != ErrorKind::NotFound => Err(Error::io("cannot remove the file", bytes(path), io)),
        _ => Ok(()),
    }
}

/// Makes the names in the directory of `path` durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|io| Error::io("cannot sync the directory", bytes(directory), io))
}
