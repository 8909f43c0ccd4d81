//! From what the stream says to segments: routed, collected, sealed, and never twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lifeboat_model::{
    ChangeKind, ChangePlace, ChangedTable, ChangedValue, Lsn, RowChange, SegmentNumber, SiteId, Timestamp,
    TransactionHead,
};
use lifeboat_repo::{Appender, ChangeLog, SegmentDraft, Unrouted};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::capture::{
    Captured, JOINED, OtherChange, Partitions, ServerTime, StructureChange, StructureKind, TableColumns,
};
use lifeboat_source::postgres::routing::{Arrived, Routed, Router};

use super::counted::{CountedOn, unseen};
use super::losses::Losses;
use super::{CaptureIndex, CaptureNews, CaptureReport, IndexPlace, after, birth};
use crate::{Engine, Error};

/// Of notes that the capture itself makes: rows went to another site without a change of their own.
pub(crate) const MOVED: &str = "lifeboat.moved";
/// A table's structure was changed.
pub(crate) const STRUCTURE: &str = "lifeboat.structure";
/// Beside that one: the columns that the table has since, by number.
pub(crate) const COLUMNS: &str = "lifeboat.columns";
/// Beside that one: the table, or after a line break its column, is no more.
pub(crate) const DROPPED: &str = "lifeboat.dropped";
/// Of a site's own tables: one was made, and no change of its rows is followed yet. The site, and on a line of its own
/// the table.
pub(crate) const UNFOLLOWED: &str = "lifeboat.unfollowed";
/// From here on they are. A third line says whether it had rows by then.
pub(crate) const FOLLOWED: &str = "lifeboat.followed";
/// Or that it is a partition by now.
pub(crate) const AS_PARTITION: &str = "partition";
/// Something that is no table was made, altered or dropped in a site's own schema: the site, and below it as JSON what it is.
pub(crate) const OBJECT: &str = "lifeboat.object";
/// Beside changes of a table that are not all in the log: the table.
pub(crate) const PARTLY: &str = "lifeboat.partly";
/// How all of them begin.
pub(crate) const OWN_NOTES: &str = lifeboat_model::SharedKinds::OWN_PREFIX;

/// Times that wait until the log has come as far.
const ASKED_MAX: usize = 16;

/// What is collected, and what is known to be in the log and in the index already.
pub(super) struct State {
    pub draft: SegmentDraft,
    /// Sites whose own row was inserted.
    /// When their first row came, by the server.
    born: BTreeMap<SiteId, Timestamp>,
    /// The transaction that is open.
    head: Option<TransactionHead>,
    /// Every transaction whose commit is not after it has been taken.
    taken_till: Lsn,
    /// What of a transaction without an end is in the log already.
    logged_till: Option<ChangePlace>,
    /// A segment was sealed since the index was written.
    is_index_behind: bool,
    /// Every transaction whose commit is not after it is in the index.
    indexed_till: Lsn,
    /// Changes of the epoch that are nobody's.
    unrouted: u64,
    /// Till when nothing is missing, and what was asked since.
    known_till: Timestamp,
    asked: VecDeque<ServerTime>,
    /// A table's structure was changed since anybody looked.
    is_structure_new: bool,
    /// Tables that are shown, and whose rows are no site's.
    pub foreign: BTreeSet<String>,
    pub counted: CountedOn,
    /// Sites whose log is whole, or whose structure is known, only from a new base on.
    pub without_base: BTreeSet<SiteId>,
    pub losses: Losses,
    /// Tables whose changes are not all in the stream, and those that the segment says it of.
    pub partly: BTreeSet<String>,
    partly_told: BTreeSet<String>,
}

impl State {
    /// At the end of a log, with an index that has come to its own place.
    pub async fn at(log: &ChangeLog, appender: &Appender, index: &mut dyn CaptureIndex) -> Result<Self, Error> {
        let place = index.place()?;
        Ok(Self {
            indexed_till: place.map_or(Lsn(0), |place| place.position),
            unrouted: place.map_or(0, |place| place.unrouted),
            known_till: appender.newest().map_or(appender.epoch().facts.begun_at, |newest| newest.sealed_at),
            asked: VecDeque::new(),
            is_structure_new: false,
            counted: CountedOn::load(index)?,
            foreign: BTreeSet::new(),
            without_base: BTreeSet::new(),
            losses: Losses::default(),
            partly: BTreeSet::new(),
            partly_told: BTreeSet::new(),
            draft: SegmentDraft::default(),
            born: BTreeMap::new(),
            head: None,
            // From where the stream begins: what the log has and the index lacks comes once more.
            taken_till: place.map_or(Lsn(0), |place| place.position).min(appender.complete_till()),
            logged_till: logged_till(log, appender).await?,
            is_index_behind: false,
        })
    }
}

