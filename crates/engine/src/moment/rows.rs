//! One part's rows at a moment: a base's, and on them the site's changes up to the cut.
//!
//! Changes are read once and in order. A table's base is read when the first change of it comes, which also
//! says what its rows are known by; tables without a change stay as the base has them, unread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{
    ChangePlace, ChangedTable, Entry, EntryKind, EntryMetadata, EntryPath, FileTime, PartStatus, RowsDigest,
    SiteChange, SourceName, TransactionHead,
};
use lifeboat_repo::{LocalPackWriter, Manifest, Site, Wanted};
use lifeboat_source::postgres::capture::TableColumns;
use lifeboat_source::postgres::describe::{POST_DATA_PATH, PRE_DATA_PATH, TableDefinition, entry_path, table_of_path};
use lifeboat_source::postgres::replay::{Replay, ReplayedTable};
use lifeboat_source::postgres::{PostgresSource, TableName};

use super::locate::{Base, PartCut};
use super::scan::TableEvent;
use super::structure::amendments;
use super::unneeded::unneeded_till;
use super::without::Skipped;
use super::{Replayed, ReplayedPart};
use crate::fleet::AnySource;
use crate::{Engine, Error};

/// Bytes of rows and changes in memory, all tables together; beyond it they go to disk.
const MEMORY_BYTES: usize = 64 << 20;
const TABLE_BYTES_MIN: usize = 1 << 20;
/// Tables of a notice that are named.
const NAMED_MAX: usize = 5;

/// Puts one part of a snapshot's manifest to the moment.
pub(super) async fn replace_part(
    engine: &Engine,
    site: &Site,
    (source, cut): (&SourceName, &PartCut),
    manifest: &mut Manifest,
    replayed: &mut Replayed,
) -> Result<(), Error> {
    refuse_moved(site, source, cut)?;
    let Done { entries, pack, changes, skipped, partly } = replay(engine, site, cut).await?;
    let Some((number, _)) = manifest.part(source) else {
        return Err(Error::NoSuchThing {
            detail: format!("the snapshot before the moment has no such part: part=`{source}`"),
            hint: format!("restore that part by itself: --only {source}"),
        });
    };
    manifest.adopt(&cut.base.manifest);
    manifest.adopt_local(pack);
    let is_empty = !entries.iter().any(|entry| matches!(entry.kind, EntryKind::Table { .. }));
    let was = &cut.base.manifest.head().parts[cut.base.part].record.status;
    // With the last table of its own a site's schema went, or all that it was for.
    let is_dropped =
        is_empty && own_tables(engine, source).is_some() && *was != PartStatus::Absent && cut.scan.has_dropped();
    let entries = if is_dropped { Vec::new() } else { entries };
    let status = match was {
        _ if is_dropped => PartStatus::Absent,
        PartStatus::Absent if is_empty => PartStatus::Absent,
        PartStatus::Absent => PartStatus::Complete,
        other => other.clone(),
    };
    manifest.replace_part(number, status, entries);
    let partly: Vec<String> = partly.into_iter().collect();
    let altered = own_alone(engine, site, cut);
    notes(source, cut, (&partly, &altered), replayed);
    replayed.conflicts.extend(skipped.conflicts().into_iter().map(|conflict| (source.clone(), conflict)));
    replayed.parts.push(ReplayedPart {
        source: source.clone(),
        base: Some(cut.base.snapshot),
        epoch: cut.epoch.id,
        till: cut.scan.cut.till,
        changes,
    });
    Ok(())
}

/// The part's entries at the cut, whose changed rows lie in a file on this host.
pub(super) async fn replay(engine: &Engine, site: &Site, cut: &PartCut) -> Result<Done, Error> {
    let base_entries = cut.base.manifest.entries(site, cut.base.part).await?;
    let mut work = Work::new(engine, site, cut, &base_entries)?;
    let mut blocks = cut.scan.blocks.clone();
    loop {
        match cut.log.log.read_blocks(blocks.clone(), |head, change| work.take(head, change)).await {
            // Those before it were taken.
            Err(lifeboat_repo::Error::Erased { site, object }) => match unneeded_till(cut, &blocks, &object).await? {
                Some(till) => drop(blocks.drain(..till)),
                None => return Err(lifeboat_repo::Error::Erased { site, object }.into()),
            },
            other => {
                other??;
                break;
            }
        };
    }
    tokio::task::block_in_place(|| work.finish())
}

