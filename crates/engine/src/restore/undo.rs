//! Undoing a restore: its own plan over what it replaced and removed.
//!
//! What was changed since the restore is a conflict to be shown, for the undo would replace it (and
//! keep it, for an undo can itself be undone).

use std::collections::{BTreeMap, HashMap};

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{
    Entry, EntryKind, EntryPath, Fault, Faulty, Mark, PointInTime, RestoreId, SiteId, SnapshotId, SnapshotRecord,
    SourceName,
};
use lifeboat_repo::{FetchControl, FetchLimits, Manifest, Site, Wanted};
use lifeboat_source::postgres::describe::{large_object_of_path, table_of_path};
use lifeboat_source::sqlite::{Live, SqliteTarget, normalise_page_one};
use lifeboat_source::{Content, Read};

use super::facts::{LivePart, PartFacts};
use super::files::{equals, is_as_left};
use crate::moment::open_point;
use crate::{Engine, Error};

/// How many changed entries a conflict names.
const NAMED_MAX: usize = 5;

/// The site and the restore that an id means: of a restore, or of the undo it kept. Looks among the
/// likely sites first, then asks the store.
pub async fn find_undo(engine: &Engine, id: RestoreId, likely: &[SiteId]) -> Result<(SiteId, RestoreId), Error> {
    for site in likely {
        let site = engine.repository.site(site, engine.memory.known_head(site)).await?;
        if let Some(found) = site.and_then(|site| undo_in(&site, id)) {
            return Ok(found);
        }
    }
    let found = engine.repository.sites().await?.iter().find_map(|site| undo_in(site, id));
    found.ok_or_else(|| Error::NoSuchThing {
        detail: format!("no restore of this id kept an undo: restore=`{id}`"),
        hint: "`lifeboat points SITE` lists the undos of a site; a restore that replaced nothing keeps none".into(),
    })
}

fn undo_in(site: &Site, id: RestoreId) -> Option<(SiteId, RestoreId)> {
    let state = site.state();
    let by_snapshot = || state.snapshot(SnapshotId(id.0)).filter(|record| record.mark == Mark::Undo);
    let restore = state.undo_of(id).or_else(by_snapshot)?.restore?;
    Some((site.id().clone(), restore))
}

/// What the undone restore had left behind: its snapshot.
pub(super) struct LeftBehind {
    /// Why nothing can be told: that snapshot is damaged by now, or that moment cannot be had.
    pub unknown: Option<String>,
    manifest: Option<Manifest>,
    entries: BTreeMap<SourceName, Vec<Entry>>,
}

impl LeftBehind {
    /// `None` for anything but an undo of a whole snapshot. (For the undo of an undo there is
    /// nothing whole to compare with.)
    pub(super) async fn load(engine: &Engine, site: &Site, record: &SnapshotRecord) -> Result<Option<Self>, Error> {
        if record.mark != Mark::Undo {
            return Ok(None);
        }
        let restored = record.parent.and_then(|parent| site.state().snapshot(parent));
        let Some(restored) = restored.filter(|restored| restored.mark != Mark::Undo) else { return Ok(None) };
        match Self::read(engine, site, (record, restored)).await {
            Err(error) if error.fault() == Fault::Damage || record.moment.is_some() => {
                // Nobody needs it to put back what the undo itself holds: a person decides.
                Ok(Some(Self { unknown: Some(error.to_string()), manifest: None, entries: BTreeMap::new() }))
            }
            other => other.map(Some),
        }
    }

    async fn read(
        engine: &Engine,
        site: &Site,
        (undo, restored): (&SnapshotRecord, &SnapshotRecord),
    ) -> Result<Self, Error> {
        let manifest = match &undo.moment {
            None => site.manifest(&restored.manifest).await?,
            Some(moment) => {
                let at = PointInTime::parse(moment, undo.cut_till).map_err(|error| Error::Damaged {
                    site: site.id().clone(),
                    detail: format!("the undo does not say what was restored: {error}"),
                })?;
                open_point(engine, site.id(), &at).await?.manifest
            }
        };
        let mut entries = BTreeMap::new();
        for (number, part) in manifest.head().parts.iter().enumerate() {
            entries.insert(part.record.source.clone(), manifest.entries(site, number).await?);
        }
        Ok(Self { unknown: None, manifest: Some(manifest), entries })
    }

