//! Capturing: every change of a source's rows into its change log, segment by segment.
//!
//!   where does the log end? ─▶ may the slot be followed on from there? ─▶ else a new epoch, and new bases
//!   changes ▸ whose? ▸ draft ─ full, or old enough ─▶ segment, durable ─ now and then ─▶ index at its place ▸ confirm
//!
//! Invariant (durable-before-confirmed): a position is confirmed to the source only when the segment that
//! ends there was read back, and the index on disk has come as far.
//! Invariant (no-gap-no-duplicate): what the log has already is dropped when it comes again, by its position
//! and sequence; what it does not have was never confirmed.
//!
//! Whoever captures is told what happens as it happens ([`CaptureNews`]); a capture itself waits for nobody.
//!
//! What is not here: trying again, bases, the slot's size (`lifeboat-control`), decoding (`lifeboat-source`), sealing and names (`lifeboat-repo`), replaying (`replay`).

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_model::{EpochFacts, EpochId, EpochReason, Fault, Faulty, Lsn, SiteId, SourceKind, SourceName, Timestamp};
use lifeboat_repo::{Appender, ChangeLog, Spill};
use lifeboat_source::Source;
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::capture::{Following, StructureNotes};
use lifeboat_source::postgres::routing::{IndexKey, RoutingIndex};

use crate::fleet::AnySource;
use crate::{Engine, Error, bases, this_process};

pub(crate) mod birth;
mod counted;
mod follow;
mod judge;
mod kept;
mod losses;
mod news;
mod own;
mod slot;
mod spill;
mod writer;

pub use news::{CaptureNews, TellNews};
pub use slot::{SlotDanger, SlotWatch, give_up_slot, look_at_slot, look_for_drift};
pub use spill::{SpillEnd, spill, store_answers};
pub(crate) use writer::{
    AS_PARTITION, COLUMNS, DROPPED, FOLLOWED, MOVED, OBJECT, OWN_NOTES, PARTLY, STRUCTURE, UNFOLLOWED,
};

use counted::{Broken, CountedOn};
use follow::follow;
use judge::{LogEnd, judge, without_slot};
use kept::Kept;
use writer::{State, Writer};

/// What to capture, and how.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    pub source: SourceName,
    /// Ends when everything that had committed when it began is durable.
    pub until_caught_up: bool,
    /// A segment is sealed when it is so old, or so large.
    pub flush_every: Duration,
    pub flush_bytes: usize,
    /// The slot that was followed was given up, and why: a new epoch is to begin.
    pub given_up: Option<String>,
    /// Where changes are kept while the store does not answer, and what was kept is found.
    pub spill: Option<Spill>,
}

impl CaptureRequest {
    pub const FLUSH_EVERY: Duration = Duration::from_secs(5);
    pub const FLUSH_BYTES: usize = 8 << 20;

    /// Follows on and on, in segments of the usual age and size.
    pub fn of(source: SourceName) -> Self {
        let (flush_every, flush_bytes) = (Self::FLUSH_EVERY, Self::FLUSH_BYTES);
        Self { source, until_caught_up: false, flush_every, flush_bytes, given_up: None, spill: None }
    }
}

/// Up to where an index on disk has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPlace {
    pub epoch: EpochId,
    pub position: Lsn,
    /// Changes of the epoch whose site nobody could tell, as far as this host has seen.
    pub unrouted: u64,
}

/// An index that belongs to a place of the log, also after a crash.
pub trait CaptureIndex: RoutingIndex + Send {
    /// `None`: it was never filled to its end, or is another repository's.
    fn place(&mut self) -> Result<Option<IndexPlace>, Error>;
    fn clear(&mut self) -> Result<(), Error>;
    /// What it counts on, by table ([`lifeboat_source::postgres::routing::Router::counted_on`]).
    fn counted_on(&mut self) -> Result<BTreeMap<String, String>, Error>;
    fn count_on(&mut self, tables: &BTreeMap<String, String>) -> Result<(), Error>;
    /// Everything so far belongs to this place now.
    fn commit(&mut self, place: &IndexPlace) -> Result<(), Error>;
    /// Whether so much waits for that that it should be soon. Until then it comes now and then.
    fn is_full(&self) -> bool {
        true
    }
}

