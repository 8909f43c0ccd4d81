//! A site at any moment: a snapshot, or a snapshot and what its sources' change logs say since.
//!
//!   where in the logs is the moment? ─▶ the newest snapshot before it ─▶ of each captured part, from a base that
//!   sees nothing after it: this site's changes up to it ─▶ last state of each key ─▶ entries like a snapshot's
//!
//! What comes out is read like any snapshot: its manifest has other entries in some parts, whose content lies in a
//! file on this host. Whoever plans, compares or restores need not know.
//!
//! What is not here: writing anything to a site (`restore`), folding rows (`lifeboat-source`).

use std::collections::BTreeMap;

use lifeboat_model::{
    EpochId, Lsn, Mark, PartRecord, PartStatus, PointInTime, SiteId, SnapshotId, SnapshotRecord, SourceKind,
    SourceName, Timestamp,
};
use lifeboat_repo::{Manifest, Site};

use crate::{Engine, Error, choose_point};

pub(crate) mod base;
mod cut;
mod database;
pub(crate) mod files;
pub(crate) mod locate;
pub(crate) mod log;
mod objects;
mod pages;
mod prove;
mod rows;
mod scan;
mod structure;
mod unneeded;
pub(crate) mod windows;
mod without;

use locate::{Located, PartCut};

pub use cut::Moment;
pub use pages::{FileVersion, ReplayedFile, replay_pages};
pub use prove::{LogProof, prove_log};

/// One site at one moment, to be read like a snapshot.
pub(crate) struct OpenPoint {
    pub site: Site,
    /// The snapshot that all of it began with.
    pub record: SnapshotRecord,
    pub manifest: Manifest,
    pub at: Timestamp,
    /// Of a moment that no snapshot is.
    pub replayed: Option<Replayed>,
}

/// What made a snapshot into a later moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// The same moment, found again whatever is captured since.
    pub moment: PointInTime,
    pub parts: Vec<ReplayedPart>,
    /// What a person should know of a part.
    pub notes: Vec<(SourceName, String)>,
    /// What a person has to decide.
    pub conflicts: Vec<(SourceName, String)>,
    /// Parts of files that nobody has looked at since the moment.
    pub unscanned: Vec<SourceName>,
}

/// One part that is from a change log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedPart {
    pub source: SourceName,
    /// The snapshot that the changes went on top of; `None`: the log had all of it itself.
    pub base: Option<SnapshotId>,
    pub epoch: EpochId,
    /// Every transaction whose commit is not after it belongs to the moment.
    pub till: Lsn,
    pub changes: u64,
}

/// Opens a site at the moment that a person means.
pub(crate) async fn open_point(engine: &Engine, id: &SiteId, at: &PointInTime) -> Result<OpenPoint, Error> {
    let site = engine.site(id).await?;
    let located = match at {
        PointInTime::Latest | PointInTime::Snapshot(_) => None,
        _ => locate::locate(engine, &site, at).await?,
    };
    let Some(located) = located else {
        let record = choose_point(site.state(), at)?.clone();
        let manifest = site.manifest(&record.manifest).await?;
        let at = record.cut_till;
        return Ok(OpenPoint { site, record, manifest, at, replayed: None });
    };
    let record = snapshot_before(&site, &located)?.clone();
    let mut manifest = site.manifest(&record.manifest).await?;
    let mut replayed = Replayed {
        moment: located.moment.clone(),
        parts: Vec::new(),
        notes: Vec::new(),
        conflicts: Vec::new(),
        unscanned: Vec::new(),
    };
    let at = located.at;
    // The time that the oldest row is as of: it must find its file.
    let mut rows_from = at;
    for (source, cut) in &located.cuts {
        rows::replace_part(engine, &site, (source, cut), &mut manifest, &mut replayed).await?;
        rows_from = rows_from.min(rows_from_of(cut, at));
    }
    let kinds: Vec<_> = manifest.head().parts.iter().map(|part| part.record.kind).enumerate().collect();
    for (number, kind) in &kinds {
        let part = &manifest.head().parts[*number].record;
        match kind {
            SourceKind::Sqlite => {
                let from = database::replace_part(engine, &site, (at, *number), &mut manifest, &mut replayed).await?;
                rows_from = rows_from.min(from.saturating_sub(files::ROWS_LAG));
            }
            SourceKind::Postgres if !located.cuts.contains_key(&part.source) => {
                rows_from = rows_from.min(part.cut_from)
            }
            SourceKind::Postgres | SourceKind::Files => {}
        }
    }
    for (number, _) in kinds.iter().filter(|(_, kind)| *kind == SourceKind::Files) {
        let moment = files::Moment { base: record.id, rows_from, at };
        files::replace_part(&site, moment, *number, &mut manifest, &mut replayed).await?;
    }
    replayed.conflicts.extend(parts_gone(&site, &manifest, located.at));
    Ok(OpenPoint { site, record, manifest, at: located.at, replayed: Some(replayed) })
}

/// Whether changes may go on top of a snapshot: one that shrank still is what the site was.
fn is_base(record: &SnapshotRecord) -> bool {
    matches!(record.mark, Mark::Good | Mark::Suspect)
}

/// The time that the oldest rows of a captured part are as of.
fn rows_from_of(cut: &PartCut, at: Timestamp) -> Timestamp {
    match cut.partly().is_empty() {
        true => at.saturating_sub(files::ROWS_LAG),
        // Tables that are in the log only in part are as the base has them.
        false => cut.base.manifest.head().parts[cut.base.part].record.cut_from.min(at),
    }
}

/// Parts of which nothing was there any more at the moment, though there was something before: who asks for that may mean a
/// time before it went.
fn parts_gone(site: &Site, manifest: &Manifest, at: Timestamp) -> Vec<(SourceName, String)> {
    let last_there = |source: &SourceName| {
        let had = |record: &&SnapshotRecord| {
            let is_it = |part: &PartRecord| part.source == *source && part.entries > 0;
            is_base(record) && record.cut_till <= at && record.parts.iter().any(is_it)
        };
        site.state().snapshots.iter().rev().find(had)
    };
    let absent = manifest.head().parts.iter().filter(|part| part.record.status == PartStatus::Absent);
    let gone = absent.filter_map(|part| {
        let source = &part.record.source;
        let last = last_there(source)?;
        let told = format!(
            "nothing of the site was there at the moment any more; the newest snapshot that has something of it is of {}, and \
             `lifeboat find-damage` tells when it went: --at snapshot:{}",
            last.cut_till, last.id
        );
        Some((source.clone(), told))
    });
    gone.collect()
}

/// The snapshot that parts are from which no change log has.
fn snapshot_before<'s>(site: &'s Site, located: &Located) -> Result<&'s SnapshotRecord, Error> {
    let records = &site.state().snapshots;
    let is_before = |record: &&SnapshotRecord| is_base(record) && record.cut_till <= located.at;
    let bases: BTreeMap<_, _> = located.cuts.iter().map(|(source, cut)| (source, cut.base.snapshot)).collect();
    let newest = records.iter().rev().find(is_before);
    // By clocks there may be none before a moment that the log says is later: then it is a base itself.
    let base = || records.iter().rev().find(|record| bases.values().any(|base| *base == record.id));
    newest.or_else(base).ok_or_else(|| Error::NoPoint {
        site: site.id().clone(),
        asked: located.moment.to_string(),
        hint: format!("see `lifeboat points {}`", site.id()),
    })
}