    pub(super) fn part(&self, source: &SourceName) -> Option<Vec<Entry>> {
        self.entries.get(source).cloned()
    }

    /// Whether the live database holds neither what the restore left nor, as after an undo that was
    /// killed, what that undo puts back. Damage: it cannot be told.
    pub(super) fn is_database_changed(&self, site: &Site, undo: &Manifest, part: &PartFacts) -> Result<bool, Error> {
        let left = self.entries.get(&part.source).and_then(|entries| entries.first());
        let as_left = self.manifest.as_ref().map_or(Ok(false), |manifest| holds(site, manifest, left, part));
        if matches!(as_left, Ok(true)) {
            return Ok(false);
        }
        let wanted = part.wanted.iter().find(|entry| entry.kind != EntryKind::Absent);
        match holds(site, undo, wanted, part) {
            Ok(true) => Ok(false),
            // What the undo needs and cannot have, it says itself when it is staged.
            Err(error) if error.fault() != Fault::Damage => Err(error),
            _ => as_left.map(|_| true),
        }
    }
}

/// Whether the live database is what an entry of a manifest says; `None` says that there is none.
pub(super) fn holds(site: &Site, manifest: &Manifest, entry: Option<&Entry>, part: &PartFacts) -> Result<bool, Error> {
    let LivePart::Database { live, .. } = &part.live else {
        return Err(Error::Bug("a database expected".into()));
    };
    let target = SqliteTarget::open(part.file_place()?, RestoreId([0; 8]))?;
    match (entry, live) {
        (None, live) => Ok(matches!(live, Live::Absent { .. })),
        (Some(entry), Live::Unusable { .. }) if entry.kind == EntryKind::File => {
            equals(target.raw_live()?, site.keys(), entry)
        }
        (Some(entry), Live::Database { .. }) if entry.kind != EntryKind::File => {
            let Some(mut reader) = target.read_live()? else { return Ok(false) };
            match reader.next_entry()? {
                Some(live) if live.metadata.size == entry.metadata.size => {
                    let content = reader.open_content(&live)?;
                    has_pages(site, manifest, entry, content)
                }
                _ => Ok(false),
            }
        }
        _ => Ok(false),
    }
}

/// Compares pages by chunk id; the first page has header fields that SQLite itself moves on
/// when it copies a database, so the first chunk is compared without them.
fn has_pages(site: &Site, manifest: &Manifest, entry: &Entry, mut content: Box<dyn Content>) -> Result<bool, Error> {
    let mut first = Vec::new();
    for (number, chunk) in entry.chunks().enumerate() {
        let mut bytes = vec![0; chunk.raw_len as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match content.read(&mut bytes[filled..])? {
                Read::Data(len) => filled += len,
                Read::Hole(_) | Read::End => return Ok(false),
            }
        }
        match number {
            0 => first = bytes,
            _ if site.keys().chunk_id(&bytes) != chunk.id => return Ok(false),
            _ => {}
        }
    }
    let Some(chunk) = entry.chunks().next() else { return Ok(true) };
    let was = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    let wanted = vec![Wanted { chunk: *chunk, tag: 0 }];
    let fetched =
        manifest.fetch(site, wanted, FetchControl { limits: FetchLimits::default(), cancel: &stop }, |_, delivery| {
            let bytes = delivery.map_err(|damage| Error::Damaged {
                site: site.id().clone(),
                detail: format!("object=`{}`, offset=`{}`: {}", damage.object, damage.offset, damage.detail),
            })?;
            was.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok::<(), Error>(())
        });
    fetched??;
    let mut was = was.into_inner().unwrap_or_else(PoisonError::into_inner);
    normalise_page_one(&mut was);
    normalise_page_one(&mut first);
    Ok(was == first)
}

