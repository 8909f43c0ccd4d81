//! Replaying a database file: its pages at a moment, from a snapshot or the log's own image, and the versions since.
//!
//!   epoch ─▶ footers ─▶ versions of this site ─▶ the last one not after the moment
//!   snapshot, newest first ▸ pages of the versions since ▸ sum as that version told? ─no▶ more versions, an older snapshot
//!
//! A snapshot joins the log by content, not by a position: it was taken somewhere between two versions, and what
//! changed in between is among the pages of the later one. The sum proves it.
//!
//! Invariant (proven-pages): no file is given whose pages do not add up to what the log says of its version.
//! What is not here: writing the file to where it belongs (`restore`), `PRAGMA integrity_check` (`lifeboat-source`).

use std::fs::File;
use std::os::unix::fs::FileExt;

use futures_util::TryStreamExt;
use lifeboat_model::{
    BlockRef, Epoch, EpochId, FileState, Lsn, SegmentFooter, SegmentSpan, SiteId, SnapshotId, SourceName, Timestamp,
    TransactionId,
};
use lifeboat_repo::{ChangeLog, ListedSegment, SegmentBlock};
use lifeboat_source::sqlite::capture::PageImage;

use super::cut::Moment;
use crate::capture_pages::IDLE_SEGMENT_EVERY;
use crate::{Engine, Error};

mod base;
#[cfg(test)]
mod tests;
mod versions;

use base::FileBase;
use versions::{Versions, apply};

/// A database file at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedFile {
    /// The snapshot that versions were put on; `None`: the log has all pages itself.
    pub base: Option<SnapshotId>,
    /// `None`: nothing was written between the last version and the snapshot, which is newer.
    pub version: Option<FileVersion>,
    /// `None`: the site had no such file then.
    pub state: Option<FileState>,
    /// Versions that went on top.
    pub versions: u64,
    /// Up to here no other version can have come between: the moment itself, unless nobody looked for a while.
    pub known_till: Timestamp,
}

/// Which version of a file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    pub position: Lsn,
    pub id: TransactionId,
    /// When the file was read.
    pub read_at: Timestamp,
}

/// Segments before a snapshot's reading began are applied too, if they are no older than this: clocks step.
const CLOCK_SLACK: i64 = 10 * 1_000_000;

/// Puts the site's file at the moment into `file`, which is emptied first, is open for reading and writing, and belongs
/// to nobody else.
///
/// Must run on a multi-threaded runtime. Memory is some blocks of the site, whatever the file's size. When the site had
/// no file at the moment, `file` is empty and the state says so.
pub async fn replay_pages(
    engine: &Engine,
    id: &SiteId,
    source: &SourceName,
    moment: Moment,
    file: &File,
) -> Result<ReplayedFile, Error> {
    let log = engine.change_log(source).await?;
    let window = Window::of(&log, id, moment).await?;
    let bases = base::bases(engine, id, source, &window).await?;
    let mut tried = Vec::new();
    for (base, from) in window.attempts(&bases) {
        let attempt = Attempt { engine, log: &log, site: id, source, window: &window, base, from };
        match attempt.run(file).await? {
            Outcome::Proven(replayed) => return Ok(*replayed),
            Outcome::NoVersion => {}
            Outcome::Refuted(why) => tried.push(why),
        }
    }
    Err(window.no_way(id, moment, &tried))
}

/// What is known of the epoch that a moment is in.
struct Window {
    epoch: Epoch,
    /// What comes after it, if another epoch does.
    till: Limit,
    /// What is kept of the log goes on top of snapshots that were cut since. `None`: all of it is kept.
    kept_since: Option<Timestamp>,
    segments: Vec<SegmentFacts>,
}

/// Of a segment's footer, what one site's file needs.
struct SegmentFacts {
    segment: ListedSegment,
    span: SegmentSpan,
    sealed_at: Timestamp,
    block: Option<BlockRef>,
}

/// Which versions belong to a moment.
#[derive(Debug, Clone, Copy)]
enum Limit {
    End,
    Time(Timestamp),
    /// Not after it.
    Position(Lsn),
}

