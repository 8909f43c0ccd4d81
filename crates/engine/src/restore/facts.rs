//! What a plan is made from: the point, and what is there now. Everything here only reads.

use std::sync::Arc;

use lifeboat_model::{
    Entry, EntryKind, EntryPath, Fault, Faulty, Mark, PartIdentity, PartStatus, RestoreId, SiteId, SnapshotRecord,
    SourceKind, SourceName, Timestamp,
};
use lifeboat_repo::{Manifest, Site};
use lifeboat_source::files::{FilesTarget, MergePlan, Scope};
use lifeboat_source::postgres::Tenancy;
use lifeboat_source::postgres::target::{Conflict, Found, LiveRows, Narrow, VerifiedRows};
use lifeboat_source::sqlite::{Live, SqliteTarget};
use lifeboat_source::{PartReader, Place};

use super::later::LeftRows;
use super::request::RestorePoint;
use super::undo::LeftBehind;
use super::{Only, RestoreRequest, RestoreTarget, elsewhere};
use crate::fleet::AnySource;
use crate::moment::{OpenPoint, Replayed, open_point};
use crate::{Engine, Error};

/// The chosen point and the live parts.
pub struct Facts {
    pub(crate) site: Site,
    pub(crate) record: SnapshotRecord,
    pub(crate) manifest: Manifest,
    /// The moment that is put back.
    pub(crate) at: Timestamp,
    /// Where that is no snapshot's.
    pub(crate) replayed: Option<Replayed>,
    pub(crate) parts: Vec<PartFacts>,
    /// Parts of the snapshot that cannot be restored, and why.
    pub(crate) left_out: Vec<(SourceName, String)>,
}

/// One part: what is wanted and what is there.
pub(crate) struct PartFacts {
    pub source: SourceName,
    pub kind: SourceKind,
    pub status: PartStatus,
    /// Entries to put back, in path order; [`EntryKind::Absent`] ones are to be removed.
    pub wanted: Arc<[Entry]>,
    pub scope: Scope,
    /// Where its files lie; `None` for rows, which lie in a database.
    pub place: Option<Place>,
    /// Paths of the part that other sources own.
    pub excluded: Vec<EntryPath>,
    pub identity_then: PartIdentity,
    pub identity_now: PartIdentity,
    pub live: LivePart,
    /// For an undo: what the restore had left, to tell what was changed since.
    pub left_by_restore: Option<Vec<Entry>>,
    /// For an undo: why what the restore had left cannot be told.
    pub left_unknown: Option<String>,
    /// For an undo of a database: whether it was written to since.
    pub database_changed: bool,
    /// Only what is missing of it comes back.
    pub keeps_later: bool,
    /// What stays although it differs, where that was looked at: files, by path.
    pub kept_files: Vec<EntryPath>,
    /// For an undo of rows: what the restore left, where it kept later ones.
    pub left_rows: Option<LeftRows>,
    /// Rows that alone are wanted of it.
    pub narrow: Option<Narrow>,
    /// For an undo of rows: the tables of which the restore wrote only some.
    pub narrowed: Vec<String>,
    /// With `exact`: what is in the way of rows.
    pub row_conflicts: Vec<RowConflict>,
    /// With `exact`: what has to change, by content, and whether a database holds the wanted pages.
    pub compared: Option<Compared>,
}

impl PartFacts {
    /// The place of a part that is made of files.
    pub fn file_place(&self) -> Result<&Place, Error> {
        self.place.as_ref().ok_or_else(|| Error::Bug("rows of a database lie at no path".into()))
    }

    /// Where it is, for a person.
    pub fn shown_place(&self) -> String {
        match &self.place {
            Some(place) => place.path().display().to_string(),
            None => format!("database {}, {}", self.identity_now.filesystem, self.identity_now.path),
        }
    }
}

/// What is in the way of rows.
pub(crate) struct RowConflict {
    pub detail: String,
    /// The primary keys of the rows that it concerns, where they are told.
    pub keys: Vec<String>,
    pub way_out: &'static str,
}

/// A comparison by content of the live part with the wanted one.
pub(crate) enum Compared {
    Files(MergePlan),
    Database {
        is_same: bool,
    },
    /// `None`: not compared, or no need to.
    Rows(Option<VerifiedRows>),
    Copy(Found),
}

