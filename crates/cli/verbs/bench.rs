//! `lifeboat bench`: measured runs, for people as a table, for programs as JSON, for both as a plot.
//!
//!   arguments ─▶ [`Asked`] ─▶ place, links ─▶ directory ─▶ runs (`lifeboat-bench`) ─▶ all removed ─▶ table, JSON, SVG
//!
//! What is not here: what is run and measured (`lifeboat-bench`), and what the runs do (the other verbs, as processes).

mod asked;
mod show;
mod taken;
mod tell;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lifeboat_bench::{
    About, Error, Link, LinkOptions, Measured, Place, Places, Report, Session, Source, Work, back_up, capture, machine,
    recover, restore,
};
use lifeboat_model::{Faulty, Timestamp};

use super::init::file_url;
use crate::args::BenchCommand;
use crate::output::Outcome;
use crate::{CliError, Context};

use asked::{Asked, Bench};
use tell::Told;

pub fn run(command: &BenchCommand, context: &Context) -> Result<Outcome, CliError> {
    let asked = Asked::of(command, context)?;
    let begun = Begun::new(&asked, context)?;
    context.block_on(measure(&asked, &begun, context))
}

/// Names and places of one bench.
struct Begun {
    date: Timestamp,
    /// Of the bench, as files and prefixes have it.
    name: String,
    dir: PathBuf,
    out: PathBuf,
    place: Place,
}

impl Begun {
    fn new(asked: &Asked, context: &Context) -> Result<Self, CliError> {
        let date = Timestamp::now();
        // 2026-11-27T14:25:00Z, without what a name cannot have.
        let digits: String = date.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
        let (seed, process) = (asked.common.seed, std::process::id()); // another may begin in the same second
        let name = format!("{}-{}-{seed}-{process}", &digits[..8], &digits[8..]);
        let absolute = |path: &Path| {
            std::path::absolute(context.path(path)).map_err(|io| {
                CliError::usage(format!("not a directory's path: path=`{}`, reason=`{io}`", path.display()))
                    .with_hint("name a directory that can be written with --dir")
            })
        };
        let dir = absolute(&asked.common.dir)?;
        let out = asked.common.out.as_deref().map(absolute).transpose()?.unwrap_or_else(|| dir.clone());
        expect_writable(&out)?;
        if let Source::Taken(_) = asked.bench.source() {
            [&dir, &out].into_iter().try_for_each(|path| taken::expect_outside(path, context))?;
        }
        let place = match &asked.repository {
            Some(url) => Place::below(url, &format!("bench-{name}"))?,
            None => Place::below(&file_url(&dir.join(format!("work-{name}")))?, "repository")?,
        };
        Ok(Self { date, name, dir, out, place })
    }
}

/// Results that could not be written in the end would be a pity.
fn expect_writable(out: &Path) -> Result<(), CliError> {
    let there = out.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let reason = match rustix::fs::access(there, rustix::fs::Access::WRITE_OK) {
        Ok(()) if there.is_dir() => return Ok(()),
        Ok(()) => "it is no directory".to_owned(),
        Err(errno) => std::io::Error::from(errno).to_string(),
    };
    Err(CliError::operator(format!("results cannot be written: path=`{}`, reason=`{reason}`", there.display()))
        .with_hint("name a directory that can be written with --out"))
}

async fn measure(asked: &Asked, begun: &Begun, context: &Context) -> Result<Outcome, CliError> {
    let (places, links) = links(asked, begun).await?;
    begun.place.expect_empty().await?;
    let work = Work::make(&begun.dir, &format!("work-{}", begun.name), (asked.bytes_needed(), asked.common.keep))?;
    let machine = machine::facts(work.root());
    let program = std::env::current_exe()
        .map_err(|io| CliError::operator(format!("cannot find this program itself: reason=`{io}`")))?;
    let stop = context.cancel.shared();
    let measured = {
        let told = Told::new(asked, context);
        let session = Session {
            program: &program,
            work: &work,
            places: &places,
            rounds: asked.rounds(),
            stop: &stop,
            tell: &told,
        };
        tokio::task::block_in_place(|| run_bench(&asked.bench, &session))
    };
    drop(links);
    if !asked.common.keep {
        tell::removing(context);
        // The first error is the one to tell.
        let removed = begun.place.remove().await;
        if measured.is_ok() {
            removed?;
        }
        drop(work);
    }
    let measured = measured.map_err(|error| explain(&error))?;
    let report = Report::new(about(asked, begun, machine), measured);
    show::write(&report, begun, context)
}

fn run_bench(bench: &Bench, session: &Session<'_>) -> Result<Measured, Error> {
    match bench {
        Bench::Restore(request) => restore(session, request),
        Bench::Backup(request) => back_up(session, request),
        Bench::Recover(request) => recover(session, request),
        Bench::Capture(request) => capture(session, request),
    }
}

/// A link for each way to the store that is asked for.
async fn links(asked: &Asked, begun: &Begun) -> Result<(Places, Vec<Link>), CliError> {
    let (mut far, mut links) = (BTreeMap::new(), Vec::new());
    for way in asked.bench.settings().iter().map(Places::way).filter(|way| *way != (None, None)) {
        if far.contains_key(&way) {
            continue;
        }
        let (delay, rate) = way;
        let round_trip = std::time::Duration::from_micros(delay.unwrap_or(0));
        let (link, place) = begun.place.through(LinkOptions { round_trip, bytes_per_second: rate }).await?;
        links.push(link);
        far.insert(way, place);
    }
    Ok((Places { near: begun.place.clone(), far }, links))
}

fn about(asked: &Asked, begun: &Begun, machine: serde_json::Value) -> About {
    let Asked { bench, common, shape, .. } = asked;
    About {
        bench: bench.name(),
        shown: bench.shown(),
        command: std::env::args().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: begun.date.to_string(),
        seed: common.seed,
        rounds: asked.rounds(),
        shape: shape.clone(),
        repository: begun.place.url().to_owned(),
        machine,
        proof: bench.proof(),
    }
}

/// What the person stopped needs no "run it again to go on": nothing is gone on with.
fn explain(error: &Error) -> CliError {
    match error {
        Error::Cancelled => CliError::new(error.fault(), "stopped as asked; what the bench made is removed"),
        other => CliError::of(other),
    }
}
