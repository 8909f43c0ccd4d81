//! Measured restores: of sites one at a time (`bench restore`), of many after an incident (`bench recover`).
//!
//! In place, of sites that were made and are lost, and compared with what they were, byte for byte. A fleet that was
//! not made is never written: its sites are exported.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::program::Program;
use crate::session::{Measured, Session};
use crate::setting::{Dimension, Setting};
use crate::stock::{Site, Source, Stock, of_each_size};
use crate::{Error, Random, Run, Turn};

/// The floor of a restore.
pub const FLOOR: &str = "cp -a, sync -f";

/// What `bench restore` measures.
#[derive(Debug, Clone)]
pub struct RestoreRequest {
    pub source: Source,
    pub settings: Vec<Setting>,
    /// So many sites of each fleet; `None`: all.
    pub sample: Option<usize>,
    pub has_floor: bool,
}

/// Restores sites one at a time, each as a process.
///
/// # Errors
/// The first that comes; what was measured until then is no result.
pub fn restore(session: &Session<'_>, request: &RestoreRequest) -> Result<Measured, Error> {
    let fleets = fleets(session, &request.source, &request.settings)?;
    let sample: BTreeMap<usize, Vec<Site>> =
        fleets.iter().map(|(sites, fleet)| (*sites, fleet.sample(request.sample))).collect();
    let taken = fleets.values().filter(|fleet| !fleet.is_made()).flat_map(|fleet| fleet.sample(request.sample));
    // How much a fleet is that was not made is known only now.
    let exports = (request.settings.len() * session.rounds) as u64;
    session.work.expect_space(taken.map(|site| site.bytes).sum::<u64>().saturating_mul(exports))?;
    let programs = programs(session, &fleets, &request.settings)?;
    let of_round = request.settings.iter().map(|setting| sample[&setting.sites()].len()).sum::<usize>()
        + if request.has_floor { sample.values().map(Vec::len).sum() } else { 0 };
    session.tell.begin((of_round * session.rounds) as u64);
    let mut measured = Measured { fleets: fleets.values().map(Stock::json).collect(), ..Measured::default() };
    for round in 0..session.rounds {
        for (number, setting) in session.in_turn(round, &request.settings) {
            let (fleet, sites) = (&fleets[&setting.sites()], &sample[&setting.sites()]);
            let one = |site: &Site| {
                fleet.lose(site)?;
                rustix::fs::sync();
                let run = restore_one(session, (fleet, site), &programs[number], &export(round, number))?;
                fleet.prove(site)?;
                Ok(run)
            };
            let runs = sites.iter().map(one).collect::<Result<Vec<Run>, Error>>()?;
            measured.add(Turn::of("restore", (setting, round), runs), session.tell);
        }
        for (sites, fleet) in fleets.iter().filter(|(_, fleet)| request.has_floor && fleet.is_made()) {
            let setting = Setting::of([(Dimension::Sites, *sites as u64)]);
            session.tell.doing(FLOOR);
            let runs = fleet.floor(session, (&sample[sites], round))?;
            measured.add(Turn::of(FLOOR, (&setting, round), runs), session.tell);
        }
    }
    Ok(measured)
}

/// What `bench recover` measures.
#[derive(Debug, Clone)]
pub struct RecoverRequest {
    pub source: Source,
    pub settings: Vec<Setting>,
    /// Sites that are lost.
    pub lost: usize,
    /// Restores under way at once.
    pub parallel: usize,
}

/// The sites that are lost, as the seed chooses them.
fn choose(fleet: &Stock, lost: usize, seed: u64) -> Vec<Site> {
    let mut random = Random::new(seed);
    let mut sites = fleet.sites.clone();
    for at in (1..sites.len()).rev() {
        sites.swap(at, random.below(at as u64 + 1) as usize);
    }
    sites.truncate(lost);
    sites
}

