//! Rows that are not put back but written elsewhere: into a directory, or into a schema of their own.
//! The live rows are neither read nor written.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_model::{Check, Entry, EntryKind, Extent, PartReceipt, SiteId, SourceName};
use lifeboat_repo::Wanted;
use lifeboat_source::Place;
use lifeboat_source::files::Scope;
use lifeboat_source::postgres::Tenancy;
use lifeboat_source::postgres::describe::{WantedLargeObject, large_object_of_path};
use lifeboat_source::postgres::export::{About, RowsExport};
use lifeboat_source::postgres::target::{DatabaseBeside, Found, RowsBeside, WantedRows, WantedTable};

use super::facts::{Compared, Facts, LivePart, PartFacts};
use super::narrow::select_rows;
use super::part::{Destination, Opened};
use super::plan::{Change, PartPlan};
use super::rows::{description_of, wanted_rows};
use super::{RestoreRequest, RestoreTarget};
use crate::fleet::AnySource;
use crate::{Engine, Error};

/// What the check is called that tells whoever is to look at a copy how.
pub(crate) const LOOK_AT_IT: &str = "how to look at it";

pub(super) struct CopyWork {
    site: SiteId,
    source: SourceName,
    copy: Copy,
    tables: Vec<WantedTable>,
    /// Of an export: a copy beside refers to the live ones.
    objects: Vec<WantedLargeObject>,
    /// Those that a copy beside does not have.
    objects_left: usize,
    /// What the tables and behind them the objects come from, and those that are damaged in the repository and left out.
    entries: Vec<Entry>,
    left_out: Vec<(usize, String)>,
    /// Those being written, by their place in `entries`.
    writing: Vec<usize>,
    remaining: AtomicU64,
    /// The copy is there already.
    is_there: bool,
}

/// Where the rows go.
enum Copy {
    Export(Box<RowsExport>),
    Beside(Box<RowsBeside>),
    /// Of a site with a database of its own.
    Database(Box<DatabaseBeside>),
}