/// The source, if each site has its tables to itself there.
fn own_tables<'e>(engine: &'e Engine, source: &SourceName) -> Option<&'e PostgresSource> {
    match engine.fleet.source(source) {
        Some(AnySource::Postgres(source)) if source.has_own_tables() => Some(source),
        _ => None,
    }
}

/// Tables that were altered; where each site has its own, of this site alone.
fn own_alone(engine: &Engine, site: &Site, cut: &PartCut) -> Vec<String> {
    let Some(source) = own_tables(engine, cut.log.source()) else { return cut.scan.altered.clone() };
    let is_own = |table: &&String| source.is_own_table(&TableName::quoted(*table), site.id());
    cut.scan.altered.iter().filter(is_own).cloned().collect()
}

fn notes(source: &SourceName, cut: &PartCut, (partly, altered): (&[String], &[String]), replayed: &mut Replayed) {
    let mut note = |text: String| replayed.notes.push((source.clone(), text));
    let some = |tables: &[String]| {
        let more = tables.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", tables.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", "))
    };
    if !altered.is_empty() {
        note(format!("structure was changed between the snapshot and the moment: {}", some(altered)));
    }
    if let Some(told) = cut.scan.objects.told() {
        note(format!(
            "a schema that is gone is made again as the snapshot has it, with today's tables, columns and enumerations and \
             without what else was made, altered or dropped between the snapshot and the moment: {told}"
        ));
    }
    if !partly.is_empty() {
        let taken = cut.base.manifest.head().parts[cut.base.part].record.cut_till;
        note(format!("as the snapshot of {taken} has it, for its changes are not all in the log: {}", some(partly)));
    }
    if cut.scan.unrouted > 0 {
        note(format!(
            "the change log has {} changes of this stretch whose site nobody could tell: they are in no site's rows",
            cut.scan.unrouted
        ));
    }
}

/// Rows that came or went by a change of another row are in no change of the site's own.
fn refuse_moved(site: &Site, source: &SourceName, cut: &PartCut) -> Result<(), Error> {
    let Some(at) = cut.scan.moved else { return Ok(()) };
    Err(Error::NoPoint {
        site: site.id().clone(),
        asked: format!("lsn:{}", cut.scan.cut.till),
        hint: format!(
            "rows of `{source}` came to the site or left it at {at} without a change of their own (with a row they belong to, \
             a table was made or written anew, or the change was too large for the log): choose a time before it, or one \
             after the next snapshot (`lifeboat points {}`)",
            site.id()
        ),
    })
}

/// What is under way.
struct Work<'w> {
    engine: &'w Engine,
    site: &'w Site,
    base: &'w Base,
    cut: &'w PartCut,
    /// By table name.
    base_tables: BTreeMap<TableName, &'w Entry>,
    tables: BTreeMap<TableName, Table>,
    /// That no change has come to yet, oldest first.
    events: VecDeque<(ChangePlace, TableEvent)>,
    entries: &'w [Entry],
    memory_bytes: usize,
    changes: u64,
    skipped: Skipped,
    /// Tables whose changes are not all in the log: they stay as the base has them.
    partly: BTreeSet<String>,
}

enum Table {
    /// No change of its rows came yet.
    Waiting(Waiting),
    Replaying(Box<Replay>),
}

#[derive(Default)]
struct Waiting {
    is_emptied: bool,
    /// Its columns after each change of its structure.
    columns: Vec<TableColumns>,
}

pub(super) struct Done {
    pub entries: Vec<Entry>,
    pack: lifeboat_repo::LocalPack,
    pub changes: u64,
    skipped: Skipped,
    /// Tables that are as the base has them, whatever became of them.
    partly: BTreeSet<String>,
}

