//! The task that owns the connection while it streams: it reads, answers the server, and hands on.
//!
//! ```text
//! server ──CopyData──▶ pump ──batches, a few──▶ whoever calls `CaptureStream::next`
//!        ◀──status────      ◀──confirmed───────
//! ```
//!
//! It lives on a thread of its own, so that the server hears of us every ten seconds and whenever it asks,
//! even while the caller is busy writing a segment. When the queue is full nothing more is read: the server
//! waits, and keeps its log.
//!
//! Invariant (confirm-only-durable): no position is confirmed to the server but those the caller confirmed,
//! not even where nothing happened since: whoever finds the slot further than the log knows that somebody
//! else has moved it.
//!
//! What is not here: what the messages say.

use std::time::Duration;

use bytes::Bytes;
use lifeboat_model::Lsn;
use postgres_protocol::message::backend::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::wire::{Copied, Incoming, Wire, WireError, read_copied, refusal, unexpected};

const STATUS_EVERY: Duration = Duration::from_secs(10);
/// After half of it without a word we ask; after all of it the connection is given up. A server that decodes
/// a large transaction may be silent for long.
const SILENCE_MAX: Duration = Duration::from_secs(300);
/// A batch that is waiting for room grows to this; a single message may be longer.
const BATCH_BYTES: usize = 256 * 1024;
/// What the server goes on with while a segment is sealed: with less of it, it waits each time.
pub(super) const BATCHES: usize = 16;
/// A server that is being stopped asks again as soon as it is answered. One that is not asks every 30 s.
const ASKED_MAX: u32 = 20;
const ASKED_WITHIN: Duration = Duration::from_secs(2);

/// What the caller is handed.
pub(super) enum Pumped {
    Data {
        start: Lsn,
        message: Bytes,
    },
    /// Everything that committed before it has been handed over.
    ServerAt(Lsn),
}

pub(super) type Batch = Result<Vec<Pumped>, WireError>;

/// Runs until the connection ends, or nobody listens any more.
pub(super) async fn pump(mut wire: Wire, batches: mpsc::Sender<Batch>, confirmed: watch::Receiver<Lsn>) {
    let mut pump = Pump {
        confirmed,
        batch: Vec::new(),
        batch_bytes: 0,
        last_heard: Instant::now(),
        owes_answer: false,
        asked: 0,
        asked_since: Instant::now(),
    };
    let end = pump.run(&mut wire, &batches).await;
    // First: the caller may take its time, and the server must not wait for that.
    wire.close().await;
    if !pump.batch.is_empty() {
        let _ = batches.send(Ok(pump.batch)).await;
    }
    if let Err(error) = end {
        let _ = batches.send(Err(error)).await;
    }
}

struct Pump {
    confirmed: watch::Receiver<Lsn>,
    batch: Vec<Pumped>,
    batch_bytes: usize,
    last_heard: Instant,
    owes_answer: bool,
    asked: u32,
    asked_since: Instant,
}

/// What happened first.
enum Event {
    Came(Incoming),
    Confirmed,
    Tick,
    HandedOn,
    NobodyListens,
}

impl Pump {
    async fn run(&mut self, wire: &mut Wire, batches: &mpsc::Sender<Batch>) -> Result<(), WireError> {
        let mut ticks = interval(STATUS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (is_full, has_some) = (self.batch_bytes >= BATCH_BYTES, !self.batch.is_empty());
            let event = tokio::select! {
                changed = self.confirmed.changed() => if changed.is_ok() { Event::Confirmed } else { Event::NobodyListens },
                _ = ticks.tick() => Event::Tick,
                permit = batches.reserve(), if has_some => match permit {
                    Ok(permit) => {
                        permit.send(Ok(std::mem::take(&mut self.batch)));
                        self.batch_bytes = 0;
                        Event::HandedOn
                    }
                    Err(_) => Event::NobodyListens,
                },
                incoming = wire.receive(), if !is_full => Event::Came(incoming?),
            };
            let wants_answer = match event {
                Event::NobodyListens => return Ok(()),
                Event::HandedOn => continue,
                Event::Came(incoming) => {
                    self.take_all(wire, incoming)?;
                    if !std::mem::take(&mut self.owes_answer) {
                        continue;
                    }
                    false
                }
                Event::Confirmed => false,
                Event::Tick => self.look_at_the_clock(is_full)?,
            };
            let confirmed = *self.confirmed.borrow_and_update();
            wire.send_status(confirmed, wants_answer).await?;
        }
    }

    /// Takes what has come in one go, so that a batch is not a message.
    fn take_all(&mut self, wire: &mut Wire, first: Incoming) -> Result<(), WireError> {
        self.last_heard = Instant::now();
        let mut next = Some(first);
        while let Some(incoming) = next {
            self.take(incoming)?;
            next = if self.batch_bytes < BATCH_BYTES { wire.buffered()? } else { None };
        }
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) -> Result<(), WireError> {
        match incoming {
            Incoming::Other(Message::CopyData(body)) => match read_copied(body.into_bytes())? {
                Copied::Data { start, message } => {
                    self.asked = 0;
                    self.batch_bytes += message.len();
                    self.batch.push(Pumped::Data { start, message });
                }
                Copied::Keepalive { end, wants_answer } => {
                    if wants_answer {
                        self.count_asking()?;
                        self.owes_answer = true;
                    }
                    // Of several in a row the last says it all.
                    match self.batch.last_mut() {
                        Some(Pumped::ServerAt(last)) => *last = end,
                        _ => self.batch.push(Pumped::ServerAt(end)),
                    }
                }
            },
            Incoming::Other(Message::ErrorResponse(body)) => return Err(refusal(body.fields())),
            Incoming::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
            // The server leaves: it is being stopped, and we had confirmed everything.
            Incoming::Other(Message::CopyDone | Message::CommandComplete(_)) => return Err(WireError::Stopping),
            _ => return Err(unexpected("in the stream")),
        }
        Ok(())
    }

    /// A server that is being stopped waits until all is confirmed, which may take until our store is back:
    /// nobody's database is kept from stopping. What is not confirmed comes again.
    fn count_asking(&mut self) -> Result<(), WireError> {
        if self.asked == 0 || self.asked_since.elapsed() > ASKED_WITHIN {
            (self.asked, self.asked_since) = (0, Instant::now());
        }
        self.asked += 1;
        if self.asked >= ASKED_MAX { Err(WireError::Stopping) } else { Ok(()) }
    }

    /// Whether to ask the server for a sign of life.
    fn look_at_the_clock(&mut self, is_full: bool) -> Result<bool, WireError> {
        if is_full {
            self.last_heard = Instant::now(); // nothing was read, so nothing was heard
        }
        let silent = self.last_heard.elapsed();
        if silent >= SILENCE_MAX { Err(WireError::Silent(silent)) } else { Ok(silent >= SILENCE_MAX / 2) }
    }
}
