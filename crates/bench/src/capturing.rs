//! Measured captures: the program follows databases while applications write to all of them.
//!
//!   start ▸ warm up ▸ write for so long, at an even pace ▸ stop writing ▸ wait until nothing more comes ▸ end
//!                     ╰── processor time of the capture ──╯ ╰── lag: to the last object of the log ──╯
//!
//! After each turn some sites are restored from the log as they are in the end, and compared with what the
//! applications have. The writers are threads of this process: what they take is not the capture's.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lifeboat_model::Timestamp;
use lifeboat_store::{OpenOptions, Store};
use rusqlite::Connection;
use wait4::Wait4;

use crate::fleet::{DATABASE, open_database, update_row};
use crate::process::{Cost, handle_of};
use crate::program::{Program, failure, read_lines};
use crate::session::{Measured, Session};
use crate::setting::{Dimension, Setting};
use crate::stock::{Source, Stock, of_each_size};
use crate::{Error, Random, Run, Turn, at, tree};

/// Of a site's databases each takes a few: what a process may have open by itself is 1,024.
pub const SITES_MAX: u64 = 250;
/// An object comes to the log within the interval of flushing and of looking; when none came for so long, none will.
const QUIET: Duration = Duration::from_secs(8);
/// No lag is waited for longer.
const LAG_MAX: Duration = Duration::from_secs(120);
/// Of the program, when nobody says otherwise.
const FLUSH_MILLISECONDS: u64 = 5_000;
const POLL: Duration = Duration::from_millis(100);
/// Sites that are restored after each turn.
const PROVEN: usize = 3;
const LOG: &str = "log/";
const LISTED_MAX: usize = 1_000_000;
/// What `/proc` counts processor time in: USER_HZ, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What `bench capture` measures.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    pub source: Source,
    /// Each with [`Dimension::Transactions`].
    pub settings: Vec<Setting>,
    pub seconds: u64,
}

/// Captures a fleet of databases that is written to.
///
/// # Errors
/// The first that comes; what was measured until then is no result.
pub fn capture(session: &Session<'_>, request: &CaptureRequest) -> Result<Measured, Error> {
    let fleets = of_each_size(&request.settings, |setting| {
        let mut fleet = Stock::make(session, &request.source, setting)?;
        fleet.back_up(session)?;
        // A capture that begins anew reads every file from end to end: that is not measured.
        let program = session.program(fleet.aim(), &Setting::default(), 0)?;
        program.run(&["capture", "--until-caught-up", "--source", "data"])?;
        Ok(fleet)
    })?;
    session.tell.begin((session.rounds * request.settings.len()) as u64);
    let mut measured = Measured { fleets: fleets.values().map(Stock::json).collect(), ..Measured::default() };
    for round in 0..session.rounds {
        for (number, setting) in session.in_turn(round, &request.settings) {
            let fleet = &fleets[&setting.sites()];
            let program = session.program(fleet.aim(), setting, number + 1)?;
            let load = Load {
                a_second: setting.get(Dimension::Transactions).unwrap_or(1),
                warm_up: Duration::from_secs((request.seconds / 5).max(1)),
                measured: Duration::from_secs(request.seconds),
                seed: round as u64,
            };
            session.tell.doing("writing and capturing");
            let store = open_log(session, fleet, setting)?;
            let (moment, cost, numbers) = one_turn(session, (fleet, &program), store.as_ref(), &load)?;
            prove(session, (fleet, &program), moment, &format!("export-{round}-{number}"))?;
            session.tell.step();
            let run = Run { cost, ..Run::default() };
            measured.add(Turn { numbers, ..Turn::of("capture", (setting, round), vec![run]) }, session.tell);
        }
    }
    Ok(measured)
}

/// What applications do.
#[derive(Debug, Clone, Copy)]
struct Load {
    a_second: u64,
    warm_up: Duration,
    measured: Duration,
    seed: u64,
}

/// A capture that is under way; killed when it is dropped before its end.
struct Following(Option<Child>);

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn one_turn(
    session: &Session<'_>,
    (fleet, program): (&Stock, &Program<'_>),
    store: &dyn Store,
    load: &Load,
) -> Result<(Timestamp, Cost, BTreeMap<&'static str, f64>), Error> {
    let live = fleet.live().ok_or(Error::Panicked)?;
    let opened = fleet.sites.iter().map(|site| {
        let dir = live.join(&site.id);
        open_database(&dir).map_err(|error| Error::Database { path: dir, detail: error.to_string() })
    });
    let databases = opened.collect::<Result<Vec<Connection>, Error>>()?;
    let before = objects(store)?;
    fs::create_dir_all(&program.scratch).map_err(at(&program.scratch))?;
    let arguments = ["capture", "--source", "data"];
    let (said, complained) = (program.scratch.join("stdout"), program.scratch.join("stderr"));
    let mut command = program.command(&arguments);
    command.stdin(Stdio::null()).stdout(File::create(&said).map_err(at(&said))?);
    command.stderr(File::create(&complained).map_err(at(&complained))?);
    rustix::fs::sync();
    let began = Instant::now();
    let child = command.spawn().map_err(at(session.program))?;
    let (id, handle) = (child.id(), handle_of(&child));
    let mut following = Following(Some(child));

    let (written, until) = (AtomicU64::new(0), AtomicBool::new(false));
    let (moment, share, rate, lag) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(databases, load, (&written, &until)));
        let watched = watch(session, (id, load, &written), &until);
        until.store(true, Ordering::Relaxed);
        // They stay open until the lag is known: the last one that closes writes to its file.
        let databases = writer.join().unwrap_or(Err(Error::Panicked))?;
        let (share, rate) = watched?;
        let lag = wait_until_quiet(session, store, before)?;
        // Not when writing ended: what was written last counts from the look that found it.
        let moment = Timestamp::now();
        drop(databases);
        Ok::<_, Error>((moment, share, rate, lag))
    })?;
    let segments = objects(store)?.saturating_sub(before);
    if let Some(handle) = handle {
        let _ = rustix::process::pidfd_send_signal(handle, rustix::process::Signal::TERM);
    }
    let ended = following.0.take().ok_or(Error::Panicked)?.wait4().map_err(at(session.program))?;
    if !ended.status.success() {
        return Err(failure(&arguments, &read_lines(&said)?, ended.status.code()));
    }
    let cost = Cost {
        wall_seconds: began.elapsed().as_secs_f64(),
        user_seconds: ended.rusage.utime.as_secs_f64(),
        sys_seconds: ended.rusage.stime.as_secs_f64(),
        peak_bytes: ended.rusage.maxrss,
    };
    let numbers = [
        ("core_percent", share * 100.0),
        ("transactions_per_second", rate),
        ("lag_seconds", lag),
        ("objects", segments as f64),
    ];
    Ok((moment, cost, numbers.into_iter().collect()))
}