/// What is at a part's place now.
pub(crate) enum LivePart {
    /// `None`: there is no directory.
    Files(Option<Arc<[Entry]>>),
    Database {
        live: Live,
        stamp: Option<Vec<u8>>,
    },
    /// Rows of a shared database, by table.
    Rows(LiveRows),
    /// Where a copy of rows is to be: whether anything is there.
    Copy {
        exists: bool,
    },
}

/// Reads the point from the repository and looks at the live parts.
pub(super) async fn gather(engine: &Engine, request: &RestoreRequest) -> Result<Facts, Error> {
    let OpenPoint { site, record, manifest, at, replayed } = match &request.point {
        RestorePoint::At(at) => open_point(engine, &request.site, at).await?,
        RestorePoint::Undo(restore) => open_undo(engine, request, *restore).await?,
    };
    let mut facts = Facts { site, record, manifest, at, replayed, parts: Vec::new(), left_out: Vec::new() };
    let left = LeftBehind::load(engine, &facts.site, &facts.record).await?;
    for number in 0..facts.manifest.head().parts.len() {
        let part = &facts.manifest.head().parts[number];
        let name = part.record.source.clone();
        if request.only.as_ref().is_some_and(|only| only.part != name) {
            continue;
        }
        if let PartStatus::Failed { reason } = &part.record.status {
            let reason = format!("it could not be read when the snapshot was taken: {reason}");
            facts.left_out.push((name, reason));
            continue;
        }
        let is_exported =
            matches!(request.target, RestoreTarget::Export(_)) && part.record.kind == SourceKind::Postgres;
        let source = engine.fleet.source(&name);
        if source.is_none() && !is_exported {
            let reason = "no source of this name is configured".to_owned();
            facts.left_out.push((name, reason));
            continue;
        }
        let entries = facts.manifest.entries(&facts.site, number).await?;
        let mut part = match (source, &request.target) {
            (_, RestoreTarget::Export(directory)) if is_exported => {
                super::copy::exported_part(&facts, number, entries, request, directory)?
            }
            (Some(source), _) => look_at_part(source, &facts, number, entries, request)?,
            (None, _) => continue,
        };
        if let Some(left) = &left {
            part.left_by_restore = left.part(&name);
            part.left_unknown = left.unknown.clone();
            if part.kind == SourceKind::Sqlite {
                match left.is_database_changed(&facts.site, &facts.manifest, &part) {
                    Err(error) if error.fault() == Fault::Damage => part.left_unknown = Some(error.to_string()),
                    changed => part.database_changed = changed?,
                }
            }
        }
        super::since::keep_written(&mut facts, &mut part, request);
        compare_first(engine, request, &facts, &mut part)?;
        facts.parts.push(part);
    }
    elsewhere::refuse_full_directory(&facts, request)?;
    if facts.parts.is_empty() {
        return Err(nothing_to_restore(request, &facts));
    }
    // Databases before files, as everywhere.
    facts.parts.sort_by_key(|part| part.kind == SourceKind::Files);
    Ok(facts)
}

/// Compares a part before it is planned: with `exact`, or where something is in the place already.
fn compare_first(engine: &Engine, request: &RestoreRequest, facts: &Facts, part: &mut PartFacts) -> Result<(), Error> {
    let is_occupied = elsewhere::is_occupied(part, request);
    let is_asked = request.exact || request.keep_later || is_occupied;
    if is_asked || super::limits::is_compared_anyway(part) {
        part.compared = match tokio::task::block_in_place(|| compare(engine, request, facts, part)) {
            // Without it the counts are upper limits, and what is in the way shows when it is staged.
            Err(error) if !is_asked && error.fault() == Fault::Operator => None,
            compared => Some(compared?),
        };
        if part.keeps_later && part.kind == SourceKind::Files {
            part.kept_files = tokio::task::block_in_place(|| super::later::kept_files(engine, facts, part))?;
        }
        if let Some(Compared::Rows(Some(verified))) = &part.compared {
            let is_own = matches!(&part.live, LivePart::Rows(live) if live.is_own);
            let told = |found: &Conflict| RowConflict {
                detail: found.to_string(),
                keys: found.keys.clone(),
                way_out: super::rows::way_out(is_own, found.kind),
            };
            part.row_conflicts = verified.conflicts().iter().map(told).collect();
        }
    }
    if is_occupied { elsewhere::refuse_others(part) } else { Ok(()) }
}

