//! A year of nights, by a clock that the test sets: backups, captures, forgetting, pruning, and what goes wrong in a year.
//!
//!   night ─▶ change content ─▶ one daemon, or two at once ─▶ crash, lost answers, clocks, holds, a store rolled back ─▶ check
//!   day ─▶ transactions, some open for days ─▶ captures: die, fenced, another epoch, compacted
//!
//! After every night each point restores that was not forgotten long enough, and each moment of the window is what it was;
//! after the year and some quiet nights nothing is left that nothing names or needs. With `LIFEBOAT_TEST_FULL=1` there are
//! many whole years, else a third of one. A seed that failed once stays in [`KEPT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use lifeboat_format::SecretKey;
use lifeboat_model::{Hold, Timestamp};
use lifeboat_repo::{Error, Repository};
use lifeboat_store::MemoryStore;
use lifeboat_testkit::crash_runner::is_full;
use lifeboat_testkit::fault_store::Failure;

mod app;
mod capture;
mod erased;
mod host;
mod ledger;
mod mishaps;
mod moments;
mod segments;
mod shortened;
mod stalled;
mod tidy;

use app::App;
use capture::{Compacts, Visit, capture};
pub use host::part;
use host::{Content, Host};
use ledger::{Counts, Ledger};
use mishaps::Mistake;

pub const HOUR: i64 = 3_600_000_000;
pub const DAY: i64 = 24 * HOUR;
/// Every moment of it is restorable.
pub const WINDOW: i64 = 4 * DAY;

/// Seeds that found something once: always tried, and first.
const KEPT: &[u64] = &[];
const YEARS: u64 = 1;
const YEARS_FULL: u64 = 30;
/// A third of a year, or all of it at full size.
const NIGHTS: i64 = 122;
const NIGHTS_FULL: i64 = 365;
/// From the last night on nothing changes any more; longer than any time to wait.
const QUIET_NIGHTS: i64 = 16;
const SITES: [&str; 2] = ["acme", "beta"];
/// Captures of a day.
const VISITS: u64 = 3;
/// Files of a site, and contents that they can have: what is gone comes back.
const FILES: u64 = 6;
const VARIANTS: u64 = 40;
/// Sixteen points are kept by the rules, those of the window and what can be taken back beside them.
const OBJECTS_MAX: u64 = 300;
/// Of the log: some days before a window and a half, and what waits.
const SEGMENTS_MAX: u64 = 600;
struct Year {
    store: Arc<MemoryStore>,
    key: SecretKey,
    app: App,
    ledger: Ledger,
    /// The second one runs in some nights only.
    hosts: [Host; 2],
    sites: BTreeMap<String, Content>,
    random: Random,
    /// Nights till a hold is released.
    held: Option<(String, Hold, i64)>,
    mistake: Option<Mistake>,
    seed: u64,
}

/// Numbers that a seed gives.
pub struct Random(u64);

impl Random {
    pub fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn midnight(night: i64) -> Timestamp {
    Timestamp(1_700_006_400_000_000 + night * DAY)
}

fn nights() -> i64 {
    if is_full() { NIGHTS_FULL } else { NIGHTS }
}

impl Year {
    async fn new(seed: u64) -> Self {
        let (store, key) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
        store.set_clock(midnight(0));
        Repository::init(store.clone(), &key).await.unwrap();
        let hosts = [Host::new(&store, &key).await, Host::new(&store, &key).await];
        let files = |site: u64| (0..FILES).map(|file| (format!("f{file}"), file + site * 3)).collect();
        let sites = (0..).zip(SITES).map(|(number, site)| (site.to_owned(), files(number))).collect();
        let (app, ledger, random) = (App::new(midnight(0), &SITES), Ledger::new(&store), Random(seed));
        Self { store, key, app, ledger, hosts, sites, random, held: None, mistake: None, seed }
    }

    fn names(&self) -> Vec<String> {
        self.sites.keys().cloned().collect()
    }

    async fn run(mut self) -> Counts {
        let (rolled_back, both_ahead) = (40 + self.random.below(300) as i64, 40 + self.random.below(300) as i64);
        for night in 0..nights() {
            let now = midnight(night);
            self.store.set_clock(now);
            self.change();
            // A host's clock that is a year ahead is harmless by itself.
            self.hosts[0].ahead = if self.random.one_in(40) { 365 * DAY } else { 0 };
            self.hold_or_release(night).await;
            if night == rolled_back {
                self.lose_the_newest_commit(now).await;
            }
            if night == both_ahead {
                self.jump_both_clocks(now).await;
            }
            self.work(night, now).await;
            self.undelete().await;
            self.mistake(night).await;
            self.erase(now).await;
            self.check(night, now).await;
            self.day(night).await;
        }
        self.rest().await;
        self.ledger.counts()
    }

    /// A few files get another content, which may be one that they had before.
    fn change(&mut self) {
        for content in self.sites.values_mut() {
            for _ in 0..self.random.below(3) {
                let (file, variant) = (self.random.below(FILES), self.random.below(VARIANTS));
                content.insert(format!("f{file}"), variant);
            }
        }
    }

