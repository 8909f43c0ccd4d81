//! Sites that are first seen in the log: born while their source is followed, and perhaps gone again before any backup.
//!
//! Who sees a site's row in the root table inserted, or its database file appear, of a site that the bucket knows nothing
//! of, knows that there was nothing of it till then, since the epoch began. An empty snapshot says so, and the changes go on top of it.
//! It is suspect, so that it never is `latest`.

use lifeboat_model::{Epoch, Generation, Mark, PartRecord, PartStatus, Position, SiteId, SnapshotId, Timestamp};
use lifeboat_repo::{Ingest, ManifestPart, NewPart, NewSnapshot};
use lifeboat_source::Source;

use crate::process::random_id;
use crate::{Engine, Error, this_process};

/// Publishes where a site's changes begin, unless it has points of its own.
pub(crate) async fn publish(
    engine: &Engine,
    source: &dyn Source,
    epoch: &Epoch,
    (id, born_at): (&SiteId, Timestamp),
) -> Result<(), Error> {
    if engine.repository.newest_generation(id).await? > Generation(0) {
        // Gone, erased, and back again: it goes on under a key of its own.
        engine.repository.doubt_key_of(id);
        return Ok(());
    }
    let facts = &epoch.facts;
    // Where changes were sealed before there was such a row, nobody here knows since when.
    let at = match engine.repository.has_key(id).await? {
        true => facts.begun_at,
        false => born_at.max(facts.begun_at),
    };
    let mut site = engine.repository.site_for_backup(id, None).await?;
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
    let identity = tokio::task::block_in_place(|| source.identity(id))?;
    let part = ManifestPart { record, identity, position, problems: Vec::new(), left_out: Vec::new() };
    let new = NewSnapshot {
        id: SnapshotId(random_id()?),
        mark: Mark::Suspect,
        mark_reason: Some("nothing was there yet: the site is first seen in the change log".into()),
        cut_from: at,
        cut_till: at,
        parent: None,
        restore: None,
        moment: None,
        is_scan: false,
        parts: vec![NewPart { part, entries: Vec::new() }],
    };
    let prepared = Ingest::start(&site, engine.ingest).await?.finish(&site, new).await?;
    site.publish(&this_process(), &prepared, |_, _| Ok(prepared.record.clone())).await?;
    engine.memory.note_site(&site);
    Ok(())
}
