//! One table's rows of one site, as `COPY` writes them: read by a query of their own, or out of a stream that
//! reads all sites.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use lifeboat_model::{Entry, EntryKind, Fault, RowsDigest};

use super::Session;
use super::describe::select_rows;
use super::reading::Reading;
use super::streams::SiteRows;
use super::tenancy::SiteTable;
use crate::{Content, ContentCheck, Error, Read};

/// Rows are handed over in stretches of about this length, so many at most.
const STRETCH_LEN: usize = 256 << 10;
const STRETCHES_MAX: usize = 4;

/// Where rows come from.
pub(super) enum Origin {
    /// A thread that copies them out.
    Query {
        source_name: String,
        stretches: Receiver<Result<Stretch, Error>>,
    },
    Stream(SiteRows),
}

/// What the copying thread says. The end is said: a thread that fell silent is no end.
pub(super) enum Stretch {
    Rows(Vec<u8>),
    End,
}

pub(super) struct Rows {
    reading: Arc<Reading>,
    origin: Origin,
    entry: Entry,
    current: Vec<u8>,
    read: usize,
    digest: blake3::Hasher,
    size: u64,
    rows: u64,
}

impl Origin {
    /// A query of their own.
    pub fn query(reading: &Arc<Reading>, SiteTable { table, condition, .. }: &SiteTable) -> Result<Self, Error> {
        let session = reading.session().inspect_err(|error| reading.note_failure(error))?;
        let source_name = session.source_name().to_owned();
        let (give, stretches) = sync_channel(STRETCHES_MAX);
        let copy = format!("COPY ({}) TO STDOUT", select_rows(table, condition));
        let (reading, action) = (reading.clone(), format!("cannot read table `{}`", table.name));
        std::thread::spawn(move || {
            let mut session = session;
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
        Ok(Origin::Query { source_name, stretches })
    }

    /// The next rows; `None`: there are no more.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Origin::Stream(rows) => rows.next(),
            Origin::Query { source_name, stretches } => match stretches.recv() {
                Ok(Ok(Stretch::Rows(rows))) => Ok(Some(rows)),
                Ok(Ok(Stretch::End)) => Ok(None),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(fell_silent(source_name)),
            },
        }
    }
}

impl Rows {
    pub fn new(reading: Arc<Reading>, origin: Origin, entry: Entry) -> Self {
        let (digest, current) = (blake3::Hasher::new(), Vec::new());
        Self { reading, origin, entry, current, read: 0, digest, size: 0, rows: 0 }
    }
}

impl Content for Rows {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        if self.read == self.current.len() {
            match self.origin.next().inspect_err(|error| self.reading.note_failure(error))? {
                Some(rows) => (self.current, self.read) = (rows, 0),
                None => return Ok(Read::End),
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
            (*rows, *digest) = (self.rows, RowsDigest::InOrder(*self.digest.finalize().as_bytes()));
        }
        entry.metadata.size = self.size;
        Ok(ContentCheck::Stable(Box::new(entry)))
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
            // Of a very long row only a part: it must not be in memory twice.
            let len = row.len().min(STRETCH_LEN);
            stretch.extend_from_slice(&row[..len]);
            out.consume(len);
            if stretch.len() >= STRETCH_LEN && !give(std::mem::replace(&mut stretch, Vec::with_capacity(capacity))) {
                return Ok(false);
            }
        }
    })();
    copied.map_err(|error: io::Error| session.failed_io(action, &error))
}

/// A copying thread ended without a word.
pub(super) fn fell_silent(source_name: &str) -> Error {
    Error::Database {
        source_name: source_name.to_owned(),
        action: "cannot read the rows".into(),
        detail: "the copying thread ended early".into(),
        hint: "this is a fault of Lifeboat: please report it".into(),
        fault: Fault::Bug,
    }
}
