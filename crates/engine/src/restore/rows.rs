//! One site's rows in a shared database at work: staged, compared, switched in one transaction.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_model::{Check, Entry, EntryKind, Extent, PartReceipt, RestoreId, SiteId, SourceName};
use lifeboat_repo::{FetchControl, FetchLimits, Wanted};
use lifeboat_source::postgres::Structure;
use lifeboat_source::postgres::describe::{
    DESCRIPTION_PATH, POST_DATA_PATH, PRE_DATA_PATH, PartDescription, TableDefinition, table_of_path,
};
use lifeboat_source::postgres::target::{
    LiveRows, LiveTable, RowsTarget, SwitchedRows, VerifiedRows, WantedRows, WantedTable,
};

use super::facts::{Facts, LivePart, PartFacts};
use super::part::{Destination, Opened};
use crate::Error;
use crate::fleet::AnySource;

pub(super) struct RowsWork {
    site: SiteId,
    source: SourceName,
    target: RowsTarget,
    /// What is to be there, and the entries that the tables' rows come from; `None`: all is there already.
    wanted: Option<WantedRows>,
    entries: Vec<Entry>,
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
        let target = postgres.target(facts.site.id(), restore)?;
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

    /// The rows that are there, if they are going to be changed.
    pub(super) fn replaced(&self) -> Option<&LiveRows> {
        self.wanted.is_some().then_some(&self.live)
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
        let mut wanted = Vec::new();
        for (slot, entry) in self.entries.iter().enumerate() {
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
            return Err(Error::Conflict {
                detail: format!("the rows cannot be put back as they were: part=`{}`, {conflict}{more}", self.source),
                hint: "nothing was changed; mend what is in the way in the live database, then run the same command \
                       again"
                    .into(),
            });
        }
        self.state = State::Verified(verified);
        Ok(())
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
        let mut rows = 0;
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Switched(switched) => {
                rows = switched.tables.iter().map(|table| table.insert + table.update + table.replace).sum();
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
        let bytes = self.wanted.iter().flat_map(|wanted| &wanted.tables).map(|table| table.size).sum();
        let entries = self.live.tables.len() as u64;
        let receipt = PartReceipt { source: self.source.clone(), entries, rows, files: 0, bytes, digest_ok };
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

/// The part as the snapshot has it, with the entries that its rows come from.
fn wanted_rows(facts: &Facts, part: &PartFacts) -> Result<(WantedRows, Vec<Entry>), Error> {
    let (mut wanted, mut entries) = (WantedRows::default(), Vec::new());
    for entry in &part.wanted {
        let EntryKind::Table { rows, digest, definition } = &entry.kind else { continue };
        let (name, size) = (table_of_path(&entry.path.to_string()), entry.metadata.size);
        let definition = TableDefinition::from_json(definition)?;
        wanted.tables.push(WantedTable { name, rows: *rows, digest: *digest, size, definition });
        entries.push(entry.clone());
    }
    if let Some(json) = small_file(facts, part, DESCRIPTION_PATH)? {
        wanted.sequences = PartDescription::from_json(&json)?.sequences;
    }
    let text = |path: &[u8]| -> Result<Option<String>, Error> {
        let bytes = small_file(facts, part, path)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    };
    if let (Some(pre_data), Some(post_data)) = (text(PRE_DATA_PATH)?, text(POST_DATA_PATH)?) {
        wanted.structure = Some(Structure { pre_data, post_data });
    }
    Ok((wanted, entries))
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
    part.wanted.iter().all(|entry| match &entry.kind {
        EntryKind::Table { digest, .. } => live_table(live, entry).is_some_and(|live| live.digest == *digest),
        _ => true,
    })
}

/// The live rows of the table that an entry is of.
pub(super) fn live_table<'l>(live: &'l LiveRows, entry: &Entry) -> Option<&'l LiveTable> {
    let name = table_of_path(&entry.path.to_string());
    live.tables.iter().find(|table| table.name == name)
}

/// Whether what was kept for the undo are the rows that were looked at.
pub(super) fn holds<'e>(kept: impl Iterator<Item = &'e Entry>, live: &LiveRows) -> bool {
    let mut tables = 0;
    for entry in kept {
        let EntryKind::Table { digest, .. } = &entry.kind else { continue };
        if live_table(live, entry).is_none_or(|live| live.digest != *digest) {
            return false;
        }
        tables += 1;
    }
    tables == live.tables.len() || (tables == 0 && live.is_absent())
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
