//! What is remembered of a file between two looks, and whether it must be read again.

use std::path::Path;

use super::super::stat::DatabaseStat;
use super::wal::WalMark;
use crate::Error;

/// How a file was when it was last read.
#[derive(Debug, Clone)]
pub struct FileMark {
    /// From before it was read: what was written since then shows.
    pub(super) stat: DatabaseStat,
    /// Up to where the log was looked through; `None`: there was none, or it was not looked at.
    pub(super) wal: Option<WalMark>,
    /// Whether it is known to have no write-ahead log.
    pub(super) is_rollback: bool,
    /// Pages of which the log had something newer than what was read.
    pub(super) recheck: Vec<u32>,
}

impl FileMark {
    /// Equal to that of a later look exactly when nothing was written between; one of a file that was
    /// just written equals none.
    pub fn stamp(&self) -> Vec<u8> {
        self.stat.stamp()
    }
}

/// What `stat` says of a file since it was last read.
#[derive(Debug)]
pub enum Look {
    /// There is no such file.
    Absent,
    /// As it was. The mark is given where there was none, but a stamp.
    Unchanged(Option<FileMark>),
    /// It was written just now, and cannot be read without a trace until it is quiet for a moment.
    Settling(FileStat),
    /// To be read.
    Changed(FileStat),
}

/// A file's `stat` from before it is read.
#[derive(Debug)]
pub struct FileStat(pub(super) DatabaseStat);

/// Looks at a file without opening it. `stamp`: what was kept of an earlier process's mark.
pub fn look(path: &Path, mark: Option<&FileMark>, stamp: &[u8]) -> Result<Look, Error> {
    let Some(stat) = DatabaseStat::take(path)? else { return Ok(Look::Absent) };
    let is_settled = stat.settles_in().is_zero();
    if let Some(mark) = mark {
        if stat.is_same(&mark.stat) && mark.recheck.is_empty() {
            // A write within the same tick of the file system's clock would not show: read it once more
            // when the clock has gone on.
            return Ok(match mark.stat.settles_in().is_zero() {
                true => Look::Unchanged(None),
                false if is_settled => Look::Changed(FileStat(stat)),
                false => Look::Settling(FileStat(stat)),
            });
        }
    } else if is_settled && stat.stamp() == stamp {
        let mark = FileMark { stat, wal: None, is_rollback: false, recheck: Vec::new() };
        return Ok(Look::Unchanged(Some(mark)));
    }
    // With a log beside it, or without ever having one, it is read by an ordinary transaction. What may
    // be a file of the log's kind, closed just now, is read without one: a reader would make a log.
    let is_rollback = mark.is_some_and(|mark| mark.is_rollback);
    Ok(match stat.is_whole() && !is_settled && !is_rollback {
        true => Look::Settling(FileStat(stat)),
        false => Look::Changed(FileStat(stat)),
    })
}
