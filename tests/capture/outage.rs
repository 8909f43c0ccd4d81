//! A capture in a process of its own, whose store can be taken away, and which can be killed: the test binary started again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use lifeboat_control::capturing::{Capturing, News};
use lifeboat_control::{RoutingFile, RoutingPlace};
use lifeboat_engine::{CaptureIndex, CaptureNews, CaptureRequest, Error, IndexPlace};
use lifeboat_format::SecretKey;
use lifeboat_model::{EpochId, SiteId, SourceName};
use lifeboat_repo::Spill;
use lifeboat_source::postgres::routing::{IndexKey, RoutingIndex};
use lifeboat_store::{DirectoryStore, Listed, ObjectName, Store};

use crate::host::Host;
use crate::world::{app, engine_over};

const TASK: &str = "LIFEBOAT_TEST_CAPTURE_TASK";
/// Between two tries the capture waits up to a minute.
const PATIENCE: Duration = Duration::from_secs(150);
/// What stands in the file when the store is to hang.
const HANGS: &str = "hangs";
/// Log that the server may keep: the alarm is at half of it.
pub const SLOT_LIMIT: u64 = 64 << 20;

/// A capture of a host, over a store that is away while there is a file of that name.
pub struct Outage {
    child: Child,
    away: PathBuf,
    told: PathBuf,
}

impl Outage {
    pub fn start(host: &Host, url: &str, spill_limit: u64) -> Self {
        let (away, told) = (host.path("away"), host.path("told.log"));
        let task = [host.path("").to_str().unwrap().to_owned(), url.to_owned(), spill_limit.to_string()].join("\n");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["outage::a_started_process_captures", "--exact", "--nocapture", "--test-threads=1"])
            .env(TASK, task)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&told).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, away, told }
    }

    pub fn takes_store_away(&self) {
        std::fs::write(&self.away, "").unwrap();
    }

    /// It takes requests, and does not answer until it is back.
    pub fn makes_store_hang(&self) {
        std::fs::write(&self.away, HANGS).unwrap();
    }

    pub fn gives_store_back(&self) {
        std::fs::remove_file(&self.away).unwrap();
    }

    pub fn told(&self) -> String {
        std::fs::read_to_string(&self.told).unwrap()
    }

    pub fn wait_for(&self, what: &str) {
        let began = Instant::now();
        while !self.told().contains(what) {
            assert!(began.elapsed() < PATIENCE, "no {what}: {}", self.told());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.away);
    }
}

/// Not a claim by itself: the entry of the process that the other tests start.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_started_process_captures() {
    let Ok(task) = std::env::var(TASK) else { return };
    let [dir, url, spill_limit] = task.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let dir = Path::new(dir);
    let key = SecretKey::parse_base64(&std::fs::read_to_string(dir.join("lifeboat.key")).unwrap()).unwrap();
    let store = DirectoryStore::open(&dir.join("lifeboat-repository")).unwrap();
    let engine = engine_over(url, Arc::new(MayBeAway { store, away: dir.join("away") }), &key).await;
    let catalog = dir.join("lifeboat.catalog");
    let spill = Spill::new(&engine.repository, &catalog, &app(), spill_limit.parse().unwrap());
    let repository = engine.repository.config().repository.0;
    let request =
        CaptureRequest { flush_every: Duration::from_millis(300), spill: Some(spill), ..CaptureRequest::of(app()) };
    let open_index = move |source: &SourceName| {
        Ok(Box::new(IndexFile { file: RoutingFile::open(&catalog, source).unwrap(), repository })
            as Box<dyn CaptureIndex>)
    };
    let capturing = Capturing {
        engine: Arc::new(engine),
        files: Vec::new(),
        open_pages: Box::new(|_| Err(Error::Bug("no files are captured".into()))),
        requests: vec![request],
        slot_limit_bytes: SLOT_LIMIT,
        open_index: Box::new(open_index),
        scans: Vec::new(),
        note_scan: Box::new(|_, _| ()),
        tell: Box::new(|_: &SourceName, news| tell(&news)),
    };
    capturing.go_on().await;
}

#[allow(clippy::print_stdout)] // how the process that started this one is told
fn tell(news: &News) {
    match news {
        News::Capture(CaptureNews::Sealed { .. }) => println!("sealed"),
        other => println!("{other:?}"),
    }
}

/// Fails, or does not answer, while a file is there.
#[derive(Debug)]
struct MayBeAway {
    store: DirectoryStore,
    away: PathBuf,
}

impl MayBeAway {
    async fn check(&self) -> Result<(), lifeboat_store::Error> {
        match std::fs::read_to_string(&self.away) {
            Ok(how) if how == HANGS => {
                while self.away.exists() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Ok(())
            }
            Ok(_) => Err(lifeboat_store::Error::Unavailable { detail: "away".into(), after: None }),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Store for MayBeAway {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), lifeboat_store::Error> {
        self.check().await?;
        self.store.create(name, body).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, lifeboat_store::Error> {
        self.check().await?;
        self.store.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, lifeboat_store::Error> {
        self.check().await?;
        self.store.get_range(name, range).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectName>,
        limit: usize,
    ) -> Result<Vec<Listed>, lifeboat_store::Error> {
        self.check().await?;
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), lifeboat_store::Error> {
        self.check().await?;
        self.store.delete(name).await
    }

    fn forget(&self, prefix: &str) -> bool {
        self.store.forget(prefix)
    }

    fn describe(&self) -> String {
        self.store.describe()
    }
}

/// The routing index of the host, as the program itself takes it.
struct IndexFile {
    file: RoutingFile,
    repository: [u8; 16],
}

impl RoutingIndex for IndexFile {
    fn site_of(&mut self, key: &IndexKey) -> Result<Option<SiteId>, lifeboat_source::Error> {
        Ok(self.file.site_of(&key.0).unwrap())
    }

    fn put(&mut self, table: &str, key: &IndexKey, site: &SiteId) -> Result<(), lifeboat_source::Error> {
        self.file.put(table, &key.0, site).unwrap();
        Ok(())
    }

    fn remove(&mut self, key: &IndexKey) -> Result<(), lifeboat_source::Error> {
        self.file.remove(&key.0);
        Ok(())
    }

    fn forget_table(&mut self, table: &str) -> Result<(), lifeboat_source::Error> {
        self.file.forget_table(table).unwrap();
        Ok(())
    }
}

impl CaptureIndex for IndexFile {
    fn place(&mut self) -> Result<Option<IndexPlace>, Error> {
        let place = self.file.place().unwrap();
        Ok(place.map(|place| IndexPlace {
            epoch: EpochId(place.epoch),
            position: place.position,
            unrouted: place.unrouted,
        }))
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.file.clear().unwrap();
        Ok(())
    }

    fn counted_on(&mut self) -> Result<BTreeMap<String, String>, Error> {
        Ok(self.file.counted_on().unwrap())
    }

    fn count_on(&mut self, tables: &BTreeMap<String, String>) -> Result<(), Error> {
        self.file.count_on(tables).unwrap();
        Ok(())
    }

    fn commit(&mut self, place: &IndexPlace) -> Result<(), Error> {
        let IndexPlace { epoch, position, unrouted } = *place;
        let place = RoutingPlace { repository: self.repository, epoch: epoch.0, position, unrouted };
        self.file.commit(&place).unwrap();
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.file.is_full()
    }
}
