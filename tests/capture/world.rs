//! A product under load, captured: base and log beside snapshots that know nothing of the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{AnySource, CaptureReport, CaptureRequest, Engine, EntryLine, Error, Fleet, capture, cat, list};
use lifeboat_format::SecretKey;
use lifeboat_model::{EntryKind, EntryPath, Faulty, PointInTime, RowsDigest, RowsDigests, SiteId, SourceName};
use lifeboat_repo::{ChangeLog, Repository};
use lifeboat_source::postgres::PostgresSource;
use lifeboat_source::postgres::replay::RowSum;
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, pooled_config, pooled_fleet, run_sql, site_name};
use lifeboat_testkit::world::{engine_of, site_id};

use crate::index::Index;
use crate::load::{Seed, transaction};

pub const SITES: u32 = 6;
const ROWS: u32 = 300;

/// A product in a PostgreSQL, and a repository that outlives whoever captures into it.
pub struct World {
    /// Runs as long as this is kept.
    pub server: Postgres,
    pub url: String,
    pub engine: Engine,
    pub index: Index,
    pub store: Arc<MemoryStore>,
    pub master: SecretKey,
}

/// Of each table, by name: how many rows, and what they are proven by.
pub type Rows = BTreeMap<String, (u64, RowsDigest)>;
/// The same of a snapshot, read in full.
pub type Snapshot = BTreeMap<String, (u64, RowsDigests)>;

pub fn app() -> SourceName {
    SourceName::new("app").unwrap()
}

impl World {
    pub async fn new(test: &str) -> Option<Self> {
        Self::with_settings(test, &[]).await
    }

    /// With lines for `postgresql.conf`.
    pub async fn with_settings(test: &str, settings: &[&str]) -> Option<Self> {
        let settings = settings.iter().map(|line| (*line).to_owned()).collect();
        let server = Postgres::start_or_skip(test, &ClusterOptions { settings, ..ClusterOptions::default() })?;
        let url = server.fresh_database().unwrap();
        pooled_fleet(&url, SITES, ROWS).unwrap();
        let (store, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().unwrap());
        Repository::init(store.clone(), &master).await.unwrap();
        let engine = engine_over(&url, store.clone(), &master).await;
        Some(Self { server, url, engine, index: Index::default(), store, master })
    }

    /// As another process would open it all, over a store that may fail.
    pub async fn engine_over(&self, store: Arc<dyn Store>) -> Engine {
        engine_over(&self.url, store, &self.master).await
    }

    /// The same, over the repository of another.
    pub async fn look_at(&mut self, store: Arc<dyn Store>, master: &SecretKey) {
        self.engine = engine_over(&self.url, store, master).await;
    }

    /// The product is at another server now.
    pub async fn is_now_at(&mut self, url: &str) {
        url.clone_into(&mut self.url);
        self.engine = engine_over(url, self.store.clone(), &self.master).await;
    }

    pub async fn catch_up(&mut self) -> CaptureReport {
        let request = request(Duration::from_millis(300), 20_000);
        capture_when_free(&self.engine, &request, &mut self.index).await.unwrap()
    }

    /// Several applications at once, each with a load of its own; what loses against another is tried no more.
    pub fn work(&self, seed: u64, transactions: u64) {
        std::thread::scope(|scope| {
            for worker in 0..4 {
                scope.spawn(move || {
                    let mut seed = Seed(seed * 1_000 + worker);
                    for number in 0..transactions {
                        let sql = transaction(&mut seed, SITES.into(), number * 4 + worker);
                        let _ = run_sql(&self.url, &sql);
                    }
                });
            }
        });
    }

    /// The sums of a site's tables at a point.
    pub async fn rows_at(&self, site: &SiteId, at: &PointInTime) -> Rows {
        rows_of(&self.engine, site, at).await
    }

    /// Every site's rows at the end of the log.
    pub async fn all_replayed(&self) -> Vec<(SiteId, Rows)> {
        let log = ChangeLog::open(&self.engine.repository, &app()).await.unwrap();
        let end = PointInTime::Position(log.appender().await.unwrap().unwrap().complete_till());
        let mut all = Vec::new();
        for number in 1..=SITES {
            let site = site_id(&site_name(number));
            let rows = self.rows_at(&site, &end).await;
            all.push((site, rows));
        }
        all
    }

    /// Each beside the newest snapshot of its site, which is taken now and knows nothing of the log.
    pub async fn expect_as_snapshots(&self, replayed: &[(SiteId, Rows)], when: &str) {
        for (site, replayed) in replayed {
            let snapshot = read_snapshot(&self.engine, site, &PointInTime::Latest).await;
            expect_same(replayed, &snapshot, &format!("{when}, {site}"));
        }
    }
}

pub fn request(flush_every: Duration, flush_bytes: usize) -> CaptureRequest {
    CaptureRequest { until_caught_up: true, flush_every, flush_bytes, ..CaptureRequest::of(app()) }
}

/// The server may take a moment to see that whoever followed before is gone.
pub async fn capture_when_free(
    engine: &Engine,
    request: &CaptureRequest,
    index: &mut Index,
) -> Result<CaptureReport, Error> {
    for _ in 0..100 {
        match capture(engine, request, index, &|_| ()).await {
            Err(Error::CapturedElsewhere { .. }) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => return other,
        }
    }
    panic!("the slot stays in use");
}

pub async fn engine_over(url: &str, store: Arc<dyn Store>, master: &SecretKey) -> Engine {
    let source = PostgresSource::new(app(), pooled_config(url)).unwrap();
    let fleet = Fleet::new(vec![AnySource::Postgres(Box::new(source))]);
    engine_of(fleet, Repository::open(store, master).await.unwrap())
}

/// A site's tables at a point.
pub async fn rows_of(engine: &Engine, site: &SiteId, at: &PointInTime) -> Rows {
    let listing = list(engine, site, at, None, None).await.unwrap_or_else(|error| {
        panic!("{site} at {at}: {error}, {:?}", error.hint());
    });
    let table = |line: EntryLine| match line.entry.kind {
        EntryKind::Table { rows, digest, .. } => Some((line.entry.path.to_string(), (rows, digest))),
        _ => None,
    };
    listing.lines.into_iter().filter_map(table).collect()
}

/// A site's tables in a snapshot, row by row.
pub async fn read_snapshot(engine: &Engine, site: &SiteId, at: &PointInTime) -> Snapshot {
    let mut tables = Snapshot::new();
    for (table, (rows, digest)) in rows_of(engine, site, at).await {
        let RowsDigest::InOrder(in_order) = digest else { panic!("a snapshot has its rows in order") };
        let (mut sum, mut bytes) = (RowSum::default(), Vec::new());
        let mut write = |some: &[u8]| {
            bytes.extend_from_slice(some);
            Ok(())
        };
        let path = EntryPath::new(table.as_str()).unwrap();
        cat(engine, site, at, (&app(), &path), &mut write).await.unwrap();
        bytes.split_inclusive(|byte| *byte == b'\n').for_each(|row| sum.add(row));
        let digests = RowsDigests { in_order, any_order: sum.to_bytes() };
        tables.insert(table, (rows, digests));
    }
    tables
}

/// Row for row the same.
pub fn expect_same(got: &Rows, want: &Snapshot, when: &str) {
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>(), "{when}");
    for (table, (rows, digest)) in got {
        let (want_rows, digests) = &want[table];
        assert!(digests.are(digest), "{when}: {table}, {rows} rows, {want_rows} wanted");
    }
}