impl Window {
    async fn of(log: &ChangeLog, id: &SiteId, moment: Moment) -> Result<Self, Error> {
        let newest = log.newest().ok_or_else(|| not_captured(id, log.source()))?.epoch;
        let till = match moment {
            Moment::End => Limit::End,
            Moment::Time(time) => Limit::Time(time),
            Moment::Position(lsn) => Limit::Position(lsn),
        };
        log.check_asked(id)?;
        let mut epoch = log.epoch(newest).await?;
        while epoch.id.0 > 1 && !till.is_in(&epoch) {
            epoch = log.epoch(EpochId(epoch.id.0 - 1)).await?;
        }
        let kept = log.kept(epoch.id).await?;
        let kept_since = kept.begins.map(|begins| begins.bases_since);
        let segments = match log.newest_segment(epoch.id).await? {
            Some(last) => log.segments_kept(&kept, kept.first()..=last.number).await?,
            None => Vec::new(),
        };
        let facts = |(segment, footer): (ListedSegment, SegmentFooter)| {
            let block = footer.block(id).cloned();
            SegmentFacts { segment, span: footer.span, sealed_at: footer.sealed_at, block }
        };
        let segments = log.footers(segments).await?.map_ok(facts).try_collect().await?;
        let window = Self { epoch, till, kept_since, segments };
        window.check_end(id, moment)?;
        Ok(window)
    }

    /// The log must have been written after the moment.
    fn check_end(&self, id: &SiteId, moment: Moment) -> Result<(), Error> {
        let last = self.segments.last().map(|last| (last.sealed_at, last.span.complete_till));
        let is_after = match (self.till, last) {
            (Limit::End, _) => false,
            (_, None) => true,
            (Limit::Time(time), Some((sealed_at, _))) => time > sealed_at,
            (Limit::Position(lsn), Some((_, till))) => lsn > till,
        };
        match is_after {
            false => Ok(()),
            true => {
                let hint = match last {
                    Some((sealed_at, _)) => format!("the log of that time ends at {sealed_at}: ask for a time before"),
                    None => "nothing is in the change log yet".into(),
                };
                Err(Error::NoPoint { site: id.clone(), asked: moment.to_string(), hint })
            }
        }
    }

    /// What to begin with, and from which segment on, in the order of what is cheap.
    fn attempts<'b>(&self, bases: &'b [FileBase]) -> Vec<(Option<&'b FileBase>, usize)> {
        let mut attempts = Vec::new();
        for base in bases {
            let begins = base.cut_from.0.saturating_sub(CLOCK_SLACK);
            let from =
                self.segments.iter().position(|facts| facts.sealed_at.0 >= begins).unwrap_or(self.segments.len());
            if !base.is_later {
                attempts.push((Some(base), from));
            }
            if from > 0 || base.is_later {
                attempts.push((Some(base), 0));
            }
        }
        attempts.push((None, 0));
        attempts
    }

    /// The site's blocks from a segment on.
    fn blocks(&self, from: usize) -> Vec<SegmentBlock> {
        let block = |facts: &SegmentFacts| {
            let block = facts.block.clone()?;
            Some(SegmentBlock { segment: facts.segment, block })
        };
        self.segments.iter().skip(from).filter_map(block).collect()
    }

    fn known_till(&self) -> Timestamp {
        let wanted = match self.till {
            Limit::End => None,
            Limit::Time(time) => Some(time),
            Limit::Position(lsn) => Some(time_of(lsn)),
        };
        let spans: Vec<SegmentSpan> = self.segments.iter().map(|facts| facts.span).collect();
        known_till(&spans, self.epoch.facts.begins, wanted)
    }

    fn no_way(&self, id: &SiteId, moment: Moment, tried: &[String]) -> Error {
        if tried.is_empty() {
            let hint = format!(
                "the log knows no whole version of the file at that time: take one with `lifeboat backup {id}`, or ask for \
                 a time after the first snapshot that was taken while changes were captured"
            );
            return Error::NoPoint { site: id.clone(), asked: moment.to_string(), hint };
        }
        let hint = format!(
            "no snapshot fits the changes, {}; `lifeboat points {id}` lists snapshots to restore as they are, and \
             `lifeboat backup {id}` makes one that later times can be restored from",
            tried.join("; ")
        );
        Error::NoPoint { site: id.clone(), asked: moment.to_string(), hint }
    }
}

impl Limit {
    fn is_in(self, epoch: &Epoch) -> bool {
        match self {
            Self::End => true,
            Self::Time(time) => epoch.facts.begun_at <= time,
            Self::Position(lsn) => epoch.facts.begins <= lsn,
        }
    }
}

enum Outcome {
    Proven(Box<ReplayedFile>),
    /// Nothing is known of the file here.
    NoVersion,
    /// The pages do not add up, and where.
    Refuted(String),
}

/// One way to come to a version.
struct Attempt<'a> {
    engine: &'a Engine,
    log: &'a ChangeLog,
    site: &'a SiteId,
    source: &'a SourceName,
    window: &'a Window,
    base: Option<&'a FileBase>,
    from: usize,
}

