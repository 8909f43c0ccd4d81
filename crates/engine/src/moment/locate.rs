//! Where in the logs of a site's sources a moment is, and which snapshots its changes go on top of.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_model::{
    Epoch, LogBegin, Lsn, PointInTime, SharedKinds, SiteId, SnapshotId, SnapshotRecord, SourceKind, SourceName,
    Timestamp, TransactionHead, TransactionId,
};
use lifeboat_repo::{Manifest, Site};

use super::base::BasePlace;
use super::cut::{AfterEnd, Cut, Moment};
use super::database::epoch_at;
use super::is_base;
use super::log::SourceLog;
use super::scan::{Scan, Scanned, Search, find_back};
use crate::{Engine, Error};

/// By clocks that differ, a snapshot may seem to be after a moment it is before.
const CLOCKS_MICROS: i64 = 5 * 1_000_000;
/// Epochs that follow each other without a base of the site in between.
const EPOCHS_TRIED: usize = 4;

/// A moment, found.
pub(super) struct Located {
    pub at: Timestamp,
    /// As it can be found again, whatever is captured since.
    pub moment: PointInTime,
    pub cuts: BTreeMap<SourceName, PartCut>,
}

/// Where one captured part's history is cut.
pub(super) struct PartCut {
    pub log: SourceLog,
    pub epoch: Epoch,
    pub base: Base,
    pub scan: Scan,
    /// Everything but this transaction.
    pub without: Option<TransactionId>,
    /// Only what a snapshot sees that was taken there; `None`: all up to the cut.
    pub seen_by: Option<BasePlace>,
}

impl PartCut {
    /// Tables whose changes are not all in the log.
    pub fn partly(&self) -> BTreeSet<String> {
        self.epoch.facts.partly.iter().chain(&self.scan.partly).cloned().collect()
    }
}

/// A snapshot of a part that changes go on top of.
pub(crate) struct Base {
    pub snapshot: SnapshotId,
    pub place: BasePlace,
    pub manifest: Manifest,
    pub part: usize,
    /// When its reading began, and when the snapshot was whole.
    pub read: (Timestamp, Timestamp),
    /// Nothing was there before, and it is in its epoch's place: the site was first seen in the log.
    pub is_birth: bool,
}

/// `None`: no source of the site was captured then, so that snapshots are all there is.
pub(super) async fn locate(engine: &Engine, site: &Site, at: &PointInTime) -> Result<Option<Located>, Error> {
    let logs = open_logs(engine, site).await?;
    if let PointInTime::Time(time) = at {
        let cuts = cut_at_time(engine, site, logs, *time).await?;
        let is_captured = !cuts.is_empty() || is_file_captured(engine, site, *time).await?;
        let is_captured = is_captured || super::files::are_all_scanned(site, *time);
        return Ok(is_captured.then(|| Located { at: *time, moment: at.clone(), cuts }));
    }
    let Found { log, epoch, wanted } = find(site.id(), &logs, at).await?;
    let mut logs = logs;
    let log = logs.swap_remove(log);
    let without = match at {
        PointInTime::Without { transaction, .. } => Some(*transaction),
        _ => None,
    };
    let source = log.source().clone();
    let search = PartSearch { moment: wanted.moment, before: wanted.near, without };
    let cut = match cut_part(engine, site, (log, epoch), &search).await? {
        Outcome::Cut(cut) => *cut,
        Outcome::Refused(log, epoch, why) => return Err(refuse(site, (&log, &epoch), &at.to_string(), why).await?),
    };
    let at_time = wanted.near.or(cut.scan.last_commit).unwrap_or(cut.scan.last_sealed);
    let moment = match at {
        PointInTime::Without { transaction, .. } => {
            PointInTime::Without { transaction: *transaction, till: Some(cut.scan.cut.till) }
        }
        _ => PointInTime::Position(cut.scan.cut.till),
    };
    let mut cuts = cut_at_time(engine, site, logs, at_time).await?;
    cuts.insert(source, cut);
    Ok(Some(Located { at: at_time, moment, cuts }))
}

