//! Users of other sites, at work all the time: reads and writes whose latency is measured.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifeboat_bench::Outcome;
use lifeboat_bench::statistics::percentile;
use lifeboat_testkit::postgres::site_name;

use crate::fleet::Fleet;

const USERS: usize = 4;
/// What a user thinks between two clicks.
const PAUSE: Duration = Duration::from_millis(25);

/// Latencies in seconds, in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<f64>);

impl Latencies {
    /// What came after an earlier look.
    pub fn since(&self, earlier: &Self) -> Self {
        Self(self.0[earlier.0.len()..].to_vec())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn percentile(&self, percent: u32) -> f64 {
        percentile(self.0.iter().copied(), percent)
    }
}

pub struct Traffic {
    seen: Arc<Mutex<Latencies>>,
    stop: Arc<AtomicBool>,
    users: Vec<JoinHandle<Result<(), String>>>,
}

impl Traffic {
    pub fn start(fleet: &Fleet) -> Outcome<Self> {
        let (seen, stop) = (Arc::<Mutex<Latencies>>::default(), Arc::new(AtomicBool::new(false)));
        let users = (0..USERS).map(|user| {
            let (url, sites) = (fleet.url.clone(), fleet.busy());
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            std::thread::spawn(move || work(&url, &sites, user, (&seen, &stop)))
        });
        Ok(Self { seen: Arc::clone(&seen), stop: Arc::clone(&stop), users: users.collect() })
    }

    pub fn so_far(&self) -> Latencies {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that went wrong for them.
    pub fn stop(self) -> Outcome<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.users.into_iter().map(|user| user.join().unwrap_or_else(|_| Err("a user panicked".into())));
        Ok(ended.filter_map(Result::err).collect())
    }
}

/// One user: looks at an issue, changes it, logs work; on one site after the other.
fn work(url: &str, sites: &[u32], user: usize, (seen, stop): (&Mutex<Latencies>, &AtomicBool)) -> Result<(), String> {
    let told = |error: postgres::Error| error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    let mut client = postgres::Client::connect(url, postgres::NoTls).map_err(told)?;
    let mut turn = user;
    while !stop.load(Ordering::Relaxed) {
        let site = site_name(sites[turn % sites.len()]);
        turn += USERS;
        let began = Instant::now();
        let mut transaction = client.transaction().map_err(told)?;
        let row = transaction
            .query_one("SELECT id, title FROM issues WHERE site_id = $1 ORDER BY number LIMIT 1", &[&site])
            .map_err(told)?;
        let issue: i64 = row.get(0);
        let title = format!("looked at {turn} times");
        transaction.execute("UPDATE issues SET title = $2 WHERE id = $1", &[&issue, &title]).map_err(told)?;
        transaction
            .execute("INSERT INTO worklog (site_id, issue_id, seconds) VALUES ($1, $2, 60)", &[&site, &issue])
            .map_err(told)?;
        transaction.commit().map_err(told)?;
        seen.lock().unwrap_or_else(PoisonError::into_inner).0.push(began.elapsed().as_secs_f64());
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
