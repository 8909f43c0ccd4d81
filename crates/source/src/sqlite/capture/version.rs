//! Reading one version of a file: the pages that are new since the last one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_model::{FileState, PageHash, PageSum};

use super::super::connect::failure;
use super::super::stat::DatabaseStat;
use super::super::view::{View, is_wal};
use super::mark::{FileMark, FileStat};
use super::page_hash;
use super::wal::WalScan;
use crate::Error;

/// A file in rollback mode is copied aside first when it is larger: writers wait for its reader.
const SPOOL_BYTES_MIN: u64 = 64 << 20;

/// How long one file's writer may hold up the reading of all others.
const PATIENCE: Duration = Duration::from_millis(250);

/// A file inside one read transaction.
pub struct VersionReader {
    path: PathBuf,
    view: View,
    stat: DatabaseStat,
    known: Option<FileState>,
    now: FileState,
    pub(super) wal: Option<WalScan>,
    is_rollback: bool,
    plan: Plan,
    recheck: Vec<u32>,
    /// A cold read met nonsense because a writer was at work.
    is_torn: bool,
}

/// Which pages are to be read.
enum Plan {
    All { next: u32 },
    Hinted { pages: std::vec::IntoIter<u32> },
}

/// A page that is new, or that the log says was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPage {
    pub number: u32,
    pub hash: PageHash,
    /// Whether it is another one than before.
    pub is_new: bool,
    pub bytes: Vec<u8>,
}

/// The end of a version: what the file is, and what to remember for the next look.
#[derive(Debug)]
pub struct Finished {
    pub state: FileState,
    pub mark: FileMark,
}

impl VersionReader {
    /// `known` and `mark`: what the file was when it was last read; without `known`, every page is new.
    /// `None`: it is gone. `may_be_cold`: false once a cold read was torn.
    pub fn open(
        path: &Path,
        stat: FileStat,
        (known, mark): (Option<FileState>, Option<&FileMark>),
        may_be_cold: bool,
    ) -> Result<Option<Self>, Error> {
        let FileStat(stat) = stat;
        let is_cold = may_be_cold && stat.is_whole() && stat.settles_in().is_zero();
        let Some(mut view) = View::open_within(path, is_cold, PATIENCE)? else { return Ok(None) };
        let (page_size, page_count) = (view.pages().page_size(), view.pages().page_count());
        let failed = |error: rusqlite::Error| failure("cannot read the database", path, &error);
        let is_log = is_wal(view.pages().connection()).map_err(failed)?;
        if view.pages().len() >= SPOOL_BYTES_MIN {
            view = view.detached()?;
        }
        // After the transaction has begun: every frame that it sees is there.
        let same_file = mark.filter(|mark| mark.stat.main.inode == stat.main.inode);
        let wal = match is_log {
            true => WalScan::read(path, page_size, same_file.and_then(|mark| mark.wal.as_ref())).map_err(|error| {
                Error::io(
                    "cannot read the database's log",
                    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()),
                    error,
                )
            })?,
            false => None,
        };
        let known = known.filter(|known| known.page_size == page_size);
        let hint = wal.as_ref().filter(|wal| wal.goes_on).zip(known).zip(same_file);
        let plan = match hint {
            Some(((wal, known), mark)) => {
                let new = known.page_count.saturating_add(1)..=page_count;
                let mut pages: Vec<u32> = wal.pages().chain(mark.recheck.iter().copied()).chain(new).collect();
                pages.retain(|number| (1..=page_count).contains(number));
                pages.sort_unstable();
                pages.dedup();
                Plan::Hinted { pages: pages.into_iter() }
            }
            None => Plan::All { next: 1 },
        };
        let sum = known.map_or(PageSum::default(), |known| known.sum);
        let now = FileState { page_size, page_count, sum };
        let (path, recheck) = (path.to_owned(), Vec::new());
        let is_rollback = !is_log && page_count > 0;
        Ok(Some(Self { path, view, stat, known, now, wal, is_rollback, plan, recheck, is_torn: false }))
    }

    /// Whether every page is read, and not only those that the log names.
    pub fn is_full(&self) -> bool {
        matches!(self.plan, Plan::All { .. })
    }

    pub fn page_size(&self) -> u32 {
        self.now.page_size
    }

    /// The next page that belongs to the version, in the order of numbers. `hash_before` gives the hash of a page as it
    /// was in the known state.
    pub fn next<E: From<Error>>(
        &mut self,
        hash_before: &mut impl FnMut(u32) -> Result<PageHash, E>,
    ) -> Result<Option<ReadPage>, E> {
        loop {
            let (number, is_hinted) = match &mut self.plan {
                Plan::All { next } if *next <= self.now.page_count && !self.is_torn => {
                    *next += 1;
                    (*next - 1, false)
                }
                Plan::All { .. } => return Ok(None),
                Plan::Hinted { pages } => match pages.next() {
                    Some(number) => (number, true),
                    None => return Ok(None),
                },
            };
            let Some(bytes) = self.read(number)? else { return Ok(None) };
            let hash = page_hash(number, &bytes);
            let before = match self.known.filter(|known| number <= known.page_count) {
                Some(_) => Some(hash_before(number)?),
                None => None,
            };
            let is_new = before != Some(hash);
            if is_new {
                self.now.sum = before.map_or(self.now.sum, |before| self.now.sum.without(before)).with(hash);
            }
            if is_new || is_hinted {
                return Ok(Some(ReadPage { number, hash, is_new, bytes }));
            }
        }
    }

    fn read(&mut self, number: u32) -> Result<Option<Vec<u8>>, Error> {
        let bytes = match self.view.pages().page(number) {
            Ok(bytes) => bytes,
            Err(_) if !self.view.is_unchanged()? => {
                self.is_torn = true;
                return Ok(None);
            }
            Err(error) => return Err(failure("cannot read the database", &self.path, &error)),
        };
        let differs = self.wal.as_ref().map_or(Ok(false), |wal| wal.differs(number, &bytes));
        if differs.map_err(|error| {
            let path = std::os::unix::ffi::OsStrExt::as_bytes(self.path.as_os_str());
            Error::io("cannot read the database's log", path, error)
        })? {
            self.recheck.push(number);
        }
        Ok(Some(bytes))
    }

    /// Whether nothing of the version is lost so far: asked before it is made durable piece by piece.
    pub fn is_whole(&self) -> Result<bool, Error> {
        Ok(!self.is_torn && self.view.is_unchanged()?)
    }

    /// The state of the file, once [`VersionReader::next`] has given everything. `None`: it was written while it was
    /// read without a lock, and nothing of what was read counts.
    pub fn finish<E: From<Error>>(
        &mut self,
        hash_before: &mut impl FnMut(u32) -> Result<PageHash, E>,
    ) -> Result<Option<Finished>, E> {
        if !self.is_whole()? {
            return Ok(None);
        }
        if let Some(known) = self.known {
            for number in self.now.page_count.saturating_add(1)..=known.page_count {
                self.now.sum = self.now.sum.without(hash_before(number)?);
            }
        }
        let mark = FileMark {
            stat: self.stat.clone(),
            wal: self.wal.as_ref().map(|wal| wal.mark),
            is_rollback: self.is_rollback,
            recheck: std::mem::take(&mut self.recheck),
        };
        Ok(Some(Finished { state: self.now, mark }))
    }
}
