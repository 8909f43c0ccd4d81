//! From files that were written to segments: read, collected, sealed, and the hashes after them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lifeboat_model::{
    ChangedPage, FileState, FileStep, Lsn, PagesChange, RowChange, SiteId, Timestamp, TransactionHead, TransactionId,
};
use lifeboat_repo::{Appender, SegmentDraft};
use lifeboat_source::sqlite::SqliteSource;
use lifeboat_source::sqlite::capture::{FileStat, Finished, VersionReader};

use super::files::{Files, Round, Tracked};
use super::hashes::{Before, Hashes};
use super::{FileUpdate, PageIndex, PagesPlace, PagesReport, PagesRequest, position_of};
use crate::capture::birth;
use crate::{Engine, Error};

/// Pages of one change: a version of more is several changes.
const CHANGE_BYTES: usize = 512 << 10;
/// Chunks of hashes, of 4 KiB each, that wait to be written at most: a page that is written again and again is one of them.
const PENDING_MAX: usize = 2_048;

pub(super) struct Writer<'w> {
    appender: Appender,
    pub index: &'w mut dyn PageIndex,
    draft: SegmentDraft,
    flush_bytes: usize,
    /// What becomes of the hashes once a segment is durable and they are due.
    pending: BTreeMap<SiteId, FileUpdate>,
    hashes_every: Duration,
    hashes_written: Instant,
    /// The last position that was given.
    last: Lsn,
    /// Every version whose position is not after it is over.
    complete: Lsn,
    pub is_filled: bool,
    open: Option<OpenVersion>,
    /// Sites whose file came, and is whole in the draft: when it was seen first.
    born: BTreeMap<SiteId, Timestamp>,
    pub report: PagesReport,
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Done,
    /// The draft must be sealed first.
    Full,
    /// It was told to stop, and the round is not complete.
    Stopped,
}

/// How far a version has come.
enum Step {
    More,
    End,
    /// It was written while it was read without a lock.
    Torn,
}

/// A version that is being read.
struct OpenVersion {
    site: SiteId,
    reader: VersionReader,
    known: Option<FileState>,
    /// The file is only seen: its pages stay where they are, in a snapshot.
    is_sight: bool,
    opened_at: Timestamp,
    began: Instant,
    head: Option<TransactionHead>,
    sequence: u64,
    hashes: Hashes,
    pages: Vec<ChangedPage>,
    page_bytes: usize,
    is_new: bool,
}

impl<'w> Writer<'w> {
    pub fn new(request: &PagesRequest, appender: Appender, index: &'w mut dyn PageIndex, is_filled: bool) -> Self {
        let complete = appender.complete_till();
        // A version that was not completed had a position too.
        let bounds = appender.newest().and_then(|newest| newest.span.bounds);
        let last = bounds.map_or(complete, |bounds| bounds.last_commit.max(complete));
        let report = PagesReport {
            epoch: appender.epoch().id,
            begun: None,
            files: 0,
            rounds: 0,
            segments: 0,
            versions: 0,
            pages: 0,
            page_bytes: 0,
            full_reads: 0,
            complete_till: complete,
            troubles: Vec::new(),
        };
        Self {
            appender,
            index,
            draft: SegmentDraft::new(),
            flush_bytes: request.flush_bytes,
            hashes_every: request.flush_every,
            hashes_written: Instant::now(),
            pending: BTreeMap::new(),
            last,
            complete: last,
            is_filled,
            open: None,
            born: BTreeMap::new(),
            report,
        }
    }

    /// Takes what a round found, until the draft is full.
    pub fn work(
        &mut self,
        engine: &Engine,
        source: &SqliteSource,
        files: &mut Files,
        round: &mut Round,
    ) -> Result<Work, Error> {
        loop {
            if let Some(open) = self.open.take() {
                self.go_on(open, files, round)?;
            } else if engine.cancel.load(std::sync::atomic::Ordering::Relaxed) {
                return Ok(Work::Stopped);
            } else if let Some(site) = round.gone.pop_front() {
                self.take_gone(&site, files)?;
            } else if let Some((site, stat)) = round.due.pop_front() {
                self.begin((engine, source), (site, stat), files, round)?;
            } else {
                return Ok(Work::Done);
            }
            if self.draft.len() >= self.flush_bytes {
                return Ok(Work::Full);
            }
        }
    }

