//! Replaying: a site's rows at a moment between two snapshots, from a base and the changes since.
//!
//!   footers ─▶ where is the moment? ─▶ the newest base that sees nothing after it ─▶ this site's changes, not seen by
//!   the base and not after the moment ─▶ last state of each key ─▶ rows, proven by their sum
//!
//! What is not here: writing the rows anywhere (`restore`), folding them (`lifeboat-source`).

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use lifeboat_model::{
    ChangePlace, EntryKind, Epoch, Mark, PointInTime, SegmentFooter, SegmentNumber, SharedFacts, SiteChange, SiteId,
    SnapshotId, SnapshotRecord, SourceName, TransactionHead, Truncation,
};
use lifeboat_repo::{ChangeLog, ListedSegment, Site};
use lifeboat_source::postgres::describe::{TableDefinition, table_of_path};
use lifeboat_source::postgres::replay::{Replay, ReplayedTable};

use crate::{Engine, Error};

mod base;
mod cut;

use base::BasePlace;
pub use cut::{Cut, Moment};

/// Takes a stretch of a table's rows, by the table's name.
pub type GiveRows<'g> = dyn FnMut(&str, &[u8]) -> Result<(), lifeboat_source::Error> + 'g;

/// A site's rows at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    pub base: SnapshotId,
    pub cut: Cut,
    pub tables: Vec<ReplayedTable>,
    /// Changes that went on top of the base.
    pub changes: u64,
}

/// Gives the rows of each table at the moment, one table after the other.
///
/// Must run on a multi-threaded runtime. The changes of the site are held in memory.
pub async fn replay(
    engine: &Engine,
    id: &SiteId,
    source: &SourceName,
    moment: Moment,
    give: &mut GiveRows<'_>,
) -> Result<Replayed, Error> {
    let site = engine.site(id).await?;
    let log = ChangeLog::open(&engine.repository, source).await?;
    let window = Window::read(&log, id).await?;
    let cut = cut::find(moment, &window.footers, &window.shared).map_err(|refused| refused.into_error(id, moment))?;
    let base = base_of(&site, source, &window.epoch, &cut).await?.ok_or_else(|| no_base(id, moment))?;
    let mut steps = read_changes(&log, id, &window, (&base.place, &cut)).await?;
    let changes = steps.values().map(Vec::len).sum::<usize>() as u64;
    let mut tables = Vec::new();
    for (path, definition) in &base.tables {
        let steps = steps.remove(&definition.name).unwrap_or_default();
        tables.push(replay_table(engine, id, (&base, path, definition), (steps, source), give).await?);
    }
    for (table, steps) in steps {
        tables.extend(replay_new_table(&table, steps, give)?);
    }
    Ok(Replayed { base: base.snapshot, cut, tables, changes })
}

/// What is known of the newest epoch.
struct Window {
    epoch: Epoch,
    segments: Vec<ListedSegment>,
    footers: Vec<SegmentFooter>,
    /// Of each segment, in the same order.
    shared: Vec<SharedFacts>,
}

impl Window {
    async fn read(log: &ChangeLog, id: &SiteId) -> Result<Self, Error> {
        let newest = log.newest().ok_or_else(|| not_captured(id, log.source()))?;
        let epoch = log.epoch(newest.epoch).await?;
        let segments = match newest.segment {
            Some(newest) => log.segments(newest.epoch, SegmentNumber(1)..=newest.number).await?,
            None => Vec::new(),
        };
        let found: Vec<(ListedSegment, SegmentFooter)> = log.footers(segments).await?.try_collect().await?;
        let mut window = Self { epoch, segments: Vec::new(), footers: Vec::new(), shared: Vec::new() };
        for (segment, footer) in found {
            window.shared.push(log.shared(&segment, &footer).await?);
            window.segments.push(segment);
            window.footers.push(footer);
        }
        Ok(window)
    }
}

/// A snapshot that changes go on top of.
struct Base {
    snapshot: SnapshotId,
    place: BasePlace,
    tables: Vec<(lifeboat_model::EntryPath, TableDefinition)>,
}

/// The newest snapshot that sees nothing after the cut, and everything that the epoch does not have.
async fn base_of(site: &Site, source: &SourceName, epoch: &Epoch, cut: &Cut) -> Result<Option<Base>, Error> {
    let usable = |record: &&SnapshotRecord| matches!(record.mark, Mark::Good | Mark::Suspect);
    for record in site.state().snapshots.iter().rev().filter(usable) {
        let manifest = site.manifest(&record.manifest).await?;
        let Some((number, part)) = manifest.part(source) else { continue };
        let Some(place) = BasePlace::of(&part.position.0, &part.identity.machine) else { continue };
        if !place.joins(epoch) || place.lsn > cut.till {
            continue;
        }
        let mut tables = Vec::new();
        for entry in manifest.entries(site, number).await? {
            if let EntryKind::Table { definition, .. } = &entry.kind {
                tables.push((entry.path.clone(), TableDefinition::from_json(definition)?));
            }
        }
        return Ok(Some(Base { snapshot: record.id, place, tables }));
    }
    Ok(None)
}

