//! A small fleet on real directories and SQLite files, with a repository in any store.
//!
//! ```text
//!   <root>/srv/<site>/files/…      source `files`
//!   <root>/srv/<site>/notes.db     source `notes`
//! ```

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lifeboat_engine::{
    AnySource, Approval, BackupReport, BackupRequest, Engine, Error, Fleet, HeadMemory, Hooks, NoMemory, RestorePoint,
    RestoreRequest, RestoreTarget, backup, plan_restore, restore,
};
use lifeboat_format::SecretKey;
use lifeboat_model::{NoProgress, PointInTime, Receipt, RestoreId, SiteId, SourceName};
use lifeboat_repo::{FetchLimits, IngestOptions, Repository};
use lifeboat_source::PathTemplate;
use lifeboat_source::files::{Exclusion, FilesSource};
use lifeboat_source::sqlite::SqliteSource;
use lifeboat_store::{MemoryStore, Store};
use sha2::{Digest, Sha256};

/// Sources in a temporary directory, and the key of a repository somewhere else.
pub struct World {
    pub root: PathBuf,
    pub master: SecretKey,
    _dir: Option<tempfile::TempDir>,
}

impl World {
    /// A new world with an empty fleet, and its repository made in `store`.
    pub async fn new(store: Arc<dyn Store>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().to_owned();
        std::fs::create_dir(root.join("srv")).expect("a directory");
        let master = SecretKey::generate().expect("random bytes");
        Repository::init(store, &master).await.expect("a new repository");
        Self { root, master, _dir: Some(dir) }
    }

    /// An existing world, as a second process sees it.
    pub fn attach(root: PathBuf, master: SecretKey) -> Self {
        Self { root, master, _dir: None }
    }

    /// Everything the verbs need, over a store that may be wrapped in faults.
    pub async fn engine(&self, store: Arc<dyn Store>) -> Result<Engine, lifeboat_repo::Error> {
        self.engine_with(store, Arc::new(NoMemory)).await
    }

    pub async fn engine_with(
        &self,
        store: Arc<dyn Store>,
        memory: Arc<dyn HeadMemory>,
    ) -> Result<Engine, lifeboat_repo::Error> {
        let template =
            |text: &str| PathTemplate::parse(&format!("{}/{text}", self.root.display())).expect("a template");
        let name = |text: &str| SourceName::new(text).expect("a name");
        let notes = template("srv/{site}/notes.db");
        let files =
            FilesSource::new(name("files"), template("srv/{site}/files"), vec![Exclusion::Database(notes.clone())]);
        let fleet =
            Fleet::new(vec![AnySource::Files(files), AnySource::Sqlite(SqliteSource::new(name("notes"), notes))]);
        Ok(Engine { memory, ..engine_of(fleet, Repository::open(store, &self.master).await?) })
    }

    pub fn site_dir(&self, site: &str) -> PathBuf {
        self.root.join("srv").join(site)
    }

    /// A site with a few files of several kinds and a database of `rows` rows.
    pub fn make_site(&self, site: &str, seed: u64, rows: u32) {
        let files = self.site_dir(site).join("files");
        std::fs::create_dir_all(files.join("deep/er")).expect("directories");
        std::fs::create_dir(files.join("empty")).expect("a directory");
        std::fs::write(files.join("empty.txt"), b"").expect("a file");
        std::fs::write(files.join("a.txt"), format!("{site} {seed} {}", "text ".repeat(2000))).expect("a file");
        std::fs::write(files.join("deep/er/noise"), noise(seed, 300_000)).expect("a file");
        std::os::unix::fs::symlink("../a.txt", files.join("deep/link")).expect("a link");
        std::fs::hard_link(files.join("a.txt"), files.join("also-a.txt")).expect("a hard link");
        std::fs::set_permissions(files.join("deep"), std::fs::Permissions::from_mode(0o750)).expect("a mode");
        self.write_rows(site, seed, rows);
    }

    /// Replaces the rows of a site's database.
    pub fn write_rows(&self, site: &str, seed: u64, rows: u32) {
        let mut connection = rusqlite::Connection::open(self.site_dir(site).join("notes.db")).expect("a database");
        let transaction = connection.transaction().expect("a transaction");
        transaction
            .execute_batch("CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY, body TEXT); DELETE FROM note;")
            .expect("a table");
        for id in 0..rows {
            let body = format!("{site} {seed} {id} {}", "x".repeat(100));
            transaction.execute("INSERT INTO note VALUES (?1, ?2)", rusqlite::params![id, body]).expect("a row");
        }
        transaction.commit().expect("a commit");
    }

