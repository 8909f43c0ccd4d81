//! A year of nights, by a clock that the test sets: backups, forgetting, pruning, and what goes wrong in a year.
//!
//!   night ─▶ change content ─▶ one daemon, or two at once ─▶ crash, lost answers, clocks, holds, a store rolled back ─▶ check
//!
//! After every night each point restores that was not forgotten long enough; after the year and some quiet nights nothing is
//! left that nothing names. With `LIFEBOAT_TEST_FULL=1` there are more years. A seed that failed once stays in [`KEPT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use lifeboat_format::{SecretKey, names};
use lifeboat_model::{CommitEvent, Hold, HoldId, HoldReason, Timestamp};
use lifeboat_repo::{Error, Repository};
use lifeboat_store::{MemoryStore, ObjectName, Store};
use lifeboat_testkit::crash_runner::is_full;
use lifeboat_testkit::fault_store::Failure;

mod host;
mod ledger;

pub use host::part;
use host::{Content, DAY, Host};
use ledger::{Counts, Ledger};

/// Seeds that found something once: always tried, and first.
const KEPT: &[u64] = &[];
const YEARS: u64 = 2;
const YEARS_FULL: u64 = 30;
const NIGHTS: i64 = 365;
/// From the last night on nothing changes any more; longer than any time to wait.
const QUIET_NIGHTS: i64 = 16;
const SITES: [&str; 2] = ["acme", "beta"];
/// Files of a site, and contents that they can have: what is gone comes back.
const FILES: u64 = 6;
const VARIANTS: u64 = 40;
/// Sixteen points are kept by the rules, those of the window and what can be taken back beside them.
const OBJECTS_MAX: u64 = 300;

struct Year {
    store: Arc<MemoryStore>,
    ledger: Ledger,
    /// The second one runs in some nights only.
    hosts: [Host; 2],
    sites: BTreeMap<String, Content>,
    random: Random,
    /// Nights till a hold is released.
    held: Option<(String, Hold, i64)>,
    seed: u64,
}

/// Numbers that a seed gives.
struct Random(u64);

impl Random {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

fn midnight(night: i64) -> Timestamp {
    Timestamp(1_700_006_400_000_000 + night * DAY)
}

impl Year {
    async fn new(seed: u64) -> Self {
        let (store, key) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
        store.set_clock(midnight(0));
        Repository::init(store.clone(), &key).await.unwrap();
        let hosts = [Host::new(&store, &key).await, Host::new(&store, &key).await];
        let files = |site: u64| (0..FILES).map(|file| (format!("f{file}"), file + site * 3)).collect();
        let sites = (0..).zip(SITES).map(|(number, site)| (site.to_owned(), files(number))).collect();
        Self { ledger: Ledger::new(&store), store, hosts, sites, random: Random(seed), held: None, seed }
    }

    fn names(&self) -> Vec<String> {
        self.sites.keys().cloned().collect()
    }

