//! Bases: which sites of a captured source have a snapshot that changes go on top of, and from when.
//!
//! ```text
//! epoch 1   ├── base ──────────────────┤ broken        ├── base ───────────▶ epoch 2
//!                └─ restorable ────────┘ ◀── a gap ──▶      └─ restorable ──▶ till the newest segment was sealed
//! ```
//!
//! What is not here: turning a moment into a position, and rows (`moment`).

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use lifeboat_model::{
    Epoch, EpochId, Fault, Faulty, LogBegin, Mark, PartStatus, SegmentNumber, SiteId, SnapshotId, SnapshotRecord,
    SourceKind, SourceName, Timestamp,
};
use lifeboat_repo::{ChangeLog, Site};

use crate::moment::base::BasePlace;
use crate::moment::windows::windows_of;
use crate::{Engine, Error};

pub use crate::moment::windows::Certainty;

/// Epochs that are looked at, the newest first; what is older is told by nobody.
const EPOCHS_MAX: u32 = 20;
/// Clocks of hosts differ by less.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(3_600);
/// Sites asked at once.
const SITES_AT_ONCE: usize = 16;

/// An epoch of a source's change log, and till when it is known to be complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochSeen {
    pub epoch: Epoch,
    /// Where what is kept of it begins; `None`: nothing of it was let go of.
    pub begins: Option<LogBegin>,
    /// When its newest segment was sealed; `None`: it has none.
    pub till: Option<Timestamp>,
    /// Another epoch goes on.
    pub has_ended: bool,
}

/// A stretch of time every moment of which a site's part can be put back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub epoch: EpochId,
    pub from: Timestamp,
    pub till: Timestamp,
    /// The first snapshot that changes go on top of.
    pub base: SnapshotId,
}

/// A site's part in a captured source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedPart {
    pub source: SourceName,
    /// Oldest first.
    pub epochs: Vec<EpochSeen>,
    /// Oldest first, several of an epoch where rows came or went unseen in between.
    pub windows: Vec<Window>,
}

/// The newest epochs of a source, oldest first; none: it was never captured.
pub async fn epochs(engine: &Engine, source: &SourceName) -> Result<Vec<EpochSeen>, Error> {
    let log = ChangeLog::open(&engine.repository, source).await?;
    let Some(newest) = log.newest() else { return Ok(Vec::new()) };
    let first = newest.epoch.0.saturating_sub(EPOCHS_MAX - 1).max(1);
    let mut seen = Vec::new();
    for id in (first..=newest.epoch.0).map(EpochId) {
        let one = match epoch_seen(&log, id).await {
            // One that is damaged is `check`'s to tell; the others are restorable all the same.
            Err(error) if error.fault() == Fault::Damage && id != newest.epoch => continue,
            other => other?,
        };
        seen.push(one);
    }
    Ok(seen)
}

/// The newest epoch of a source alone.
pub async fn newest_epoch(engine: &Engine, source: &SourceName) -> Result<Option<EpochSeen>, Error> {
    let log = ChangeLog::open(&engine.repository, source).await?;
    match log.newest() {
        Some(newest) => Ok(Some(epoch_seen(&log, newest.epoch).await?)),
        None => Ok(None),
    }
}

pub(crate) async fn epoch_seen(log: &ChangeLog, id: EpochId) -> Result<EpochSeen, Error> {
    let epoch = log.epoch(id).await?;
    let mut has_ended = false;
    let mut newest = log.newest_segment(id).await?;
    let mut till = None;
    while let Some(segment) = newest {
        let footer = log.footer(&segment).await?;
        if footer.followed_by.is_none() {
            till = Some(footer.sealed_at);
            break;
        }
        // The last one says nothing of the source: it was written when the next epoch began.
        has_ended = true;
        let before = SegmentNumber(segment.number.0 - 1);
        newest = match before {
            SegmentNumber(0) => None,
            before => log.segments(id, before..=before).await?.pop(),
        };
    }
    if log.newest().is_some_and(|newest| newest.epoch > id) {
        // What was found late was missing before it was found.
        let sound_till = log.epoch(id.next()).await?.facts.sound_till;
        till = till.map(|till| sound_till.map_or(till, |sound| sound.min(till)));
    }
    let begins = log.kept(id).await?.begins;
    Ok(EpochSeen { epoch, begins, till, has_ended })
}

/// From when to when a site's part in each of these sources can be put back to any moment; sources that were
/// never captured are left out.
pub async fn windows(
    engine: &Engine,
    site: &Site,
    sources: &[SourceName],
    certainty: Certainty,
) -> Result<Vec<CapturedPart>, Error> {
    let mut parts = Vec::new();
    for source in sources {
        let epochs = epochs(engine, source).await?;
        let windows = windows_in(engine, site, (source, &epochs), certainty).await?;
        if !epochs.is_empty() {
            parts.push(CapturedPart { source: source.clone(), epochs, windows });
        }
    }
    Ok(parts)
}

/// The same of one source, whose epochs are known.
pub(crate) async fn windows_in(
    engine: &Engine,
    site: &Site,
    (source, epochs): (&SourceName, &[EpochSeen]),
    certainty: Certainty,
) -> Result<Vec<Window>, Error> {
    let mut windows: Vec<Window> = Vec::new();
    for seen in epochs {
        let of_epoch = match (seen.epoch.facts.kind, seen.till) {
            (SourceKind::Sqlite, Some(till)) => {
                // A newer one is none yet while the log has not come as far.
                let first = bases_of_file(site, source, (&seen.epoch, seen.begins)).find(|(_, from)| *from <= till);
                let window = |(record, from): (&SnapshotRecord, Timestamp)| Window {
                    epoch: seen.epoch.id,
                    from,
                    till,
                    base: record.id,
                };
                first.map(window).into_iter().collect()
            }
            _ => windows_of(engine, site, (source, seen), certainty).await?,
        };
        windows.extend(of_epoch);
    }
    Ok(windows)
}

