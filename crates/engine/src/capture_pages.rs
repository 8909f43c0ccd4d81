//! Capturing database files: what became of each file's pages from one look to the next, into the source's change log.
//!
//!   look at all files ─▶ those that were written ─▶ new pages ▸ state ▸ draft ─ full, or old enough ─▶ segment, durable
//!                                                                          ▸ hashes of all pages, at its place
//!
//! Each version of a file is a transaction of its own. Its position is the capturer's clock in microseconds, made to
//! ascend. Versions count only with their end, so a reader that is stopped in the middle leaves nothing behind.
//!
//! Invariant (hashes-after-log): the hashes on disk are of what is durable in the log. Killed anywhere, the next
//! capture reads what the log has beyond them, and compares from there: nothing is lost but moments in between.
//!
//! What is not here: reading pages (`lifeboat-source`), sealing (`lifeboat-repo`), the file of hashes
//! (`lifeboat-control`), putting files together again (`replay::pages`).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifeboat_model::{
    EpochFacts, EpochId, EpochReason, FileState, Lsn, ObjectId, PageHash, PartIdentity, SegmentNumber, SiteId,
    SourceKind, SourceName, Timestamp,
};
use lifeboat_repo::{Appender, ChangeLog, KnownLog};
use lifeboat_source::Source;
use lifeboat_source::sqlite::SqliteSource;

use crate::fleet::AnySource;
use crate::{Engine, Error, this_process};

mod catch_up;
mod files;
mod hashes;
mod writer;

use files::Files;
use writer::{Work, Writer};

/// What to capture, and how.
#[derive(Debug, Clone)]
pub struct PagesRequest {
    pub source: SourceName,
    /// Ends when every file, as it was when this began or later, is durable.
    pub until_caught_up: bool,
    /// How often all files are looked at: the resolution in time.
    pub poll_every: Duration,
    /// A segment is sealed when it is so old, or so large.
    pub flush_every: Duration,
    pub flush_bytes: usize,
}

impl PagesRequest {
    pub const POLL_EVERY: Duration = Duration::from_secs(1);
    pub const FLUSH_EVERY: Duration = Duration::from_secs(5);
    pub const FLUSH_BYTES: usize = 8 << 20;
}

/// Up to which segment of the log the hashes have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PagesPlace {
    pub epoch: EpochId,
    /// 0: the epoch had no segment yet.
    pub segment: SegmentNumber,
    /// Of that segment's footer; without one, the epoch's nonce.
    pub id: ObjectId,
    /// Every file that there was when the epoch began has been read once: one that comes now is new.
    pub is_filled: bool,
}

/// A file as the hashes know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    pub site: SiteId,
    pub state: FileState,
    /// Tells without reading it that it was not written since.
    pub stamp: Vec<u8>,
}

/// What is to become of a file's hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileUpdate {
    /// State and stamp; `None`: the file is gone, and its hashes go with it.
    pub file: Option<(FileState, Vec<u8>)>,
    /// Whole chunks of [`HASHES_PER_CHUNK`] pages, the first is 0; those that are not here stay. What is beyond the
    /// state's last page goes.
    pub chunks: BTreeMap<u32, Vec<PageHash>>,
}

/// Pages whose hashes are kept together.
pub const HASHES_PER_CHUNK: u32 = 256;

/// The hashes of all pages of a source's files, as of one segment of its log, also after a crash.
pub trait PageIndex: Send {
    /// `None`: nothing was ever committed, or it is another repository's.
    fn place(&mut self) -> Result<Option<PagesPlace>, Error>;
    fn clear(&mut self) -> Result<(), Error>;
    fn files(&mut self) -> Result<Vec<KnownFile>, Error>;
    /// Hashes of one chunk of a file's pages; empty: it has no such pages.
    fn hashes(&mut self, site: &SiteId, chunk: u32) -> Result<Vec<PageHash>, Error>;
    /// All at once or not at all.
    fn commit(&mut self, place: &PagesPlace, updates: &BTreeMap<SiteId, FileUpdate>) -> Result<(), Error>;
}