/// Whether a database file of the site was captured at a time.
async fn is_file_captured(engine: &Engine, site: &Site, at: Timestamp) -> Result<bool, Error> {
    let parts = site.state().snapshots.iter().flat_map(|record| &record.parts);
    let sources: BTreeSet<&SourceName> =
        parts.filter(|part| part.kind == SourceKind::Sqlite).map(|part| &part.source).collect();
    for source in sources {
        if epoch_at(engine, source, at).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The logs of the sources that the site's snapshots have parts of.
async fn open_logs(engine: &Engine, site: &Site) -> Result<Vec<SourceLog>, Error> {
    let parts = site.state().snapshots.iter().flat_map(|record| &record.parts);
    let rows = parts.filter(|part| part.kind == SourceKind::Postgres);
    let sources: BTreeSet<&SourceName> = rows.map(|part| &part.source).collect();
    let mut logs = Vec::new();
    for source in sources {
        logs.extend(SourceLog::open(engine, source).await?);
    }
    Ok(logs)
}

/// Each source that was captured at a time, cut there.
async fn cut_at_time(
    engine: &Engine,
    site: &Site,
    logs: Vec<SourceLog>,
    time: Timestamp,
) -> Result<BTreeMap<SourceName, PartCut>, Error> {
    let mut cuts = BTreeMap::new();
    for log in logs {
        if let Some(cut) = cut_log_at_time(engine, site, log, time).await? {
            cuts.insert(cut.log.source().clone(), cut);
        }
    }
    Ok(cuts)
}

/// In the newest epoch that gives the time. An epoch begins before its first base, and by clocks before the last words of
/// the one that it follows: that one may know of a time what this one does not.
async fn cut_log_at_time(
    engine: &Engine,
    site: &Site,
    mut log: SourceLog,
    time: Timestamp,
) -> Result<Option<PartCut>, Error> {
    let search = PartSearch { moment: Moment::Time(time), before: Some(time), without: None };
    let begun = log.epochs.iter().rev().filter(|epoch| epoch.facts.begun_at <= time);
    let mut refused = None;
    for epoch in begun.take(EPOCHS_TRIED).cloned().collect::<Vec<_>>() {
        match cut_part(engine, site, (log, epoch), &search).await? {
            Outcome::Cut(cut) => return Ok(Some(*cut)),
            Outcome::Refused(back, epoch, why) => {
                log = back;
                let is_certain = matches!(why, Refused::AfterEnd(AfterEnd(Some(_))));
                if is_certain || refused.is_none() {
                    refused = Some((epoch, why));
                }
                if is_certain {
                    break;
                }
            }
        }
    }
    match refused {
        Some((epoch, why)) => Err(refuse(site, (&log, &epoch), &time.to_string(), why).await?),
        None => Ok(None),
    }
}

/// What a moment is in the log that knows it.
struct Wanted {
    moment: Moment,
    /// The time of it, if the log says one.
    near: Option<Timestamp>,
}

struct Found {
    /// Place among the logs.
    log: usize,
    epoch: Epoch,
    wanted: Wanted,
}

/// The one log, and the newest epoch in it, that knows a position, a transaction or a note.
async fn find(site: &SiteId, logs: &[SourceLog], at: &PointInTime) -> Result<Found, Error> {
    let mut found: Vec<Found> = Vec::new();
    for (number, log) in logs.iter().enumerate() {
        for epoch in log.epochs.iter().rev() {
            if let Some(wanted) = find_in(log, epoch, at).await? {
                found.push(Found { log: number, epoch: epoch.clone(), wanted });
                break;
            }
        }
    }
    match (found.len(), found.pop()) {
        (1, Some(found)) => Ok(found),
        (0, _) => Err(Error::NoPoint {
            site: site.clone(),
            asked: at.to_string(),
            hint: match (logs.is_empty(), at) {
                (true, _) => {
                    format!("no source of this site was ever captured; `lifeboat points {site}` lists its snapshots")
                }
                (_, PointInTime::Position(_)) => {
                    "the change log does not reach there; `lifeboat points` says how far it reaches".into()
                }
                (_, PointInTime::BeforeNote(_)) => "no note in the change log has this text; `lifeboat find-damage` shows those beside what was lost".into(),
                _ => "the change log has no transaction of this number; `lifeboat find-damage` lists those that removed most".into(),
            },
        }),
        _ => Err(Error::NoSuchThing {
            detail: format!("several captured sources know this point: site=`{site}`, at=`{at}`"),
            hint: "ask for the time instead, or restore one part of it with --only".into(),
        }),
    }
}

async fn find_in(log: &SourceLog, epoch: &Epoch, at: &PointInTime) -> Result<Option<Wanted>, Error> {
    let head_of = async |id: TransactionId| -> Result<Option<TransactionHead>, Error> {
        find_back(
            log,
            epoch.id,
            &|footer| footer.span.bounds.is_some_and(|bounds| bounds.lowest <= id && id <= bounds.highest),
            &|shared| shared.transactions.iter().map(|facts| facts.head).find(|head| head.id == id),
        )
        .await
    };
    let before = |commit: Lsn, near| Wanted { moment: Moment::Position(Cut::before(commit).till), near };
    Ok(match at {
        PointInTime::Position(lsn) if *lsn >= epoch.facts.begins => {
            Some(Wanted { moment: Moment::Position(*lsn), near: None })
        }
        PointInTime::Before(id) => head_of(*id).await?.map(|head| before(head.commit, Some(head.committed_at))),
        PointInTime::BeforeNote(text) => {
            let is_meant = |note: &&lifeboat_model::LogNote| note.prefix == *text || note.content == text.as_bytes();
            let find = |shared: &lifeboat_model::SharedFacts| {
                let note = shared.notes.iter().rev().find(is_meant)?;
                let heads = shared.transactions.iter().map(|facts| facts.head);
                let at = heads.filter(|head| head.commit >= note.place.commit).map(|head| head.committed_at).next();
                Some((note.place.commit, at))
            };
            find_back(log, epoch.id, &|footer| footer.may_tell(SharedKinds::NOTES), &find)
                .await?
                .map(|(commit, at)| before(commit, at))
        }
        PointInTime::Without { transaction, till } => head_of(*transaction)
            .await?
            .map(|_| Wanted { moment: till.map_or(Moment::End, Moment::Position), near: None }),
        _ => None,
    })
}

pub(super) struct PartSearch {
    pub moment: Moment,
    /// Snapshots that were taken later are no bases.
    pub before: Option<Timestamp>,
    pub without: Option<TransactionId>,
}

pub(super) enum Outcome {
    Cut(Box<PartCut>),
    Refused(SourceLog, Box<Epoch>, Refused),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Refused {
    /// No snapshot in the epoch is before the moment.
    NoBase,
    AfterEnd(AfterEnd),
}

/// The newest base that sees nothing after the moment, and what lies between them.
pub(super) async fn cut_part(
    engine: &Engine,
    site: &Site,
    (log, epoch): (SourceLog, Epoch),
    search: &PartSearch,
) -> Result<Outcome, Error> {
    let is_before = |record: &&SnapshotRecord| {
        is_base(record) && search.before.is_none_or(|time| record.cut_from.0 <= time.0.saturating_add(CLOCKS_MICROS))
    };
    let kept = log.log.kept(epoch.id).await?;
    for record in site.state().snapshots.iter().rev().filter(is_before) {
        let Some(base) = base_of(site, record, log.source(), (&epoch, kept.begins)).await? else { continue };
        if search.without.is_some_and(|id| base.place.sees(id)) {
            continue;
        }
        let scan = Search { log: &log, site: site.id(), base: &base, moment: search.moment };
        match scan.run(engine, &kept).await? {
            Scanned::Found(scan) => {
                let at = search.before.or(scan.last_commit);
                if let Some(sound) = log.sound_till(epoch.id).filter(|sound| at.is_some_and(|at| at > *sound)) {
                    return Ok(Outcome::Refused(log, Box::new(epoch), Refused::AfterEnd(AfterEnd(Some(sound)))));
                }
                let without = search.without;
                let cut = PartCut { log, epoch, base, scan: *scan, without, seen_by: None };
                return Ok(Outcome::Cut(Box::new(cut)));
            }
            Scanned::BaseIsLater | Scanned::LogIsGone => {}
            Scanned::AfterEnd(end) => return Ok(Outcome::Refused(log, Box::new(epoch), Refused::AfterEnd(end))),
        }
    }
    Ok(Outcome::Refused(log, Box::new(epoch), Refused::NoBase))
}

/// The part of a snapshot, if changes of the epoch may go on top of it.
pub(crate) async fn base_of(
    site: &Site,
    record: &SnapshotRecord,
    source: &SourceName,
    (epoch, begins): (&Epoch, Option<LogBegin>),
) -> Result<Option<Base>, Error> {
    let is_whole = |part: &lifeboat_model::PartRecord| {
        let status = &part.status;
        part.source == *source && !matches!(status, lifeboat_model::PartStatus::Failed { .. })
    };
    let is_too_old = begins.is_some_and(|begins| record.cut_from < begins.bases_since);
    if is_too_old || !record.parts.iter().any(is_whole) {
        return Ok(None);
    }
    let manifest = site.manifest(&record.manifest).await?;
    let Some((part, head)) = manifest.part(source) else { return Ok(None) };
    let place = BasePlace::of(&head.position.0, &head.identity.machine).filter(|place| place.joins(epoch));
    let is_birth = matches!(head.record.status, lifeboat_model::PartStatus::Absent);
    let read = (record.cut_from, record.cut_till);
    Ok(place.map(|place| Base { snapshot: record.id, place, manifest, part, read, is_birth }))
}

/// Says which moments near the asked one there are.
async fn refuse(site: &Site, (log, epoch): (&SourceLog, &Epoch), asked: &str, why: Refused) -> Result<Error, Error> {
    let (id, source) = (site.id(), log.source());
    let is_newest = log.epochs.last().is_some_and(|newest| newest.id == epoch.id);
    let next = log.epochs.iter().find(|other| other.id > epoch.id);
    let first_base = async |epoch: Option<&Epoch>| -> Result<Option<Timestamp>, Error> {
        let Some(epoch) = epoch else { return Ok(None) };
        let begins = log.log.kept(epoch.id).await?.begins;
        for record in site.state().snapshots.iter().filter(|record| is_base(record)) {
            if record.cut_till < epoch.facts.begun_at {
                continue;
            }
            if let Some(base) = base_of(site, record, source, (epoch, begins)).await? {
                return Ok(Some(base.read.1.max(epoch.facts.begun_at)));
            }
        }
        Ok(None)
    };
    let hint = match why {
        Refused::AfterEnd(AfterEnd(None)) => {
            format!("nothing is in the change log of `{source}` yet; is `lifeboat capture` running?")
        }
        Refused::AfterEnd(AfterEnd(Some(last))) if is_newest => format!(
            "the change log of `{source}` ends there: the newest restorable time is {last}. `lifeboat capture` has to run on \
             beyond the asked time: where nothing is written it says so once a minute, so try again in a minute"
        ),
        Refused::AfterEnd(AfterEnd(Some(last))) => match first_base(next).await? {
            Some(first) => format!(
                "the change log of `{source}` has a gap there; the nearest restorable times are {last} and {first}"
            ),
            None => format!("the change log of `{source}` has a gap there; the nearest restorable time is {last}"),
        },
        Refused::NoBase => match (first_base(Some(epoch)).await?, log.log.kept(epoch.id).await?.begins) {
            (Some(first), Some(_)) => format!(
                "the change log of `{source}` is kept no longer; the nearest restorable time after it is {first}, and \
                 `lifeboat points {id}` lists snapshots of before: `--at snapshot:ID` takes one as it is"
            ),
            (Some(first), None) => format!(
                "changes of `{source}` lead somewhere only from a snapshot on; the nearest restorable time after it is \
                 {first}, and `lifeboat points {id}` lists those before"
            ),
            (None, _) => format!(
                "changes of `{source}` lead somewhere only from a snapshot that was taken since they are captured: \
                 `lifeboat backup {id}`"
            ),
        },
    };
    Ok(Error::NoPoint { site: id.clone(), asked: asked.to_owned(), hint })
}