    async fn run(mut self) -> Counts {
        let (rolled_back, both_ahead) = (40 + self.random.below(300) as i64, 40 + self.random.below(300) as i64);
        for night in 0..NIGHTS {
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
            self.check(night, now).await;
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
            let [first, second] = &self.hosts;
            let other = async {
                match are_two {
                    true => self.one_host(second, prunes, true, now).await,
                    false => Ok(()),
                }
            };
            let ended = futures_util::future::join(self.one_host(first, prunes, false, now), other).await;
            let mut died = false;
            for (host, ended) in self.hosts.iter().zip([ended.0, ended.1]) {
                match ended {
                    Ok(()) => {}
                    Err(_) if host.faults.is_killed() => {
                        self.ledger.count(|counts| counts.crashes += 1);
                        died = true;
                    }
                    Err(error) => panic!("year {}, night {night}: {error}", self.seed),
                }
                host.faults.heal();
            }
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
        host.back_up_all(&self.sites, &self.ledger, now).await?;
        if prunes && !is_early { host.tidy(&self.names(), &self.ledger, now).await } else { Ok(()) }
    }

    async fn undelete(&mut self) {
        if !self.random.one_in(12) {
            return;
        }
        let mut site = self.hosts[0].open(SITES[self.random.below(2) as usize]).await.unwrap();
        if let Some(record) = site.state().forgotten.last().cloned() {
            let event = CommitEvent::Undeleted { snapshots: vec![record.id] };
            site.commit(&lifeboat_engine::this_process(), |_, _| Ok(event.clone())).await.unwrap();
        }
    }

    async fn hold_or_release(&mut self, night: i64) {
        if let Some((site, hold, till)) = self.held.take_if(|(_, _, till)| *till <= night) {
            let mut site = self.hosts[0].open(&site).await.unwrap();
            let event = CommitEvent::HoldReleased { hold: hold.id };
            site.commit(&lifeboat_engine::this_process(), |_, _| Ok(event.clone())).await.unwrap();
            assert_eq!(till, night);
        } else if self.held.is_none() && self.random.one_in(50) {
            let name = SITES[self.random.below(2) as usize];
            let (id, placed_at) = (HoldId((night as u64).to_be_bytes()), midnight(night));
            let hold = Hold { id, reason: HoldReason::Asked, note: "legal".into(), placed_at };
            let mut site = self.hosts[0].open(name).await.unwrap();
            let event = CommitEvent::HoldPlaced(hold.clone());
            site.commit(&lifeboat_engine::this_process(), |_, _| Ok(event.clone())).await.unwrap();
            self.held = Some((name.to_owned(), hold, night + 10));
        }
    }

    /// The store is as it was a commit ago: it is found out, and nothing is done to it.
    async fn lose_the_newest_commit(&self, now: Timestamp) {
        let [host, _] = &self.hosts;
        let site = host.open(SITES[0]).await.unwrap();
        let name = ObjectName::new(names::commit(&site.handle(), site.head().generation)).unwrap();
        let body = self.store.get(&name).await.unwrap();
        self.store.delete(&name).await.unwrap();
        let before = self.store.objects();
        let backup = host.back_up_all(&self.sites, &self.ledger, now).await;
        assert!(matches!(backup, Err(Error::RolledBack { .. })), "{backup:?}");
        let prune = host.tidy(&self.names(), &self.ledger, now).await;
        let is_found_out = matches!(prune, Err(Error::RolledBack { .. } | Error::Clock { .. }));
        assert!(is_found_out, "{prune:?}");
        assert_eq!(self.store.objects(), before, "something was done to a store that lost commits");
        self.store.replace(&name, body);
    }

    /// Neither clock is believed that is a year past the newest run.
    async fn jump_both_clocks(&mut self, now: Timestamp) {
        let ahead = Timestamp(now.0 + 365 * DAY);
        self.store.set_clock(ahead);
        let [host, _] = &self.hosts;
        let before = self.store.objects();
        let refused = host.tidy(&self.names(), &self.ledger, ahead).await;
        assert!(matches!(refused, Err(Error::Clock { .. })), "{refused:?}");
        assert_eq!(self.store.objects(), before);
        self.store.set_clock(now);
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
    }

    /// Quiet nights, in which nothing is changed or forgotten any more.
    async fn rest(&mut self) {
        for host in &mut self.hosts {
            host.ahead = 0;
        }
        self.hold_or_release(i64::MAX / 2).await;
        let context = format!("year {}, at its end", self.seed);
        for night in NIGHTS..NIGHTS + QUIET_NIGHTS {
            let now = midnight(night);
            self.store.set_clock(now);
            let [host, _] = &self.hosts;
            host.back_up_all(&self.sites, &self.ledger, now).await.unwrap();
            host.tidy(&self.names(), &self.ledger, now).await.unwrap();
            for site in SITES {
                self.ledger.check(host, site, now, &context).await;
            }
        }
        for site in SITES {
            self.ledger.check_restores(&self.hosts[0], site, |_, _| true, &context).await;
            self.ledger.check_rest(&self.hosts[0], site, &context).await;
        }
    }
}

#[test]
fn a_year_of_nights_loses_no_point_and_leaves_nothing_behind() {
    let years = if is_full() { YEARS_FULL } else { YEARS };
    let began = Instant::now();
    for seed in KEPT.iter().copied().chain(1..=years) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let counts = runtime.block_on(async { Year::new(seed).await.run().await });
        println!("year {seed}: {NIGHTS} nights, {} sites, {counts:?}, {:?} so far", SITES.len(), began.elapsed());
        assert!(counts.objects_max < OBJECTS_MAX, "year {seed}: there is more than the rules keep: {counts:?}");
        let happened = [counts.points, counts.forgotten, counts.undeleted, counts.condemned, counts.deleted];
        assert!(happened.iter().all(|count| *count > 0) && counts.crashes > 10, "year {seed}: {counts:?}");
    }
}