/// The last change in the log of a transaction whose end is not.
///
/// Notes say nothing of this: one is collected while changes before it wait for their site.
async fn logged_till(log: &ChangeLog, appender: &Appender) -> Result<Option<ChangePlace>, Error> {
    let mut number = appender.newest().map_or(SegmentNumber(0), |newest| newest.number);
    let first = log.kept(appender.epoch().id).await?.first();
    while number >= first {
        let segments = log.segments(appender.epoch().id, number..=number).await?;
        let Some(segment) = segments.first() else { break };
        let footer = log.footer(segment).await?;
        let (shared, unrouted) = (log.shared(segment, &footer).await?, log.unrouted(segment, &footer).await?);
        let blocks = footer.blocks.iter().map(|block| block.last);
        let truncations = shared.truncations.iter().map(|truncation| truncation.place);
        let places = blocks.chain(truncations).chain(unrouted.changes.iter().map(|change| change.place));
        let last = places.filter(|place| place.commit > appender.complete_till()).max();
        let has_only_notes = footer.span.bounds.is_none() && !shared.is_empty();
        if last.is_some() || !has_only_notes {
            return Ok(last);
        }
        number = SegmentNumber(number.0 - 1);
    }
    Ok(None)
}

pub(super) struct Writer<'w> {
    pub engine: &'w Engine,
    pub source: &'w PostgresSource,
    pub appender: Appender,
    pub router: Router,
    pub index: &'w mut dyn CaptureIndex,
    pub report: CaptureReport,
    pub state: State,
}

/// What is to be done with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    /// The log and the index have it.
    Nothing,
    /// The log has it, the index does not.
    Index,
    Both,
}