/// What was changed in a part since the restore that is to be undone; nothing for other restores.
pub(super) fn changed_since(part: &PartFacts) -> Option<String> {
    if let Some(detail) = part.left_unknown.as_ref().filter(|_| part.left_rows.is_none()) {
        return Some(format!("what was changed since the restore cannot be told: {detail}"));
    }
    if let (LivePart::Rows(live), Some(left)) = (&part.live, &part.left_rows) {
        return super::later::changed_rows(part, live, left);
    }
    let left = part.left_by_restore.as_ref()?;
    match &part.live {
        LivePart::Copy { .. } => None, // an undo is in place
        LivePart::Files(live) => changed_files(part, live.as_deref().unwrap_or_default(), left),
        LivePart::Rows(live) => {
            // An undo that was killed after its switch has put the rows back: nobody else's change.
            if super::rows::is_same(part, live) {
                return None;
            }
            let is_changed = |entry: &&Entry| match &entry.kind {
                EntryKind::Table { digest, .. } => {
                    super::rows::live_table(live, entry).is_none_or(|live| !live.digests.are(digest))
                }
                _ => super::rows::has_object(live, entry) == Some(false),
            };
            // Of a restore of some rows: the other tables were as they were kept.
            let is_kept = |entry: &&Entry| {
                let kept = part.wanted.iter().find(|kept| kept.path == entry.path);
                !part.narrowed.is_empty() && kept.is_some_and(|kept| !is_changed(&kept))
            };
            // An object that neither was there nor is: the restore of some rows did not need it.
            let is_unneeded = |entry: &&Entry| {
                let is_object = large_object_of_path(entry.path.as_bytes()).is_some();
                is_object && !part.narrowed.is_empty() && super::rows::live_object(live, entry).is_none()
            };
            let is_narrowed =
                |entry: &&Entry| part.narrowed.contains(&table_of_path(&entry.path.to_string()).to_string());
            let changed = left
                .iter()
                .filter(is_changed)
                .filter(|entry| !is_kept(entry) && !is_narrowed(entry) && !is_unneeded(entry));
            let changed: Vec<String> = changed.map(|entry| entry.path.to_string()).collect();
            let is_filled = left.is_empty() && !live.is_absent();
            (is_filled || !changed.is_empty())
                .then(|| format!("rows were changed since the restore: {}", changed.join(", ")))
        }
        LivePart::Database { .. } => {
            part.database_changed.then(|| "the database was written to since the restore".to_owned())
        }
    }
}

fn changed_files(part: &PartFacts, live: &[Entry], left: &[Entry]) -> Option<String> {
    let live: HashMap<&EntryPath, &Entry> = live.iter().map(|entry| (&entry.path, entry)).collect();
    let left: HashMap<&EntryPath, &Entry> = left.iter().map(|entry| (&entry.path, entry)).collect();
    // An undo that was killed has put some entries back: those are nobody else's changes.
    let wanted = part.wanted.iter().filter(|entry| entry.kind != EntryKind::Absent);
    let wanted: HashMap<&EntryPath, &Entry> = wanted.map(|entry| (&entry.path, entry)).collect();
    // A part that was absent before is undone whole, so everything there now counts.
    let touched: Vec<&EntryPath> = match part.scope {
        lifeboat_source::files::Scope::Listed => part.wanted.iter().map(|entry| &entry.path).collect(),
        lifeboat_source::files::Scope::Whole => live.keys().chain(left.keys()).copied().collect(),
    };
    let mut changed: Vec<String> = touched
        .into_iter()
        .filter(|path| {
            let live = live.get(path).copied();
            !is_as_left(live, left.get(path).copied()) && !is_as_left(live, wanted.get(path).copied())
        })
        .map(ToString::to_string)
        .collect();
    changed.sort();
    changed.dedup();
    let named = changed.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = changed.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!changed.is_empty()).then(|| format!("changed since the restore: {named}{more}"))
}