    fn begin(
        &mut self,
        (engine, source): (&Engine, &SqliteSource),
        (site, stat): (SiteId, FileStat),
        files: &mut Files,
        round: &mut Round,
    ) -> Result<(), Error> {
        let Some(file) = files.all.get_mut(&site) else { return Ok(()) };
        let Some(path) = &file.path else { return Ok(()) };
        let (began, known) = (Instant::now(), (file.state, file.mark.as_ref()));
        let reader = match VersionReader::open(path, stat, known, !file.was_torn) {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(()), // the next round finds out
            Err(error) => {
                // The root first: of a source that has failed nothing is said of its files.
                lifeboat_source::Source::identity(source, &site)?;
                file.failed(&site, &error, round);
                return Ok(());
            }
        };
        self.report.full_reads += u64::from(reader.is_full());
        if file.state.is_none() {
            // Gone, erased, and back again: it goes on under a key of its own.
            engine.repository.doubt_key_of(&site);
        }
        self.open = Some(OpenVersion {
            is_sight: file.state.is_none() && !self.is_filled,
            site,
            reader,
            known: file.state,
            opened_at: Timestamp::now(),
            began,
            head: None,
            sequence: 0,
            hashes: Hashes::default(),
            pages: Vec::new(),
            page_bytes: 0,
            is_new: false,
        });
        Ok(())
    }

    /// Reads one change's pages of a version, or its end.
    fn go_on(&mut self, mut open: OpenVersion, files: &mut Files, round: &mut Round) -> Result<(), Error> {
        let Some(file) = files.all.get_mut(&open.site) else { return Ok(()) };
        let trouble = match self.advance(&mut open, file) {
            Ok(Step::More) => {
                self.open = Some(open);
                return Ok(());
            }
            Ok(Step::End) => return Ok(()),
            Ok(Step::Torn) => None,
            Err(Error::Source(error)) => Some(error),
            Err(error) => return Err(error),
        };
        // Without its end the version never came to be.
        if open.head.is_some() {
            self.complete = self.last;
        }
        (file.was_torn, file.mark) = (true, None);
        match trouble {
            Some(error) => file.failed(&open.site, &error, round),
            None => round.postponed += 1,
        }
        Ok(())
    }

    fn advance(&mut self, open: &mut OpenVersion, file: &mut Tracked) -> Result<Step, Error> {
        if !self.read(open)? {
            return self.finish(open, file);
        }
        if !open.reader.is_whole()? {
            return Ok(Step::Torn);
        }
        let pages = std::mem::take(&mut open.pages);
        open.page_bytes = 0;
        if open.is_new && !open.is_sight {
            self.push(open, file, PagesChange { pages, step: None })?;
        }
        Ok(Step::More)
    }

    /// Fills a change with pages; false: there are no more.
    fn read(&mut self, open: &mut OpenVersion) -> Result<bool, Error> {
        let mut before = Before { pending: &self.pending, index: &mut *self.index };
        while open.page_bytes < CHANGE_BYTES {
            let mut hash_before = |number| open.hashes.before(&open.site, number, &mut before);
            let Some(page) = open.reader.next(&mut hash_before)? else { return Ok(false) };
            if page.is_new {
                open.is_new = true;
                open.hashes.set(&open.site, page.number, page.hash, &mut before)?;
            }
            if !open.is_sight {
                open.page_bytes += page.bytes.len();
                open.pages.push(ChangedPage { number: page.number, bytes: page.bytes });
            }
        }
        Ok(true)
    }

    fn finish(&mut self, open: &mut OpenVersion, file: &mut Tracked) -> Result<Step, Error> {
        let mut before = Before { pending: &self.pending, index: &mut *self.index };
        let OpenVersion { site, reader, hashes, .. } = open;
        let mut hash_before = |number| hashes.before(site, number, &mut before);
        let Some(Finished { state, mark }) = reader.finish(&mut hash_before)? else { return Ok(Step::Torn) };
        file.was_read(open.reader.is_full(), open.began.elapsed());
        if open.known != Some(state) {
            let before = if open.is_sight { Some(state) } else { open.known };
            let step = FileStep { before, after: Some(state) };
            let pages = std::mem::take(&mut open.pages);
            self.push(open, file, PagesChange { pages, step: Some(step) })?;
            self.complete = self.last;
            self.report.versions += 1;
            if open.known.is_none() && !open.is_sight {
                self.born.entry(open.site.clone()).or_insert(open.opened_at);
            }
        }
        let update = self.pending.entry(open.site.clone()).or_default();
        update.chunks.extend(std::mem::take(&mut open.hashes).into_new());
        update.file = Some((state, mark.stamp()));
        (file.state, file.mark) = (Some(state), Some(mark));
        Ok(Step::End)
    }

