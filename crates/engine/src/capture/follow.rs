//! Following: from the stream into segments, with a look at the tables now and then.
//!
//!   next ▸ take ─ due ─▶ seal ─ due ─▶ index ▸ confirm       until caught up, told to stop, or the epoch is broken
//!        └ each minute, and after a change of structure ─▶ look: new tables, changed publications
//!
//! What is found broken ends the epoch only when all that had happened by then is in the log: the gap is as
//! short as it can be.
//!
//! What is not here: what becomes of each change (`writer`).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifeboat_model::{Fault, Faulty, Lsn};
use lifeboat_source::postgres::capture::{CaptureStream, Captured, ServerClock};

use super::counted::{Broken, renamed};
use super::kept::Kept;
use super::writer::Writer;
use super::{CaptureNews, CaptureRequest, TellNews, after};
use crate::{Engine, Error};

/// A heartbeat of a source in which nothing happens: the log says that it knows.
const IDLE_SEGMENT_EVERY: Duration = Duration::from_secs(60);
/// The first of them comes sooner: until there is one, no base leads anywhere.
const FIRST_IDLE_SEGMENT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// One that takes longer is followed by a rest of four times as long.
const LONG_LOOK: Duration = Duration::from_millis(250);
const ASK_EVERY: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_millis(200);
const WAIT_MIN: Duration = Duration::from_millis(20);

/// Where following ends.
struct Ending {
    /// Everything that committed before it is to be durable.
    at: Lsn,
    /// Why the epoch ends with it.
    broken: Option<Broken>,
}