impl<'w> Work<'w> {
    fn new(engine: &'w Engine, site: &'w Site, cut: &'w PartCut, entries: &'w [Entry]) -> Result<Self, Error> {
        let is_table = |entry: &&Entry| matches!(entry.kind, EntryKind::Table { .. });
        let tables = entries.iter().filter(is_table).map(|entry| (table_of_path(&entry.path.to_string()), entry));
        let base_tables: BTreeMap<TableName, &Entry> = tables.collect();
        let memory_bytes = (MEMORY_BYTES / base_tables.len().max(1)).max(TABLE_BYTES_MIN);
        Ok(Self {
            engine,
            site,
            base: &cut.base,
            cut,
            base_tables,
            tables: BTreeMap::new(),
            events: cut.scan.events.clone().into(),
            entries,
            memory_bytes,
            changes: 0,
            skipped: Skipped::default(),
            partly: cut.partly(),
        })
    }

    /// Takes the site's next change.
    fn take(&mut self, head: &TransactionHead, change: SiteChange) -> Result<(), Error> {
        let is_unseen = self.cut.seen_by.as_ref().is_some_and(|place| !place.sees(head.id));
        if is_unseen || !self.base.place.belongs(head, &self.cut.scan.cut) {
            return Ok(());
        }
        let SiteChange { sequence, table, change } = change;
        self.events_before(Some(ChangePlace { commit: head.commit, sequence }))?;
        if self.cut.without == Some(head.id) {
            self.skipped.skip(&table, &change);
            return Ok(());
        }
        if self.cut.without.is_some() && !self.skipped.allows(&table, &change) {
            return Ok(());
        }
        if self.partly.contains(&table.name) {
            return Ok(());
        }
        self.changes += 1;
        let name = TableName::quoted(&table.name);
        if !matches!(self.tables.get(&name), Some(Table::Replaying(_))) {
            let waiting = match self.tables.remove(&name) {
                Some(Table::Waiting(waiting)) => waiting,
                _ => Waiting::default(),
            };
            let replay = self.begin(&name, Some(&table), &waiting)?;
            self.tables.insert(name.clone(), Table::Replaying(Box::new(replay)));
        }
        match self.tables.get_mut(&name) {
            Some(Table::Replaying(replay)) => Ok(replay.change(&table, &change)?),
            _ => Err(Error::Bug("a table that was begun is not there".into())),
        }
    }

    /// What befell tables before a place; `None`: all of it.
    fn events_before(&mut self, place: Option<ChangePlace>) -> Result<(), Error> {
        while let Some((at, _)) = self.events.front() {
            if place.is_some_and(|place| *at > place) {
                break;
            }
            match self.events.pop_front() {
                Some((_, TableEvent::Emptied { tables })) => {
                    tables.iter().try_for_each(|table| self.empty(&TableName::quoted(table)))?;
                }
                Some((_, TableEvent::Altered(columns))) => self.alter(columns)?,
                Some((_, TableEvent::Dropped { table })) => {
                    let name = TableName::quoted(table);
                    self.base_tables.remove(&name);
                    self.tables.remove(&name);
                }
                None => break,
            }
        }
        Ok(())
    }

    fn empty(&mut self, name: &TableName) -> Result<(), Error> {
        match self.tables.get_mut(name) {
            Some(Table::Replaying(replay)) => replay.truncate()?,
            Some(Table::Waiting(waiting)) => waiting.is_emptied = true,
            None => {
                let waiting = Waiting { is_emptied: true, columns: Vec::new() };
                self.tables.insert(name.clone(), Table::Waiting(waiting));
            }
        }
        Ok(())
    }

    fn alter(&mut self, columns: TableColumns) -> Result<(), Error> {
        if self.partly.contains(&columns.table) {
            return Ok(());
        }
        let name = TableName::quoted(&columns.table);
        match self.tables.entry(name).or_insert_with(|| Table::Waiting(Waiting::default())) {
            Table::Replaying(replay) => Ok(replay.restructure(&columns.columns)?),
            Table::Waiting(waiting) => {
                waiting.columns.push(columns);
                Ok(())
            }
        }
    }

