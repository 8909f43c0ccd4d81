//! One site's rows in a shared database at work: staged, compared, switched in one transaction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{Check, Entry, EntryKind, Extent, PartReceipt, Position, RestoreId, SiteId, SourceName};
use lifeboat_repo::{FetchControl, FetchLimits, Wanted};
use lifeboat_source::postgres::describe::{
    DESCRIPTION_PATH, POST_DATA_PATH, PRE_DATA_PATH, PartDescription, TableDefinition, WantedLargeObject,
    large_object_of_path, table_of_path,
};
use lifeboat_source::postgres::target::{
    ConflictKind, LiveLargeObject, LiveRows, LiveTable, Narrow, OBJECTS, RowsTarget, SwitchedRows, VerifiedRows,
    WantedRows, WantedTable,
};
use lifeboat_source::postgres::{PostgresSource, Structure};

use super::RestorePlan;
use super::facts::{Facts, LivePart, PartFacts};
use super::part::{Destination, Opened};
use crate::fleet::AnySource;
use crate::{Engine, Error};

pub(super) struct RowsWork {
    site: SiteId,
    source: SourceName,
    target: RowsTarget,
    /// What is to be there, and the entries that the tables' rows come from; `None`: all is there already.
    wanted: Option<WantedRows>,
    entries: Vec<Entry>,
    narrow: Option<Narrow>,
    keeps_later: bool,
    /// As they were when nobody but this restore was allowed to write them.
    live: LiveRows,
    remaining: AtomicU64,
    state: State,
    damaged: Option<String>,
    /// Staging was begun, by this run or by a killed one of the same restore.
    may_have_staged: bool,
}

/// How far the rows have come.
enum State {
    Waiting,
    Staging,
    Verified(VerifiedRows),
    Switched(SwitchedRows),
}

impl RowsWork {
    pub(super) fn new(source: &AnySource, facts: &Facts, part: &PartFacts, restore: RestoreId) -> Result<Self, Error> {
        let (AnySource::Postgres(postgres), LivePart::Rows(live)) = (source, &part.live) else {
            return Err(Error::Bug("rows expected".into()));
        };
        let target = target_of(postgres, facts, part, restore)?;
        // All tables of the part go through the transaction as soon as one differs: rows refer to rows.
        let (wanted, entries) = match (is_same(part, live), is_present(part)) {
            (true, _) => (None, Vec::new()),
            (false, true) => {
                let (wanted, entries) = wanted_rows(facts, part)?;
                (Some(wanted), entries)
            }
            (false, false) => (Some(target.no_rows()), Vec::new()),
        };
        Ok(Self {
            site: facts.site.id().clone(),
            source: part.source.clone(),
            target,
            wanted,
            entries,
            narrow: part.narrow.clone(),
            keeps_later: part.keeps_later,
            live: live.clone(),
            remaining: AtomicU64::new(0),
            state: State::Waiting,
            damaged: None,
            may_have_staged: false,
        })
    }

    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    /// The rows that are there, if they are going to be changed. (Where later ones are kept, that is known when
    /// this is asked.)
    pub(super) fn replaced(&self) -> Option<&LiveRows> {
        let writes = |verified: &VerifiedRows| verified.tables().iter().any(|table| table.writes() > 0);
        let is_idle = self.keeps_later && matches!(&self.state, State::Verified(verified) if !writes(verified));
        (self.wanted.is_some() && !is_idle).then_some(&self.live)
    }

    /// For the undo: what this restore leaves, where that is not what the point says. Tables of which only some
    /// rows are written; where later rows are kept, what the comparison has found.
    pub(super) fn undo_position(&self) -> Position {
        if let (true, State::Verified(verified)) = (self.keeps_later, &self.state) {
            // Where the site had nothing, all of the point is there then.
            let is_point = self.live.is_absent() && verified.left().is_empty();
            return if is_point { Position(String::new()) } else { super::later::left_position(verified.left()) };
        }
        let Some(narrow) = &self.narrow else { return Position(String::new()) };
        let is_whole = |table: &&WantedTable| narrow.keys.is_none() && table.name == narrow.table;
        let tables = self.wanted.iter().flat_map(|wanted| &wanted.tables).filter(|table| !is_whole(table));
        super::keep::narrowed_position(tables.map(|table| table.name.to_string()))
    }