/// What a capture did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PagesReport {
    pub epoch: EpochId,
    /// The epoch that this run had to begin, and why.
    pub begun: Option<(EpochReason, String)>,
    pub files: u64,
    pub rounds: u64,
    pub segments: u64,
    pub versions: u64,
    /// Pages in those versions, and their bytes.
    pub pages: u64,
    pub page_bytes: u64,
    /// Files that had to be read from end to end.
    pub full_reads: u64,
    /// Everything up to here is in the log: microseconds of the capturer's clock.
    pub complete_till: Lsn,
    /// Files that could not be read when they were last looked at, and why.
    pub troubles: Vec<(SiteId, String)>,
}

/// The log says at least so often that nothing happened.
pub(crate) const IDLE_SEGMENT_EVERY: Duration = Duration::from_secs(60);
/// The first of them comes sooner: until there is one, no base leads anywhere.
const FIRST_IDLE_SEGMENT: Duration = Duration::from_secs(5);
/// Between two rounds that only wait for files to settle.
const SETTLE_WAIT: Duration = Duration::from_millis(60);

/// Follows all files of a source until they are caught up, or until it is told to stop.
///
/// Must run on a multi-threaded runtime. Trouble with one file is in the report and stops no other.
pub async fn capture_pages(
    engine: &Engine,
    request: &PagesRequest,
    index: &mut dyn PageIndex,
) -> Result<PagesReport, Error> {
    let source = sqlite_source(engine, &request.source)?;
    let root = tokio::task::block_in_place(|| source.discover())?.root;
    let log = ChangeLog::open(&engine.repository, &request.source).await?;
    let place = index.place()?;
    if let Some(place) = &place {
        log.check_known(&place.known()).await?;
    }
    let over = match log.appender().await? {
        Some(appender) => match judge(&appender, place, &root, log.kept(appender.epoch().id).await?.first()) {
            Ok(place) => {
                catch_up::catch_up(&log, &appender, place, index).await?;
                let writer = Writer::new(request, appender, index, place.is_filled);
                return follow(engine, request, source, (writer, root)).await;
            }
            Err(over) => over,
        },
        None => (EpochReason::First, "nothing was captured before".into()),
    };
    let appender = begin_epoch(source, &log, &root, &over).await?;
    index.clear()?;
    index.commit(&PagesPlace::of(appender.known(), false), &BTreeMap::new())?;
    let mut writer = Writer::new(request, appender, index, false);
    writer.report.begun = Some(over);
    follow(engine, request, source, (writer, root)).await
}

/// Whether the hashes of this host belong to the log; else why another epoch is begun.
fn judge(
    appender: &Appender,
    place: Option<PagesPlace>,
    root: &PartIdentity,
    first_kept: SegmentNumber,
) -> Result<PagesPlace, (EpochReason, String)> {
    let facts = &appender.epoch().facts;
    if (&facts.system_identifier, &facts.database) != (&root.machine, &root.path) {
        let note = format!("the files are on another machine or path: path=`{}`", root.path);
        return Err((EpochReason::Failover, note));
    }
    let goes_on = |place: &PagesPlace| place.epoch == appender.epoch().id && place.segment.next() >= first_kept;
    place.filter(goes_on).ok_or_else(|| {
        (EpochReason::Asked, "the hashes of pages on this host are gone, or do not belong to the log".into())
    })
}

async fn begin_epoch(
    source: &SqliteSource,
    log: &ChangeLog,
    root: &PartIdentity,
    (why, note): &(EpochReason, String),
) -> Result<Appender, Error> {
    let begun_at = Timestamp::now();
    let facts = EpochFacts {
        source: source.name().clone(),
        kind: SourceKind::Sqlite,
        system_identifier: root.machine.clone(),
        timeline: 0,
        slot: String::new(),
        database: root.path.clone(),
        begins: position_of(begun_at),
        snapshot: String::new(),
        begun_at,
        why: *why,
        note: note.clone(),
        sound_till: None,
        partly: Vec::new(),
    };
    Ok(log.begin_epoch(facts, &this_process()).await?)
}