/// Loses many sites of a fleet, and restores them: one process after another, then several at once.
///
/// # Errors
/// The first that comes; what was measured until then is no result.
pub fn recover(session: &Session<'_>, request: &RecoverRequest) -> Result<Measured, Error> {
    let fleets = fleets(session, &request.source, &request.settings)?;
    let seed = if let Source::Made(shape) = &request.source { shape.seed } else { 0 };
    let lost: BTreeMap<usize, Vec<Site>> =
        fleets.iter().map(|(sites, fleet)| (*sites, choose(fleet, request.lost, seed))).collect();
    let programs = programs(session, &fleets, &request.settings)?;
    let of_round: usize = request.settings.iter().map(|setting| 2 * lost[&setting.sites()].len()).sum();
    session.tell.begin((of_round * session.rounds) as u64);
    let mut measured = Measured { fleets: fleets.values().map(Stock::json).collect(), ..Measured::default() };
    for round in 0..session.rounds {
        for (number, setting) in session.in_turn(round, &request.settings) {
            let (fleet, sites) = (&fleets[&setting.sites()], &lost[&setting.sites()]);
            let mut singles = f64::NAN;
            for at_once in [1, request.parallel] {
                sites.iter().try_for_each(|site| fleet.lose(site))?;
                rustix::fs::sync();
                let program = &programs[number];
                let (wall_seconds, runs) = restore_many(session, (fleet, sites), program, at_once)?;
                sites.iter().try_for_each(|site| fleet.prove(site))?;
                let task = if at_once == 1 { "one after another".to_owned() } else { format!("{at_once} at once") };
                let mut turn = Turn { wall_seconds, ..Turn::of(&task, (setting, round), runs) };
                if at_once == 1 {
                    singles = turn.runs.iter().map(|run| run.cost.wall_seconds).sum();
                }
                turn.numbers.insert("wall_per_sum_of_singles", wall_seconds / singles);
                measured.add(turn, session.tell);
            }
        }
    }
    Ok(measured)
}

/// Restores sites, `at_once` of them at a time; how long all of it took.
fn restore_many(
    session: &Session<'_>,
    (fleet, sites): (&Stock, &[Site]),
    program: &Program<'_>,
    at_once: usize,
) -> Result<(f64, Vec<Run>), Error> {
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (next, runs_of_all) = (&next, &runs);
    let began = Instant::now();
    let work = |number: usize| {
        let scratch = program.scratch.join(number.to_string());
        let program = Program { scratch, ..program.clone() };
        while let Some(site) = sites.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = restore_one(session, (fleet, site), &program, "")?;
            runs_of_all.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Err(Error::Panicked)))
    })?;
    let wall_seconds = began.elapsed().as_secs_f64();
    Ok((wall_seconds, runs.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

/// One process; where the fleet is not ours, into a new directory below `export`.
fn restore_one(
    session: &Session<'_>,
    (fleet, site): (&Stock, &Site),
    program: &Program<'_>,
    export: &str,
) -> Result<Run, Error> {
    session.tell.doing(&format!("restoring {}", site.id));
    let exported = session.work.path(export).join(&site.id).display().to_string();
    let place: &[&str] = if fleet.is_made() { &[] } else { &["--export", &exported] };
    if !fleet.is_made() {
        session.work.dir(export)?;
    }
    let answer = program.run_among_others(&[&["restore", &site.id, "--yes"], place].concat())?;
    session.tell.step();
    Ok(Run {
        site: Some(site.id.clone()),
        cost: answer.cost,
        logical_bytes: Some(site.bytes),
        requests: answer.number("requests"),
        bytes_read: answer.number("bytes_read"),
        bytes_needed: Some(site.stored_bytes),
    })
}

fn export(round: usize, setting: usize) -> String {
    format!("export-{round}-{setting}")
}

/// A fleet for each number of sites, backed up.
fn fleets(session: &Session<'_>, source: &Source, settings: &[Setting]) -> Result<BTreeMap<usize, Stock>, Error> {
    of_each_size(settings, |setting| {
        let mut fleet = Stock::make(session, source, setting)?;
        fleet.keep_plain(session)?;
        fleet.back_up(session)?;
        Ok(fleet)
    })
}

fn programs<'s>(
    session: &'s Session<'_>,
    fleets: &BTreeMap<usize, Stock>,
    settings: &[Setting],
) -> Result<Vec<Program<'s>>, Error> {
    let numbered = settings.iter().enumerate();
    numbered.map(|(at, setting)| session.program(fleets[&setting.sites()].aim(), setting, at + 1)).collect()
}

#[cfg(test)]
mod tests;