impl CopyWork {
    pub(super) fn new(engine: &Engine, facts: &Facts, part: &PartFacts, target: &RestoreTarget) -> Result<Self, Error> {
        let (mut wanted, mut entries) = wanted_rows(facts, part)?;
        let mut objects_left = 0;
        let copy = match target {
            RestoreTarget::Beside(name) => {
                let copy = beside(engine, facts, part, (name, &wanted))?;
                if matches!(copy, Copy::Beside(_)) {
                    // In the same database: rows refer to the live objects.
                    objects_left = wanted.objects.len();
                    wanted.objects.clear();
                    entries.truncate(wanted.tables.len());
                }
                copy
            }
            _ => {
                let export = RowsExport::new(&part.file_place()?.path(), about(facts, part));
                Copy::Export(Box::new(export.with_description(description_of(facts, part)?, wanted.structure.take())))
            }
        };
        Ok(Self {
            site: facts.site.id().clone(),
            source: part.source.clone(),
            copy,
            tables: wanted.tables,
            objects: wanted.objects,
            objects_left,
            entries,
            left_out: Vec::new(),
            writing: Vec::new(),
            remaining: AtomicU64::new(0),
            is_there: matches!(part.compared, Some(Compared::Copy(Found::Same))),
        })
    }

    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        if self.is_there {
            return Ok(());
        }
        let is_left_out = |at: &usize| self.left_out.iter().any(|(left, _)| left == at);
        self.writing = (0..self.entries.len()).filter(|at| !is_left_out(at)).collect();
        let tables: Vec<WantedTable> = self.written_tables().cloned().collect();
        let objects = self.writing.iter().filter_map(|at| self.objects.get(at.checked_sub(self.tables.len())?));
        let objects: Vec<WantedLargeObject> = objects.cloned().collect();
        match &mut self.copy {
            Copy::Export(export) => export.begin(&tables, &objects)?,
            Copy::Beside(beside) => beside.begin(&tables)?,
            Copy::Database(database) => database.begin(&tables, &objects)?,
        }
        self.remaining = AtomicU64::new(self.written().map(|entry| entry.chunks().count() as u64).sum());
        Ok(())
    }

    fn written(&self) -> impl Iterator<Item = &Entry> {
        self.writing.iter().map(|at| &self.entries[*at])
    }

    fn written_tables(&self) -> impl Iterator<Item = &WantedTable> {
        self.writing.iter().filter_map(|at| self.tables.get(*at))
    }

    pub(super) fn wanted(&self) -> Vec<(Wanted, Destination)> {
        let mut wanted = Vec::new();
        for (slot, entry) in self.written().enumerate() {
            let mut offset = 0;
            for extent in &entry.extents {
                if let Extent::Chunk(chunk) = extent {
                    let destination = Destination { slot: slot as u64, offset };
                    wanted.push((Wanted { chunk: *chunk, tag: 0 }, destination));
                }
                offset += extent.len();
            }
        }
        wanted
    }

    pub(super) fn deliver(&self, destination: Destination, bytes: &[u8]) -> Result<(), Error> {
        let table = destination.slot as usize;
        match &self.copy {
            Copy::Export(export) => export.write_at(table, destination.offset, bytes)?,
            Copy::Beside(beside) => beside.write_at(table, destination.offset, bytes)?,
            Copy::Database(database) => database.write_at(table, destination.offset, bytes)?,
        }
        self.remaining.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn entry_of(&self, slot: u64) -> String {
        let entry = usize::try_from(slot).ok().and_then(|slot| self.written().nth(slot));
        format!("{}/{}", self.source, entry.map(|entry| entry.path.to_string()).unwrap_or_default())
    }

    /// A table that is damaged is left out by name; the others are whole.
    pub(super) fn leave_out(&mut self, slot: u64, detail: &str) {
        let at = usize::try_from(slot).ok().and_then(|slot| self.writing.get(slot)).copied();
        if let Some(at) = at.filter(|at| !self.left_out.iter().any(|(left, _)| left == at)) {
            self.left_out.push((at, detail.to_owned()));
        }
    }

    pub(super) fn verify(&mut self) -> Result<(), Error> {
        if self.is_there {
            return Ok(());
        }
        if self.remaining.load(Ordering::Acquire) != 0 {
            let detail = format!("the rows did not come whole: part=`{}`", self.source);
            return Err(Error::NotVerified { site: self.site.clone(), detail });
        }
        match &mut self.copy {
            Copy::Export(export) => export.verify()?,
            Copy::Beside(beside) => beside.verify()?,
            Copy::Database(database) => database.verify()?,
        }
        Ok(())
    }

    pub(super) fn switch(&mut self) -> Result<(), Error> {
        match &mut self.copy {
            _ if self.is_there => {}
            Copy::Export(export) => export.switch()?,
            Copy::Beside(beside) => beside.switch()?,
            Copy::Database(database) => database.switch()?,
        }
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Opened, Error> {
        let name = |what: &str| format!("{}: {what}", self.source);
        let rows = self.written_tables().map(|table| table.rows).sum();
        let bytes = self.written().map(|entry| entry.metadata.size).sum();
        let mut checks = vec![match self.is_there {
            true => Check { name: name("unchanged"), passed: true, detail: "the copy was there already".into() },
            false => {
                let tables = self.written_tables().count();
                let objects = match self.writing.len() - tables {
                    0 => String::new(),
                    objects => format!(" and {objects} large objects"),
                };
                let detail = format!("{rows} rows in {tables} tables{objects}, compared by digest");
                Check { name: name("rows equal the snapshot"), passed: true, detail }
            }
        }];
        checks.extend(self.note().map(|detail| Check { name: name(LOOK_AT_IT), passed: true, detail }));
        if self.objects_left > 0 {
            let detail = format!("{} are not in a copy beside: its rows refer to the live ones", self.objects_left);
            checks.push(Check { name: name("large objects"), passed: true, detail });
        }
        for (at, detail) in &self.left_out {
            let detail = format!("entry=`{}`: {detail}", self.entries[*at].path);
            checks.push(Check { name: name("damaged table left out"), passed: false, detail });
        }
        let entries = self.entries.len() as u64;
        let digest_ok = self.left_out.is_empty();
        let receipt = PartReceipt {
            source: self.source.clone(),
            entries,
            rows,
            files: 0,
            removed: 0,
            kept: 0,
            bytes,
            digest_ok,
            transaction: None,
        };
        Ok(Opened { receipt, checks })
    }

    /// What whoever is to look needs, and how it goes in the end.
    fn note(&self) -> Option<String> {
        match &self.copy {
            Copy::Export(_) => None,
            Copy::Beside(beside) => {
                let schema = beside.quoted_name();
                Some(format!(
                    "schema {schema} is read-only; let a role look: GRANT USAGE ON SCHEMA {schema} TO role; GRANT SELECT \
                     ON ALL TABLES IN SCHEMA {schema} TO role; and drop it in the end: DROP SCHEMA {schema} CASCADE;"
                ))
            }
            Copy::Database(database) => {
                let name = database.quoted_name();
                Some(format!(
                    "transactions in database {name} only read, unless they say otherwise; let a role look that may read \
                     the tables: GRANT CONNECT ON DATABASE {name} TO role; and drop it in the end: DROP DATABASE {name};"
                ))
            }
        }
    }

    pub(super) fn discard(&mut self) -> Result<(), Error> {
        match &self.copy {
            _ if self.is_there => {}
            Copy::Export(export) => export.discard_staging()?,
            Copy::Beside(beside) => beside.discard_staging()?,
            Copy::Database(database) => database.discard_staging()?,
        }
        Ok(())
    }
}

fn about(facts: &Facts, part: &PartFacts) -> About {
    About {
        site: facts.site.id().to_string(),
        source: part.source.to_string(),
        at: facts.record.cut_till.to_string(),
        snapshot: facts.record.id.to_string(),
    }
}

/// In a schema beside shared tables or other schemas, in a database beside other databases.
fn beside(
    engine: &Engine,
    facts: &Facts,
    part: &PartFacts,
    (name, wanted): (&SiteId, &WantedRows),
) -> Result<Copy, Error> {
    let Some(AnySource::Postgres(source)) = engine.fleet.source(&part.source) else {
        return Err(Error::Bug("rows without their source".into()));
    };
    let about = about(facts, part);
    Ok(match source.config().tenancy {
        Tenancy::Database => Copy::Database(Box::new(DatabaseBeside::new(source, name, about, wanted)?)),
        _ => Copy::Beside(Box::new(RowsBeside::new(source.server(), name.as_str(), about)?)),
    })
}

/// A part that is to be exported. Nothing but the repository is asked: the database may be down, gone,
/// or in no configuration any more.
pub(super) fn exported_part(
    facts: &Facts,
    number: usize,
    entries: Vec<Entry>,
    request: &RestoreRequest,
    directory: &Path,
) -> Result<PartFacts, Error> {
    let part = &facts.manifest.head().parts[number];
    let (wanted, narrow) = select_rows(None, request, entries)?;
    let place = Place::at(&directory.join(part.record.source.as_str()))?;
    let exists = std::fs::symlink_metadata(place.path()).is_ok();
    Ok(PartFacts {
        source: part.record.source.clone(),
        kind: part.record.kind,
        status: part.record.status.clone(),
        wanted: wanted.into(),
        scope: Scope::Whole,
        identity_then: part.identity.clone(),
        identity_now: lifeboat_source::identity::identity_of(&place.path())?,
        place: Some(place),
        excluded: Vec::new(),
        live: LivePart::Copy { exists },
        left_by_restore: None,
        left_unknown: None,
        database_changed: false,
        narrow,
        narrowed: Vec::new(),
        keeps_later: false,
        kept_files: Vec::new(),
        left_rows: None,
        row_conflicts: Vec::new(),
        compared: None,
    })
}

/// What is where a copy beside is to be is asked for when it is compared; `None`: no copy is wanted.
pub(super) fn look(target: &RestoreTarget) -> Option<LivePart> {
    matches!(target, RestoreTarget::Beside(_)).then_some(LivePart::Copy { exists: true })
}

/// Compares what is there with the wanted copy.
pub(super) fn compare(
    engine: &Engine,
    facts: &Facts,
    part: &PartFacts,
    target: &RestoreTarget,
) -> Result<Compared, Error> {
    let (wanted, _) = wanted_rows(facts, part)?;
    let found = match target {
        RestoreTarget::Beside(name) => match beside(engine, facts, part, (name, &wanted))? {
            Copy::Beside(beside) => beside.look(&wanted.tables)?,
            Copy::Database(database) => database.look(&wanted.tables)?,
            Copy::Export(_) => return Err(Error::Bug("a copy beside expected".into())),
        },
        _ if matches!(part.live, LivePart::Copy { exists: false }) => Found::Nothing,
        _ => {
            let (directory, about) = (part.file_place()?.path(), about(facts, part));
            let is_there = RowsExport::is_there(&directory, &about, &wanted.tables, &wanted.objects);
            if is_there { Found::Same } else { Found::SomethingElse }
        }
    };
    Ok(Compared::Copy(found))
}

/// Every row is written, or all are there.
pub(super) fn plan_copy(part: &PartFacts, plan: &mut PartPlan) {
    let is_export = part.place.is_some();
    for entry in part.wanted.iter() {
        let rows = match entry.kind {
            EntryKind::Table { rows, .. } => rows,
            _ if is_export && large_object_of_path(entry.path.as_bytes()).is_some() => 1,
            _ => continue,
        };
        if matches!(part.compared, Some(Compared::Copy(Found::Same))) {
            plan.keep += rows;
        } else {
            plan.add += rows;
            plan.write_bytes += entry.metadata.size;
            plan.changes.push((Change::Add, entry.path.to_string()));
        }
    }
    plan.notes.push("counts are rows".into());
}