    pub(super) fn begin(&mut self) -> Result<(), Error> {
        let Some(wanted) = &self.wanted else { return Ok(()) };
        self.may_have_staged = true;
        self.target.begin(wanted.clone(), self.live.clone())?;
        self.remaining = AtomicU64::new(self.entries.iter().map(|entry| entry.chunks().count() as u64).sum());
        self.state = State::Staging;
        Ok(())
    }

    pub(super) fn wanted(&self) -> Vec<(Wanted, Destination)> {
        chunks_of(&self.entries)
    }

    pub(super) fn deliver(&self, destination: Destination, bytes: &[u8]) -> Result<(), Error> {
        self.target.write_at(destination.slot as usize, destination.offset, bytes)?;
        self.remaining.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn entry_of(&self, slot: u64) -> String {
        let entry = usize::try_from(slot).ok().and_then(|slot| self.entries.get(slot));
        format!("{}/{}", self.source, entry.map(|entry| entry.path.to_string()).unwrap_or_default())
    }

    /// Rows refer to rows: with one table damaged the whole part stays as it is.
    pub(super) fn leave_out(&mut self, detail: &str) {
        self.damaged = Some(detail.to_owned());
        self.wanted = None;
        self.entries.clear();
        self.state = State::Waiting;
    }

    /// Loads the staging tables, compares them with the snapshot's digests and with the live rows.
    pub(super) fn verify(&mut self) -> Result<(), Error> {
        if self.wanted.is_none() {
            return Ok(());
        }
        if self.remaining.load(Ordering::Acquire) != 0 {
            let detail = format!("the rows were not staged whole: part=`{}`", self.source);
            return Err(Error::NotVerified { site: self.site.clone(), detail });
        }
        let verified = self.target.verify()?;
        if let Some(conflict) = verified.conflicts().first() {
            let more = verified.conflicts().len() - 1;
            let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            let keys = super::plan::named_keys(&conflict.keys);
            return Err(Error::Conflict {
                detail: format!(
                    "the rows cannot be put back as they were: part=`{}`, {conflict}{keys}{more}",
                    self.source
                ),
                hint: way_out(self.live.is_own, conflict.kind).into(),
            });
        }
        self.state = State::Verified(verified);
        Ok(())
    }

    /// That the comparison asks for no more than the approved plan said.
    pub(super) fn check_limits(&self, approved: &RestorePlan) -> Result<(), Error> {
        let State::Verified(verified) = &self.state else { return Ok(()) };
        let limits = approved.parts.iter().find(|part| part.source == self.source).map(|part| part.limits.as_slice());
        super::limits::check_limits(&self.source, limits.unwrap_or_default(), verified.tables())
    }

    pub(super) fn switch(&mut self) -> Result<(), Error> {
        if self.wanted.is_none() {
            return Ok(());
        }
        let State::Verified(verified) = std::mem::replace(&mut self.state, State::Waiting) else {
            return Err(Error::Bug("a switch without verification".into()));
        };
        self.state = State::Switched(self.target.switch(verified)?);
        Ok(())
    }

    pub(super) fn finish(&mut self) -> Result<Opened, Error> {
        let name = |what: &str| format!("{}: {what}", self.source);
        let mut checks = Vec::new();
        let (mut rows, mut removed, mut kept, mut transaction) = (0, 0, 0, None);
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Switched(switched) => {
                transaction = switched.transaction;
                kept = switched.tables.iter().map(|table| table.kept).sum();
                for table in switched.tables.iter().filter(|table| table.table.as_str() != OBJECTS) {
                    rows += table.insert + table.update + table.replace;
                    removed += table.delete;
                }
                let named = |check: Check| Check { name: name(&check.name), ..check };
                checks.extend(switched.checks.into_iter().map(named));
                let notes = switched.notes.into_iter();
                checks.extend(notes.map(|detail| Check { name: name("note"), passed: true, detail }));
            }
            _ => {
                let detail = "the rows are those of the point".to_owned();
                checks.push(Check { name: name("unchanged"), passed: self.damaged.is_none(), detail });
            }
        }
        if let Some(detail) = &self.damaged {
            checks.push(Check { name: name("damaged rows left out"), passed: false, detail: detail.clone() });
        }
        self.discard()?;
        let digest_ok = checks.iter().all(|check| check.passed);
        let bytes = self.entries.iter().map(|entry| entry.metadata.size).sum();
        let wanted = self.wanted.as_ref().map_or(0, |wanted| wanted.tables.len());
        let entries = self.live.tables.len().max(wanted) as u64;
        let source = self.source.clone();
        let receipt = PartReceipt { source, entries, rows, files: 0, removed, kept, bytes, digest_ok, transaction };
        Ok(Opened { receipt, checks })
    }

