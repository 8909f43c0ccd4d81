//! The drill: a bad script deletes 883 of 5,000 sites of one PostgreSQL and their attachments, and one command brings
//! them back while others go on working.
//!
//! ```console
//! $ cargo bench --bench recovery_drill                   # 883 of 5,000 sites; needs 5 GB and some minutes
//! $ cargo bench --bench recovery_drill -- --quick        # 60 of 300 sites
//! $ cargo bench --bench recovery_drill -- --sites 5000 --lost 883 --rows 120 --parallel 8
//! ```
//!
//! In one run, on one machine: some mean sites are restored alone, one after another; then the script strikes, and
//! `recover plan` and `recover run` are measured, with fifty other sites at work before and meanwhile. In the end every row
//! and every file of everybody but those fifty is compared. The cluster is made by `initdb`, `fsync = on`;
//! `LIFEBOAT_BENCH_DIR` says where all of it lies (default `target/bench`). Without `--bench`, as `cargo test --benches`
//! runs it, a tiny fleet shows that the drill works.

#![allow(clippy::print_stdout)]

mod fleet;
mod ours;
#[allow(dead_code)] // some of it is for the other benches
#[path = "../pooled_tenant/fleet.rs"]
mod pooled;
mod report;
mod traffic;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use lifeboat_bench::arguments::{self, Arguments, Size};
use lifeboat_bench::{Outcome, machine};
use lifeboat_testkit::postgres::Postgres;

use fleet::Fleet;
use ours::Lifeboat;
use report::Report;
use traffic::Traffic;

const SETTINGS: [&str; 1] = ["maintenance_work_mem = '256MB'"];

/// What is drilled.
#[derive(Debug, Clone)]
pub struct Drill {
    pub sites: u32,
    pub lost: u32,
    /// Sites whose users go on working.
    pub busy: u32,
    /// Rows of a mean site, in all its tables.
    pub rows: u32,
    pub parallel: u32,
    /// Mean sites that are restored alone.
    pub alone: u32,
    /// How long the quiet is measured.
    pub quiet: Duration,
    pub dir: PathBuf,
    pub is_measured: bool,
}

fn main() -> Outcome<()> {
    let drill = drill()?;
    let Some(cluster) = pooled::cluster(&SETTINGS) else { return Ok(()) };
    let _ = fs::remove_dir_all(&drill.dir);
    fs::create_dir_all(&drill.dir)?;
    let report = rehearse(&cluster, &drill)?;
    report.print();
    report.write()?;
    report.refuse_wrong()?;
    fs::remove_dir_all(&drill.dir)?;
    Ok(())
}

fn rehearse(cluster: &Postgres, drill: &Drill) -> Outcome<Report> {
    let mut report = Report::new(drill);
    let fleet = Fleet::make(cluster, drill)?;
    let lifeboat = Lifeboat::init(&fleet, drill)?;
    report.backup(lifeboat.run(&["backup", "--all"])?);
    let before = fleet.picture()?;
    for site in fleet.mean_sites(drill.alone) {
        fleet.delete(&[site])?;
        report.alone(lifeboat.restore(site)?);
    }
    fleet.expect(&before, "the sites restored alone")?;
    let traffic = Traffic::start(&fleet)?;
    std::thread::sleep(drill.quiet);
    let quiet = traffic.so_far();
    fleet.delete(&fleet.lost())?;
    println!("{} of {} sites are deleted: load average {}", drill.lost, drill.sites, machine::load_average());
    let struck = traffic.so_far();
    let (planned, run) = lifeboat.recover(drill)?;
    let during = traffic.so_far().since(&struck);
    let errors = traffic.stop()?;
    report.recovery(&planned, &run);
    report.bystanders(&quiet, &during, errors);
    fleet.expect(&before, "the recovery")?;
    report.needed(lifeboat.stored_bytes_of(&fleet.lost())?);
    println!("compared: every row and file of {} sites is as before", drill.sites - drill.busy);
    Ok(report)
}

fn drill() -> Outcome<Drill> {
    let arguments = Arguments::of_process();
    let number = |name: &str, otherwise: u32| arguments.number(name, otherwise);
    // sites, lost, busy, rows, alone, seconds of quiet
    let (kind, [sites, lost, busy, rows, alone, quiet]) = match arguments.size() {
        Size::Full => ("drill", [5_000, 883, 50, 120, 9, 20]),
        Size::Quick => ("drill-quick", [300, 60, 20, 120, 5, 5]),
        Size::Tiny => ("drill-tiny", [300, 60, 20, 120, 2, 2]),
    };
    Ok(Drill {
        sites: number("--sites", sites)?,
        lost: number("--lost", lost)?,
        busy,
        rows: number("--rows", rows)?,
        parallel: number("--parallel", 8)?,
        alone,
        quiet: Duration::from_secs(quiet.into()),
        dir: arguments::directory().join(kind),
        is_measured: arguments.size() == Size::Full,
    })
}
