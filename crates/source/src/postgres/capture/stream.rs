//! The stream: what became of the rows, one by one, in the order of their transactions' commits.
//!
//! ```text
//! begin at a position ─▶ Begin, Change, Change, …, Commit ─▶ Begin … ─▶ confirm(position), when it is durable
//! ```
//!
//! Whoever begins again is given every transaction that ended after the position: none is left out, and
//! what was not confirmed comes again, with the same positions and numbers.
//!
//! Invariant (one-by-one): a transaction is never held in memory, however large; what is held is a few
//! batches and one row.
//!
//! What is not here: the connection (`raw`), whose a row is, and where it is kept.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_model::{ChangedTable, ChangedValue, Fault, Lsn, RowChange, SpillItem, TransactionHead, TransactionId};
use postgres::error::SqlState;

use super::output::{Output, decode};
use super::pump::Pumped;
use super::raw::RawStream;
use super::relations::{Learned, Read, Relations};
use super::session::ReplicationSession;
use super::structure::{PREFIX, StructureChange, StructureKind, read_note};
use super::wire::WireError;
use crate::Error;
use crate::postgres::Server;

pub(super) const ACTION: &str = "cannot follow the database's changes";

/// What the stream says next. A `sequence` counts within its transaction, from 0, the same each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Captured {
    Begin(TransactionHead),
    Change {
        table: Arc<ChangedTable>,
        sequence: u64,
        change: RowChange,
        /// What else is known of the row before, by the column's place: the columns of its replica
        /// identity that are none of its key, such as its tenant. With identity FULL, all others.
        identity: Vec<(usize, ChangedValue)>,
    },
    Truncated {
        sequence: u64,
        tables: Vec<Arc<ChangedTable>>,
        is_cascade: bool,
        restarts_sequences: bool,
    },
    /// Where nothing notes changes of structure, it stands before the next change of a row, whose number it has.
    Structure {
        sequence: u64,
        change: StructureChange,
    },
    /// What somebody wrote with `pg_logical_emit_message`. One that is not transactional stands between
    /// transactions, has number 0, and was written even if its transaction was rolled back.
    Note {
        sequence: u64,
        at: Lsn,
        prefix: String,
        content: Vec<u8>,
        is_transactional: bool,
    },
    /// The transaction is whole; the next one begins at `end` or later.
    Commit {
        end: Lsn,
    },
    /// Nothing for now: everything that committed before this position has been given.
    Idle {
        server_at: Lsn,
    },
}

/// A slot that is followed, behind what was kept of it before. Blocks; ends its connection when dropped.
pub struct CaptureStream {
    /// `None`: there is no more than what was kept.
    raw: Option<RawStream>,
    spilled: Option<Spilled>,
    source_name: String,
    relations: Relations,
    /// Next to which a transaction's number is to be read.
    near: TransactionId,
    is_inside: bool,
    sequence: u64,
    server_at: Lsn,
    has_lost_spill: bool,
}

/// Gives one thing after the other, and `None` at the end.
pub type NextSpilled = dyn FnMut() -> Result<Option<SpillItem>, Error> + Send;

/// What the stream said before, and was kept: it comes first.
pub struct Spilled {
    pub begins: Lsn,
    /// Where the server goes on.
    pub till: Lsn,
    pub next: Box<NextSpilled>,
}

impl CaptureStream {
    /// Begins to follow `slot` after `confirmed`, by the session that made the slot or any other. The
    /// snapshot that was exported ends here.
    pub fn begin(server: &Server, session: ReplicationSession, slot: &str, confirmed: Lsn) -> Result<Self, Error> {
        let mut stream = Self::of(server, confirmed)?;
        stream.raw = Some(RawStream::begin(session, slot, confirmed)?);
        Ok(stream)
    }

    /// What was kept, and then, with a session, what comes from where that ends.
    pub fn behind(server: &Server, spilled: Spilled, slot: Option<(ReplicationSession, &str)>) -> Result<Self, Error> {
        let mut stream = Self::of(server, spilled.begins)?;
        stream.raw = slot.map(|(session, slot)| RawStream::begin(session, slot, spilled.till)).transpose()?;
        stream.spilled = Some(spilled);
        Ok(stream)
    }

    fn of(server: &Server, server_at: Lsn) -> Result<Self, Error> {
        Ok(Self {
            raw: None,
            spilled: None,
            source_name: server.source_name().to_owned(),
            relations: Relations::new(server),
            near: newest_transaction(server)?,
            is_inside: false,
            sequence: 0,
            server_at,
            has_lost_spill: false,
        })
    }

    /// What comes next; `Idle` if nothing does within `wait`, or the server says that there is nothing. After
    /// an error the stream is over.
    pub fn next(&mut self, wait: Duration) -> Result<Captured, Error> {
        loop {
            let Some(pumped) = self.next_pumped(wait)? else {
                return Ok(Captured::Idle { server_at: self.server_at });
            };
            match pumped {
                Pumped::ServerAt(at) => {
                    self.server_at = self.server_at.max(at);
                    let is_at_end = self.spilled.is_none() && self.raw.as_ref().is_none_or(RawStream::is_at_end);
                    if is_at_end && !self.is_inside {
                        return Ok(Captured::Idle { server_at: self.server_at });
                    }
                }
                Pumped::Data { start, message } => {
                    if let Some(captured) = self.read(start, &message)? {
                        return Ok(captured);
                    }
                }
            }
        }
    }