    /// A killed run of the same restore may have staged, and even switched: then nothing is wanted
    /// any more, and what it staged is still there.
    pub(super) fn expect_leftovers(&mut self) {
        self.may_have_staged = true;
    }

    pub(super) fn discard(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.may_have_staged) {
            self.target.discard_staging()?;
        }
        Ok(())
    }
}

fn target_of(
    source: &PostgresSource,
    facts: &Facts,
    part: &PartFacts,
    restore: RestoreId,
) -> Result<RowsTarget, Error> {
    let mut target = source.target(facts.site.id(), restore)?;
    if part.keeps_later {
        target = target.keep_later();
    }
    Ok(match &part.narrow {
        Some(narrow) => target.only(narrow.clone())?,
        None => target,
    })
}

/// Stages the rows where nobody else sees them, and compares: the exact counts, and what is in the way.
/// `None`: they need no comparing, or cannot be had.
pub(super) fn compare(engine: &Engine, facts: &Facts, part: &PartFacts) -> Result<Option<VerifiedRows>, Error> {
    let (Some(AnySource::Postgres(source)), LivePart::Rows(live)) = (engine.fleet.source(&part.source), &part.live)
    else {
        return Err(Error::Bug("rows expected".into()));
    };
    let mut target = target_of(source, facts, part, RestoreId([0; 8]))?;
    if is_same(part, live) {
        target.refuse_nowhere()?;
        return Ok(None);
    }
    let (wanted, entries) = match is_present(part) {
        true => wanted_rows(facts, part)?,
        false => (target.no_rows(), Vec::new()),
    };
    // A schema or database of its own that is yet to be made, or goes as a whole: the counts are exact.
    if wanted.tables.is_empty() || (wanted.structure.is_some() && live.is_absent()) {
        return Ok(None);
    }
    if !target.can_preview() {
        return Ok(None);
    }
    target.begin_preview(wanted)?;
    let (mut chunks, mut places) = (Vec::new(), Vec::new());
    for (want, destination) in chunks_of(&entries) {
        chunks.push(Wanted { tag: places.len() as u64, ..want });
        places.push(destination);
    }
    let fetched = facts.manifest.fetch(&facts.site, chunks, engine.fetch_control(), |tag, delivery| {
        let bytes = delivery.map_err(|_| Stopped::Damaged)?;
        let Destination { slot, offset } = places[tag as usize];
        target.write_at(slot as usize, offset, bytes).map_err(|error| Stopped::Failed(error.into()))
    });
    match fetched? {
        Ok(_) => Ok(Some(target.verify()?)),
        Err(Stopped::Damaged) => Ok(None), // who needs the content will say what is damaged
        Err(Stopped::Failed(error)) => Err(error),
    }
}

/// Why chunks were not taken to their end.
enum Stopped {
    Damaged,
    Failed(Error),
}