/// The oldest snapshot of a site that the epoch's changes go on top of, and when that part was read. `or_birth`: one of
/// nothing counts, from which every moment can be had, and none once the log is pruned.
async fn first_base<'s>(
    site: &'s Site,
    source: &SourceName,
    (epoch, begins): (&Epoch, Option<LogBegin>),
    or_birth: bool,
) -> Result<Option<(&'s SnapshotRecord, Timestamp)>, Error> {
    // What was cut long before the epoch began cannot join it, nor what is older than what is kept; the rest is asked.
    let since = epoch.facts.begun_at.saturating_sub(CLOCKS_DIFFER_MAX);
    let is_kept = |record: &SnapshotRecord| begins.is_none_or(|begins| record.cut_from >= begins.bases_since);
    let is_whole = |record: &SnapshotRecord| matches!(record.mark, Mark::Good | Mark::Suspect);
    if epoch.facts.kind == SourceKind::Sqlite {
        return Ok(bases_of_file(site, source, (epoch, begins)).next());
    }
    let is_usable = |record: &&SnapshotRecord| {
        is_whole(record) && is_kept(record) && record.cut_till >= since && (or_birth || !record.is_birth())
    };
    for record in site.state().snapshots.iter().filter(is_usable) {
        let manifest = site.manifest(&record.manifest).await?;
        let Some((_, part)) = manifest.part(source) else { continue };
        if BasePlace::of(&part.position.0, &part.identity.machine).is_some_and(|place| place.joins(epoch)) {
            return Ok(Some((record, part.record.cut_till)));
        }
    }
    Ok(None)
}

/// A snapshot of a file joins by content: the first one since the epoch began, for sure; else the last one before, if nothing
/// was written until then. Of a file that came meanwhile the log has all pages.
fn bases_of_file<'s>(
    site: &'s Site,
    source: &SourceName,
    (epoch, begins): (&Epoch, Option<LogBegin>),
) -> impl Iterator<Item = (&'s SnapshotRecord, Timestamp)> {
    let begun = epoch.facts.begun_at;
    let is_usable = |record: &&SnapshotRecord| {
        let is_kept = begins.is_none_or(|begins| record.cut_from >= begins.bases_since);
        is_kept && matches!(record.mark, Mark::Good | Mark::Suspect)
    };
    let parts = site.state().snapshots.iter().filter(is_usable).filter_map(|record| {
        let part = record.parts.iter().find(|part| part.source == *source)?;
        let is_born_here = record.is_birth() && part.cut_till >= begun;
        (part.status == PartStatus::Complete || is_born_here).then_some((record, part.cut_till))
    });
    let (before, since): (Vec<_>, Vec<_>) = parts.partition(|(_, cut_till)| *cut_till < begun);
    let (first, last) = (since.into_iter().next(), before.into_iter().next_back());
    first.into_iter().chain(last).map(move |(record, till)| (record, till.max(begun)))
}

/// Whether a site has a snapshot that the epoch's changes go on top of.
pub async fn has_base(
    engine: &Engine,
    id: &SiteId,
    source: &SourceName,
    epoch: (&Epoch, Option<LogBegin>),
) -> Result<bool, Error> {
    has_base_of(engine, id, (source, epoch), true).await
}

async fn has_base_of(
    engine: &Engine,
    id: &SiteId,
    (source, epoch): (&SourceName, (&Epoch, Option<LogBegin>)),
    or_birth: bool,
) -> Result<bool, Error> {
    match engine.repository.site(id, engine.memory.known_head(id)).await? {
        Some(site) => Ok(first_base(&site, source, epoch, or_birth).await?.is_some()),
        None => Ok(false),
    }
}

/// The sites of a source that have no base in its newest epoch: nothing of what is captured of them can be
/// put back, or only from the log's own word that nothing was there before. `proven` are those that were found to have
/// one; they are not asked again.
pub async fn sites_without_base(
    engine: &Engine,
    source: &SourceName,
    proven: &mut (Option<EpochId>, BTreeSet<SiteId>),
) -> Result<Vec<SiteId>, Error> {
    let log = ChangeLog::open(&engine.repository, source).await?;
    let (Some(newest), Some(of)) = (log.newest(), engine.fleet.source(source)) else { return Ok(Vec::new()) };
    let (epoch, begins) = (log.epoch(newest.epoch).await?, log.kept(newest.epoch).await?.begins);
    if proven.0 != Some(epoch.id) {
        *proven = (Some(epoch.id), BTreeSet::new());
    }
    let listed = tokio::task::block_in_place(|| of.as_source().discover())?.sites;
    let unproven = listed.into_iter().filter(|id| !proven.1.contains(id)).collect::<Vec<_>>();
    let asked = unproven.into_iter().map(|id| {
        let epoch = &epoch;
        async move {
            engine.check_cancelled()?;
            let has_base = has_base_of(engine, &id, (source, (epoch, begins)), false).await?;
            Ok::<_, Error>((id, has_base))
        }
    });
    let answers: Vec<(SiteId, bool)> = futures_util::stream::iter(asked).buffered(SITES_AT_ONCE).try_collect().await?;
    let (with, without): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, has_base)| *has_base);
    proven.1.extend(with.into_iter().map(|(id, _)| id));
    Ok(without.into_iter().map(|(id, _)| id).collect())
}