    /// Between two nights: the database is written to, and followed.
    async fn day(&mut self, night: i64) {
        let mut hours: Vec<u64> = (0..VISITS).map(|_| 1 + self.random.below(22)).collect();
        hours.sort_unstable();
        for hour in hours {
            let now = Timestamp(midnight(night).0 + hour as i64 * HOUR);
            self.app.work(now, &mut self.random);
            self.store.set_clock(now);
            self.visit(now).await;
        }
        self.app.work(midnight(night + 1), &mut self.random);
    }

    fn a_visit(&mut self) -> Visit {
        let compacts = match self.random.below(6) {
            0 | 1 => Compacts::Due,
            2 => Compacts::Range { behind: self.random.below(30), count: 1 + self.random.below(12) },
            _ => Compacts::No,
        };
        Visit { segment: 1 + self.random.below(4) as usize, begins_anew: self.random.one_in(120), compacts }
    }

    /// One host captures, or both at once; who dies of it does so till the next time.
    async fn visit(&mut self, now: Timestamp) {
        let (visit, other, chosen) = (self.a_visit(), self.a_visit(), self.random.below(8));
        for host in &self.hosts {
            if self.random.one_in(8) {
                let failure = if self.random.one_in(2) { Failure::KillBefore } else { Failure::KillAfter };
                host.faults.at_next(1 + self.random.below(25) as usize, failure);
            } else if self.random.one_in(6) {
                host.faults.at_next(1 + self.random.below(25) as usize, Failure::Unclear);
            }
        }
        let [first, second] = &self.hosts;
        let truth = (&self.app, &self.ledger);
        let ended = match chosen {
            0 => {
                let both = (capture(first, truth, now, visit), capture(second, truth, now, other));
                let (one, other) = futures_util::future::join(both.0, both.1).await;
                [one, other]
            }
            1..=4 => [capture(first, truth, now, visit).await, Ok(())],
            _ => [Ok(()), capture(second, truth, now, visit).await],
        };
        self.ended(ended, &format!("at {now}"));
    }

    /// Whoever died may work again; true: somebody did.
    fn ended(&self, ended: [Result<(), Error>; 2], when: &str) -> bool {
        let mut died = false;
        for (host, ended) in self.hosts.iter().zip(ended) {
            match ended {
                Ok(()) => {}
                Err(_) if host.faults.is_killed() => {
                    self.ledger.count(|counts| counts.crashes += 1);
                    died = true;
                }
                Err(error) => panic!("year {}, {when}: {error}", self.seed),
            }
            host.faults.heal();
        }
        died
    }

    /// The daemons' night, and again where they died of it.
    async fn work(&mut self, night: i64, now: Timestamp) {
        let are_two = self.random.one_in(6);
        for host in &self.hosts {
            host.faults.heal();
            match self.random.below(6) {
                0 => host.faults.at_next(1 + self.random.below(90) as usize, Failure::KillBefore),
                1 => host.faults.at_next(1 + self.random.below(90) as usize, Failure::KillAfter),
                2 => {
                    for _ in 0..4 {
                        host.faults.at_next(1 + self.random.below(60) as usize, Failure::Unclear);
                    }
                }
                _ => {}
            }
        }
        let prunes = self.random.one_in(2);
        loop {
            let (visit, captures) = (self.a_visit(), self.random.one_in(3));
            let [first, second] = &self.hosts;
            let other = async {
                match are_two {
                    true => self.one_host(second, prunes, true, now).await,
                    false => Ok(()),
                }
            };
            // While they do, one of them captures.
            let follows = async {
                match captures {
                    true => capture(first, (&self.app, &self.ledger), now, visit).await,
                    false => Ok(()),
                }
            };
            let first = async { self.one_host(first, prunes, false, now).await };
            let (first, other, followed) = futures_util::future::join3(first, other, follows).await;
            let died = self.ended([first.and(followed), other], &format!("night {night}"));
            // Some start again in the same night, others in the next.
            if !died || self.random.one_in(2) {
                return;
            }
        }
    }

    /// One prunes while the other one backs up.
    async fn one_host(&self, host: &Host, prunes: bool, is_early: bool, now: Timestamp) -> Result<(), Error> {
        if prunes && is_early {
            match host.tidy(&self.names(), &self.ledger, now).await {
                // No run yet, on the first night.
                Err(Error::Clock { .. }) => {}
                other => other?,
            }
        }
        host.back_up_all(&self.sites, (&self.app, &self.ledger), now).await?;
        if prunes && !is_early { host.tidy(&self.names(), &self.ledger, now).await } else { Ok(()) }
    }

