//! Following a pooled PostgreSQL: how fast, how far behind, in how much memory; and what a moment costs to restore.
//!
//! ```console
//! $ cargo bench --bench pg_capture                          # 1,000 sites, a million changes
//! $ cargo bench --bench pg_capture -- --only captures --rounds 5
//! $ cargo bench --bench pg_capture -- --quick               # 100 sites, 100,000 changes
//! ```
//!
//! ```text
//! make the sites ▸ first capture, a base each ▸ keep slot and repository ▸ work (the backlog)
//! captures   as kept ▸ `lifeboat capture --until-caught-up` · as kept ▸ `pg_recvlogical -f /dev/null` · …
//! lag        `lifeboat capture`, work at half of `pg_recvlogical`'s rate ▸ commit until confirmed
//! replay     as kept ▸ a day of segments, compacted by hours ▸ one site: at its base · at the end of the log · …
//! ```
//!
//! Every round reads the same backlog: the slot is copied, the repository put back. Parts: `captures`, `lag`, `replay`;
//! `--only` takes one. Without `--bench`, as `cargo test --benches` runs it, tiny sizes show that the bench works.

#![allow(clippy::print_stdout)]

mod captures;
mod far;
#[allow(dead_code)] // some of it is for the other bench
#[path = "../pooled_tenant/fleet.rs"]
mod fleet;
mod lag;
mod ours;
mod replay;
mod report;
mod work;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fleet::{Database, Shape};
use lifeboat_bench::Outcome;
use lifeboat_bench::arguments::{self, Arguments, Size};
use ours::Lifeboat;
use report::Report;
use work::Work;

const SETTINGS: [&str; 2] = [
    // Who does not wait for the disk at its commit is on it soon all the same.
    "wal_writer_delay = '10ms'",
    "autovacuum = off",
];

struct Options {
    sites: u32,
    rows: u32,
    /// Of the backlog, each of [`work::CHANGES`] changes.
    transactions: u64,
    lag: Duration,
    /// Segments that the day of the replay has.
    segments: u64,
    rounds: usize,
    /// What is measured; `None`: everything.
    only: Option<String>,
    dir: PathBuf,
}

impl Options {
    fn has(&self, what: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == what)
    }
}

fn main() -> Outcome<()> {
    let options = options()?;
    let Some(cluster) = fleet::cluster(&SETTINGS) else { return Ok(()) };
    let _ = fs::remove_dir_all(&options.dir);
    fs::create_dir_all(&options.dir)?;
    let mut report = Report::new(&options.dir);
    let shape = Shape { sites: options.sites, rows: options.rows, measured: options.rows };
    let database = Database::make(&cluster, "captured", &shape)?;
    let lifeboat = Lifeboat::init(&database, &options.dir)?;
    lifeboat.capture()?; // the epoch, and a base of every site
    let mut work = Work::new(&database)?;
    let kept = captures::Kept::keep(&database, &lifeboat)?;
    report.backlog(&work.backlog(options.transactions)?);
    if options.has("captures") || options.has("lag") {
        captures::measure(&kept, &options, &mut report)?;
    }
    if options.has("lag") {
        lag::measure(&kept, &mut work, &options, &mut report)?;
    }
    if options.has("replay") {
        replay::measure(&kept, &options, &mut report)?;
    }
    report.print();
    report.write()
}

fn options() -> Outcome<Options> {
    let arguments = Arguments::of_process();
    let number = |name: &str, otherwise: u32| arguments.number(name, otherwise);
    // sites, rows of each, transactions, seconds of lag, segments of the day, rounds
    let (kind, [sites, rows, transactions, lag, segments, rounds]) = match arguments.size() {
        Size::Full => ("pg-capture", [1_000, 100, 50_000, 30, 1_440, 3]),
        Size::Quick => ("pg-capture-quick", [100, 100, 5_000, 10, 240, 2]),
        Size::Tiny => ("pg-capture-tiny", [4, 100, 20, 1, 6, 1]),
    };
    Ok(Options {
        sites: number("--sites", sites)?,
        rows,
        transactions: number("--transactions", transactions)?.into(),
        lag: Duration::from_secs(number("--lag-seconds", lag)?.into()),
        segments: number("--segments", segments)?.into(),
        rounds: number("--rounds", rounds)? as usize,
        only: arguments.text("--only").map(str::to_owned),
        dir: arguments::directory().join(kind),
    })
}