    /// `None`: nothing came.
    fn next_pumped(&mut self, wait: Duration) -> Result<Option<Pumped>, Error> {
        if let Some(spilled) = &mut self.spilled {
            let item = (spilled.next)().inspect_err(|_| self.has_lost_spill = true)?;
            return Ok(Some(match item {
                Some(SpillItem::Message { start, bytes }) => Pumped::Data { start, message: bytes.into() },
                Some(SpillItem::ServerAt(at)) => Pumped::ServerAt(at),
                None => {
                    let till = spilled.till;
                    self.spilled = None;
                    Pumped::ServerAt(till)
                }
            }));
        }
        match &mut self.raw {
            Some(raw) => raw.next(wait),
            None => {
                std::thread::sleep(wait);
                Ok(None)
            }
        }
    }

    /// Everything before `position` is durable: the server may forget it. Positions never go back.
    pub fn confirm(&self, position: Lsn) {
        if let Some(raw) = &self.raw {
            raw.confirm(position);
        }
    }

    /// Whether it ended because a publication is gone: what happened since can never be followed.
    pub fn has_lost_publication(&self) -> bool {
        self.raw.as_ref().is_some_and(RawStream::has_lost_publication)
    }

    /// Whether it ended because what was kept cannot be read: the server does not send it again.
    pub fn has_lost_spill(&self) -> bool {
        self.has_lost_spill
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    fn read(&mut self, start: Lsn, message: &[u8]) -> Result<Option<Captured>, Error> {
        let output = decode(message);
        let output = output.map_err(|bad| WireError::Protocol(bad.to_string()).failed(&self.source_name, ACTION))?;
        let read = match output {
            Output::Begin { commit, committed_at, transaction } => {
                let id = TransactionId::near(transaction, self.near);
                (self.near, self.is_inside, self.sequence) = (id, true, 0);
                return Ok(Some(Captured::Begin(TransactionHead { id, commit, committed_at })));
            }
            Output::Commit { end } => {
                self.is_inside = false;
                self.server_at = self.server_at.max(end);
                return Ok(Some(Captured::Commit { end }));
            }
            Output::Origin => return Ok(None),
            Output::Type { oid, schema, name } => {
                self.relations.note_type(oid, &schema, &name);
                return Ok(None);
            }
            Output::Relation(relation) => {
                let Learned::Changed(table) = self.relations.learn(&relation)? else { return Ok(None) };
                let (table, kind) = (table.name.clone(), StructureKind::Differs);
                let change = StructureChange { oid: relation.oid, table, root: None, kind };
                return Ok(Some(Captured::Structure { sequence: self.sequence, change }));
            }
            Output::Insert { relation, row } => self.relations.insert(relation, row)?,
            Output::Update { relation, old, row } => self.relations.update(relation, old, row)?,
            Output::Delete { relation, old } => self.relations.delete(relation, old)?,
            Output::Truncate { relations, is_cascade, restarts_sequences } => {
                let tables = relations.iter().map(|oid| Ok(Arc::clone(&self.relations.get(*oid)?.table)));
                let tables = tables.collect::<Result<_, Error>>()?;
                let sequence = self.next_sequence();
                return Ok(Some(Captured::Truncated { sequence, tables, is_cascade, restarts_sequences }));
            }
            Output::Message { is_transactional, at, prefix, content } => {
                if prefix == PREFIX && content.is_empty() {
                    return Ok(None); // it keeps a note of structure from the change after it
                }
                let sequence = if is_transactional { self.next_sequence() } else { 0 };
                if is_transactional
                    && prefix == PREFIX
                    && let Some(change) = read_note(&content)
                {
                    return Ok(Some(Captured::Structure { sequence, change }));
                }
                let at = if is_transactional { at } else { at.max(start) };
                return Ok(Some(Captured::Note { sequence, at, prefix, content, is_transactional }));
            }
        };
        let Read { table, change, identity } = read;
        let sequence = self.next_sequence();
        Ok(Some(Captured::Change { table, sequence, change, identity }))
    }
}

/// The server's newest transaction, its wraparounds counted.
fn newest_transaction(server: &Server) -> Result<TransactionId, Error> {
    let mut session = server.connect()?;
    let sql = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text";
    let row = session.query_one(sql, &[]).map_err(|error| session.failed(ACTION, &error))?;
    let number = row.get::<_, &str>(0).parse().map(TransactionId);
    number.map_err(|_| {
        WireError::Protocol("its newest transaction has no number".into()).failed(server.source_name(), ACTION)
    })
}

pub(super) fn cannot_follow(source_name: &str, slot: &str, error: WireError) -> Error {
    let (hint, fault) = match error.code() {
        Some(SqlState::OBJECT_IN_USE) => (
            "another lifeboat follows it: look for its process in pg_stat_replication, and end one of the two",
            Fault::Fenced,
        ),
        Some(SqlState::UNDEFINED_OBJECT) => ("the slot is gone: what happened since is a gap", Fault::Operator),
        Some(SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE) => (
            "the server has thrown away what the slot needed, or the slot is none of ours: begin a new epoch",
            Fault::Operator,
        ),
        _ => return error.failed(source_name, ACTION),
    };
    let mut failed = error.failed(source_name, &format!("cannot follow the slot `{slot}`"));
    if let Error::Database { hint: said, fault: whose, .. } = &mut failed {
        (*said, *whose) = (hint.to_owned(), fault);
    }
    failed
}