/// What happens to a table's rows.
enum Step {
    Change(SiteChange),
    Truncate,
}

/// The site's changes by table, in order.
async fn read_changes(
    log: &ChangeLog,
    id: &SiteId,
    window: &Window,
    (base, cut): (&BasePlace, &Cut),
) -> Result<BTreeMap<String, Vec<Step>>, Error> {
    let belongs = |head: &TransactionHead| base.belongs(head, cut);
    let mut steps: BTreeMap<String, Vec<(ChangePlace, Step)>> = BTreeMap::new();
    let segments = window.segments.clone();
    let read = log.read_site(id, segments, |head, change| {
        if belongs(head) {
            let place = ChangePlace { commit: head.commit, sequence: change.sequence };
            steps.entry(change.table.name.clone()).or_default().push((place, Step::Change(change)));
        }
        Ok::<(), Error>(())
    });
    read.await??;
    for shared in &window.shared {
        for Truncation { place, tables, .. } in &shared.truncations {
            let head = shared.transactions.iter().find(|facts| facts.head.commit == place.commit);
            if !head.is_some_and(|facts| belongs(&facts.head)) {
                continue;
            }
            for table in tables.iter().filter_map(|table| shared.tables.get(*table as usize)) {
                steps.entry(table.clone()).or_default().push((*place, Step::Truncate));
            }
        }
    }
    let in_order = |(table, mut steps): (String, Vec<(ChangePlace, Step)>)| {
        steps.sort_by_key(|(place, _)| *place);
        (table, steps.into_iter().map(|(_, step)| step).collect())
    };
    Ok(steps.into_iter().map(in_order).collect())
}

async fn replay_table(
    engine: &Engine,
    id: &SiteId,
    (base, path, definition): (&Base, &lifeboat_model::EntryPath, &TableDefinition),
    (steps, source): (Vec<Step>, &SourceName),
    give: &mut GiveRows<'_>,
) -> Result<ReplayedTable, Error> {
    let first = steps.iter().find_map(|step| match step {
        Step::Change(change) => Some(&change.table),
        Step::Truncate => None,
    });
    let mut replay = match first {
        Some(table) => Replay::keyed_as(definition, table),
        None => Replay::new(definition),
    };
    let mut failed = None;
    let mut take = |bytes: &[u8]| {
        replay.base(bytes).map_err(|error| {
            failed = Some(error);
            std::io::Error::other("the rows of the base cannot be taken")
        })
    };
    let at = PointInTime::Snapshot(base.snapshot);
    let read = crate::look::cat(engine, id, at, (source, path), &mut take).await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    read?;
    apply(&mut replay, steps)?;
    let name = table_of_path(&path.to_string());
    Ok(replay.finish(&mut |bytes| give(name.as_str(), bytes))?)
}

/// A table that the base does not have; `None`: nothing of it says what its rows are like.
fn replay_new_table(name: &str, steps: Vec<Step>, give: &mut GiveRows<'_>) -> Result<Option<ReplayedTable>, Error> {
    let first = steps.iter().find_map(|step| match step {
        Step::Change(change) => Some(&change.table),
        Step::Truncate => None,
    });
    let Some(first) = first else { return Ok(None) };
    let mut replay = Replay::keyed_as(&TableDefinition::of_changes(first), first);
    apply(&mut replay, steps)?;
    Ok(Some(replay.finish(&mut |bytes| give(name, bytes))?))
}

fn apply(replay: &mut Replay, steps: Vec<Step>) -> Result<(), Error> {
    for step in steps {
        match step {
            Step::Truncate => replay.truncate()?,
            Step::Change(SiteChange { table, change, .. }) => replay.change(&table, &change)?,
        }
    }
    Ok(())
}

fn not_captured(id: &SiteId, source: &SourceName) -> Error {
    Error::NoSuchThing {
        detail: format!("changes of the source were never captured: site=`{id}`, source=`{source}`"),
        hint: format!("`lifeboat points {id}` lists its snapshots"),
    }
}

fn no_base(id: &SiteId, moment: Moment) -> Error {
    Error::NoPoint {
        site: id.clone(),
        asked: moment.to_string(),
        hint: format!(
            "changes lead somewhere only from a snapshot that was taken since they are captured: `lifeboat backup {id}`"
        ),
    }
}