/// Round after round; what was read is durable when this ends.
async fn follow(
    engine: &Engine,
    request: &PagesRequest,
    source: &SqliteSource,
    (mut writer, root): (Writer<'_>, PartIdentity),
) -> Result<PagesReport, Error> {
    let mut files = Files::load(root, writer.index)?;
    let (mut flushed, mut idle_max, mut failure) = (Instant::now(), FIRST_IDLE_SEGMENT, None);
    loop {
        let began = (Instant::now(), Timestamp::now());
        let mut round = match tokio::task::block_in_place(|| files.round(source)) {
            Ok(round) => Some(round),
            // Nothing may be concluded from a source that has failed: what it had stays as it was.
            Err(error) => {
                if failure.is_none() || request.until_caught_up {
                    tracing::warn!(%error, source = %request.source, "the source has failed; it is tried again");
                }
                failure = Some(error);
                None
            }
        };
        if let Some(round) = &mut round {
            failure = None;
            loop {
                match tokio::task::block_in_place(|| writer.work(engine, source, &mut files, round))? {
                    Work::Full => writer.flush_full(engine, source).await?,
                    Work::Stopped => break,
                    Work::Done => {
                        writer.end_round(began.1);
                        break;
                    }
                }
                flushed = Instant::now();
            }
        }
        let is_quiet = round.as_ref().is_some_and(|round| round.postponed == 0);
        let is_stopped = engine.cancel.load(Ordering::Relaxed);
        let is_over = is_stopped || (request.until_caught_up && (is_quiet || failure.is_some()));
        let is_first = is_quiet && !writer.is_filled;
        writer.is_filled |= is_quiet && !is_stopped;
        let age = flushed.elapsed();
        if is_over || is_first || writer.is_due(request, age) || age >= idle_max {
            writer.flush(engine, source).await?;
            (flushed, idle_max) = (Instant::now(), IDLE_SEGMENT_EVERY);
        }
        if is_over {
            break;
        }
        let waits_for_quiet = request.until_caught_up || !writer.is_filled;
        let next = if waits_for_quiet { SETTLE_WAIT.min(request.poll_every) } else { request.poll_every };
        sleep_until(engine, began.0 + next).await;
    }
    match failure.filter(|_| request.until_caught_up) {
        Some(error) => Err(error),
        None => Ok(writer.into_report(&files)),
    }
}

/// Sleeps, and looks from time to time whether it is to stop.
async fn sleep_until(engine: &Engine, till: Instant) {
    while Instant::now() < till && !engine.cancel.load(Ordering::Relaxed) {
        let rest = till.saturating_duration_since(Instant::now());
        tokio::time::sleep(rest.min(Duration::from_millis(100))).await;
    }
}

fn position_of(time: Timestamp) -> Lsn {
    Lsn(u64::try_from(time.0).unwrap_or(0))
}

fn sqlite_source<'e>(engine: &'e Engine, name: &SourceName) -> Result<&'e SqliteSource, Error> {
    match engine.fleet.source(name) {
        Some(AnySource::Sqlite(source)) => Ok(source),
        Some(_) => Err(Error::NoSuchThing {
            detail: format!("not a source of SQLite files: source=`{name}`"),
            hint: "`lifeboat sources inspect` lists what each source is".into(),
        }),
        None => Err(Error::NoSuchThing {
            detail: format!("no such source: source=`{name}`"),
            hint: "`lifeboat sources inspect` lists those that are configured".into(),
        }),
    }
}

impl PagesPlace {
    fn of(known: KnownLog, is_filled: bool) -> Self {
        let KnownLog { epoch, number: segment, id } = known;
        Self { epoch, segment, id, is_filled }
    }

    fn known(&self) -> KnownLog {
        KnownLog { epoch: self.epoch, number: self.segment, id: self.id }
    }
}