/// Refuses to take over from a restore that is in the middle of its switch on this host.
pub(super) fn check_not_switching(facts: &Facts) -> Result<(), Error> {
    if facts.site.state().intent.is_none() {
        return Ok(());
    }
    let files = facts.parts.iter().filter(|part| matches!(part.live, LivePart::Files(_)));
    for part in files {
        let target = FilesTarget::open(part.file_place()?.clone(), RestoreId([0; 8]), part.excluded.clone())?;
        target.check_not_switching()?;
    }
    Ok(())
}

/// Looks at the live parts again, when nobody but this restore may write them.
pub(super) fn look_again(engine: &Engine, facts: &mut Facts) -> Result<(), Error> {
    tokio::task::block_in_place(|| {
        for part in &mut facts.parts {
            engine.check_cancelled()?;
            part.compared = None; // of what was there before
            part.live = look_live(
                engine.fleet.source(&part.source),
                part.kind,
                part.place.as_ref(),
                &part.excluded,
                facts.site.id(),
            )?;
        }
        Ok(())
    })
}

/// Reads what is live and compares it with what is wanted.
fn compare(engine: &Engine, request: &RestoreRequest, facts: &Facts, part: &PartFacts) -> Result<Compared, Error> {
    match &part.live {
        LivePart::Rows(_) => Ok(Compared::Rows(super::rows::compare(engine, facts, part)?)),
        LivePart::Copy { .. } => super::copy::compare(engine, facts, part, &request.target),
        LivePart::Database { .. } => {
            let wanted = part.wanted.iter().find(|entry| entry.kind != EntryKind::Absent);
            let is_same = match super::undo::holds(&facts.site, &facts.manifest, wanted, part) {
                // A damaged chunk is equal to nothing; who needs its content will say so.
                Err(error) if error.fault() == Fault::Damage => false,
                compared => compared?,
            };
            Ok(Compared::Database { is_same })
        }
        LivePart::Files(live) => {
            let target = FilesTarget::open(part.file_place()?.clone(), RestoreId([0; 8]), part.excluded.clone())?;
            let plan =
                super::files::merge_by_content(engine, facts, part, (&target, live.as_deref().unwrap_or_default()))?;
            Ok(Compared::Files(plan))
        }
    }
}

async fn open_undo(engine: &Engine, request: &RestoreRequest, restore: RestoreId) -> Result<OpenPoint, Error> {
    let site = engine.site(&request.site).await?;
    let record = undo_record(&site, restore)?;
    let manifest = site.manifest(&record.manifest).await?;
    let at = record.cut_till;
    Ok(OpenPoint { site, record, manifest, at, replayed: None })
}

fn undo_record(site: &Site, restore: RestoreId) -> Result<SnapshotRecord, Error> {
    site.state().undo_of(restore).cloned().ok_or_else(|| Error::NoSuchThing {
        detail: format!("the restore kept no undo: site=`{}`, restore=`{restore}`", site.id()),
        hint: format!(
            "`lifeboat points {}` lists the undos there are; a restore that replaced nothing keeps none",
            site.id()
        ),
    })
}

fn nothing_to_restore(request: &RestoreRequest, facts: &Facts) -> Error {
    let parts: Vec<&str> = facts.manifest.head().parts.iter().map(|part| part.record.source.as_str()).collect();
    let (detail, hint) = match (&request.only, facts.left_out.first()) {
        (_, Some((source, reason))) => (
            format!("part `{source}` cannot be restored: {reason}"),
            "choose an older point, or name the source in the configuration again".to_owned(),
        ),
        (Some(only), None) => (
            format!("the snapshot has no such part: site=`{}`, part=`{}`", request.site, only.part),
            format!("its parts are: {}", parts.join(", ")),
        ),
        (None, None) => ("the snapshot has no parts".to_owned(), "choose an older point".to_owned()),
    };
    Error::NoSuchThing { detail, hint }
}