/// What a capture did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureReport {
    pub epoch: EpochId,
    /// The epoch that this run had to begin, and why.
    pub begun: Option<(EpochReason, String)>,
    /// Of an epoch that was begun: till when the one before was complete. What changed since then and until now is
    /// in no log.
    pub gap_from: Option<Timestamp>,
    pub segments: u64,
    pub transactions: u64,
    pub changes: u64,
    /// Changes whose site nobody could tell.
    pub unrouted: u64,
    /// Every transaction whose commit is not after it is in the log.
    pub complete_till: Lsn,
    /// Of an epoch that was begun: tables whose changes are not, or not all, in the log, and why.
    pub snapshots_only: Vec<(String, String)>,
    /// Of an epoch that was begun: whether the source notes each change of a table's structure.
    pub structure_is_noted: bool,
}

/// Follows a source until it is caught up, or until it is told to stop. Bases for a new epoch are the
/// caller's to make: until a site has one, its changes lead nowhere. Where an epoch breaks, the next begins.
pub async fn capture(
    engine: &Engine,
    request: &CaptureRequest,
    index: &mut dyn CaptureIndex,
    tell: &TellNews,
) -> Result<CaptureReport, Error> {
    let given_up = |detail| (EpochReason::SlotLost, Broken { detail, sound_till: None });
    let mut broken = request.given_up.clone().map(given_up);
    loop {
        engine.check_cancelled()?;
        match capture_epoch(engine, request, (&mut *index, tell), broken.take()).await {
            Err(Error::EpochBroken { detail, sound_till, .. }) => {
                broken = Some((EpochReason::TableRewritten, Broken { detail, sound_till }));
            }
            Err(error @ Error::SpillLost { .. }) => {
                broken = Some((EpochReason::SlotLost, Broken { detail: error.to_string(), sound_till: None }));
            }
            other => return other,
        }
    }
}

async fn capture_epoch(
    engine: &Engine,
    request: &CaptureRequest,
    (index, tell): (&mut dyn CaptureIndex, &TellNews),
    broken: Option<(EpochReason, Broken)>,
) -> Result<CaptureReport, Error> {
    let source = postgres_source(engine, &request.source)?;
    let log = ChangeLog::open(&engine.repository, &request.source).await?;
    let end = match (log.appender().await?, broken) {
        (Some(appender), broken) => {
            tokio::task::block_in_place(|| end_of(source, request, appender, (&mut *index, broken)))?
        }
        (None, Some((why, broken))) => LogEnd::Over { why, broken, kept: None },
        (None, None) => LogEnd::over(EpochReason::First, "nothing was captured before".into()),
    };
    let (begun, kept) = match end {
        LogEnd::GoOn { appender, kept } => (go_on(source, *appender, index, kept.as_ref())?, kept),
        LogEnd::Over { why, broken, kept } => {
            if let Some((appender, kept)) = kept {
                take_kept(engine, request, (&log, *appender, &kept), index).await?;
            }
            let begun = begin_epoch(source, &log, (why, broken), index).await?;
            // Of the epoch before: what it could give is taken.
            request.spill.as_ref().map_or(Ok(()), Spill::remove)?;
            (begun, None)
        }
    };
    let Begun { appender, following: Following { mut stream, router, partly }, report } = begun;
    tell(CaptureNews::of(&report));
    let mut state = State::at(&log, &appender, index).await?;
    state.partly = partly;
    let mut writer = Writer { engine, source, appender, router, index, report, state };
    writer.wish_again().await?;
    follow(engine, request, (&mut stream, &mut writer, kept), tell).await?;
    Ok(writer.report)
}

