//! A day of a daemon whose store fails one request in twenty, with nobody there to help.
//!
//! ```text
//! writers ─▶ PostgreSQL, SQLite, files ─▶ lifeboat run ─▶ proxy: 5 % struck ─▶ S3
//!    └─ what was written when ─▶ compared, row for row ◀─ lifeboat restore --at ◀─┘
//! ```
//!
//! What an hour is to a daemon is what it does in it. The configuration alone makes time pass sixty times as fast, so that
//! 24 minutes have the work of 24 hours: what is due each minute (`daemon.poll`, `alarms.every`) is due each second, scans
//! each five seconds in place of five minutes, a look for new sites each 15 seconds. The 17,280 segments that a log
//! flushed each five seconds has in a day come of `flush_bytes = "1KiB"` and of transactions that are larger. Backups,
//! drills, pruning and reading back come far more often than that, each 20 seconds to 12 minutes. At full size
//! (`LIFEBOAT_TEST_FULL`) the storm lasts until a day's segments are in the log, and 24 minutes at least; else it is
//! twelve minutes of that day.
//!
//! Not scaled: the program's own pauses (between retries, after a job that failed, between looks at database files) and
//! compaction, which follows the clock. A request takes as long as ever, so that a cycle of alarms, with all it asks, takes
//! more than its second: how many there were is printed, with everything else that was done.
//!
//! The storm blows from before `init` until after the last restore. Its seed is `LIFEBOAT_STORM_SEED`, else one that is
//! kept here.
//!
//! What is not here: outages (`daemon`), what befalls which request (`testkit::s3_proxy`).

mod fleet;
mod proof;
mod sky;

use std::time::{Duration, Instant};

use lifeboat_testkit::postgres::{ClusterOptions, Postgres};
use lifeboat_testkit::s3_server::S3Server;

use crate::daemon::Daemon;
use fleet::Fleet;
use sky::Sky;

/// Segments of a day, one each five seconds.
const DAY_SEGMENTS: u64 = 17_280;
/// A day, sixty times as fast.
const DAY: Duration = Duration::from_secs(24 * 60);
const TWELVE_MINUTES: Duration = Duration::from_secs(12);
/// Longer than this a day may not take.
const DAY_MAX: Duration = Duration::from_secs(35 * 60);
/// Lag that is no lag: a segment each second, one request that is struck, and what `status` itself takes to ask.
const FLUSHED: u64 = 4;

fn is_full() -> bool {
    std::env::var_os("LIFEBOAT_TEST_FULL").is_some()
}

fn seed() -> u64 {
    std::env::var("LIFEBOAT_STORM_SEED").map_or(20_220_405, |seed| seed.parse().expect("LIFEBOAT_STORM_SEED: a number"))
}

#[test]
fn a_day_of_a_store_that_fails_one_request_in_twenty_costs_no_change_and_nobody_a_step() {
    const TEST: &str = "a_day_of_a_store_that_fails_one_request_in_twenty_costs_no_change_and_nobody_a_step";
    let Some(s3) = S3Server::shared_or_skip(TEST) else { return };
    let options = ClusterOptions { settings: vec!["wal_level = logical".into()], ..ClusterOptions::default() };
    let Some(cluster) = Postgres::start_or_skip(TEST, &options) else { return };
    println!("seed {}", seed());
    let sky = Sky::over(s3, seed());
    let database = cluster.fresh_database().expect("a database");
    let (place, hook) = sky.place(&database);
    let fleet = Fleet::begin(&place, &database, seed());
    let mut daemon = Daemon::start(&place, "daemon.log");
    daemon.wait_for("backed up", 1);
    daemon.wait_for("app: follows changes from here on (epoch 1)", 1);
    proof::wait_until_well(&place);

    let began = Instant::now();
    let writing = fleet.write(seed());
    let (mut moments, mut lags) = (Vec::new(), Vec::new());
    let step = if is_full() { DAY / 8 } else { TWELVE_MINUTES / 3 };
    loop {
        std::thread::sleep(step);
        moments.push(writing.moment());
        lags.extend(sky::lag(&place, "app"));
        if moments.len() == 1 {
            writing.bear();
        }
        let is_over = match is_full() {
            true => began.elapsed() >= DAY && sky.segments("app") >= DAY_SEGMENTS,
            false => began.elapsed() >= TWELVE_MINUTES,
        };
        if is_over || began.elapsed() >= DAY_MAX {
            break;
        }
    }
    // While they go on writing, the log is as far as it can be.
    let till = Instant::now() + Duration::from_secs(60);
    let lag = loop {
        match sky::lag(&place, "app") {
            Some(lag) if lag <= FLUSHED => break lag,
            lag => assert!(Instant::now() < till, "the log stays behind: {lag:?} {:#?}", daemon.lines()),
        }
    };
    let stormed = began.elapsed();
    let mut last = writing.end();
    println!("lag while it stormed: {lags:?} s, at its end {lag} s");

    last.at = proof::settled(&place, &last, &|| fleet.pulse());
    println!("captured till {} after {} s", last.at, began.elapsed().as_secs());
    let restored = proof::restore_all(&place, &moments, &last);
    println!("restored after {} s", began.elapsed().as_secs());
    proof::nothing_is_left(&place, &daemon);
    println!("looked through after {} s", began.elapsed().as_secs());
    sky.tell(&daemon, &hook, stormed);
    println!("restored: {restored}");
    if is_full() {
        assert!(sky.segments("app") >= DAY_SEGMENTS, "{}", sky.segments("app"));
    }
    daemon.signal("-TERM");
    assert_eq!(daemon.ended(), Some(0), "{:#?}", daemon.lines());
}
