//! Any recorded version, put together from a snapshot and the log, beside a history that is told anew.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_engine::{Moment, SiteOutcome, capture_pages};
use lifeboat_model::Timestamp;
use lifeboat_testkit::world::{backup_all, noise, site_id};

use crate::history;
use crate::world::{World, at, notes, request};

/// Sites whose files are there before they are captured, and how each keeps its journal.
const OLD: [(&str, &str); 5] = [("a", "WAL"), ("b", "WAL"), ("c", "DELETE"), ("d", "TRUNCATE"), ("e", "WAL")];
/// One that comes while capturing.
const NEW: (&str, &str) = ("new", "WAL");
const VERSIONS: usize = 100;

/// When each transaction of a site had committed.
type Commits = BTreeMap<&'static str, Vec<Timestamp>>;

/// Works on every file at once until told to stop.
fn work(world: &World, seed: u64, stop: &AtomicBool) -> Commits {
    std::thread::scope(|scope| {
        let sites = OLD.iter().chain([&NEW]).enumerate();
        let workers: Vec<_> = sites
            .map(|(place, (site, mode))| {
                scope.spawn(move || {
                    let connection = match *site == NEW.0 {
                        true => {
                            std::thread::sleep(Duration::from_millis(1_200));
                            world.begin(site, mode, (seed, 0))
                        }
                        false => history::open(&world.path(site), mode),
                    };
                    let (mut commits, from) = (Vec::new(), history::content(&connection).0);
                    while !stop.load(Ordering::Relaxed) {
                        let number = from + commits.len() as u64 + 1;
                        history::step(&connection, seed + place as u64, number);
                        commits.push(Timestamp::now());
                        let pause = noise(seed + number, 1)[0] % 24;
                        // Some files rest for longer than a round.
                        let rests = if number.is_multiple_of(50) { 400 } else { 0 };
                        std::thread::sleep(Duration::from_millis(u64::from(pause) + rests));
                    }
                    (*site, commits)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

/// A capture under way beside working applications and two backups.
async fn captured(world: &World, seed: u64) -> Commits {
    let (engine, other) = (world.engine().await, world.engine().await);
    let (stop, cancel) = (AtomicBool::new(false), engine.cancel.clone());
    let mut index = world.index();
    let request = lifeboat_engine::PagesRequest { until_caught_up: false, ..request() };
    let director = async {
        let mut backups = Vec::new();
        for (wait, backs_up) in [(900, true), (1_800, true), (1_500, false)] {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if backs_up {
                backups.push(backup_all(&other).await);
            }
        }
        stop.store(true, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(400)).await;
        cancel.store(true, Ordering::Relaxed);
        backups
    };
    let (commits, report, backups) = std::thread::scope(|scope| {
        let worker = scope.spawn(|| work(world, seed, &stop));
        let run = async { tokio::join!(capture_pages(&engine, &request, &mut index), director) };
        let (report, backups) = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(run));
        (worker.join().unwrap(), report.unwrap(), backups)
    });
    for backup in backups {
        let sites = backup.unwrap().sites;
        assert!(!sites.iter().any(|site| matches!(site.outcome, SiteOutcome::Failed(_))), "{sites:?}");
    }
    assert!(report.troubles.is_empty(), "{:?}", report.troubles);
    assert!(report.versions > 20 && report.segments > 5, "{report:?}");
    commits
}

async fn every_version_is_one_of_the_history(seed: u64) {
    let world = World::new().await;
    for (place, (site, mode)) in OLD.iter().enumerate() {
        drop(world.begin(site, mode, (seed + place as u64, 5)));
    }
    let commits = captured(&world, seed).await;
    world.catch_up().await;
    let mut all = Vec::new();
    for (place, (site, _)) in OLD.iter().chain([&NEW]).enumerate() {
        let steps = commits[site].len() as u64 + if *site == NEW.0 { 0 } else { 5 };
        let contents = history::contents(seed + place as u64, steps);
        let versions = world.versions(&site_id(site)).await;
        assert!(versions.len() > 2, "{site}: {} versions", versions.len());
        all.extend(versions.into_iter().map(|version| (*site, contents.clone(), version)));
        world.expect_as_live(site, &format!("seed {seed}")).await;
    }
    let (mut restored, mut number) = (0, 0);
    while restored < VERSIONS {
        let random = noise(seed * 99 + number, 4).iter().fold(0usize, |all, byte| all << 8 | usize::from(*byte));
        number += 1;
        assert!(number < 1_000, "most versions cannot be restored: {restored}");
        let (site, contents, version) = &all[random % all.len()];
        let when = format!("seed {seed}, {site}, version {}", version.commit);
        let Ok((replayed, replica)) = world.replay(site, at(version.commit)).await else {
            continue; // before the first snapshot; proven below to be few
        };
        assert!(replayed.version.is_none_or(|found| found.position <= version.commit), "{when}: {replayed:?}");
        replica.expect_sound(&when);
        let (count, content) = history::content(&replica.open());
        assert_eq!(Some(&content), contents.get(count as usize), "{when}, {count} transactions: {replayed:?}");
        restored += 1;
    }
    assert!(number < VERSIONS as u64 * 2, "{} of {number} could not be restored", number - VERSIONS as u64);
    times_are_met(&world, &commits).await;
}

/// At any time the file holds what had committed some time before, and nothing that committed later.
async fn times_are_met(world: &World, commits: &Commits) {
    for (site, commits) in commits {
        let old = if *site == NEW.0 { 0 } else { 5 };
        for share in [60, 75, 90] {
            let moment = commits[commits.len() * share / 100];
            let (replayed, replica) = world.replay(site, Moment::Time(moment)).await.unwrap();
            let (count, _) = history::content(&replica.open());
            let till = |time: Timestamp| commits.iter().filter(|commit| **commit <= time).count() as u64 + old;
            // One that is committing while the file is read may be in it before its commit is noted.
            let (least, most) = (till(Timestamp(moment.0 - 3_000_000)), till(Timestamp(moment.0)) + 1);
            assert!((least..=most).contains(&count), "{site}: {count} not in {least}..={most}: {replayed:?}");
            assert_eq!(replayed.known_till, moment);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_recorded_version_is_the_file_as_it_was_first_seed() {
    every_version_is_one_of_the_history(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_recorded_version_is_the_file_as_it_was_second_seed() {
    every_version_is_one_of_the_history(2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn any_recorded_version_is_the_file_as_it_was_third_seed() {
    every_version_is_one_of_the_history(3_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_time_beyond_the_log_or_before_any_snapshot_is_refused() {
    let world = World::new().await;
    drop(world.begin("a", "WAL", (1, 5)));
    world.catch_up().await;
    let error = world.replay("a", Moment::End).await.err().unwrap();
    assert!(error.to_string().contains("no restorable point"), "{error}");
    backup_all(&world.engine().await).await.unwrap();
    world.expect_as_live("a", "joined by the sum of what was seen").await;
    let beyond = Timestamp(Timestamp::now().0 + 60_000_000);
    assert!(world.replay("a", Moment::Time(beyond)).await.is_err());
    assert!(world.replay("a", Moment::Time(Timestamp(0))).await.is_err());
    assert_eq!(notes().as_str(), "notes");
}
