//! Reading one site's rows under a cut: an entry a table, its content what `COPY` writes.

use std::io::{self, BufRead};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use lifeboat_model::{
    Entry, EntryKind, EntryMetadata, EntryPath, Fault, FileTime, PartIdentity, PartProblem, Position, SiteId,
};

use super::describe::{DESCRIPTION_PATH, PartDescription, TableDefinition, entry_path, select_rows};
use super::reading::Reading;
use super::structure::{POST_DATA_PATH, PRE_DATA_PATH};
use super::tenancy::SiteTable;
use super::{PostgresConfig, Session, Table};
use crate::{Content, ContentCheck, Cutting, Error, PartReader, PartSummary, Read};

/// Rows are handed over in stretches of about this length, so many at most.
const STRETCH_LEN: usize = 256 << 10;
const STRETCHES_MAX: usize = 4;

pub(super) struct RowsReader {
    reading: Arc<Reading>,
    /// In path order; what is left to be listed.
    entries: std::vec::IntoIter<(Entry, Source)>,
    listed: Vec<(EntryPath, Source)>,
    identity: PartIdentity,
    position: Position,
    problems: Vec<PartProblem>,
}

/// Where an entry's content comes from.
#[derive(Clone)]
enum Source {
    AtHand(Arc<Vec<u8>>),
    Table(Box<SiteTable>),
}

impl RowsReader {
    /// `None`: the site has no row in any of its tables.
    pub fn open(
        reading: &Arc<Reading>,
        config: &PostgresConfig,
        site: &SiteId,
        identity: PartIdentity,
    ) -> Result<Option<Self>, Error> {
        let tables = reading.tables_of(site);
        if !reading.has_rows(site, &tables)? {
            return Ok(None);
        }
        let (sequences, problems) = (reading.sequences()?, reading.large_objects(&tables)?);
        let description = PartDescription::new(&reading.catalogue, reading.cut(), sequences.to_vec());
        let mut entries = vec![at_hand(DESCRIPTION_PATH, description.to_json())?];
        if reading.is_of_one() {
            let structure = reading.structure(config)?;
            entries.push(at_hand(PRE_DATA_PATH, structure.pre_data.into_bytes())?);
            entries.push(at_hand(POST_DATA_PATH, structure.post_data.into_bytes())?);
        }
        for table in tables {
            entries.push((table_entry(&table.table)?, Source::Table(Box::new(table))));
        }
        entries.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let cut = reading.cut();
        let position = Position(format!("lsn={}, timeline={}, snapshot={}", cut.lsn, cut.timeline, cut.snapshot));
        let (reading, entries) = (reading.clone(), entries.into_iter());
        Ok(Some(Self { reading, entries, listed: Vec::new(), identity, position, problems }))
    }
}

impl PartReader for RowsReader {
    fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        let Some((entry, source)) = self.entries.next() else { return Ok(None) };
        self.listed.push((entry.path.clone(), source));
        Ok(Some(entry))
    }

    fn open_content(&mut self, entry: &Entry) -> Result<Box<dyn Content>, Error> {
        let found = self.listed.iter().find(|(path, _)| *path == entry.path);
        let Some((_, source)) = found else { return Err(Error::Gone { path: entry.path.to_string() }) };
        Ok(match source {
            Source::AtHand(bytes) => Box::new(Plain { entry: entry.clone(), bytes: bytes.clone(), read: 0 }),
            Source::Table(table) => {
                let session = self.reading.session()?;
                Box::new(Rows::begin(self.reading.clone(), session, &table.table, &table.condition, entry.clone()))
            }
        })
    }

    fn cutting(&self) -> Cutting {
        Cutting::Lines
    }

    fn finish(self: Box<Self>) -> Result<PartSummary, Error> {
        Ok(PartSummary {
            position: self.position,
            identity: self.identity,
            problems: self.problems,
            left_out: Vec::new(),
        })
    }
}

fn table_entry(table: &Table) -> Result<Entry, Error> {
    let definition = TableDefinition::of(table).to_json();
    let kind = EntryKind::Table { rows: 0, digest: [0; 32], definition };
    Ok(Entry {
        path: path_of(entry_path(&table.name).into_bytes())?,
        kind,
        metadata: no_metadata(0),
        extents: Vec::new(),
    })
}

/// An entry whose bytes are there.
fn at_hand(path: &[u8], bytes: Vec<u8>) -> Result<(Entry, Source), Error> {
    let (path, metadata) = (path_of(path.to_vec())?, no_metadata(bytes.len() as u64));
    let entry = Entry { path, kind: EntryKind::File, metadata, extents: Vec::new() };
    Ok((entry, Source::AtHand(Arc::new(bytes))))
}

