//! A night of 10,000 sites, most of them unchanged, and what comes with it: the daemon, what is asked about the fleet by
//! day, and the end of points.
//!
//! ```console
//! $ cargo bench --bench night                                          # 10,000 sites, in a directory and in SeaweedFS
//! $ cargo bench --bench night -- --place dir --only night --rounds 5
//! $ cargo bench --bench night -- --quick                               # 500 sites: does it work?
//! ```
//!
//! | part | what the program does, as a process | aim |
//! |---|---|---|
//! | `night` | `backup --all`: all sites new, none changed, some changed | 20 ms of CPU and 4 requests a site |
//! | `daemon` | `run`, through its first nights, with alarms, reading back and pruning beside them | 200 MB |
//! | `catalog` | `sites`, `status`, `points SITE`, `catalog rebuild`, of few sites and of many | the same a site, within 20 % |
//! | `prune` | `forget` and `prune` of the whole fleet; `prune` of one site of a million chunks | 256 MB for the latter |
//!
//! Each site is one file of some 200 bytes, every hundredth has eight of 16 to 256 KB besides. Requests are counted by the
//! program's own meter, from after the repository was opened; catalog and prune are measured in a directory. `LIFEBOAT_BENCH_DIR`
//! says where all of it lies (default `target/bench`). A site that is missing and an exit code other than 0 fail the
//! bench; slowness does not. Without `--bench`, as `cargo test --benches` runs it, a tiny fleet shows that it works.
//!
//! What is not here: one site among few and among many (`benches/many_sites`), sites of a PostgreSQL (`benches/pooled_tenant`).

#![allow(clippy::print_stdout)]

mod aims;
mod catalog;
mod daemon;
mod fleet;
mod nights;
mod options;
mod ours;
mod pruning;
mod report;

use std::fs;

use lifeboat_bench::{Outcome, machine};

use catalog::Known;
use fleet::{Fleet, LargeSite};
use options::{Options, Part};
use ours::Place;
use report::Report;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = Options::read(&words)?;
    let _ = fs::remove_dir_all(&options.dir);
    fs::create_dir_all(&options.dir)?;
    let mut report = Report::new(&options);
    let mut fleets = Vec::new();
    for sites in [options.few(), options.sites] {
        fleets.push(Fleet::make(&options.dir, sites)?);
    }
    in_each_place(&mut fleets, &options, &mut report)?;
    in_a_directory(&mut fleets, &options, &mut report)?;
    report.print();
    report.write()?;
    fs::remove_dir_all(&options.dir)?;
    Ok(())
}

/// The nights, and the daemon.
fn in_each_place(fleets: &mut [Fleet], options: &Options, report: &mut Report) -> Outcome<()> {
    if !options.has(Part::Night) && !options.has(Part::Daemon) {
        return Ok(());
    }
    let mut places = Vec::new();
    if options.in_directory {
        places.push(Place::Directory);
    }
    if options.in_s3 {
        places.push(Place::server()?);
    }
    let rounds = if options.has(Part::Night) { options.rounds } else { 0 };
    for round in 0..rounds {
        for place in &places {
            for fleet in &mut *fleets {
                nights::measure(place, fleet, (options, round), report)?;
            }
        }
        println!("round {} of {rounds}: load average {}", round + 1, machine::load_average());
    }
    if options.has(Part::Daemon) {
        for place in &places {
            daemon::measure(place, &fleets[1], options, report)?;
        }
    }
    Ok(())
}

/// What is asked by day, and the end of points.
fn in_a_directory(fleets: &mut [Fleet], options: &Options, report: &mut Report) -> Outcome<()> {
    if options.has(Part::Catalog) {
        let known = [Known::make(&fleets[0], options)?, Known::make(&fleets[1], options)?];
        for round in 0..options.rounds {
            catalog::one_round(&known, round, report)?;
            println!("round {} of {}: load average {}", round + 1, options.rounds, machine::load_average());
        }
    }
    if options.has(Part::Prune) {
        pruning::measure_fleet(&mut fleets[1], options, report)?;
        pruning::measure_large(&LargeSite::make(&options.dir, options.chunks)?, options, report)?;
    }
    Ok(())
}