/// The chunks of some entries, and where each goes.
fn chunks_of(entries: &[Entry]) -> Vec<(Wanted, Destination)> {
    let mut wanted = Vec::new();
    for (slot, entry) in entries.iter().enumerate() {
        let mut offset = 0;
        for extent in &entry.extents {
            if let Extent::Chunk(chunk) = extent {
                wanted.push((Wanted { chunk: *chunk, tag: 0 }, Destination { slot: slot as u64, offset }));
            }
            offset += extent.len();
        }
    }
    wanted
}

/// The part as the snapshot has it, with the entries that its rows come from.
pub(super) fn wanted_rows(facts: &Facts, part: &PartFacts) -> Result<(WantedRows, Vec<Entry>), Error> {
    let (mut wanted, mut entries) = (WantedRows { is_present: true, ..WantedRows::default() }, Vec::new());
    for entry in part.wanted.iter() {
        let EntryKind::Table { rows, digest, definition } = &entry.kind else { continue };
        let (name, size) = (table_of_path(&entry.path.to_string()), entry.metadata.size);
        let definition = TableDefinition::from_json(definition)?;
        wanted.tables.push(WantedTable { name, rows: *rows, digest: *digest, size, definition });
        entries.push(entry.clone());
    }
    // Behind the tables, in the order of their places.
    for entry in part.wanted.iter() {
        if let Some(object) = WantedLargeObject::of(entry)? {
            wanted.objects.push(object);
            entries.push(entry.clone());
        }
    }
    let mut structure = Structure::default();
    if let Some(description) = description_of(facts, part)? {
        wanted.sequences = description.sequences;
        structure.database = description.database_properties;
        structure.unfilled_views = description.unfilled_views;
        structure.publications = description.publications;
    }
    if part.narrow.is_some() {
        let tables = &wanted.tables;
        let is_wanted = |table: &String| tables.iter().any(|known| known.name.as_str() == table);
        wanted.sequences.retain(|state| state.owner.as_ref().is_none_or(|(table, _)| is_wanted(table)));
    }
    let text = |path: &[u8]| -> Result<Option<String>, Error> {
        let bytes = small_file(facts, part, path)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    if let (Some(pre_data), Some(post_data)) = (text(PRE_DATA_PATH)?, text(POST_DATA_PATH)?) {
        wanted.structure = Some(Structure { pre_data, post_data, ..structure });
    }
    Ok((wanted, entries))
}

/// The table that an entry is of, as SQL prints its name.
pub(super) fn table_name(entry: &Entry) -> String {
    table_of_path(&entry.path.to_string()).to_string()
}

/// Whether the site had the part at the point.
pub(super) fn is_present(part: &PartFacts) -> bool {
    part.wanted.iter().any(|entry| entry.kind != EntryKind::Absent)
}

/// Whether the live rows are those of the point.
pub(super) fn is_same(part: &PartFacts, live: &LiveRows) -> bool {
    if !is_present(part) || live.is_absent() {
        return live.is_absent() && !is_present(part);
    }
    let is_asked = |entry: &Entry| {
        if large_object_of_path(entry.path.as_bytes()).is_some() {
            return true; // which of them the chosen rows refer to shows when they are staged
        }
        let table = || table_of_path(&entry.path.to_string());
        part.narrow.as_ref().is_none_or(|narrow| narrow.table == table())
    };
    part.wanted.iter().filter(|entry| is_asked(entry)).all(|entry| match &entry.kind {
        EntryKind::Table { digest, .. } => live_table(live, entry).is_some_and(|live| live.digests.are(digest)),
        _ => has_object(live, entry).unwrap_or(true),
    })
}

/// Whether the site has this very large object; `None`: the entry is of none.
pub(super) fn has_object(live: &LiveRows, entry: &Entry) -> Option<bool> {
    large_object_of_path(entry.path.as_bytes())?;
    // One whose description cannot be read is equal to nothing: who needs it says what is damaged.
    let Ok(Some(wanted)) = WantedLargeObject::of(entry) else { return Some(false) };
    Some(live_object(live, entry).is_some_and(|live| live.digest == wanted.digest))
}

/// The live large object that an entry is of.
pub(super) fn live_object<'l>(live: &'l LiveRows, entry: &Entry) -> Option<&'l LiveLargeObject> {
    let oid = large_object_of_path(entry.path.as_bytes())?;
    let found = live.objects.binary_search_by_key(&oid, |object| object.oid).ok()?;
    live.objects.get(found)
}

