//! One site of a backup: unchanged, or read and published.

use lifeboat_model::{
    CommitEvent, Hold, HoldReason, Mark, PartStatus, PointState, SiteId, SnapshotId, SnapshotRecord, Timestamp,
};
use lifeboat_repo::{Ingest, Manifest, NewPart, NewSnapshot, Site, StoredContent};

use super::judge::{NewSizes, judge, overlapped};
use super::line::{Place, Publishing};
use super::probe::{fingerprint_now, fingerprint_of};
use super::read::{Parent, PartIngest};
use super::{Asked, BackupRequest, SiteOutcome, new_hold};
use crate::context::Fingerprint;
use crate::process::random_id;
use crate::{Engine, Error, SourceHealth, this_process};

/// Backs up one site, or finds that its newest snapshot still is what it is. Only reading it waits for
/// its turn.
pub(super) async fn back_up_site(
    engine: &Engine,
    id: &SiteId,
    asked: &Asked<'_>,
    place: Place<'_>,
) -> Result<SiteOutcome, Error> {
    let Asked { request, health, bases } = asked;
    let look = || tokio::task::block_in_place(|| fingerprint_now(engine, id, health));
    let policy = (engine.policy)(id);
    // It may be what it was: a snapshot of this very moment is wanted.
    let is_wanted_anew = |newest: &SnapshotRecord| {
        request.anew || bases.is_old(newest, (engine.repository.handle_of(id), policy.base_age_max))
    };
    let then = engine.memory.fingerprint(id).filter(|then| !is_wanted_anew(&then.snapshot));
    let mut now = if then.is_some() { look()? } else { None };
    // Whoever accepts a loss may have holds to release.
    if !request.accept_loss
        && let Some(record) = remembered(engine, id, then.as_ref(), now).await?
    {
        return Ok(SiteOutcome::Unchanged(Box::new(record)));
    }
    let mut site = engine.repository.site_for_backup(id, engine.memory.known_head(id)).await?;
    engine.memory.note_site(&site);
    let parent = ParentSnapshot::load(&site).await?;
    let is_anew = parent.as_ref().is_none_or(|parent| is_wanted_anew(&parent.record));
    if is_anew {
        now = None; // somebody else's is newer than what was remembered, and is old
    } else if then.is_none() {
        now = look()?;
    }
    if let Some(parent) = &parent
        && now == Some(parent.fingerprint)
        && site.state().intent.is_none()
    {
        let record = settle(&mut site, &parent.record, request).await?;
        remember(engine, &site, &record, parent.fingerprint);
        return Ok(SiteOutcome::Unchanged(Box::new(record)));
    }
    let before = parent.as_ref().map(|parent| (parent.record.clone(), parent.fingerprint));
    let (read, _publishing) = read_site(engine, &site, parent, health, place).await?;
    if let Some((record, fingerprint)) = before.filter(|_| !is_anew)
        && read.is_same(fingerprint)
        && site.state().intent.is_none()
    {
        // Only reading the rows of a database tells that nothing was written.
        let record = settle(&mut site, &record, request).await?;
        remember(engine, &site, &record, fingerprint);
        return Ok(SiteOutcome::Unchanged(Box::new(record)));
    }
    let record = publish(engine, &mut site, read, request).await?;
    engine.memory.note_site(&site);
    Ok(SiteOutcome::Published(Box::new(record)))
}

/// Keeps a site's points, unless they are held for this reason already.
pub(crate) async fn hold_once(site: &mut Site, reason: HoldReason, note: &str) -> Result<(), Error> {
    if site.state().holds.iter().any(|hold| hold.reason == reason) {
        return Ok(());
    }
    let hold = new_hold(reason, note)?;
    site.commit(&this_process(), |_, _| Ok(hold.clone())).await?;
    Ok(())
}

/// The good snapshot that the site still is, by one listing and what this host remembers.
async fn remembered(
    engine: &Engine,
    id: &SiteId,
    then: Option<&Fingerprint>,
    now: Option<[u8; 32]>,
) -> Result<Option<SnapshotRecord>, Error> {
    let (Some(then), Some(now)) = (then, now) else { return Ok(None) };
    if then.digest != now || engine.memory.known_head(id) != Some(then.head) {
        return Ok(None);
    }
    let newest = engine.repository.newest_generation(id).await?;
    if newest < then.head.generation {
        return Err(Error::Repo(lifeboat_repo::Error::RolledBack {
            site: id.clone(),
            found: newest.0,
            known: then.head.generation,
        }));
    }
    Ok((newest == then.head.generation).then(|| then.snapshot.clone()))
}

