//! Random moments under a live load, each beside an oracle that was recorded at that moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lifeboat_engine::Engine;
use lifeboat_format::SecretKey;
use lifeboat_model::{PointInTime, SiteId, SnapshotId, Timestamp};
use lifeboat_repo::Repository;
use lifeboat_store::MemoryStore;
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};
use tokio::sync::RwLock;

use crate::load::{Over, Seed, transaction};
use crate::world::{SITES, World, engine_over, expect_same, read_snapshot};

/// Changes of structure, and what befalls whole tables, in the order of the run.
const UPHEAVALS: [&str; 9] = [
    "ALTER TABLE users ADD COLUMN score int DEFAULT 7",
    "ALTER TABLE users RENAME COLUMN score TO points",
    "ALTER TABLE worklog ADD COLUMN kind text",
    "ALTER TABLE issues ADD COLUMN opened date DEFAULT '2022-04-05'",
    "TRUNCATE audit.events",
    "DROP TABLE attachments",
    "ALTER TABLE users DROP COLUMN points",
    "ALTER TABLE worklog ADD COLUMN price numeric(8,2) DEFAULT 1.50, DROP COLUMN kind",
    "ALTER TABLE issues RENAME COLUMN opened TO begun",
];

/// A moment, and the snapshots of the oracle that were taken in it.
struct Recorded {
    at: Timestamp,
    snapshots: Vec<(SiteId, SnapshotId)>,
}

/// Several applications that can be halted between two transactions.
struct Load<'l> {
    url: &'l str,
    gate: RwLock<()>,
    is_over: AtomicBool,
    done: AtomicU64,
}

impl Load<'_> {
    fn work(&self, seed: u64) {
        let mut seed = Seed(seed);
        for number in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let sql = transaction(&mut seed, SITES.into(), number);
            let _open = self.gate.blocking_read();
            // What loses against another is tried no more.
            self.done.fetch_add(u64::from(run_sql(self.url, &sql).is_ok()), Ordering::Relaxed);
        }
    }
}

async fn record(load: &Load<'_>, oracle: &Engine) -> Recorded {
    let _closed = load.gate.write().await;
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text";
    let at = tokio::task::block_in_place(|| query_text(load.url, now)).unwrap()[0][0].clone().unwrap();
    backup_all(oracle).await.unwrap();
    let mut snapshots = Vec::new();
    for number in 1..=SITES {
        let site = site_id(&site_name(number));
        let newest = oracle.site(&site).await.unwrap().state().snapshots.last().unwrap().id;
        snapshots.push((site, newest));
    }
    Recorded { at: Timestamp(at.parse().unwrap()), snapshots }
}

async fn run(seed: u64, moments: usize) {
    const TEST: &str = "at_random_moments_under_load_every_site_is_what_an_oracle_recorded_then";
    let Some(mut world) = World::new(TEST).await else { return };
    let master = SecretKey::generate().unwrap();
    let store = std::sync::Arc::new(MemoryStore::new());
    Repository::init(store.clone(), &master).await.unwrap();
    let oracle = engine_over(&world.url, store, &master).await;
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    let url = world.url.clone();
    let load = Load { url: &url, gate: RwLock::new(()), is_over: AtomicBool::new(false), done: AtomicU64::new(0) };
    let mut recorded = Vec::new();
    let mut random = Seed(seed * 77);
    std::thread::scope(|scope| {
        let _over = Over(&load.is_over);
        for worker in 0..4 {
            let load = &load;
            scope.spawn(move || load.work(seed * 1_000 + worker));
        }
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for moment in 0..moments {
                    tokio::time::sleep(Duration::from_millis(20 + random.below(80))).await;
                    recorded.push(record(&load, &oracle).await);
                    if moment % (moments / UPHEAVALS.len()).max(1) == 1
                        && let Some(sql) = UPHEAVALS.get(moment * UPHEAVALS.len() / moments)
                    {
                        run_sql(load.url, sql).unwrap();
                    }
                    if moment % 3 == 0 {
                        let report = world.catch_up().await;
                        assert_eq!((report.begun, report.unrouted), (None, 0), "seed {seed}, moment {moment}");
                    }
                    if moment == moments / 3 || moment == moments * 2 / 3 {
                        backup_all(&world.engine).await.unwrap(); // a base in the middle of the load
                    }
                }
            });
        });
    });
    // Later than the last moment something must have been captured.
    world.work(seed + 9, 2);
    world.catch_up().await;
    assert!(load.done.load(Ordering::Relaxed) > moments as u64 * 2, "the load did nothing");
    for (number, Recorded { at, snapshots }) in recorded.iter().enumerate() {
        // Scaled down, two sites of each moment.
        let checked = if moments >= 100 { snapshots.len() } else { 2 };
        for (site, snapshot) in snapshots.iter().cycle().skip(number).take(checked) {
            let want = read_snapshot(&oracle, site, &PointInTime::Snapshot(*snapshot)).await;
            let got = world.rows_at(site, &PointInTime::Time(*at)).await;
            expect_same(&got, &want, &format!("seed {seed}, moment {number}, {at}, {site}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn at_random_moments_under_load_every_site_is_what_an_oracle_recorded_then() {
    let is_full = std::env::var_os("LIFEBOAT_TEST_FULL").is_some();
    let (seeds, moments) = if is_full { (3, 100) } else { (1, 12) };
    for seed in 1..=seeds {
        run(seed, moments).await;
    }
}
