//! Sites that are first seen in the log: born while their source is followed, and perhaps gone again before any backup.
//!
//! Who sees a site's row in the root table inserted, or its database file appear, of a site that the bucket knows nothing
//! of, knows that there was nothing of it till then, since the epoch began. An empty snapshot says so, and the changes go
//! on top of it. It is suspect, so that it never is `latest`. Where a second source sees the site born, another one says
//! so of both.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt};
use lifeboat_model::{
    Commit, Epoch, Fault, Faulty, Generation, Mark, PartRecord, PartStatus, Position, SiteId, SiteState, SnapshotId,
    SnapshotRecord, SourceKind, Timestamp,
};
use lifeboat_repo::{Error as RepoError, Ingest, ManifestPart, NewPart, NewSnapshot, Site};
use lifeboat_source::Source;

use crate::process::random_id;
use crate::{Engine, Error, this_process};

/// Sites whose birth is published at once.
const SITES_AT_ONCE: usize = 16;

/// Publishes where the changes of sites begin, of those that have no points of their own. What is damaged of one is in
/// nobody else's way.
pub(crate) async fn publish_all(
    engine: &Engine,
    source: &dyn Source,
    epoch: &Epoch,
    born: BTreeMap<SiteId, Timestamp>,
) -> Result<(), Error> {
    let births = born.iter().map(|(site, at)| async move { (site, publish(engine, source, epoch, (site, *at)).await) });
    let mut births = stream::iter(births).buffer_unordered(SITES_AT_ONCE);
    while let Some((site, published)) = births.next().await {
        match published {
            Err(error) if error.fault() == Fault::Damage => {
                tracing::warn!(%site, %error, "no point says where its changes begin");
            }
            other => other?,
        }
    }
    Ok(())
}

async fn publish(
    engine: &Engine,
    source: &dyn Source,
    epoch: &Epoch,
    (id, born_at): (&SiteId, Timestamp),
) -> Result<(), Error> {
    loop {
        // Asked before the site gets one: where rows were sealed before there was such a row, nobody here knows since when.
        let has_key = engine.repository.has_key(id).await?;
        let mut site = match engine.repository.newest_generation(id).await? {
            Generation(0) => engine.repository.site_for_backup(id, None).await?,
            _ => {
                // Gone, erased, and back again: it goes on under a key of its own.
                engine.repository.doubt_key_of(id);
                engine.site(id).await?
            }
        };
        let Some(others) = born_elsewhere(&site, source) else { return Ok(()) };
        let others = others.cloned();
        let is_vague = has_key && others.is_none() && source.kind() == SourceKind::Postgres;
        let at = if is_vague { epoch.facts.begun_at } else { born_at.max(epoch.facts.begun_at) };
        let seen = site.state().snapshots.len();
        let new = birth(&site, (source, epoch, at), others.as_ref()).await?;
        let prepared = Ingest::start(&site, engine.ingest).await?.finish(&site, new).await?;
        let judge = |state: &SiteState, _: &[Commit]| match state.snapshots.len() == seen {
            true => Ok(prepared.record.clone()),
            false => Err(RepoError::ChangedMeanwhile { site: id.clone() }),
        };
        match site.publish(&this_process(), &prepared, judge).await {
            // Somebody backed it up meanwhile, or saw it born elsewhere.
            Err(RepoError::ChangedMeanwhile { .. }) => continue,
            other => other?,
        };
        engine.memory.note_site(&site);
        return Ok(());
    }
}

/// What other sources have said of the site's birth, if anything; `None`: it has points of its own, or had, or this source
/// has said it.
fn born_elsewhere<'s>(site: &'s Site, source: &dyn Source) -> Option<Option<&'s SnapshotRecord>> {
    let is_of = |record: &SnapshotRecord| record.parts.iter().any(|part| part.source == *source.name());
    let is_news = |record: &SnapshotRecord| record.is_birth() && !is_of(record);
    let state = site.state();
    let was_there = !state.forgotten.is_empty() || state.shredded.is_some();
    match state.snapshots.last() {
        None => (site.head().generation == Generation(0)).then_some(None),
        last => (!was_there && state.snapshots.iter().all(is_news)).then_some(last),
    }
}

/// That nothing was there yet, neither in this source nor in the others that said so.
async fn birth(
    site: &Site,
    (source, epoch, at): (&dyn Source, &Epoch, Timestamp),
    others: Option<&SnapshotRecord>,
) -> Result<NewSnapshot, Error> {
    let facts = &epoch.facts;
    let record = PartRecord {
        source: source.name().clone(),
        kind: source.kind(),
        status: PartStatus::Absent,
        entries: 0,
        logical_bytes: 0,
        cut_from: at,
        cut_till: at,
    };
    let position = Position(format!("lsn={}, timeline={}, snapshot={}", facts.begins, facts.timeline, facts.snapshot));
    let identity = tokio::task::block_in_place(|| source.identity(site.id()))?;
    let mut parts = vec![ManifestPart { record, identity, position, problems: Vec::new(), left_out: Vec::new() }];
    if let Some(others) = others {
        parts.extend(site.manifest(&others.manifest).await?.head().parts.iter().cloned());
    }
    parts.sort_by(|a, b| a.record.source.cmp(&b.record.source));
    let cuts = || parts.iter().map(|part| part.record.cut_till);
    Ok(NewSnapshot {
        id: SnapshotId(random_id()?),
        mark: Mark::Suspect,
        mark_reason: Some("nothing was there yet: the site is first seen in the change log".into()),
        cut_from: cuts().min().unwrap_or(at),
        cut_till: cuts().max().unwrap_or(at),
        parent: None,
        restore: None,
        moment: None,
        is_scan: false,
        parts: parts.into_iter().map(|part| NewPart { part, entries: Vec::new() }).collect(),
    })
}