/// Takes what the source says until it is time to stop; what was taken is durable then.
pub(super) async fn follow(
    engine: &Engine,
    request: &CaptureRequest,
    (stream, writer, mut kept): (&mut CaptureStream, &mut Writer<'_>, Option<Kept>),
    tell: &TellNews,
) -> Result<(), Error> {
    let source = writer.source;
    let ending_now = |writer: &mut Writer<'_>, broken| {
        let now = tokio::task::block_in_place(|| ServerClock::default().ask(source))?;
        writer.note_time(now);
        Ok::<_, Error>(Some(Ending { at: now.position, broken }))
    };
    let mut ending = if request.until_caught_up { ending_now(writer, None)? } else { None };
    let (mut sealed, mut indexed, mut idle_max) = (Instant::now(), Instant::now(), FIRST_IDLE_SEGMENT);
    let (mut looks, mut is_over) = (Looks::default(), false);
    let mut clock = Clock::default();
    while !is_over {
        let taken = tokio::task::block_in_place(|| {
            clock.ask(writer);
            // A segment that is due in a moment is not made to wait for longer.
            let due = request.flush_every.saturating_sub(sealed.elapsed()).clamp(WAIT_MIN, WAIT);
            take_some(request, (stream, writer, due), &mut looks, tell)
        });
        let broken = match taken {
            Ok(broken) => broken,
            Err(error @ (Error::EpochBroken { .. } | Error::SpillLost { .. })) => {
                writer.seal().await?; // what came before it is whole
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        if broken.is_some() && ending.as_ref().is_none_or(|ending| ending.broken.is_none()) {
            ending = ending_now(writer, broken)?;
        }
        if let (Some(ending), Some(till)) = (&mut ending, writer.state.counted.suspected_till()) {
            ending.at = ending.at.max(till);
        }
        is_over = ending.as_ref().is_some_and(|ending| after(writer.taken_till()) >= ending.at) && !writer.is_inside();
        is_over |= engine.cancel.load(Ordering::Relaxed);
        let age = sealed.elapsed();
        let is_index_due = is_over || indexed.elapsed() >= request.flush_every || writer.index.is_full();
        let is_due = writer.len() >= request.flush_bytes
            || (age >= request.flush_every && writer.has_news())
            || age >= idle_max
            || (is_index_due && writer.is_index_behind() && writer.has_news());
        if is_due || is_over {
            seal(engine, writer, tell).await?;
            (sealed, idle_max) = (Instant::now(), IDLE_SEGMENT_EVERY);
        }
        if is_index_due && writer.is_index_behind() {
            let durable = writer.write_index()?;
            stream.confirm(durable);
            indexed = Instant::now();
            if let Some(done) = kept.take_if(|kept| kept.till() <= durable) {
                done.is_done(tell)?;
            }
        }
    }
    match ending.and_then(|ending| ending.broken).filter(|_| !engine.cancel.load(Ordering::Relaxed)) {
        Some(Broken { detail, sound_till }) => {
            Err(Error::EpochBroken { source_name: request.source.clone(), detail, sound_till })
        }
        None => Ok(()),
    }
}

/// Seals what was taken, and tells what follows from it.
async fn seal(engine: &Engine, writer: &mut Writer<'_>, tell: &TellNews) -> Result<(), Error> {
    writer.seal().await?;
    tell(writer.sealed());
    writer.state.losses.settle(engine, writer.source).await.into_iter().for_each(tell);
    let sites = writer.sites_without_base();
    if !sites.is_empty() {
        tell(CaptureNews::NeedBase(sites));
    }
    Ok(())
}

/// Takes what comes, for a moment: until nothing does, or a segment is full. Gives why the epoch must end.
fn take_some(
    request: &CaptureRequest,
    (stream, writer, wait): (&mut CaptureStream, &mut Writer<'_>, Duration),
    looks: &mut Looks,
    tell: &TellNews,
) -> Result<Option<Broken>, Error> {
    let began = Instant::now();
    loop {
        let captured = stream.next(WAIT).map_err(|error| broken_or(error, stream, request))?;
        let (is_idle, is_whole) =
            (matches!(captured, Captured::Idle { .. }), matches!(captured, Captured::Commit { .. }));
        writer.take(captured)?;
        let broken = looks.look(writer, tell)?;
        // Rather between two transactions than inside of one.
        let is_long = began.elapsed() >= if is_whole { wait } else { WAIT * 5 };
        if broken.is_some() || is_idle || is_long || writer.len() >= request.flush_bytes {
            return Ok(broken);
        }
    }
}

/// Asks the server each second where its log is.
#[derive(Default)]
struct Clock {
    server: ServerClock,
    last: Option<Instant>,
}

impl Clock {
    /// One that does not answer is not asked: then it is not known how far the log is, and the stream tells why.
    fn ask(&mut self, writer: &mut Writer<'_>) {
        if self.last.is_none_or(|last| last.elapsed() >= ASK_EVERY) {
            self.last = Some(Instant::now());
            if let Ok(time) = self.server.ask(writer.source) {
                writer.note_time(time);
            }
        }
    }
}

/// Why the stream is over: what goes on later, or what cannot.
fn broken_or(error: lifeboat_source::Error, stream: &CaptureStream, request: &CaptureRequest) -> Error {
    if stream.has_lost_spill() {
        return Error::SpillLost { source_name: request.source.clone(), detail: error.to_string() };
    }
    match stream.has_lost_publication() {
        true => Error::EpochBroken {
            source_name: request.source.clone(),
            detail: "somebody dropped a publication".into(),
            sound_till: None, // the first change since cannot be read
        },
        false => error.into(),
    }
}

/// When the tables were looked at, and what was told of them.
#[derive(Default)]
struct Looks {
    last: Option<Instant>,
    /// What the last one took.
    took: Duration,
    /// A table's structure was changed since.
    is_wanted: bool,
    has_new_structure: bool,
    told: Vec<String>,
}

impl Looks {
    /// Looks at the tables if it is time to. Gives why the epoch must end, if it must.
    fn look(&mut self, writer: &mut Writer<'_>, tell: &TellNews) -> Result<Option<Broken>, Error> {
        if let Some(detail) = writer.state.counted.decide(after(writer.taken_till())) {
            return Ok(Some(Broken { detail, sound_till: Some(writer.sound_till()) }));
        }
        // A router is not changed in the middle of a transaction.
        let is_due = self.last.is_none_or(|last| last.elapsed() >= LOOK_EVERY);
        self.is_wanted |= writer.is_structure_new();
        // Where the catalogue is large, a migration of a thousand schemas is looked at now and then, not a thousand times.
        let rest = if self.took > LONG_LOOK { self.took * 4 } else { Duration::ZERO };
        let has_rested = self.last.is_none_or(|last| last.elapsed() >= rest);
        if writer.is_inside() || !(is_due || (self.is_wanted && has_rested)) {
            return Ok(None);
        }
        let began = Instant::now();
        self.has_new_structure |= self.is_wanted;
        (self.last, self.is_wanted) = (Some(began), false);
        let broken = self.look_now(writer, tell);
        self.took = began.elapsed();
        broken
    }

    fn look_now(&mut self, writer: &mut Writer<'_>, tell: &TellNews) -> Result<Option<Broken>, Error> {
        let looked = ServerClock::default()
            .ask(writer.source)
            .and_then(|now| Ok((now, writer.source.drift()?, writer.source.partitions()?)));
        let (now, drift, partitions) = match looked {
            Ok(looked) => looked,
            Err(error) if error.fault() == Fault::Retry => {
                tell(CaptureNews::LookFailed(error.to_string()));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let unclassed: Vec<String> = drift.unclassed.iter().map(ToString::to_string).collect();
        if unclassed != self.told {
            tell(CaptureNews::Unclassed(unclassed.clone()));
            self.told = unclassed;
        }
        let hides = drift.hides().map(|hides| format!("somebody changed a publication, {hides}"));
        let differs = hides.or_else(|| writer.partitions_differ(&partitions));
        let broken = match differs {
            None if !drift.differences.is_empty() => {
                let joined = writer.source.join_empty_tables()?;
                let now = joined.router.counted_on();
                let renamed =
                    if joined.router.has_own_tables() { None } else { renamed(&writer.state.counted.tables, &now) };
                match joined.router.has_own_tables() {
                    true => writer.state.counted.count_on_new(now),
                    false => writer.state.counted.count_on(now),
                }
                (writer.router, writer.state.partly) = (joined.router, joined.partly);
                let renamed = renamed.map(|table| format!("a table has another name than before: table=`{table}`"));
                let left = joined.left.first();
                renamed.or_else(|| left.map(|table| format!("a table joined that has rows already: table=`{table}`")))
            }
            differs => differs,
        };
        match broken {
            Some(detail) => Ok(Some(Broken { detail, sound_till: Some(writer.sound_till()) })),
            None if writer.router.has_own_tables() && self.has_new_structure => {
                // Names may be others, of tables that are published all the same.
                (writer.router, self.has_new_structure) = (writer.source.current_router()?, false);
                writer.state.counted.count_on_new(writer.router.counted_on());
                Ok(None)
            }
            None if writer.state.counted.is_suspicious() => {
                writer.state.counted.suspect_till(ServerClock::default().ask(writer.source)?.position);
                Ok(None)
            }
            None => {
                writer.state.counted.looked(now.at);
                Ok(None)
            }
        }
    }
}