impl Writer<'_> {
    /// Whether a transaction is open.
    pub fn is_inside(&self) -> bool {
        self.state.head.is_some()
    }

    /// About how many bytes are collected.
    pub fn len(&self) -> usize {
        self.state.draft.len()
    }

    /// Whether there is anything to be sealed.
    pub fn has_news(&self) -> bool {
        !self.state.draft.is_empty()
    }

    /// Whether the index could be written, and was not when a segment was sealed. In the middle of a transaction it is
    /// ahead of every place, and waits for the end.
    pub fn is_index_behind(&self) -> bool {
        self.state.is_index_behind && !self.is_inside()
    }

    /// Every transaction whose commit is not after it was taken.
    pub fn taken_till(&self) -> Lsn {
        self.state.taken_till
    }

    /// Whether a table's structure was changed since this was asked last.
    pub fn is_structure_new(&mut self) -> bool {
        std::mem::take(&mut self.state.is_structure_new)
    }

    /// Takes the next thing that the stream says.
    pub fn take(&mut self, captured: Captured) -> Result<(), Error> {
        match captured {
            Captured::Begin(head) => self.begin(head),
            Captured::Change { table, sequence, change, identity } => {
                let head = self.head()?;
                let needed = self.needed(&head, sequence);
                let place = ChangePlace { commit: head.commit, sequence };
                if needed == Needed::Nothing || (needed == Needed::Both && self.is_foreign(place, &table.name)?) {
                    return Ok(());
                }
                let arrived = Arrived { table, sequence, change, identity };
                let routed = self.router.route(arrived, self.index)?;
                self.write(&head, routed)?;
            }
            Captured::Truncated { sequence, tables, is_cascade, restarts_sequences } => {
                let head = self.head()?;
                let needed = self.needed(&head, sequence);
                let waiting = self.router.end_transaction(self.index)?; // they are of rows that go
                self.write(&head, waiting)?;
                if needed != Needed::Nothing {
                    tables.iter().try_for_each(|table| self.router.truncate(&table.name, self.index))?;
                    tables.iter().for_each(|table| self.state.counted.truncated(&table.name));
                }
                if needed == Needed::Both {
                    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
                    self.state.draft.truncate((&head, sequence), &names, is_cascade, restarts_sequences)?;
                }
            }
            Captured::Structure { sequence, change } => self.take_structure(sequence, change)?,
            Captured::Note { sequence, at, prefix, content, is_transactional } => {
                let commit = if is_transactional { self.head()?.commit } else { at };
                let is_new = match is_transactional {
                    true => self.needed(&self.head()?, sequence) == Needed::Both,
                    false => commit > self.appender.complete_till(),
                };
                if is_new && is_transactional && prefix == JOINED {
                    self.take_joined(ChangePlace { commit, sequence }, &content);
                }
                // What only the capture itself may say, nobody else says for it.
                if is_new && !prefix.starts_with(OWN_NOTES) {
                    self.state.draft.note(ChangePlace { commit, sequence }, prefix, content);
                }
            }
            Captured::Commit { end } => {
                let head = self.head()?;
                if let Some((root, what)) =
                    self.state.counted.end_transaction().filter(|(root, _)| self.router.knows(root))
                {
                    let place = ChangePlace { commit: head.commit, sequence: u64::from(u32::MAX) };
                    self.break_own(place, &root).ok_or_else(|| self.broken_at_once(unseen(&root, &what)))?;
                }
                let waiting = self.router.end_transaction(self.index)?;
                self.write(&head, waiting)?;
                if head.commit > self.appender.complete_till() {
                    self.state.draft.note_transaction(&head)?;
                    self.report.transactions += 1;
                }
                self.state.head = None;
                self.state.taken_till = self.state.taken_till.max(Lsn(end.0.saturating_sub(1)));
            }
            Captured::Idle { server_at } => {
                if self.state.head.is_none() {
                    self.state.taken_till = self.state.taken_till.max(Lsn(server_at.0.saturating_sub(1)));
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: TransactionHead) {
        self.state.draft.begin(head.id);
        self.state.head = Some(head);
    }

    fn note_structure(&mut self, place: ChangePlace, change: StructureChange) {
        if matches!(change.kind, StructureKind::Other(_)) {
            return; // no table's
        }
        if let StructureKind::Dropped { column, .. } = &change.kind {
            let column = column.as_ref().map(|column| format!("\n{column}")).unwrap_or_default();
            let dropped = format!("{}{column}", change.table);
            self.state.draft.note(place, DROPPED.to_owned(), dropped.into_bytes());
        }
        let StructureChange { table, root, kind, .. } = change;
        if let (StructureKind::Altered { columns, .. }, None) = (kind, root) {
            let columns = TableColumns { table: table.clone(), columns };
            self.state.draft.note(place, COLUMNS.to_owned(), columns.to_json());
        }
        self.state.draft.note(place, STRUCTURE.to_owned(), table.into_bytes());
    }

    /// Seals what is collected.
    pub async fn seal(&mut self) -> Result<(), Error> {
        let complete_till = self.appender.complete_till().max(self.state.taken_till);
        // The newest segment tells what the log has of a transaction without an end: an empty one would hide it.
        let is_cut = self.is_inside() || self.state.logged_till.is_some_and(|logged| logged.commit > complete_till);
        if !is_cut || self.has_news() {
            // Before their changes are in the log: what is there leads nowhere without it.
            let born = std::mem::take(&mut self.state.born);
            let published = birth::publish_all(self.engine, self.source, self.appender.epoch(), born);
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(published))?;
            let draft = std::mem::take(&mut self.state.draft);
            self.state.partly_told.clear();
            let sealed_at = self.known_till(&draft);
            self.appender.append_as_of(draft, complete_till, sealed_at).await?;
            self.report.segments += 1;
            self.report.complete_till = complete_till;
        }
        // Only when the log has what follows from it: what was renamed once is no news when it comes again.
        self.state.counted.keep(self.index)?;
        self.state.is_index_behind = true;
        Ok(())
    }

    /// Writes the index, which has come as far as was taken, and gives the position that may be confirmed: where
    /// nothing is collected, the log has it too.
    pub fn write_index(&mut self) -> Result<Lsn, Error> {
        if self.has_news() || self.is_inside() {
            return Err(Error::Bug("the index is ahead of the log".into()));
        }
        let (epoch, position) = (self.appender.epoch().id, self.appender.complete_till().min(self.state.taken_till));
        self.index.commit(&IndexPlace { epoch, position, unrouted: self.state.unrouted })?;
        (self.state.indexed_till, self.state.is_index_behind) = (position, false);
        Ok(after(position))
    }

    /// What is durable now.
    pub fn sealed(&self) -> CaptureNews {
        let sealed_at = self.appender.newest().map_or(self.appender.epoch().facts.begun_at, |newest| newest.sealed_at);
        let (epoch, complete_till) = (self.appender.epoch().id, self.appender.complete_till());
        CaptureNews::Sealed { epoch, complete_till, sealed_at }
    }

    /// Where the server's log was at a time: when all before it is taken, nothing is missing until then.
    pub fn note_time(&mut self, server: ServerTime) {
        if self.state.asked.len() >= ASKED_MAX {
            self.state.asked.pop_back();
        }
        self.state.asked.push_back(server);
    }

    /// Till when nothing is missing, by the source's clock: a capture that catches up knows no more than the times
    /// of the commits.
    fn known_till(&mut self, draft: &SegmentDraft) -> Timestamp {
        while let Some(asked) = self.state.asked.front().filter(|asked| asked.position <= after(self.state.taken_till))
        {
            self.state.known_till = self.state.known_till.max(asked.at);
            self.state.asked.pop_front();
        }
        let committed = draft.bounds().map_or(Timestamp(i64::MIN), |bounds| bounds.latest);
        self.state.known_till = self.state.known_till.max(committed);
        self.state.known_till
    }

    fn needed(&self, head: &TransactionHead, sequence: u64) -> Needed {
        let place = ChangePlace { commit: head.commit, sequence };
        let is_logged = head.commit <= self.appender.complete_till()
            || self.state.logged_till.is_some_and(|logged| place <= logged);
        match (is_logged, head.commit <= self.state.indexed_till) {
            (true, true) => Needed::Nothing,
            (true, false) => Needed::Index,
            (false, _) => Needed::Both,
        }
    }

    fn write(&mut self, head: &TransactionHead, routed: Vec<Routed>) -> Result<(), Error> {
        for Routed { site, table, sequence, change, breaks } in routed {
            if self.needed(head, sequence) != Needed::Both {
                continue;
            }
            self.report.changes += 1;
            let place = ChangePlace { commit: head.commit, sequence };
            if self.state.partly.contains(&table.name) && self.state.partly_told.insert(table.name.clone()) {
                self.state.draft.note(place, PARTLY.to_owned(), table.name.clone().into_bytes());
            }
            if let (Some(site), RowChange::Insert { .. }) = (&site, &change)
                && self.router.is_root(&table.name)
            {
                self.state.born.entry(site.clone()).or_insert(head.committed_at);
            }
            match &site {
                Some(site) => {
                    let is_root = self.router.is_root(&table.name);
                    self.state.losses.note(site, &change, is_root, head);
                    match self.state.draft.push(site, (head, sequence), &table, &change) {
                        Err(error) if error.is_too_large() => self.leave_out(place, site, (&table.name, &error)),
                        pushed => pushed?,
                    }
                }
                None => {
                    self.report.unrouted += 1;
                    self.state.unrouted += 1;
                    self.write_unrouted(head, sequence, (&table, change))?;
                }
            }
            if let Some((left, joined)) = breaks {
                let content = format!("{left}\n{joined}").into_bytes();
                self.state.draft.note(place, MOVED.to_owned(), content);
            }
        }
        Ok(())
    }

    fn take_structure(&mut self, sequence: u64, change: StructureChange) -> Result<(), Error> {
        let head = self.head()?;
        if self.needed(&head, sequence) != Needed::Both {
            return Ok(());
        }
        let is_of_tables = !matches!(change.kind, StructureKind::Other(_));
        self.state.is_structure_new |= is_of_tables || self.router.has_own_tables();
        self.state.counted.note(&change);
        let place = ChangePlace { commit: head.commit, sequence };
        if self.router.has_own_tables() {
            self.take_own_structure(place, &change);
        }
        let known = self.router.knows(change.root.as_ref().unwrap_or(&change.table));
        match &change.kind {
            StructureKind::Rewritten { .. } if known => {
                let root = change.root.as_ref().unwrap_or(&change.table);
                let broken = self.break_own(place, root);
                broken.ok_or_else(|| self.broken("all rows of a table were written anew", &change.table))?;
            }
            StructureKind::Altered { .. } if !self.router.has_own_tables() && change.root.is_none() => {
                let before = self.state.counted.other_name(change.oid, &change.table);
                if let Some(before) = before.filter(|name| self.router.knows(name)) {
                    return Err(self.broken("a table has another name, or a class, than before", &before));
                }
            }
            StructureKind::Other(OtherChange { renames_values: true, .. }) if !self.router.has_own_tables() => {
                return Err(self.broken("values of a type were renamed", &change.table));
            }
            StructureKind::Dropped { column: None, .. } if known => self.router.truncate(&change.table, self.index)?,
            _ => {}
        }
        self.note_structure(place, change);
        Ok(())
    }

    /// Whether a table's rows are no site's, though it is shown. One that the router does not know had another
    /// name when it was made, and has rows that the index knows under that one, or is gone.
    fn is_foreign(&mut self, place: ChangePlace, table: &str) -> Result<bool, Error> {
        if self.router.knows(table) || self.state.foreign.contains(table) {
            return Ok(!self.router.knows(table));
        }
        if self.router.has_own_tables() {
            return self.is_foreign_of_own(place, table);
        }
        match self.source.is_of_sites(table)? {
            Some(false) => {
                self.state.foreign.insert(table.to_owned());
                Ok(true)
            }
            Some(true) => Err(self.broken("a table has another name, or another class, than before", table)),
            None => Err(self.broken("a table has another name by now, or is gone", table)),
        }
    }

    fn broken(&self, what: &str, table: &str) -> Error {
        self.broken_at_once(format!("{what}: table=`{table}`"))
    }

    /// All before it is whole.
    fn broken_at_once(&self, detail: String) -> Error {
        Error::EpochBroken { source_name: self.report_source(), detail, sound_till: None }
    }

    /// How partitions of followed tables differ from what is counted on.
    pub fn partitions_differ(&mut self, now: &Partitions) -> Option<String> {
        let router = &self.router;
        self.state.counted.differs(now, &|table| router.knows(table))
    }

    /// Till when nothing can have changed unseen.
    pub fn sound_till(&self) -> Timestamp {
        self.state.counted.looked_at.unwrap_or(self.appender.epoch().facts.begun_at)
    }

    fn write_unrouted(
        &mut self,
        head: &TransactionHead,
        sequence: u64,
        (table, change): (&std::sync::Arc<ChangedTable>, RowChange),
    ) -> Result<(), Error> {
        let (kind, key) = match &change {
            RowChange::Insert { row } => (ChangeKind::Insert, key_of(table, row)),
            RowChange::Update { row, .. } => (ChangeKind::Update, key_of(table, row)),
            RowChange::Delete { key } => (ChangeKind::Delete, key.clone()),
            RowChange::Pages(_) => return Err(Error::Bug("pages among rows".into())),
        };
        let keys = self.engine.repository.keys();
        let key = keys.row_key_hash(&self.report_source(), &table.name, &key);
        // A deletion by key needs no more than the hash: no value of it is kept.
        let change = (kind != ChangeKind::Delete).then_some(change);
        Ok(self.state.draft.push_unrouted((head, sequence), Unrouted { table, kind, key, change })?)
    }

    fn report_source(&self) -> lifeboat_model::SourceName {
        self.appender.epoch().facts.source.clone()
    }

    /// The transaction that is open.
    pub(super) fn open_head(&self) -> Option<TransactionHead> {
        self.state.head
    }

    fn head(&self) -> Result<TransactionHead, Error> {
        self.state.head.ok_or_else(|| Error::Bug("a change outside of a transaction".into()))
    }
}

fn key_of(table: &ChangedTable, row: &[ChangedValue]) -> Vec<ChangedValue> {
    match table.key.is_empty() {
        true => row.to_vec(),
        false => table.key.iter().filter_map(|at| row.get(*at)).cloned().collect(),
    }
}
