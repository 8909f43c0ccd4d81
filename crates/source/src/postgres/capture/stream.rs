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
//! What is not here: whose a row is, and where it is kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_model::{ChangedTable, ChangedValue, Fault, Lsn, RowChange, TransactionHead, TransactionId};
use postgres::error::SqlState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::output::{Output, decode};
use super::publication::publication_names;
use super::pump::{BATCHES, Batch, Pumped, pump};
use super::relations::{Learned, Read, Relations};
use super::session::{OwnRuntime, ReplicationSession, quoted};
use super::structure::{PREFIX, StructureChange, StructureKind, read_note};
use super::wire::WireError;
use crate::Error;
use crate::postgres::Server;

const ACTION: &str = "cannot follow the database's changes";
/// The server first reads its log up to the position; with many tables that takes a while.
const START_MAX: Duration = Duration::from_secs(120);

/// How long dropping a stream waits for it to end.
const LEAVE_MAX: Duration = Duration::from_secs(3);

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

/// A slot that is followed. Blocks; ends its connection when dropped.
pub struct CaptureStream {
    runtime: OwnRuntime,
    pump: Option<JoinHandle<()>>,
    batches: mpsc::Receiver<Batch>,
    waiting: VecDeque<Pumped>,
    confirmed: watch::Sender<Lsn>,
    source_name: String,
    relations: Relations,
    /// Next to which a transaction's number is to be read.
    near: TransactionId,
    is_inside: bool,
    sequence: u64,
    server_at: Lsn,
    has_lost_publication: bool,
}

impl CaptureStream {
    /// Begins to follow `slot` after `confirmed`, by the session that made the slot or any other. The
    /// snapshot that was exported ends here.
    pub fn begin(server: &Server, session: ReplicationSession, slot: &str, confirmed: Lsn) -> Result<Self, Error> {
        let ReplicationSession { runtime, mut wire, source_name } = session;
        let near = newest_transaction(server)?;
        let names = publication_names(slot).map(|name| quoted(&name)).join(",").replace('\'', "''");
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {confirmed} (proto_version '1', publication_names '{names}', \
             messages 'true')",
            quoted(slot)
        );
        let started = runtime.block_on(wire.start_replication(&command, START_MAX));
        started.map_err(|error| cannot_follow(&source_name, slot, error))?;
        let (sender, batches) = mpsc::channel(BATCHES);
        let (confirmed_sender, confirmed_receiver) = watch::channel(confirmed);
        let pump = Some(runtime.spawn(pump(wire, sender, confirmed_receiver)));
        Ok(Self {
            runtime,
            pump,
            batches,
            waiting: VecDeque::new(),
            confirmed: confirmed_sender,
            source_name,
            relations: Relations::new(server),
            near,
            is_inside: false,
            sequence: 0,
            server_at: confirmed,
            has_lost_publication: false,
        })
    }

    /// What comes next; `Idle` if nothing does within `wait`, or the server says that there is nothing. After
    /// an error the stream is over.
    pub fn next(&mut self, wait: Duration) -> Result<Captured, Error> {
        loop {
            let Some(pumped) = self.waiting.pop_front() else {
                match self.receive(wait) {
                    Some(batch) => self.waiting = batch.map_err(|error| self.ended(error))?.into(),
                    None => return Ok(Captured::Idle { server_at: self.server_at }),
                }
                continue;
            };
            match pumped {
                Pumped::ServerAt(at) => {
                    self.server_at = self.server_at.max(at);
                    if self.waiting.is_empty() && !self.is_inside {
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

    /// Everything before `position` is durable: the server may forget it. Positions never go back.
    pub fn confirm(&self, position: Lsn) {
        self.confirmed.send_if_modified(|confirmed| {
            let is_later = position > *confirmed;
            *confirmed = position.max(*confirmed);
            is_later
        });
    }

    /// `None`: nothing came.
    fn receive(&mut self, wait: Duration) -> Option<Batch> {
        let received = self.runtime.block_on(async { timeout(wait, self.batches.recv()).await }).ok()?;
        // The pump tells why before it ends; asked once more it has nothing to say.
        Some(received.unwrap_or_else(|| Err(WireError::Protocol("the stream is over".into()))))
    }

    /// Whether it ended because a publication is gone: what happened since can never be followed.
    pub fn has_lost_publication(&self) -> bool {
        self.has_lost_publication
    }

    fn ended(&mut self, error: WireError) -> Error {
        let mut failed = match error.code() {
            // A publication that is not there, or was not when the change was made.
            Some(SqlState::UNDEFINED_OBJECT) => error.failed(&self.source_name, ACTION),
            _ => return error.failed(&self.source_name, ACTION),
        };
        self.has_lost_publication = true;
        if let Error::Database { hint, .. } = &mut failed {
            *hint =
                "somebody dropped the publication: what happened since cannot be followed; begin a new epoch".into();
        }
        failed
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

impl Drop for CaptureStream {
    fn drop(&mut self) {
        // The pump says good-bye to the server when nobody is there to confirm, so that the slot is free soon.
        self.batches.close();
        self.confirmed = watch::channel(Lsn(0)).0;
        let (Some(pump), handle) = (self.pump.take(), self.runtime.handle().clone()) else { return };
        let leave = move || handle.block_on(async { timeout(LEAVE_MAX, pump).await });
        let _ = std::thread::spawn(leave).join(); // a thread that belongs to no runtime: it blocks
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

fn cannot_follow(source_name: &str, slot: &str, error: WireError) -> Error {
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