    /// A table as it is at its first change, or, without one, at the moment.
    fn begin(&self, name: &TableName, changed: Option<&ChangedTable>, waiting: &Waiting) -> Result<Replay, Error> {
        let keyed = |definition: &TableDefinition| match changed {
            Some(changed) if waiting.columns.is_empty() => Replay::keyed_as(definition, changed),
            _ => Replay::new(definition),
        };
        let Some(entry) = self.base_tables.get(name) else {
            let changed = changed.ok_or_else(|| Error::Bug("a table that nothing is known of".into()))?;
            let mut definition = TableDefinition::of_changes(changed);
            let columns = waiting.columns.last().map(|noted| noted.columns.as_slice()).unwrap_or_default();
            for column in &mut definition.columns {
                column.number = columns.iter().find(|noted| noted.name == column.name).map(|noted| noted.number);
            }
            return Ok(Replay::keyed_as(&definition, changed).with_memory(self.memory_bytes));
        };
        let mut replay = keyed(&definition_of(entry)?).with_memory(self.memory_bytes);
        if !waiting.is_emptied {
            self.read_base(entry, &mut replay)?;
        }
        waiting.columns.iter().try_for_each(|noted| replay.restructure(&noted.columns))?;
        Ok(replay)
    }

    /// Whether all of a table is the site's, by the schema that it is in.
    fn is_own(&self, table: &TableName) -> bool {
        let Some(AnySource::Postgres(source)) = self.engine.fleet.source(self.cut.log.source()) else { return false };
        source.is_own_table(table, self.site.id())
    }

