//! The stream as it comes: the output plugin's messages, and how far the server is, unread.
//!
//! Whoever decodes them is `stream`; whoever keeps them for later is [`SpillStream`], which reads no more of them
//! than where transactions begin and end.

use std::collections::VecDeque;
use std::time::Duration;

use lifeboat_model::{Lsn, SpillItem, Timestamp};
use postgres::error::SqlState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::output::{Output, decode};
use super::publication::publication_names;
use super::pump::{BATCHES, Batch, Pumped, pump};
use super::session::{OwnRuntime, ReplicationSession, quoted};
use super::stream::{ACTION, cannot_follow};
use super::wire::WireError;
use crate::Error;
use crate::postgres::PostgresSource;

/// The server first reads its log up to the position; with many tables that takes a while.
const START_MAX: Duration = Duration::from_secs(120);
/// How long dropping a stream waits for it to end.
const LEAVE_MAX: Duration = Duration::from_secs(3);

/// A slot that is followed, in the server's own words. Ends its connection when dropped.
pub(super) struct RawStream {
    runtime: OwnRuntime,
    pump: Option<JoinHandle<()>>,
    batches: mpsc::Receiver<Batch>,
    waiting: VecDeque<Pumped>,
    confirmed: watch::Sender<Lsn>,
    source_name: String,
    has_lost_publication: bool,
}

impl RawStream {
    /// Begins to follow `slot` after `confirmed`, which is durable.
    pub fn begin(session: ReplicationSession, slot: &str, confirmed: Lsn) -> Result<Self, Error> {
        let ReplicationSession { runtime, mut wire, source_name } = session;
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
        let (waiting, confirmed) = (VecDeque::new(), confirmed_sender);
        Ok(Self { runtime, pump, batches, waiting, confirmed, source_name, has_lost_publication: false })
    }

    /// `None`: nothing came within `wait`. After an error the stream is over.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Pumped>, Error> {
        while self.waiting.is_empty() {
            match self.receive(wait) {
                Some(batch) => self.waiting = batch.map_err(|error| self.ended(error))?.into(),
                None => return Ok(None),
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// Whether the last that was given is the last that has come.
    pub fn is_at_end(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Positions never go back.
    pub fn confirm(&self, position: Lsn) {
        self.confirmed.send_if_modified(|confirmed| {
            let is_later = position > *confirmed;
            *confirmed = position.max(*confirmed);
            is_later
        });
    }

    pub fn has_lost_publication(&self) -> bool {
        self.has_lost_publication
    }

    /// `None`: nothing came.
    fn receive(&mut self, wait: Duration) -> Option<Batch> {
        let received = self.runtime.block_on(async { timeout(wait, self.batches.recv()).await }).ok()?;
        // The pump tells why before it ends; asked once more it has nothing to say.
        Some(received.unwrap_or_else(|| Err(WireError::Protocol("the stream is over".into()))))
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
}

impl Drop for RawStream {
    fn drop(&mut self) {
        // The pump says good-bye to the server when nobody is there to confirm, so that the slot is free soon.
        self.batches.close();
        self.confirmed = watch::channel(Lsn(0)).0;
        let (Some(pump), handle) = (self.pump.take(), self.runtime.handle().clone()) else { return };
        let leave = move || handle.block_on(async { timeout(LEAVE_MAX, pump).await });
        let _ = std::thread::spawn(leave).join(); // a thread that belongs to no runtime: it blocks
    }
}

/// A slot that is followed by somebody who keeps what it says for later. Blocks.
pub struct SpillStream {
    raw: RawStream,
    is_inside: bool,
    committed_at: Option<Timestamp>,
}

/// One thing that the stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub item: SpillItem,
    /// With it, everything that committed before this position has been said.
    pub whole_till: Option<Lsn>,
    /// Of the transaction that ended with it.
    pub committed_at: Option<Timestamp>,
}

impl Said {
    /// Whether it says no more than how far the server is.
    pub fn is_server_at(&self) -> bool {
        matches!(self.item, SpillItem::ServerAt(_))
    }
}

impl SpillStream {
    /// `None`: nothing came within `wait`. After an error the stream is over.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Said>, Error> {
        let Some(pumped) = self.raw.next(wait)? else { return Ok(None) };
        let (start, message) = match pumped {
            Pumped::ServerAt(at) => {
                let whole_till = (!self.is_inside).then_some(at);
                return Ok(Some(Said { item: SpillItem::ServerAt(at), whole_till, committed_at: None }));
            }
            Pumped::Data { start, message } => (start, message),
        };
        let (mut whole_till, mut committed_at) = (None, None);
        if let Some(b'B' | b'C') = message.first() {
            let output = decode(&message).map_err(|bad| self.makes_no_sense(&bad.to_string()))?;
            match output {
                Output::Begin { committed_at, .. } => (self.is_inside, self.committed_at) = (true, Some(committed_at)),
                Output::Commit { end } => {
                    self.is_inside = false;
                    (whole_till, committed_at) = (Some(end), self.committed_at.take());
                }
                _ => return Err(self.makes_no_sense("a message of another kind")),
            }
        }
        let item = SpillItem::Message { start, bytes: message.into() };
        Ok(Some(Said { item, whole_till, committed_at }))
    }

    /// Everything before `position` is durable: the server may forget it.
    pub fn confirm(&self, position: Lsn) {
        self.raw.confirm(position);
    }

    fn makes_no_sense(&self, detail: &str) -> Error {
        WireError::Protocol(detail.to_owned()).failed(&self.raw.source_name, ACTION)
    }
}

impl PostgresSource {
    /// Follows on after `confirmed`, for somebody who reads it later.
    pub fn spill_on(&self, confirmed: Lsn) -> Result<SpillStream, Error> {
        let session = ReplicationSession::connect(self.server())?;
        let raw = RawStream::begin(session, &self.slot_name(), confirmed)?;
        Ok(SpillStream { raw, is_inside: false, committed_at: None })
    }
}