    fn push(&mut self, open: &mut OpenVersion, file: &Tracked, change: PagesChange) -> Result<(), Error> {
        let head = match open.head {
            Some(head) => head,
            None => self.next_head(open.opened_at),
        };
        open.head = Some(head);
        self.push_change(&open.site, (&head, open.sequence), file, change)?;
        open.sequence += 1;
        Ok(())
    }

    fn push_change(
        &mut self,
        site: &SiteId,
        place: (&TransactionHead, u64),
        file: &Tracked,
        change: PagesChange,
    ) -> Result<(), Error> {
        self.report.pages += change.pages.len() as u64;
        self.report.page_bytes += change.pages.iter().map(|page| page.bytes.len() as u64).sum::<u64>();
        Ok(self.draft.push(site, place, &file.table, &RowChange::Pages(Box::new(change)))?)
    }

    /// Of a version that was read at this time: it ascends also when the clock steps back.
    fn next_head(&mut self, at: Timestamp) -> TransactionHead {
        self.last = position_of(at).max(Lsn(self.last.0.saturating_add(1)));
        TransactionHead { id: TransactionId(self.last.0), commit: self.last, committed_at: at }
    }

    fn take_gone(&mut self, site: &SiteId, files: &mut Files) -> Result<(), Error> {
        let Some(file) = files.all.remove(site) else { return Ok(()) };
        let step = FileStep { before: file.state, after: None };
        let head = self.next_head(Timestamp::now());
        self.push_change(site, (&head, 0), &file, PagesChange { pages: Vec::new(), step: Some(step) })?;
        self.complete = self.last;
        self.report.versions += 1;
        self.pending.insert(site.clone(), FileUpdate::default());
        Ok(())
    }

    /// Everything that had been written when the round began is read.
    pub fn end_round(&mut self, began: Timestamp) {
        self.last = self.last.max(position_of(began));
        self.complete = self.last;
        self.report.rounds += 1;
    }

    pub fn is_due(&self, request: &PagesRequest, age: Duration) -> bool {
        age >= request.flush_every && !self.draft.is_empty()
    }

    /// Seals what is collected. The hashes follow, unless a version is open whose beginning is in it.
    pub async fn flush(&mut self, engine: &Engine, source: &SqliteSource) -> Result<(), Error> {
        self.flush_before((engine, source), true).await
    }

    /// Seals what is collected because it is much. The hashes follow when they are due: of files that are written on and
    /// on, the next segment brings others.
    pub async fn flush_full(&mut self, engine: &Engine, source: &SqliteSource) -> Result<(), Error> {
        let waiting: usize = self.pending.values().map(|update| update.chunks.len()).sum();
        let is_due = waiting >= PENDING_MAX || self.hashes_written.elapsed() >= self.hashes_every;
        self.flush_before((engine, source), is_due).await
    }

    async fn flush_before(
        &mut self,
        (engine, source): (&Engine, &SqliteSource),
        hashes_follow: bool,
    ) -> Result<(), Error> {
        // Before their pages are in the log: what is there leads nowhere without it.
        let published = birth::publish_all(engine, source, self.appender.epoch(), std::mem::take(&mut self.born));
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(published))?;
        let is_inside = self.open.as_ref().is_some_and(|open| open.head.is_some());
        let draft = std::mem::take(&mut self.draft);
        self.appender.append(draft, self.complete).await?;
        self.report.segments += 1;
        self.report.complete_till = self.complete;
        if hashes_follow && !is_inside {
            self.index.commit(&PagesPlace::of(self.appender.known(), self.is_filled), &self.pending)?;
            self.pending.clear();
            self.hashes_written = Instant::now();
        }
        Ok(())
    }

    pub fn into_report(self, files: &Files) -> PagesReport {
        let troubles = files.all.iter().filter_map(|(site, file)| Some((site.clone(), file.trouble.clone()?)));
        PagesReport { files: files.all.len() as u64, troubles: troubles.collect(), ..self.report }
    }
}