fn remember(engine: &Engine, site: &Site, record: &SnapshotRecord, digest: [u8; 32]) {
    if record.mark == Mark::Good && site.state().intent.is_none() {
        let fingerprint = Fingerprint { head: site.head(), snapshot: record.clone(), digest };
        engine.memory.note_site(site);
        engine.memory.note_fingerprint(site.id(), &fingerprint);
    }
}

/// The snapshot to compare with, and its entries.
struct ParentSnapshot {
    record: SnapshotRecord,
    manifest: Manifest,
    parts: Vec<Vec<lifeboat_model::Entry>>,
    fingerprint: [u8; 32],
}

impl ParentSnapshot {
    async fn load(site: &Site) -> Result<Option<Self>, Error> {
        let whole = |record: &&SnapshotRecord| matches!(record.mark, Mark::Good | Mark::Suspect);
        let Some(record) = site.state().snapshots.iter().rev().find(whole).cloned() else { return Ok(None) };
        let manifest = site.manifest(&record.manifest).await?;
        let mut parts = Vec::new();
        for number in 0..manifest.head().parts.len() {
            parts.push(manifest.entries(site, number).await?);
        }
        let records = manifest.head().parts.iter().map(|part| &part.record);
        let fingerprint = fingerprint_of(records.zip(&parts));
        Ok(Some(Self { record, manifest, parts, fingerprint }))
    }
}

/// An unchanged site whose snapshot is suspect becomes good when the operator says so.
async fn settle(site: &mut Site, record: &SnapshotRecord, request: &BackupRequest) -> Result<SnapshotRecord, Error> {
    if record.mark == Mark::Suspect && request.accept_loss {
        let (snapshot, reason) = (record.id, "the operator accepted the loss".to_owned());
        site.commit(&this_process(), |_, _| {
            Ok(CommitEvent::Marked { snapshot, mark: Mark::Good, reason: reason.clone() })
        })
        .await?;
    }
    if request.accept_loss {
        release_lost(site).await?;
    }
    Ok(site.state().snapshot(record.id).cloned().unwrap_or_else(|| record.clone()))
}

/// Releases what was held because it was lost: somebody says that it is meant.
pub(super) async fn release_lost(site: &mut Site) -> Result<(), Error> {
    let is_for_loss = |hold: &&Hold| matches!(hold.reason, HoldReason::Shrank | HoldReason::Vanished);
    let holds = site.state().holds.iter().filter(is_for_loss).map(|hold| hold.id);
    for hold in holds.collect::<Vec<_>>() {
        site.commit(&this_process(), |_, _| Ok(CommitEvent::HoldReleased { hold })).await?;
    }
    Ok(())
}

/// A site that was read, and is in no commit yet.
struct ReadSite {
    ingest: Ingest,
    parent: Option<SnapshotId>,
    parts: Vec<NewPart>,
    cut_from: Timestamp,
    cut_till: Timestamp,
    fingerprint: [u8; 32],
}

impl ReadSite {
    /// Whether everything could be read, and is what it was.
    fn is_same(&self, fingerprint: [u8; 32]) -> bool {
        let is_whole = |part: &NewPart| matches!(part.part.record.status, PartStatus::Complete | PartStatus::Absent);
        self.fingerprint == fingerprint && self.parts.iter().all(is_whole)
    }
}

/// Reads the site under one cut, when its turn has come.
async fn read_site<'a>(
    engine: &Engine,
    site: &Site,
    parent: Option<ParentSnapshot>,
    health: &[SourceHealth],
    place: Place<'a>,
) -> Result<(ReadSite, Publishing<'a>), Error> {
    let ingest = Ingest::start(site, engine.ingest).await?;
    let parent_id = parent.as_ref().map(|parent| parent.record.id);
    tokio::task::block_in_place(|| place.wait());
    engine.check_cancelled()?;
    let cut_from = Timestamp::now();
    let parts = tokio::task::block_in_place(|| read_parts(engine, site, &ingest, parent, health))?;
    let publishing = place.into_publishing(weight(&parts));
    let cut_till = Timestamp::now();
    let fingerprint = fingerprint_of(parts.iter().map(|part| (&part.part.record, part.entries.iter().map(|(e, _)| e))));
    Ok((ReadSite { ingest, parent: parent_id, parts, cut_from, cut_till, fingerprint }, publishing))
}