    /// What a person would call the state of a site: every path with kind, mode, times and content,
    /// and every row.
    pub fn picture(&self, site: &str) -> BTreeMap<String, String> {
        let dir = self.site_dir(site);
        picture_of(&dir.join("files"), &dir.join("notes.db"))
    }
}

/// An engine over a new repository in memory.
pub async fn engine_in_memory(sources: Vec<AnySource>) -> Engine {
    let (store, master) = (Arc::new(MemoryStore::new()), SecretKey::generate().expect("a key"));
    Repository::init(store.clone(), &master).await.expect("a repository");
    engine_of(Fleet::new(sources), Repository::open(store, &master).await.expect("a repository"))
}

/// An engine without hooks, memory, policy or anybody who looks on.
pub fn engine_of(fleet: Fleet, repository: Repository) -> Engine {
    Engine {
        repository,
        fleet,
        hooks: Hooks::default(),
        memory: Arc::new(NoMemory),
        progress: Arc::new(NoProgress),
        cancel: Arc::new(AtomicBool::new(false)),
        fetch: FetchLimits::default(),
        ingest: IngestOptions::default(),
        usage: Box::new(Default::default),
        read_once: None,
        scratch: None,
        policy: Box::new(|_| Default::default()),
    }
}

/// The picture of a files part and a database, wherever they are.
pub fn picture_of(files: &Path, database: &Path) -> BTreeMap<String, String> {
    let mut picture = BTreeMap::new();
    photograph(files, files.parent().unwrap_or(files), &mut picture);
    if let Ok(connection) = rusqlite::Connection::open_with_flags(database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
    {
        let mut rows = connection.prepare("SELECT id, body FROM note ORDER BY id").expect("a query");
        let rows = rows.query_map([], |row| Ok(format!("{} {}", row.get::<_, i64>(0)?, row.get::<_, String>(1)?)));
        let text: Vec<String> = rows.expect("rows").map(|row| row.expect("a row")).collect();
        picture.insert("notes.db".into(), format!("{} rows {}", text.len(), digest(text.join("\n").as_bytes())));
    }
    picture
}

fn photograph(path: &Path, root: &Path, picture: &mut BTreeMap<String, String>) {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return };
    let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let common = format!("{:o} {}:{} {}.{:09}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
    let content = if meta.is_symlink() {
        format!("-> {}", std::fs::read_link(path).expect("a link").display())
    } else if meta.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory") {
            photograph(&entry.expect("an entry").path(), root, picture);
        }
        "directory".into()
    } else {
        format!("{} bytes {} links {}", meta.len(), digest(&std::fs::read(path).expect("a file")), meta.nlink())
    };
    picture.insert(name, format!("{common} {content}"));
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes that do not compress.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// A site id that is known to be one.
pub fn site_id(text: &str) -> SiteId {
    SiteId::new(text).expect("a site id")
}

pub async fn backup_all(engine: &Engine) -> Result<BackupReport, Error> {
    backup(engine, &BackupRequest::default()).await
}

pub fn restore_request(site: &str, point: RestorePoint) -> RestoreRequest {
    RestoreRequest {
        site: site_id(site),
        point,
        only: None,
        target: RestoreTarget::InPlace,
        restore: None,
        take_over: false,
        skip_damaged: false,
        verify_read: false,
        exact: false,
        keep_later: false,
    }
}

/// Plans and runs a restore of the newest good point, as `restore --yes` does.
pub async fn restore_latest(engine: &Engine, site: &str) -> Result<Receipt, Error> {
    run_restore(engine, &restore_request(site, RestorePoint::At(PointInTime::Latest))).await
}

/// Plans and runs an undo, as `undo --yes` does.
pub async fn undo(engine: &Engine, site: &str, restore: RestoreId) -> Result<Receipt, Error> {
    run_restore(engine, &restore_request(site, RestorePoint::Undo(restore))).await
}

pub async fn run_restore(engine: &Engine, request: &RestoreRequest) -> Result<Receipt, Error> {
    let planned = plan_restore(engine, request).await?;
    restore(engine, request, planned, &Approval::Yes).await
}
