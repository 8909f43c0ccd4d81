//! Files that are captured into a repository in memory, and the hashes beside it on a real disk.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lifeboat_control::PagesFile;
use lifeboat_engine::{Engine, Error, Moment, PagesReport, PagesRequest, ReplayedFile, capture_pages, replay_pages};
use lifeboat_model::{Faulty, Lsn, RowChange, SiteId, SourceName, TransactionHead};
use lifeboat_repo::ChangeLog;
use lifeboat_store::{MemoryStore, Store};
use lifeboat_testkit::world::site_id;
use rusqlite::Connection;

use crate::history;

pub struct World {
    pub files: lifeboat_testkit::world::World,
    pub store: Arc<MemoryStore>,
    catalog: tempfile::TempDir,
}

pub fn notes() -> SourceName {
    SourceName::new("notes").unwrap()
}

pub fn request() -> PagesRequest {
    PagesRequest {
        source: notes(),
        until_caught_up: true,
        poll_every: Duration::from_millis(100),
        flush_every: Duration::from_millis(250),
        flush_bytes: PagesRequest::FLUSH_BYTES,
    }
}

impl World {
    pub async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let files = lifeboat_testkit::world::World::new(store.clone()).await;
        Self { files, store, catalog: tempfile::tempdir().unwrap() }
    }

    pub async fn engine(&self) -> Engine {
        self.engine_over(self.store.clone()).await
    }

    pub async fn engine_over(&self, store: Arc<dyn Store>) -> Engine {
        self.files.engine(store).await.unwrap()
    }

    /// The hashes, as another process opens them.
    pub fn index(&self) -> PagesFile {
        PagesFile::open(self.catalog.path(), &notes(), [7; 16]).unwrap()
    }

    /// The hashes of this host are lost.
    pub fn lose_index(&self) {
        for file in std::fs::read_dir(self.catalog.path()).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    /// The hashes as they are now, for [`World::sleep_since`].
    pub fn copy_of_index(&self) -> tempfile::TempDir {
        copy_of(self.catalog.path())
    }

    /// This host knows what it knew then.
    pub fn sleep_since(&self, then: &tempfile::TempDir) {
        self.lose_index();
        for file in std::fs::read_dir(then.path()).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), self.catalog.path().join(file.file_name())).unwrap();
        }
    }

    pub fn path(&self, site: &str) -> PathBuf {
        self.files.site_dir(site).join("notes.db")
    }

    /// A site's file with the first transactions of its history.
    pub fn begin(&self, site: &str, mode: &str, (seed, steps): (u64, u64)) -> Connection {
        std::fs::create_dir_all(self.files.site_dir(site)).unwrap();
        let connection = history::open(&self.path(site), mode);
        history::begin(&connection);
        (1..=steps).for_each(|number| history::step(&connection, seed, number));
        connection
    }

    pub async fn catch_up(&self) -> PagesReport {
        self.try_catch_up(&self.engine().await, &request()).await.unwrap()
    }

    pub async fn try_catch_up(&self, engine: &Engine, request: &PagesRequest) -> Result<PagesReport, Error> {
        capture_pages(engine, request, &mut self.index()).await
    }

    pub async fn replay(&self, site: &str, moment: Moment) -> Result<(ReplayedFile, Replica), Error> {
        let replica = Replica::new();
        let replayed = replay_pages(&self.engine().await, &site_id(site), &notes(), moment, &replica.file).await?;
        Ok((replayed, replica))
    }

    /// Versions of a site that are kept of the newest epoch and have an end, oldest first.
    pub async fn versions(&self, site: &SiteId) -> Vec<TransactionHead> {
        let engine = self.engine().await;
        let log = ChangeLog::open(&engine.repository, &notes()).await.unwrap();
        let newest = log.newest().unwrap();
        let last = newest.segment.unwrap().number;
        let kept = log.kept(newest.epoch).await.unwrap();
        let segments = log.segments_kept(&kept, kept.first()..=last).await.unwrap();
        let mut versions = Vec::new();
        let read = log.read_site(site, segments, |head, change| {
            let RowChange::Pages(change) = change.change else { panic!("rows of a file") };
            versions.extend(change.step.map(|_| *head));
            Ok::<(), std::convert::Infallible>(())
        });
        read.await.unwrap().unwrap();
        versions
    }

    /// The end of the log is the live file, page for page.
    pub async fn expect_as_live(&self, site: &str, when: &str) {
        let (replayed, replica) =
            self.replay(site, Moment::End).await.unwrap_or_else(|error| panic!("{when}: {error}, {:?}", error.hint()));
        let live = lifeboat_source::sqlite::digest(&self.path(site)).unwrap();
        let got = lifeboat_source::sqlite::digest(&replica.path).unwrap();
        assert_eq!(got, live, "{when}, {site}: {replayed:?}");
        replica.expect_sound(when);
    }
}

fn copy_of(dir: &std::path::Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

/// Where a file is replayed to.
pub struct Replica {
    pub path: PathBuf,
    pub file: File,
    _dir: tempfile::TempDir,
}

impl Replica {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("replica.db");
        let options = File::options().read(true).write(true).create_new(true).open(&path);
        Self { path, file: options.unwrap(), _dir: dir }
    }

    pub fn open(&self) -> Connection {
        Connection::open(&self.path).unwrap()
    }

    pub fn expect_sound(&self, when: &str) {
        let says: String = self.open().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(says, "ok", "{when}");
    }
}

pub fn at(position: Lsn) -> Moment {
    Moment::Position(position)
}
