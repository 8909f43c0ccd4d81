//! Spilling: what the source says is kept on this host, while the store does not answer and the server keeps much.
//!
//!   slot ─▶ raw stream ─▶ sealed records, synced ─ a whole transaction ─▶ confirm        until the store answers,
//!                                                                        it is told to stop, or there is no more room
//!
//! Invariant (spilled-before-confirmed): nothing is confirmed from here but what is in the spill, synced, up to a mark.
//! Invariant (spill-joins-log): a spill begins where the index, and so the log, ends, or goes on where it ended itself;
//! where neither can be, nothing is spilled, and so nothing confirmed.
//!
//! What is not here: when it is time to (`lifeboat-control`), how it gets into the log (`kept`).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifeboat_model::{SourceName, SpillFacts, SpillMark, Timestamp};
use lifeboat_repo::{ChangeLog, Repository, Spill, SpillWriter};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::capture::{Said, SpillStream};
use tokio::task::JoinHandle;

use super::{CaptureIndex, CaptureNews, CaptureRequest, TellNews, after, postgres_source};
use crate::{Engine, Error};

/// How often the store is asked whether it is there again.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A store that takes longer to answer does not.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// What is so old, or so much, is synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const SYNC_BYTES: usize = 1 << 20;
const TELL_EVERY: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_millis(200);

/// Why it ended.
#[derive(Debug)]
pub enum SpillEnd {
    StoreAnswers,
    Stopped,
    /// There is no more room: what comes now stays with the server.
    Full(Error),
    /// It cannot be, and why.
    Unable(String),
}

/// Whether the store says where a source's log ends, soon.
pub async fn store_answers(repository: &Repository, source: &SourceName) -> bool {
    let asked = ChangeLog::open(repository, source);
    tokio::time::timeout(ANSWER_MAX, asked).await.is_ok_and(|opened| opened.is_ok())
}

/// Keeps what the source says on this host. The index must be as it was committed last.
pub async fn spill(
    engine: &Engine,
    request: &CaptureRequest,
    index: &mut dyn CaptureIndex,
    tell: &TellNews,
) -> Result<SpillEnd, Error> {
    let Some(spill) = request.spill.as_ref().filter(|spill| spill.is_wanted()) else {
        return Ok(SpillEnd::Unable("it is not wanted".into()));
    };
    let source = postgres_source(engine, &request.source)?;
    let begun = tokio::task::block_in_place(|| Spilling::begin(source, spill, index));
    let mut spilling = match begun {
        Ok(Ok(spilling)) => spilling,
        Ok(Err(why)) => return Ok(SpillEnd::Unable(why)),
        Err(error @ Error::Repo(lifeboat_repo::Error::SpillFull { .. })) => return Ok(SpillEnd::Full(error)),
        Err(error) => return Err(error),
    };
    let mut probe = Probe::new(&engine.repository, &request.source);
    let end = loop {
        tokio::task::yield_now().await; // whoever waits for us may have another wish
        match tokio::task::block_in_place(|| spilling.take_some(tell)) {
            Ok(()) => {}
            Err(error @ Error::Repo(lifeboat_repo::Error::SpillFull { .. })) => return Ok(SpillEnd::Full(error)),
            Err(error) => return Err(error),
        }
        if engine.cancel.load(Ordering::Relaxed) {
            break SpillEnd::Stopped;
        }
        if probe.answers().await {
            break SpillEnd::StoreAnswers;
        }
    };
    match tokio::task::block_in_place(|| spilling.sync(tell)) {
        Err(Error::Repo(error @ lifeboat_repo::Error::SpillFull { .. })) => Ok(SpillEnd::Full(error.into())),
        other => other.map(|()| end),
    }
}

struct Spilling {
    stream: SpillStream,
    writer: SpillWriter,
    /// What of it is synced, and was told.
    kept: Option<SpillMark>,
    /// What waits ends between two transactions, here.
    mark: Option<SpillMark>,
    committed_at: Option<Timestamp>,
    synced: Instant,
    told: Option<Instant>,
}