impl Attempt<'_> {
    async fn run(&self, file: &File) -> Result<Outcome, Error> {
        let Self { log, site, window, base, .. } = self;
        let blocks = window.blocks(self.from);
        let versions = Versions::read(log, blocks.clone()).await?.until(window.till);
        let Some(target) = versions.last().copied() else { return self.without_versions(file).await };
        let base = base.filter(|base| !base.is_absent);
        let Some(wanted) = target.step.after else {
            file.set_len(0).map_err(scratch)?;
            return Ok(self.proven(None, Some(target.version()), (None, 0)));
        };
        let image_at = versions.newest_image();
        let mut image = match (image_at, base) {
            (Some(_), _) => PageImage::empty(file)?,
            (None, Some(base)) => {
                let page_size = base.read_into(self.engine, site, self.source, file).await?;
                tokio::task::block_in_place(|| PageImage::over(file, page_size))?
            }
            (None, None) => return Ok(Outcome::NoVersion),
        };
        let base = base.filter(|_| image_at.is_none());
        // Written after the last version, and before the moment: the snapshot knows more than the log.
        if let Some(base) = base.filter(|base| base.cut_from > target.head.committed_at && self.is_before_moment(base))
        {
            return Ok(self.proven(Some(base.snapshot), None, (Some(image.state()), 0)));
        }
        let applied = versions.from(image_at);
        apply(log, blocks, &applied, &mut image).await?;
        match image.state() == wanted {
            true => {
                let (version, count) = (target.version(), applied.len() as u64);
                Ok(self.proven(base.map(|base| base.snapshot), Some(version), (Some(wanted), count)))
            }
            false => {
                let from = base.map_or("the log's own image".to_owned(), |base| format!("snapshot:{}", base.snapshot));
                Ok(Outcome::Refuted(format!("from {from}: pages=`{}`, expected=`{}`", image.state().sum, wanted.sum)))
            }
        }
    }

    /// Of a log whose first versions are kept no more: what was not written since the snapshot is in none of the others.
    async fn without_versions(&self, file: &File) -> Result<Outcome, Error> {
        let is_kept = |base: &FileBase| self.window.kept_since.is_some_and(|since| base.cut_from >= since);
        let is_it = |base: &&FileBase| is_kept(base) && self.is_before_moment(base);
        let Some(base) = self.base.filter(is_it) else { return Ok(Outcome::NoVersion) };
        if base.is_absent {
            file.set_len(0).map_err(scratch)?;
            return Ok(self.proven(None, None, (None, 0)));
        }
        let page_size = base.read_into(self.engine, self.site, self.source, file).await?;
        let image = tokio::task::block_in_place(|| PageImage::over(file, page_size))?;
        Ok(self.proven(Some(base.snapshot), None, (Some(image.state()), 0)))
    }

    fn is_before_moment(&self, base: &FileBase) -> bool {
        match self.window.till {
            Limit::End => true,
            Limit::Time(time) => base.cut_till <= time,
            Limit::Position(lsn) => base.cut_till <= time_of(lsn),
        }
    }

    fn proven(
        &self,
        base: Option<SnapshotId>,
        version: Option<FileVersion>,
        (state, versions): (Option<FileState>, u64),
    ) -> Outcome {
        let known_till = self.window.known_till();
        Outcome::Proven(Box::new(ReplayedFile { base, version, state, versions, known_till }))
    }
}

fn not_captured(id: &SiteId, source: &SourceName) -> Error {
    Error::NoSuchThing {
        detail: format!("changes of the source were never captured: site=`{id}`, source=`{source}`"),
        hint: format!("`lifeboat points {id}` lists its snapshots"),
    }
}

/// Up to when nobody can have missed a version: the log says at least once a minute that it looked. `wanted`: the
/// moment; `None`: the end of the log.
fn known_till(spans: &[SegmentSpan], begins: Lsn, wanted: Option<Timestamp>) -> Timestamp {
    let end = time_of(spans.last().map_or(begins, |span| span.complete_till));
    let Some(wanted) = wanted else { return end };
    let Some(span) = spans.iter().find(|span| time_of(span.complete_till) >= wanted) else { return end.min(wanted) };
    let longest = 2 * IDLE_SEGMENT_EVERY.as_micros() as u64; // twice: sealing and sending take their time too
    let first = span.bounds.map_or(span.complete_till, |bounds| bounds.first_commit);
    // The capture was away for a while, until just before the first thing that it found.
    match first.0.saturating_sub(span.from.0) > longest && time_of(first) > wanted {
        true => time_of(span.from),
        false => wanted,
    }
}

fn time_of(position: Lsn) -> Timestamp {
    Timestamp(i64::try_from(position.0).unwrap_or(i64::MAX))
}

fn scratch(io: std::io::Error) -> Error {
    Error::Conflict {
        detail: format!("cannot write a scratch file: {io}"),
        hint: "is the disk of temporary files full? `TMPDIR` names another one".into(),
    }
}

/// Appends to a file from its start, whatever its cursor.
struct Filling<'f> {
    file: &'f File,
    at: u64,
}

impl Filling<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}