fn look_at_part(
    source: &AnySource,
    facts: &Facts,
    number: usize,
    entries: Vec<Entry>,
    request: &RestoreRequest,
) -> Result<PartFacts, Error> {
    let part = &facts.manifest.head().parts[number];
    let is_undo = facts.record.mark == Mark::Undo;
    let (wanted, narrow) = match source {
        AnySource::Postgres(rows) => super::narrow::select_rows(Some(rows), request, entries)?,
        _ => (select(entries, request.only.as_ref())?, None),
    };
    let place = place_of(source, &request.site, &request.target)?;
    let excluded = match (source, &request.target) {
        (AnySource::Files(files), RestoreTarget::InPlace) => files.excluded(&request.site)?,
        (AnySource::Files(files), RestoreTarget::Beside(name)) => files.excluded(name)?,
        _ => Vec::new(),
    };
    let mut identity_now = match &place {
        Some(place) => lifeboat_source::identity::identity_of(&place.path())?,
        None => tokio::task::block_in_place(|| source.as_source().identity(&request.site))?,
    };
    if let (None, RestoreTarget::Beside(name)) = (&place, &request.target) {
        match source {
            AnySource::Postgres(rows) if rows.config().tenancy == Tenancy::Database => {
                identity_now.filesystem = name.to_string();
            }
            _ => identity_now.path = format!("schema {name}"),
        }
    }
    let copied = match source {
        AnySource::Postgres(_) => super::copy::look(&request.target),
        _ => None,
    };
    let live = match copied {
        Some(copied) => copied,
        None => look_live(Some(source), source.as_source().kind(), place.as_ref(), &excluded, &request.site)?,
    };
    let narrowed = request.only.as_ref().is_some_and(|only| only.entry.is_some() || only.keys.is_some());
    let left_rows = super::later::left_of(&part.position);
    let mut narrowed_tables = super::keep::narrowed_tables(&part.position);
    let untold = left_rows.iter().flatten().filter(|(_, digest)| digest.is_none());
    narrowed_tables.extend(untold.map(|(table, _)| table.clone()));
    // An undo lists what it changes, unless the whole part was absent before the restore.
    let listed = narrowed || (is_undo && part.record.status != PartStatus::Absent);
    Ok(PartFacts {
        source: part.record.source.clone(),
        kind: part.record.kind,
        status: part.record.status.clone(),
        wanted: wanted.into(),
        scope: if listed { Scope::Listed } else { Scope::Whole },
        place,
        excluded,
        identity_then: part.identity.clone(),
        identity_now,
        live,
        left_by_restore: None,
        left_unknown: None,
        database_changed: false,
        narrow,
        narrowed: narrowed_tables,
        keeps_later: request.keep_later && request.target == RestoreTarget::InPlace,
        kept_files: Vec::new(),
        left_rows,
        row_conflicts: Vec::new(),
        compared: None,
    })
}

/// The entries asked for, with the directories above them.
fn select(entries: Vec<Entry>, only: Option<&Only>) -> Result<Vec<Entry>, Error> {
    let (part, path) = match only {
        Some(Only { part, entry: Some(path), .. }) => (part, path),
        Some(Only { part, keys: Some((table, _)), .. }) => {
            return Err(Error::NoSuchThing {
                detail: format!("keys are of rows, and the part has none: part=`{part}`, table=`{table}`"),
                hint: "leave the brackets out".into(),
            });
        }
        _ => return Ok(entries),
    };
    let chosen = |entry: &Entry| entry.path.starts_with(path);
    if !entries.iter().any(chosen) {
        return Err(Error::NoSuchThing {
            detail: format!("the snapshot has no such entry: part=`{part}`, entry=`{path}`"),
            hint: "`lifeboat ls` with the same --at lists what it has".into(),
        });
    }
    let files: std::collections::HashMap<EntryPath, Entry> = entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::File)
        .map(|entry| (entry.path.clone(), entry.clone()))
        .collect();
    let above = |entry: &Entry| entry.kind == EntryKind::Directory && path.starts_with(&entry.path);
    let kept = entries.into_iter().filter(|entry| chosen(entry) || above(entry)).map(|entry| match &entry.kind {
        // A further name whose first one was not asked for becomes a file of its own.
        EntryKind::HardLink { to } if !to.starts_with(path) => match files.get(to) {
            Some(first) => Entry { path: entry.path, ..first.clone() },
            None => entry,
        },
        _ => entry,
    });
    Ok(kept.collect())
}

