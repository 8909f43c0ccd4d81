//! Looking at a point without restoring it: list, read one entry, compare with what is live.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{Entry, EntryKind, EntryPath, Extent, PointInTime, SiteId, SnapshotRecord, SourceName, Timestamp};
use lifeboat_repo::{Manifest, Wanted};

use crate::moment::{OpenPoint, Replayed, open_point};
use crate::restore::{Change, RestorePlan, RestorePoint, RestoreRequest, RestoreTarget, plan_restore};
use crate::{Engine, Error};

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryLine {
    pub source: SourceName,
    pub entry: Entry,
}

/// What a site held at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The snapshot it is from.
    pub record: SnapshotRecord,
    pub at: Timestamp,
    /// Where it is a moment that no snapshot is.
    pub replayed: Option<Replayed>,
    pub lines: Vec<EntryLine>,
}

/// One difference between the live site and a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffLine {
    pub source: SourceName,
    /// What a restore of the point would do here.
    pub change: Change,
    pub path: String,
}

/// The known name nearest to one that is not known, if any is near.
pub fn nearest<'s>(site: &SiteId, known: impl IntoIterator<Item = &'s SiteId>) -> Option<&'s SiteId> {
    let distance = |other: &SiteId| strsim::damerau_levenshtein(site.as_str(), other.as_str());
    let limit = (site.as_str().chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|(far, _)| *far <= limit)
        .min_by_key(|(far, _)| *far)
        .map(|(_, other)| other)
}

/// The entries of a point: all, of one part, or at and beneath one path.
pub async fn list(
    engine: &Engine,
    id: &SiteId,
    at: &PointInTime,
    part: Option<&SourceName>,
    beneath: Option<&EntryPath>,
) -> Result<Listing, Error> {
    let OpenPoint { site, record, manifest, at, replayed } = open_point(engine, id, at).await?;
    if let Some(part) = part {
        find_part(&manifest, part)?;
    }
    let mut lines = Vec::new();
    for (number, head) in manifest.head().parts.iter().enumerate() {
        let source = &head.record.source;
        if part.is_some_and(|part| part != source) {
            continue;
        }
        let entries = manifest.entries(&site, number).await?;
        let chosen = entries.into_iter().filter(|entry| beneath.is_none_or(|path| entry.path.starts_with(path)));
        lines.extend(chosen.map(|entry| EntryLine { source: source.clone(), entry }));
    }
    if let Some(path) = beneath
        && lines.is_empty()
    {
        return Err(no_entry(path));
    }
    Ok(Listing { record, at, replayed, lines })
}

/// The content of one entry of a point, given in order to `write`, verified chunk by chunk.
pub async fn cat(
    engine: &Engine,
    id: &SiteId,
    at: &PointInTime,
    (part, path): (&SourceName, &EntryPath),
    write: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), Error> {
    let OpenPoint { site, manifest, .. } = open_point(engine, id, at).await?;
    let number = find_part(&manifest, part)?;
    let entries = manifest.entries(&site, number).await?;
    let by_path: HashMap<&EntryPath, &Entry> = entries.iter().map(|entry| (&entry.path, entry)).collect();
    let entry = by_path.get(path).copied().ok_or_else(|| no_entry(path))?;
    let entry = match &entry.kind {
        EntryKind::HardLink { to } => by_path.get(to).copied().unwrap_or(entry),
        _ => entry,
    };
    if !entry.kind.has_content() {
        return Err(Error::NoSuchThing {
            detail: format!("the entry has no content: entry=`{path}`"),
            hint: "`cat` reads files, databases and tables; `lifeboat ls` shows what each entry is".into(),
        });
    }
    let failed = |io: std::io::Error| Error::Conflict {
        detail: format!("cannot write the output: {io}"),
        hint: "nothing else was touched".into(),
    };
    static ZEROS: [u8; 65_536] = [0; 65_536];
    for extent in &entry.extents {
        engine.check_cancelled()?;
        match extent {
            Extent::Hole { len } => {
                let mut rest = *len;
                while rest > 0 {
                    let now = rest.min(ZEROS.len() as u64);
                    write(&ZEROS[..now as usize]).map_err(failed)?;
                    rest -= now;
                }
            }
            Extent::Chunk(chunk) => {
                let plain = Mutex::new(Vec::new());
                let wanted = vec![Wanted { chunk: *chunk, tag: 0 }];
                let fetched = manifest.fetch(&site, wanted, engine.fetch_control(), |_, delivery| {
                    let bytes = delivery.map_err(|damage| Error::Damaged {
                        site: id.clone(),
                        detail: format!(
                            "entry=`{path}`, object=`{}`, offset=`{}`: {}",
                            damage.object, damage.offset, damage.detail
                        ),
                    })?;
                    plain.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                    Ok::<(), Error>(())
                });
                fetched??;
                write(&plain.into_inner().unwrap_or_else(PoisonError::into_inner)).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The live site against a point: what a restore would change.
pub async fn diff(engine: &Engine, id: &SiteId, at: &PointInTime) -> Result<(RestorePlan, Vec<DiffLine>), Error> {
    let request = RestoreRequest {
        site: id.clone(),
        point: RestorePoint::At(at.clone()),
        only: None,
        target: RestoreTarget::InPlace,
        restore: None,
        take_over: false,
        skip_damaged: false,
        verify_read: false,
        exact: true,
        keep_later: false,
    };
    let plan = plan_restore(engine, &request).await?.plan;
    let lines = plan.parts.iter().flat_map(|part| {
        part.changes.iter().map(|(change, path)| DiffLine {
            source: part.source.clone(),
            change: *change,
            path: path.clone(),
        })
    });
    let lines = lines.collect();
    Ok((plan, lines))
}

fn find_part(manifest: &Manifest, part: &SourceName) -> Result<usize, Error> {
    manifest.part(part).map(|(number, _)| number).ok_or_else(|| {
        let parts: Vec<&str> = manifest.head().parts.iter().map(|part| part.record.source.as_str()).collect();
        Error::NoSuchThing {
            detail: format!("the snapshot has no such part: part=`{part}`"),
            hint: format!("its parts are: {}", parts.join(", ")),
        }
    })
}

fn no_entry(path: &EntryPath) -> Error {
    Error::NoSuchThing {
        detail: format!("the snapshot has no such entry: entry=`{path}`"),
        hint: "`lifeboat ls` with the same --at lists what it has".into(),
    }
}