impl Spilling {
    /// Where the slot is followed from. The inner error: why it must not be.
    fn begin(
        source: &PostgresSource,
        spill: &Spill,
        index: &mut dyn CaptureIndex,
    ) -> Result<Result<Self, String>, Error> {
        use lifeboat_source::Source;
        let Some(place) = index.place()? else { return Ok(Err("the routing index is not whole".into())) };
        let server = source.server_identity()?;
        let slot = source.capture_slot()?.filter(|slot| slot.lost.is_none());
        let Some(confirmed) = slot.and_then(|slot| slot.facts.confirmed) else {
            return Ok(Err("the slot is gone".into()));
        };
        let facts = SpillFacts {
            source: source.name().clone(),
            epoch: place.epoch,
            system_identifier: server.system_identifier,
            timeline: server.timeline,
            slot: source.slot_name(),
            begins: confirmed,
        };
        // One that cannot be read is left to whoever goes on: it says what is lost with it.
        let seen = spill.look()?;
        let goes_on = seen.filter(|seen| {
            let is_same = SpillFacts { begins: confirmed, ..seen.facts.clone() } == facts;
            is_same && seen.mark.till >= confirmed && seen.facts.begins <= after(place.position)
        });
        let (from, writer) = match goes_on {
            Some(seen) => (seen.mark.till, spill.append(seen.facts, false)?),
            None if confirmed > after(place.position) => {
                return Ok(Err("the slot is further than what this host has".into()));
            }
            None => (confirmed, spill.append(facts, true)?),
        };
        let (stream, synced) = (source.spill_on(from)?, Instant::now());
        Ok(Ok(Self { stream, writer, kept: None, mark: None, committed_at: None, synced, told: None }))
    }

    /// Takes what comes, for a moment.
    fn take_some(&mut self, tell: &TellNews) -> Result<(), Error> {
        let began = Instant::now();
        while began.elapsed() < WAIT {
            let Some(said) = self.stream.next(WAIT)? else { break };
            self.take(said)?;
            if self.writer.waiting() >= SYNC_BYTES && self.mark.is_none() {
                self.writer.write(None)?;
            }
            if self.mark.is_some() && (self.writer.waiting() >= SYNC_BYTES || self.synced.elapsed() >= SYNC_EVERY) {
                self.sync(tell)?;
            }
        }
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync(tell)?;
        }
        Ok(())
    }

    fn take(&mut self, said: Said) -> Result<(), Error> {
        self.committed_at = said.committed_at.or(self.committed_at);
        let last = self.mark.or(self.kept).map(|mark| mark.till);
        if let (true, Some(till)) = (said.is_server_at(), said.whole_till)
            && last.is_some_and(|last| till <= last)
        {
            return Ok(()); // no news
        }
        self.writer.push(&said.item);
        let at = || self.committed_at.unwrap_or_else(Timestamp::now);
        self.mark = said.whole_till.map(|till| SpillMark { till: last.map_or(till, |last| last.max(till)), at: at() });
        Ok(())
    }

    /// What waits and is whole is durable, and then confirmed.
    fn sync(&mut self, tell: &TellNews) -> Result<(), Error> {
        let Some(mark) = self.mark else { return Ok(()) };
        self.writer.write(Some(mark))?;
        self.stream.confirm(mark.till);
        (self.kept, self.mark, self.synced) = (Some(mark), None, Instant::now());
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let is_first = self.told.is_none();
            tell(CaptureNews::OnlyHere { till: mark.till, at: mark.at, bytes: self.writer.len(), is_first });
            self.told = Some(self.synced);
        }
        Ok(())
    }
}

/// Asks the store now and then, without waiting for it.
struct Probe {
    repository: Repository,
    source: SourceName,
    asked: Option<JoinHandle<bool>>,
    last: Instant,
}

impl Probe {
    fn new(repository: &Repository, source: &SourceName) -> Self {
        Self { repository: repository.clone(), source: source.clone(), asked: None, last: Instant::now() }
    }

    async fn answers(&mut self) -> bool {
        match self.asked.take() {
            Some(asked) if asked.is_finished() => {
                self.last = Instant::now();
                asked.await.unwrap_or(false)
            }
            None if self.last.elapsed() >= PROBE_EVERY => {
                let (repository, source) = (self.repository.clone(), self.source.clone());
                let ask = async move { store_answers(&repository, &source).await };
                self.asked = Some(tokio::spawn(ask));
                false
            }
            waits => {
                self.asked = waits;
                false
            }
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(asked) = &self.asked {
            asked.abort();
        }
    }
}