/// Where a part is written: its own place, that of another site, or a directory of its name; rows
/// lie at no path.
fn place_of(source: &AnySource, site: &SiteId, target: &RestoreTarget) -> Result<Option<Place>, Error> {
    let place = match target {
        RestoreTarget::InPlace => own_place(source, site)?,
        RestoreTarget::Beside(name) => own_place(source, name).map_err(|error| match error {
            lifeboat_source::Error::UnsafeSiteId { template, .. } => Error::NoSuchThing {
                detail: format!("the name cannot stand in a path: name=`{name}`, template=`{template}`"),
                hint: "choose another name for --beside: one plain name, without `/`, as a site's directory has; \
                       --export takes a path"
                    .into(),
            },
            error => error.into(),
        })?,
        RestoreTarget::Export(directory) => {
            let directory = directory.join(source.name().as_str());
            match source {
                AnySource::Files(_) => Some(Place::at(&directory)?),
                AnySource::Sqlite(sqlite) => {
                    let file = sqlite.place(site)?.path();
                    let name = file.file_name().unwrap_or_else(|| std::ffi::OsStr::new("database"));
                    Some(Place::at(&directory.join(name))?)
                }
                AnySource::Postgres(_) => None,
            }
        }
    };
    Ok(place)
}

fn own_place(source: &AnySource, site: &SiteId) -> Result<Option<Place>, lifeboat_source::Error> {
    match source {
        AnySource::Files(files) => files.place(site).map(Some),
        AnySource::Sqlite(sqlite) => sqlite.place(site).map(Some),
        AnySource::Postgres(_) => Ok(None),
    }
}

fn look_live(
    source: Option<&AnySource>,
    kind: SourceKind,
    place: Option<&Place>,
    excluded: &[EntryPath],
    site: &SiteId,
) -> Result<LivePart, Error> {
    let nobody = RestoreId([0; 8]); // only looks: nothing is staged under it
    let Some(place) = place else {
        let Some(AnySource::Postgres(rows)) = source else { return Err(no_rows_here()) };
        return tokio::task::block_in_place(|| Ok(LivePart::Rows(rows.target(site, nobody)?.live()?)));
    };
    if !place.base().exists() && excluded.is_empty() && source.is_some_and(|source| is_elsewhere(source, place, site)) {
        // An export into a directory that is yet to be made.
        return Ok(match kind {
            SourceKind::Files => LivePart::Files(None),
            SourceKind::Sqlite => LivePart::Database { live: Live::Absent { leftovers: Vec::new() }, stamp: None },
            SourceKind::Postgres => return Err(no_rows_here()),
        });
    }
    Ok(match kind {
        SourceKind::Files => {
            let target = FilesTarget::open(place.clone(), nobody, excluded.to_vec())?;
            LivePart::Files(target.scan()?.map(all_entries).transpose()?.map(Arc::from))
        }
        SourceKind::Postgres => return Err(no_rows_here()),
        SourceKind::Sqlite => {
            let live = SqliteTarget::open(place, nobody)?.live()?;
            let stamp = match source {
                Some(AnySource::Sqlite(sqlite)) if sqlite.place(site)? == *place => sqlite.stamp(site)?,
                _ => None,
            };
            LivePart::Database { live, stamp }
        }
    })
}

/// Whether the place is not the site's own.
fn is_elsewhere(source: &AnySource, place: &Place, site: &SiteId) -> bool {
    own_place(source, site).is_ok_and(|own| own.as_ref() != Some(place))
}

/// Every entry of a live tree. One that cannot be read cannot be kept for an undo either, so it
/// ends the restore before anything is written.
pub(super) fn all_entries(mut reader: Box<dyn PartReader>) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    match reader.finish()?.problems.first() {
        None => Ok(entries),
        Some(problem) => Err(Error::Conflict {
            detail: format!("the live part cannot be read: entry=`{}`, {}", problem.entry, problem.reason),
            hint: "what cannot be read cannot be kept for an undo: mend it, or restore --beside or --export".into(),
        }),
    }
}

fn no_rows_here() -> Error {
    Error::Bug("rows of a database lie at no path".into())
}