/// The live rows of the table that an entry is of.
pub(super) fn live_table<'l>(live: &'l LiveRows, entry: &Entry) -> Option<&'l LiveTable> {
    let name = table_of_path(&entry.path.to_string());
    live.tables.iter().find(|table| table.name == name)
}

/// Whether what was kept for the undo are the rows that were looked at.
pub(super) fn holds<'e>(kept: impl Iterator<Item = &'e Entry>, live: &LiveRows) -> bool {
    let (mut tables, mut objects) = (0, 0);
    for entry in kept {
        if let Some(is_same) = has_object(live, entry) {
            if !is_same {
                return false;
            }
            objects += 1;
        }
        let EntryKind::Table { digest, .. } = &entry.kind else { continue };
        if live_table(live, entry).is_none_or(|live| !live.digests.are(digest)) {
            return false;
        }
        tables += 1;
    }
    objects == live.objects.len() && (tables == live.tables.len() || (tables == 0 && live.is_absent()))
}

/// The part's own description, if it has one.
pub(super) fn description_of(facts: &Facts, part: &PartFacts) -> Result<Option<PartDescription>, Error> {
    let json = small_file(facts, part, DESCRIPTION_PATH)?;
    Ok(json.map(|json| PartDescription::from_json(&json)).transpose()?)
}

/// The content of an entry that describes the part; `None`: the snapshot has no such entry.
fn small_file(facts: &Facts, part: &PartFacts, path: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let Some(entry) = part.wanted.iter().find(|entry| entry.path.as_bytes() == path) else {
        return Ok(None);
    };
    let wanted: Vec<Wanted> =
        entry.chunks().enumerate().map(|(at, chunk)| Wanted { chunk: *chunk, tag: at as u64 }).collect();
    let chunks: Mutex<BTreeMap<u64, Vec<u8>>> = Mutex::default();
    let stop = AtomicBool::new(false);
    let control = FetchControl { limits: FetchLimits::default(), cancel: &stop };
    let fetched = facts.manifest.fetch(&facts.site, wanted, control, |tag, delivery| {
        let bytes = delivery.map_err(|damage| Error::Damaged {
            site: facts.site.id().clone(),
            detail: format!(
                "entry=`{}/{}`, object=`{}`, offset=`{}`: {}",
                part.source, entry.path, damage.object, damage.offset, damage.detail
            ),
        })?;
        chunks.lock().unwrap_or_else(PoisonError::into_inner).insert(tag, bytes.to_vec());
        Ok::<(), Error>(())
    });
    fetched??;
    let bytes = chunks.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().flatten().collect();
    Ok(Some(bytes))
}

/// What a person can do about rows that the database refuses; approving the plan is none of it. `is_own`: the site has
/// its tables to itself.
pub(super) fn way_out(is_own: bool, kind: ConflictKind) -> &'static str {
    match (is_own, kind) {
        (true, ConflictKind::TableGone | ConflictKind::ColumnDropped) => {
            "nothing was changed; look at what is left (restore --beside, --export), then drop the site's schema \
             or database and run the same command again: it is made whole, with its structure"
        }
        (false, ConflictKind::KeyElsewhere) => {
            "nothing was changed; are they the site's own rows, whose parents are gone? Then bring the parents back \
             first, table by table (--only PART/TABLE), and run the same command again; else free those keys"
        }
        (_, ConflictKind::UniqueTaken) => {
            "nothing was changed; change or remove the live row that holds the value and run the same command again, or \
             bring other rows back without this one (--only PART/TABLE[KEY]), or restore beside (--beside) and choose by hand"
        }
        _ => "nothing was changed; mend what is in the way in the live database, then run the same command again",
    }
}