    /// Where a site's own structure is not the base's any more: what makes it again goes before the rows whole, and what
    /// became of it since behind it.
    fn amend_structure(&self, entries: &mut [Entry], pack: &mut LocalPackWriter) -> Result<(), Error> {
        let place = |path: &[u8]| entries.iter().position(|entry| entry.path.as_bytes() == path);
        let (Some(pre), Some(post)) = (place(PRE_DATA_PATH), place(POST_DATA_PATH)) else { return Ok(()) };
        let definitions = |entries: &[Entry]| -> Result<BTreeMap<String, TableDefinition>, Error> {
            let tables = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::Table { .. }));
            let named =
                |entry: &Entry| Ok((table_of_path(&entry.path.to_string()).as_str().to_owned(), definition_of(entry)?));
            tables.map(named).collect()
        };
        let text = |at: usize| -> Result<String, Error> {
            let mut text = Vec::new();
            self.read(&entries[at], &mut |bytes| {
                text.extend_from_slice(bytes);
                Ok(())
            })?;
            String::from_utf8(text).map_err(|_| Error::Bug("a base's structure is no text".into()))
        };
        let amended = amendments(&definitions(self.entries)?, &definitions(entries)?);
        let before = text(pre)?;
        let with_values = self.cut.scan.objects.with_values(&before);
        let (pre_data, post_data) = match (amended, with_values) {
            (None, None) => return Ok(()),
            (None, Some(made)) => (made, text(post)?),
            (Some(amended), made) => (format!("{}\n{}\n{amended}", made.unwrap_or(before), text(post)?), String::new()),
        };
        for (at, text) in [(pre, pre_data.as_bytes()), (post, post_data.as_bytes())] {
            pack.push(text)?;
            entries[at].extents = pack.end_entry()?;
            entries[at].metadata.size = text.len() as u64;
        }
        Ok(())
    }

    /// The base's rows, in their order.
    fn read_base(&self, entry: &Entry, replay: &mut Replay) -> Result<(), Error> {
        self.read(entry, &mut |bytes| Ok(replay.base(bytes)?))
    }

    /// An entry of the base.
    fn read(&self, entry: &Entry, take: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        for chunk in entry.chunks() {
            let plain = Mutex::new(Vec::new());
            let wanted = vec![Wanted { chunk: *chunk, tag: 0 }];
            let control = self.engine.fetch_control();
            let fetched = self.base.manifest.fetch(self.site, wanted, control, |_, delivery| {
                let bytes = delivery.map_err(|damage| Error::Damaged {
                    site: self.site.id().clone(),
                    detail: format!(
                        "entry=`{}`, object=`{}`, offset=`{}`: {}",
                        entry.path, damage.object, damage.offset, damage.detail
                    ),
                })?;
                plain.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
                Ok::<(), Error>(())
            });
            fetched??;
            take(&plain.into_inner().unwrap_or_else(PoisonError::into_inner))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Done, Error> {
        self.events_before(None)?;
        let mut pack = LocalPackWriter::new(self.site, lifeboat_source::unnamed_file()?)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut tables = std::mem::take(&mut self.tables);
        for entry in self.entries {
            let EntryKind::Table { .. } = entry.kind else {
                entries.push(entry.clone());
                continue;
            };
            let name = table_of_path(&entry.path.to_string());
            if !self.base_tables.contains_key(&name) {
                continue; // it was dropped: what has its name now is another one
            }
            match tables.remove(&name) {
                None => entries.push(entry.clone()),
                Some(Table::Waiting(waiting)) => {
                    let replay = self.begin(&name, None, &waiting)?;
                    entries.push(write_table(entry.path.clone(), Some(entry), replay, &mut pack)?);
                }
                Some(Table::Replaying(replay)) => {
                    entries.push(write_table(entry.path.clone(), Some(entry), *replay, &mut pack)?);
                }
            }
        }
        for (name, table) in tables {
            let path = EntryPath::new(entry_path(&name)).map_err(|error| Error::Bug(error.to_string()))?;
            match table {
                Table::Replaying(replay) => entries.push(write_table(path, None, *replay, &mut pack)?),
                Table::Waiting(Waiting { columns, .. }) if self.is_own(&name) => {
                    let Some(columns) = columns.last() else { continue };
                    let replay = Replay::new(&TableDefinition::of_notes(columns));
                    entries.push(write_table(path, None, replay, &mut pack)?);
                }
                Table::Waiting(_) => {} // another site's, or nobody's
            }
        }
        self.amend_structure(&mut entries, &mut pack)?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let is_here = |name: &String| self.base_tables.contains_key(&TableName::quoted(name));
        let partly = self.partly.into_iter().filter(is_here).collect();
        Ok(Done { entries, pack: pack.finish()?, changes: self.changes, skipped: self.skipped, partly })
    }
}

fn definition_of(entry: &Entry) -> Result<TableDefinition, Error> {
    match &entry.kind {
        EntryKind::Table { definition, .. } => Ok(TableDefinition::from_json(definition)?),
        _ => Err(Error::Bug("a table expected".into())),
    }
}

/// Puts a table's rows into the pack.
fn write_table(
    path: EntryPath,
    base: Option<&Entry>,
    replay: Replay,
    pack: &mut LocalPackWriter,
) -> Result<Entry, Error> {
    let mut failed = None;
    let finished = replay.finish(&mut |bytes| {
        pack.push(bytes).map_err(|error| {
            failed = Some(error);
            lifeboat_source::Error::Cancelled // never seen: the cause is told instead
        })
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    let extents = pack.end_entry()?;
    Ok(replayed_entry(path, base, finished?, extents))
}

fn replayed_entry(
    path: EntryPath,
    base: Option<&Entry>,
    replayed: ReplayedTable,
    extents: Vec<lifeboat_model::Extent>,
) -> Entry {
    let nothing = EntryMetadata {
        mode: 0,
        uid: 0,
        gid: 0,
        modified: FileTime::default(),
        changed: FileTime::default(),
        inode: 0,
        size: 0,
        xattrs: Vec::new(),
    };
    let metadata = base.map_or(nothing, |base| base.metadata.clone());
    let digest = RowsDigest::AnyOrder(replayed.sum.to_bytes());
    let definition = replayed.definition.to_json();
    Entry {
        path,
        kind: EntryKind::Table { rows: replayed.rows, digest, definition },
        metadata: EntryMetadata { size: replayed.size, ..metadata },
        extents,
    }
}