/// What the log allows, where something may have ended its epoch already.
fn end_of(
    source: &PostgresSource,
    request: &CaptureRequest,
    appender: Appender,
    (index, broken): (&mut dyn CaptureIndex, Option<(EpochReason, Broken)>),
) -> Result<LogEnd, Error> {
    match broken {
        None => {
            let kept = Kept::find(request, &appender, index)?;
            judge(source, appender, index, kept)
        }
        Some((EpochReason::SlotLost, Broken { detail, sound_till: None })) if request.given_up.is_some() => {
            let kept = Kept::find(request, &appender, index)?.ok().flatten();
            without_slot(source, (appender, kept), index, (EpochReason::SlotLost, detail))
        }
        Some((why, broken)) => Ok(LogEnd::Over { why, broken, kept: None }),
    }
}

/// Takes what was kept of an epoch that cannot go on. What of it cannot be taken is a part of the gap.
async fn take_kept(
    engine: &Engine,
    request: &CaptureRequest,
    (log, appender, kept): (&ChangeLog, Appender, &Kept),
    index: &mut dyn CaptureIndex,
) -> Result<(), Error> {
    let source = postgres_source(engine, &request.source)?;
    let spilled = kept.spilled(&request.source)?;
    let Following { mut stream, router, partly } = tokio::task::block_in_place(|| source.follow_spilled(spilled))?;
    let report = CaptureReport::new(appender.epoch().id, appender.complete_till());
    let mut state = State::at(log, &appender, index).await?;
    state.partly = partly;
    let mut writer = Writer { engine, source, appender, router, index, report, state };
    match kept.drain(engine, request, (&mut stream, &mut writer)).await {
        Err(error) if matches!(error.fault(), Fault::Retry | Fault::Cancelled | Fault::Fenced) => match error {
            Error::EpochBroken { .. } => Ok(()),
            other => Err(other),
        },
        Err(error) => {
            tracing::warn!(%error, source = %request.source, "what was kept on this host is not all in the log");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Everything that following needs.
struct Begun {
    appender: Appender,
    following: Following,
    report: CaptureReport,
}

/// From where the index is: it may be behind the log, and must see what it lacks once more.
fn go_on(
    source: &PostgresSource,
    appender: Appender,
    index: &mut dyn CaptureIndex,
    kept: Option<&Kept>,
) -> Result<Begun, Error> {
    let indexed = index.place()?.map_or(Lsn(0), |place| place.position);
    let confirmed = after(indexed.min(appender.complete_till()));
    let following = tokio::task::block_in_place(|| match kept {
        Some(kept) => Ok::<_, Error>(source.follow_on_behind(kept.spilled(source.name())?)?),
        None => Ok(source.follow_on(confirmed)?),
    })?;
    let report = CaptureReport::new(appender.epoch().id, appender.complete_till());
    Ok(Begun { appender, following, report })
}

/// A new slot, an index filled under its snapshot, and then the epoch in the log.
async fn begin_epoch(
    source: &PostgresSource,
    log: &ChangeLog,
    (why, broken): (EpochReason, Broken),
    index: &mut dyn CaptureIndex,
) -> Result<Begun, Error> {
    index.clear()?;
    let gap_from = match log.newest() {
        // One that is damaged is not in the way of the next.
        Some(newest) => {
            let seen = bases::epoch_seen(log, newest.epoch).await.ok();
            let till = seen.map(|seen| seen.till.unwrap_or(seen.epoch.facts.begun_at));
            till.map(|till| broken.sound_till.map_or(till, |sound| sound.min(till)))
        }
        None => None,
    };
    let prepared = tokio::task::block_in_place(|| source.prepare(&mut Filling(index), why == EpochReason::First))?;
    let facts = EpochFacts {
        source: source.name().clone(),
        kind: SourceKind::Postgres,
        system_identifier: prepared.server.system_identifier.clone(),
        timeline: prepared.server.timeline,
        slot: prepared.slot.clone(),
        database: prepared.database.clone(),
        begins: prepared.begins,
        snapshot: prepared.snapshot.clone(),
        begun_at: Timestamp::now(),
        why,
        note: broken.detail.clone(),
        sound_till: broken.sound_till,
        partly: prepared.coverage.partly().into_iter().collect(),
    };
    let appender = match log.begin_epoch(facts, &this_process()).await {
        Ok(appender) => appender,
        Err(error) => {
            tokio::task::block_in_place(|| prepared.abandon());
            return Err(error.into());
        }
    };
    let (epoch, begins) = (appender.epoch().id, prepared.begins);
    index.commit(&IndexPlace { epoch, position: begins, unrouted: 0 })?;
    let mut report = CaptureReport::new(epoch, begins);
    report.begun = Some((why, broken.detail));
    report.gap_from = gap_from;
    let only = prepared.coverage.snapshots_only.iter();
    report.snapshots_only = only.map(|only| (only.table.to_string(), only.reason.clone())).collect();
    report.structure_is_noted = prepared.structure == StructureNotes::Noted;
    let (leaves, begun_at) = (prepared.leaves.clone(), appender.epoch().facts.begun_at);
    let following = tokio::task::block_in_place(|| prepared.begin())?;
    CountedOn::begin(following.router.counted_on(), leaves, begun_at).keep(index)?;
    Ok(Begun { appender, following, report })
}

/// An index that is only being filled.
struct Filling<'i>(&'i mut dyn CaptureIndex);

impl RoutingIndex for Filling<'_> {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, lifeboat_source::Error> {
        self.0.site_of(key)
    }
    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), lifeboat_source::Error> {
        self.0.put(table, key, site)
    }
    fn remove(&mut self, key: &IndexKey) -> Result<(), lifeboat_source::Error> {
        self.0.remove(key)
    }
    fn forget_table(&mut self, table: &str) -> Result<(), lifeboat_source::Error> {
        self.0.forget_table(table)
    }
}