    async fn check(&mut self, night: i64, now: Timestamp) {
        let context = format!("year {}, night {night}", self.seed);
        let (few, all) = (night % 7 == 0, night % 90 == 89);
        for site in SITES {
            self.ledger.check(&self.hosts[0], site, now, &context).await;
            let chosen = self.random.below(1000) as usize;
            if few || all {
                let is_chosen = |at: usize, count: usize| all || (at + chosen) % count < 3;
                self.ledger.check_restores(&self.hosts[0], site, is_chosen, &context).await;
            }
        }
        let chosen = self.random.below(SITES.len() as u64) as usize;
        for (_, site) in (0..).zip(SITES).filter(|(number, _)| is_full() || *number == chosen) {
            self.check_moments(site, now, &context).await;
        }
        let segments = segments::check(&self.store, &self.hosts[0], &context).await;
        self.ledger.count(|counts| counts.segments_max = counts.segments_max.max(segments));
    }

    /// The window's first moment, the newest, and some between; of a site that is held, since its window then.
    async fn check_moments(&mut self, site: &str, now: Timestamp, context: &str) {
        // Its points are forgotten, and nobody has found out yet.
        let is_mistaken = self.mistake.as_ref().is_some_and(|mistake| mistake.site == site);
        if is_mistaken {
            return;
        }
        let held_at = self.held.as_ref().filter(|(held, ..)| held == site).map(|(_, hold, _)| hold.placed_at);
        let begins = held_at.unwrap_or(now).0 - WINDOW;
        let Some(till) = self.ledger.sealed_last().filter(|till| till.0 > begins) else { return };
        let between = |random: &mut Random| Timestamp(begins + random.below((till.0 - begins) as u64) as i64);
        let moments = match self.random.below(4) {
            0 => vec![Timestamp(begins), between(&mut self.random)],
            1 => vec![till],
            2 => vec![between(&mut self.random)],
            // Beyond the window nothing is promised.
            _ => vec![Timestamp(begins - self.random.below(8 * DAY as u64) as i64)],
        };
        let is_promised = |at: &Timestamp| at.0 >= begins;
        let (promised, beyond): (Vec<_>, Vec<_>) = moments.into_iter().partition(is_promised);
        let truth = (&self.app, &self.ledger);
        moments::check(&self.hosts[0], truth, site, (&promised, true), context).await;
        moments::check(&self.hosts[0], truth, site, (&beyond, false), context).await;
    }

    /// Quiet nights, in which nothing is changed or forgotten any more.
    async fn rest(&mut self) {
        for host in &mut self.hosts {
            host.ahead = 0;
        }
        self.release().await;
        self.find_out().await;
        let context = format!("year {}, at its end", self.seed);
        for night in nights()..nights() + QUIET_NIGHTS {
            let now = midnight(night);
            self.store.set_clock(now);
            self.app.settle(now);
            let [host, _] = &self.hosts;
            let visit = Visit { segment: 1, begins_anew: false, compacts: Compacts::No };
            capture(host, (&self.app, &self.ledger), now, visit).await.unwrap();
            host.back_up_all(&self.sites, (&self.app, &self.ledger), now).await.unwrap();
            host.tidy(&self.names(), &self.ledger, now).await.unwrap();
            for site in SITES {
                self.ledger.check(host, site, now, &context).await;
            }
        }
        let now = midnight(nights() + QUIET_NIGHTS - 1);
        for site in SITES {
            self.ledger.check_restores(&self.hosts[0], site, |_, _| true, &context).await;
            self.ledger.check_rest(&self.hosts[0], site, now, &context).await;
        }
        segments::check_rest(&self.store, &self.hosts[0], now, &context).await;
    }
}

#[test]
fn a_year_of_nights_loses_no_point_and_leaves_nothing_behind() {
    let years = if is_full() { YEARS_FULL } else { YEARS };
    let (began, mut happened) = (Instant::now(), [0; 6]);
    for seed in KEPT.iter().copied().chain(1..=years) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let counts = runtime.block_on(async { Year::new(seed).await.run().await });
        println!("year {seed}: {} nights, {} sites, {counts:?}, {:?} so far", nights(), SITES.len(), began.elapsed());
        assert!(counts.objects_max < OBJECTS_MAX, "year {seed}: there is more than the rules keep: {counts:?}");
        assert!(counts.segments_max < SEGMENTS_MAX, "year {seed}: more of the log than a window needs: {counts:?}");
        let often = [
            [counts.points, counts.forgotten, counts.condemned, counts.deleted],
            [counts.epochs, counts.compactions, counts.log_condemned, counts.log_deleted],
        ];
        let is_usual = often.iter().flatten().all(|count| *count > 0) && counts.moments > 0 && counts.crashes > 10;
        assert!(is_usual, "year {seed}: {counts:?}");
        // A year may lack one of these.
        let rare =
            [counts.undeleted, counts.fenced, counts.refused, counts.erasures, counts.unreadable, counts.mistakes];
        happened.iter_mut().zip(rare).for_each(|(all, of_year)| *all += of_year);
    }
    assert!(!is_full() || happened.iter().all(|count| *count > 0), "{happened:?}");
}