/// Restores a few sites from the log, and fails unless each is what the applications wrote. Their connections are
/// closed: all that they wrote is in the files.
fn prove(
    session: &Session<'_>,
    (fleet, program): (&Stock, &Program<'_>),
    moment: Timestamp,
    export: &str,
) -> Result<(), Error> {
    let (live, dir) = (fleet.live().ok_or(Error::Panicked)?, session.work.dir(export)?);
    for site in fleet.sample(Some(PROVEN)) {
        let exported = dir.join(&site.id);
        let (at_moment, place) = (moment.to_string(), exported.display().to_string());
        program.run_among_others(&["restore", &site.id, "--at", &at_moment, "--export", &place, "--yes"])?;
        let (wanted, got) = (live.join(&site.id).join(DATABASE), exported.join("data").join(DATABASE));
        if !tree::same_bytes(&wanted, &got).map_err(at(&got))? {
            return Err(Error::Differs { site: site.id, path: DATABASE.into() });
        }
    }
    Ok(())
}

/// The share of a core that the capture takes, and the transactions a second that were written meanwhile.
fn watch(
    session: &Session<'_>,
    (id, load, written): (u32, &Load, &AtomicU64),
    stop: &AtomicBool,
) -> Result<(f64, f64), Error> {
    wait(session, load.warm_up, stop)?;
    let (began, cpu_before, written_before) = (Instant::now(), processor_seconds(id)?, written.load(Ordering::Relaxed));
    wait(session, load.measured, stop)?;
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), processor_seconds(id)? - cpu_before);
    let written = written.load(Ordering::Relaxed) - written_before;
    // The capture flushes at even times, and so would the writing end: at the same moment between two flushes each time.
    let more = Random::new(load.seed).below(FLUSH_MILLISECONDS);
    wait(session, Duration::from_millis(more), stop)?;
    Ok((cpu / seconds, written as f64 / seconds))
}

fn wait(session: &Session<'_>, time: Duration, stop: &AtomicBool) -> Result<(), Error> {
    let began = Instant::now();
    while began.elapsed() < time && !stop.load(Ordering::Relaxed) {
        session.check()?;
        std::thread::sleep(POLL.min(time.saturating_sub(began.elapsed())));
    }
    Ok(())
}

/// Writes at an even pace until it is told to end; gives the databases back, still open.
fn write(
    databases: Vec<Connection>,
    load: &Load,
    (written, until): (&AtomicU64, &AtomicBool),
) -> Result<Vec<Connection>, Error> {
    let mut random = Random::of(load.seed, [load.a_second, databases.len() as u64]);
    let began = Instant::now();
    while !until.load(Ordering::Relaxed) {
        let number = random.below(databases.len() as u64) as usize;
        if let Err(error) = update_row(&databases[number], &mut random) {
            until.store(true, Ordering::Relaxed);
            let path = databases[number].path().unwrap_or_default().into();
            return Err(Error::Database { path, detail: error.to_string() });
        }
        let written = written.fetch_add(1, Ordering::Relaxed) + 1;
        let due = Duration::from_secs_f64(written as f64 / load.a_second as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    Ok(databases)
}

/// Processor seconds of a process until now.
fn processor_seconds(id: u32) -> Result<f64, Error> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).map_err(at(path.as_ref()))?;
    // The name, in parentheses, may hold anything. User and system time are the 12th and 13th after it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / TICKS_PER_SECOND)
}

/// Seconds from now until the last object came to the log; the time between two looks is its error.
fn wait_until_quiet(session: &Session<'_>, store: &dyn Store, before: usize) -> Result<f64, Error> {
    let (began, mut known, mut last) = (Instant::now(), before, Duration::ZERO);
    while began.elapsed() < last + QUIET && began.elapsed() < LAG_MAX {
        session.check()?;
        let count = objects(store)?;
        if count != known {
            (known, last) = (count, began.elapsed());
        }
        std::thread::sleep(POLL);
    }
    Ok(last.as_secs_f64())
}

/// The repository of a fleet, to look whether its log grows.
fn open_log(session: &Session<'_>, fleet: &Stock, setting: &Setting) -> Result<std::sync::Arc<dyn Store>, Error> {
    let url = session.places.of(setting).repository(fleet.aim().repository);
    let opened = async { lifeboat_store::open(&url, &OpenOptions::default()).await };
    Ok(tokio::runtime::Handle::current().block_on(opened)?.store)
}

fn objects(store: &dyn Store) -> Result<usize, Error> {
    Ok(tokio::runtime::Handle::current().block_on(store.list(LOG, None, LISTED_MAX))?.len())
}