/// About how many bytes of memory a site needs until it is published: its entries, and content that
/// may be on its way to the store.
pub(super) fn weight(parts: &[NewPart]) -> u64 {
    const ENTRY_BYTES: u64 = 512;
    let entries = parts.iter().flat_map(|part| &part.entries);
    let bytes = entries.map(|(entry, content)| match content {
        StoredContent::Fresh(_) => ENTRY_BYTES + entry.metadata.size,
        StoredContent::Same(_) | StoredContent::None => ENTRY_BYTES,
    });
    bytes.sum()
}

/// Publishes what was read.
async fn publish(
    engine: &Engine,
    site: &mut Site,
    read: ReadSite,
    request: &BackupRequest,
) -> Result<SnapshotRecord, Error> {
    let ReadSite { ingest, parent, parts, cut_from, cut_till, fingerprint } = read;
    let new = NewSnapshot {
        id: SnapshotId(random_id()?),
        mark: Mark::Incomplete, // judged below, when its size is known
        mark_reason: None,
        cut_from,
        cut_till,
        parent,
        restore: None,
        moment: None,
        is_scan: false,
        parts,
    };
    let prepared = ingest.finish(site, new).await?;
    let limit = (!request.accept_loss).then(|| (engine.policy)(site.id()).shrink_limit);
    let outcome = site
        .publish(&this_process(), &prepared, |state, seen| {
            let mut snapshot = prepared.record.clone();
            (snapshot.mark, snapshot.mark_reason) = judge(&NewSizes::of(&prepared.record), state.latest(), limit);
            if let Some(reason) = overlapped(state, seen) {
                (snapshot.mark, snapshot.mark_reason) = (Mark::Incomplete, Some(reason));
            }
            debug_assert_eq!(snapshot.state, PointState::ReadBack);
            Ok(snapshot)
        })
        .await?;
    let record = site.state().snapshot(prepared.record.id).cloned();
    let record = record.ok_or_else(|| Error::Bug(format!("commit {} lost its snapshot", outcome.generation)))?;
    match record.mark {
        Mark::Suspect => {
            let note = record.mark_reason.clone().unwrap_or_default();
            hold_once(site, HoldReason::Shrank, &note).await?;
        }
        Mark::Good if request.accept_loss => release_lost(site).await?,
        _ => {}
    }
    site.compact_index(&this_process()).await?;
    remember(engine, site, &record, fingerprint);
    Ok(record)
}

/// Reads every part: databases first, then files, the site frozen meanwhile where it can be.
fn read_parts(
    engine: &Engine,
    site: &Site,
    ingest: &Ingest,
    parent: Option<ParentSnapshot>,
    health: &[SourceHealth],
) -> Result<Vec<NewPart>, Error> {
    let frozen = if engine.hooks.can_freeze() { Some(engine.hooks.freeze(site.id())?) } else { None };
    if frozen.is_some() {
        engine.fleet.end_cuts(); // what is frozen is read as it is now
    }
    let reading = PartIngest::new(engine, site, ingest);
    let mut parents = usable_parents(ingest, parent);
    let mut parts = Vec::new();
    for source in engine.fleet.sources() {
        let name = source.name();
        let failed = health.iter().find(|health| health.source == *name).and_then(|health| health.failure.as_ref());
        let parent = parents.remove(name).unwrap_or_default();
        parts.push(match failed {
            Some((reason, _)) => reading.failed_source(source.as_source(), reason)?,
            None => reading.read_source(source.as_source(), &parent)?,
        });
    }
    if let Some(frozen) = frozen {
        frozen.thaw()?;
    }
    Ok(parts)
}

/// The parent's entries by source; none when its chunks lie in its manifest, which the next one
/// cannot name.
fn usable_parents(
    ingest: &Ingest,
    parent: Option<ParentSnapshot>,
) -> std::collections::HashMap<lifeboat_model::SourceName, Parent> {
    let Some(parent) = parent.filter(|parent| !parent.parts.iter().any(|part| parent.manifest.is_inline(part))) else {
        return Default::default();
    };
    ingest.adopt(parent.manifest.head());
    let names = parent.manifest.head().parts.iter().map(|part| part.record.source.clone());
    names.zip(parent.parts.into_iter().map(Parent::new)).collect()
}
