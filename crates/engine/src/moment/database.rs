//! A part that is one database file, at a moment between two snapshots: its replayed pages, as an entry.

use std::fs::File;
use std::os::unix::fs::FileExt;

use lifeboat_model::{
    Entry, EntryKind, EntryMetadata, EntryPath, EpochId, FileTime, Lsn, PartRecord, PartStatus, SourceName, Timestamp,
};
use lifeboat_repo::{LocalPackWriter, Manifest, Site};

use super::cut::Moment;
use super::pages::replay_pages;
use super::{Replayed, ReplayedPart};
use crate::{Engine, Error};

const STRETCH: u64 = 256 << 10;

/// The epoch of a source's log that a time is in; `None`: it was not captured then.
pub(super) async fn epoch_at(engine: &Engine, source: &SourceName, at: Timestamp) -> Result<Option<EpochId>, Error> {
    let log = engine.change_log(source).await?;
    let newest = log.newest().map_or(0, |newest| newest.epoch.0);
    for number in (1..=newest).rev() {
        if log.epoch(EpochId(number)).await?.facts.begun_at <= at {
            return Ok(Some(EpochId(number)));
        }
    }
    Ok(None)
}

/// Puts one part of a snapshot's manifest to the moment; gives the time that it is known to be as of.
pub(super) async fn replace_part(
    engine: &Engine,
    site: &Site,
    (at, number): (Timestamp, usize),
    manifest: &mut Manifest,
    replayed: &mut Replayed,
) -> Result<Timestamp, Error> {
    let source = manifest.head().parts[number].record.source.clone();
    let mut note = |text: String| replayed.notes.push((source.clone(), text));
    let Some(epoch) = epoch_at(engine, &source, at).await? else {
        let PartRecord { cut_from, cut_till, .. } = manifest.head().parts[number].record;
        note(format!("the database is as it was at {cut_till}: it was not captured at the moment"));
        return Ok(cut_from);
    };
    let file = lifeboat_source::unnamed_file()?;
    // It reads snapshots as whoever asked for this moment reads them: the future is within itself.
    let found = Box::pin(replay_pages(engine, site.id(), &source, Moment::Time(at), &file)).await?;
    if found.known_till < at {
        note(format!("nobody looked at the database between {} and the moment", found.known_till));
    }
    let entries = manifest.entries(site, number).await?;
    let (status, entries) = match found.state {
        None => (PartStatus::Absent, Vec::new()),
        Some(state) => {
            let size = u64::from(state.page_size) * u64::from(state.page_count);
            let known = entries.into_iter().find(|entry| matches!(entry.kind, EntryKind::Database { .. }));
            let mut pack = LocalPackWriter::new(site, lifeboat_source::unnamed_file()?)?;
            tokio::task::block_in_place(|| copy(&file, size, &mut pack))?;
            let extents = pack.end_entry()?;
            manifest.adopt_local(pack.finish()?);
            let (path, metadata) = match known {
                Some(known) => (known.path, known.metadata),
                None => (EntryPath::new("database").map_err(|error| Error::Bug(error.to_string()))?, nothing()),
            };
            // No stamp: whether a live file is this one, only its pages say.
            let kind = EntryKind::Database { page_size: state.page_size, stamp: Vec::new() };
            let metadata = EntryMetadata { size, ..metadata };
            (PartStatus::Complete, vec![Entry { path, kind, metadata, extents }])
        }
    };
    manifest.replace_part(number, status, entries);
    let till = found.version.map_or(Lsn(0), |version| version.position);
    replayed.parts.push(ReplayedPart { source, base: found.base, epoch, till, changes: found.versions });
    Ok(found.known_till.min(at))
}

fn copy(file: &File, size: u64, pack: &mut LocalPackWriter) -> Result<(), Error> {
    let failed = |source| lifeboat_repo::Error::LocalFile { source };
    let mut buffer = vec![0; STRETCH as usize];
    let mut at = 0;
    while at < size {
        let len = STRETCH.min(size - at) as usize;
        file.read_exact_at(&mut buffer[..len], at).map_err(failed)?;
        pack.push(&buffer[..len])?;
        at += len as u64;
    }
    Ok(())
}

/// Of a file that no snapshot knows: its owner may read and write it.
fn nothing() -> EntryMetadata {
    EntryMetadata {
        mode: 0o600,
        uid: 0,
        gid: 0,
        modified: FileTime::default(),
        changed: FileTime::default(),
        inode: 0,
        size: 0,
        xattrs: Vec::new(),
    }
}