fn postgres_source<'e>(engine: &'e Engine, name: &SourceName) -> Result<&'e PostgresSource, Error> {
    match engine.fleet.source(name) {
        Some(AnySource::Postgres(source)) => Ok(source),
        Some(_) => Err(Error::NoSuchThing {
            detail: format!("changes of this kind of source are not captured in this version: source=`{name}`"),
            hint: "back it up as often as you can afford to lose".into(),
        }),
        None => Err(Error::NoSuchThing {
            detail: format!("no such source: source=`{name}`"),
            hint: "`lifeboat sources inspect` lists those that are configured".into(),
        }),
    }
}

/// The first position after all that is complete.
fn after(complete_till: Lsn) -> Lsn {
    Lsn(complete_till.0.saturating_add(1))
}

fn in_use(source: &PostgresSource, slot: &str, process: i32) -> Error {
    Error::CapturedElsewhere {
        source_name: source.name().clone(),
        detail: format!("slot=`{slot}`, server process=`{process}`"),
    }
}

fn not_ours(source: &PostgresSource, slot: &str, detail: String) -> Error {
    Error::Conflict {
        detail: format!("a slot of our name is somebody else's: source=`{}`, slot=`{slot}`, {detail}", source.name()),
        hint: "drop it with pg_drop_replication_slot if nobody needs it, or give the source another name".into(),
    }
}

impl CaptureReport {
    fn new(epoch: EpochId, complete_till: Lsn) -> Self {
        Self {
            epoch,
            begun: None,
            gap_from: None,
            segments: 0,
            transactions: 0,
            changes: 0,
            unrouted: 0,
            complete_till,
            snapshots_only: Vec::new(),
            structure_is_noted: true,
        }
    }
}