fn path_of(bytes: Vec<u8>) -> Result<EntryPath, Error> {
    let shown = crate::error::shown(&bytes);
    EntryPath::new(bytes).map_err(|error| Error::Conflict {
        detail: format!("the table's name cannot be an entry's: {error}"),
        path: shown,
        hint: "name it under `ignored`, or rename the table".into(),
    })
}

/// Rows have no owner, mode or times.
fn no_metadata(size: u64) -> EntryMetadata {
    let never = FileTime::default();
    EntryMetadata { mode: 0o600, uid: 0, gid: 0, modified: never, changed: never, inode: 0, size, xattrs: Vec::new() }
}

/// Bytes that are at hand.
struct Plain {
    entry: Entry,
    bytes: Arc<Vec<u8>>,
    read: usize,
}

impl Content for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        let rest = &self.bytes[self.read..];
        if rest.is_empty() {
            return Ok(Read::End);
        }
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(Read::Data(len))
    }

    fn check(&mut self) -> Result<ContentCheck, Error> {
        Ok(ContentCheck::Stable(Box::new(self.entry.clone())))
    }
}

/// What the copying thread says. The end is said: a thread that fell silent is no end.
enum Stretch {
    Rows(Vec<u8>),
    End,
}

/// A table's rows, copied out by a thread of their own.
struct Rows {
    source_name: String,
    entry: Entry,
    stretches: Receiver<Result<Stretch, Error>>,
    current: Vec<u8>,
    read: usize,
    digest: blake3::Hasher,
    size: u64,
    rows: u64,
}

impl Rows {
    fn begin(reading: Arc<Reading>, session: Session, table: &Table, condition: &str, entry: Entry) -> Self {
        let (give, stretches) = sync_channel(STRETCHES_MAX);
        let copy = format!("COPY ({}) TO STDOUT", select_rows(table, condition));
        let (name, source_name) = (table.name.clone(), session.source_name().to_owned());
        std::thread::spawn(move || {
            let mut session = session;
            let action = format!("cannot read table `{name}`");
            match copy_out(&mut session, &copy, &action, &mut |rows| give.send(Ok(Stretch::Rows(rows))).is_ok()) {
                // Only a session that has read to the end can be used again.
                Ok(true) => {
                    reading.give_back(session);
                    let _ = give.send(Ok(Stretch::End));
                }
                Ok(false) => {}
                Err(error) => {
                    let _ = give.send(Err(error));
                }
            }
        });
        let (digest, current) = (blake3::Hasher::new(), Vec::new());
        Self { source_name, entry, stretches, current, read: 0, digest, size: 0, rows: 0 }
    }
}

/// Copies out until the end; `false`: nobody listens any more.
fn copy_out(
    session: &mut Session,
    copy: &str,
    action: &str,
    give: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<bool, Error> {
    let capacity = STRETCH_LEN + (STRETCH_LEN >> 2);
    let copied = (|| {
        let mut out = session.copy_out(copy).map_err(io::Error::other)?;
        let mut stretch = Vec::with_capacity(capacity);
        loop {
            let row = out.fill_buf()?;
            if row.is_empty() {
                return Ok(stretch.is_empty() || give(stretch));
            }
            stretch.extend_from_slice(row);
            let len = row.len();
            out.consume(len);
            if stretch.len() >= STRETCH_LEN && !give(std::mem::replace(&mut stretch, Vec::with_capacity(capacity))) {
                return Ok(false);
            }
        }
    })();
    copied.map_err(|error: io::Error| session.failed_io(action, &error))
}

impl Content for Rows {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        if self.read == self.current.len() {
            match self.stretches.recv() {
                Ok(Ok(Stretch::Rows(rows))) => (self.current, self.read) = (rows, 0),
                Ok(Ok(Stretch::End)) => return Ok(Read::End),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(Error::Database {
                        source_name: self.source_name.clone(),
                        action: "cannot read the rows".into(),
                        detail: "the copying thread ended early".into(),
                        hint: "this is a fault of Lifeboat: please report it".into(),
                        fault: Fault::Bug,
                    });
                }
            }
            self.digest.update(&self.current);
            self.size += self.current.len() as u64;
            self.rows += self.current.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        let rest = &self.current[self.read..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.read += len;
        Ok(Read::Data(len))
    }

    /// Rows under a snapshot do not change while they are read.
    fn check(&mut self) -> Result<ContentCheck, Error> {
        let mut entry = self.entry.clone();
        if let EntryKind::Table { rows, digest, .. } = &mut entry.kind {
            (*rows, *digest) = (self.rows, *self.digest.finalize().as_bytes());
        }
        entry.metadata.size = self.size;
        Ok(ContentCheck::Stable(Box::new(entry)))
    }
}

/// Sessions under one cut that nobody uses now.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<Session>>);

impl Idle {
    pub fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub fn put(&self, session: Session) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}
