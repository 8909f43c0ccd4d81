//! Bytes that rot, objects that are lost, cut short or swapped: named, or without any effect.
//!
//! A small repository holds every kind of object: a site with packs, two points, index segments and
//! an undo, a tiny site that lies in its manifest, keys and runs. One object is damaged at a time;
//! then every point is listed and exported, and whatever comes must be the truth or an error that
//! names the object. Never a panic, never other data, never zeros.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_engine::{BackupRequest, Engine, Error, HeadMemory, NoMemory, RestorePoint, RestoreTarget, backup, list};
use lifeboat_format::SecretKey;
use lifeboat_format::names::{ParsedName, parse_object_name};
use lifeboat_model::{Fault, Faulty, PointInTime, RestoreId, SiteHandle, SnapshotId};
use lifeboat_repo::Repository;
use lifeboat_store::{MemoryStore, ObjectName, Store};
use lifeboat_testkit::crash_runner::{copy_tree, quick_dir};
use lifeboat_testkit::memory::{Known, MapMemory};
use lifeboat_testkit::oracle::{Picture, assert_same};
use lifeboat_testkit::world::{World, noise, picture_of, restore_latest, restore_request, run_restore, site_id};
use tempfile::TempDir;

mod skip;
mod sweep;

const SITE: &str = "acme";
const TINY: &str = "tiny";

/// A repository of which everything is known.
struct Sample {
    world: World,
    objects: BTreeMap<ObjectName, Bytes>,
    /// What the host's catalog knows of it.
    known: Known,
    /// What every point holds.
    truth: BTreeMap<(String, SnapshotId), Picture>,
    /// A restore that can be undone, the site as it is now, and as the undo leaves it.
    undo: RestoreId,
    live: Picture,
    undone: Picture,
    handles: BTreeMap<&'static str, SiteHandle>,
    dir: TempDir,
}

impl Sample {
    async fn new() -> Self {
        Self::with_key(SecretKey::generate().expect("random bytes")).await
    }

    /// Of another repository under the same master key.
    async fn with_key(master: SecretKey) -> Self {
        let dir = quick_dir();
        let root = dir.path().join("world");
        std::fs::create_dir_all(root.join("srv")).expect("directories");
        let store = Arc::new(MemoryStore::new());
        Repository::init(store.clone(), &master).await.expect("a new repository");
        let world = World::attach(root, master);
        let memory = Arc::new(MapMemory::default());
        make_files(&world, SITE, 1);
        make_files(&world, TINY, 2);
        world.write_rows(SITE, 1, 5);
        let mut truth = BTreeMap::new();
        let files = world.site_dir(SITE).join("files");
        for (site, inline) in [(SITE, false), (TINY, true), (SITE, false)] {
            let engine = engine_on(&world, store.clone(), memory.clone(), inline).await.expect("an engine");
            let sites = vec![site_id(site)];
            let report = backup(&engine, &BackupRequest { sites, ..Default::default() }).await.expect("a backup");
            assert!(report.sites[0].is_good(), "{report:?}");
            let state = engine.site(&site_id(site)).await.expect("the site").state().clone();
            let newest = state.latest().expect("a point").id;
            truth.insert((site.to_owned(), newest), world.picture(site));
            if truth.len() == 2 {
                std::fs::write(files.join("b"), noise(5, 400)).expect("a file");
            }
        }
        std::fs::write(files.join("a.txt"), b"damaged").expect("a file");
        std::fs::write(files.join("extra"), b"extra").expect("a file");
        world.write_rows(SITE, 9, 2);
        let undone = world.picture(SITE);
        let engine = engine_on(&world, store.clone(), memory.clone(), false).await.expect("an engine");
        let receipt = restore_latest(&engine, SITE).await.expect("a restore");
        copy_tree(&world.root.join("srv"), &dir.path().join("live"), &[SITE]);
        Self {
            objects: store.objects(),
            known: memory.known(),
            truth,
            undo: receipt.restore,
            live: world.picture(SITE),
            undone,
            handles: [SITE, TINY].map(|site| (site, engine.repository.handle_of(&site_id(site)))).into(),
            world,
            dir,
        }
    }

    /// The repository with one object replaced or, with `None`, lost.
    fn with(&self, name: &ObjectName, body: Option<Bytes>) -> Arc<MemoryStore> {
        let store = MemoryStore::new();
        for (other, whole) in self.objects.iter().filter(|(other, _)| *other != name) {
            store.replace(other, whole.clone());
        }
        if let Some(body) = body {
            store.replace(name, body);
        }
        Arc::new(store)
    }

    /// An engine of the host that has always used the repository.
    async fn host(&self, store: Arc<dyn Store>) -> Result<Engine, Error> {
        let memory = Arc::new(MapMemory::default());
        memory.set(self.known.clone());
        engine_on(&self.world, store, memory, false).await
    }

    /// An engine that knows nothing but the bucket and the key.
    async fn stranger(&self, store: Arc<dyn Store>) -> Result<Engine, Error> {
        engine_on(&self.world, store, Arc::new(NoMemory), false).await
    }

    /// Every point, listed and exported; of each what it holds, or why it cannot be had.
    async fn look(&self, engine: &Engine) -> BTreeMap<(String, SnapshotId), Result<Picture, Error>> {
        let mut found = BTreeMap::new();
        for (site, snapshot) in self.truth.keys() {
            found.insert((site.clone(), *snapshot), self.look_at(engine, site, *snapshot).await);
        }
        found
    }

    async fn look_at(&self, engine: &Engine, site: &str, snapshot: SnapshotId) -> Result<Picture, Error> {
        let at = PointInTime::Snapshot(snapshot);
        let out = self.out();
        let _ = std::fs::remove_dir_all(&out);
        list(engine, &site_id(site), &at, None, None).await?;
        let mut request = restore_request(site, RestorePoint::At(at));
        request.target = RestoreTarget::Export(out.clone());
        let exported = run_restore(engine, &request).await;
        let picture = picture_of(&out.join("files"), &out.join("notes/notes.db"));
        match exported {
            Ok(receipt) => {
                assert!(receipt.all_passed(), "{:?}", receipt.checks);
                Ok(picture)
            }
            Err(error) => {
                let files: Vec<_> = picture.iter().filter(|(_, what)| !what.ends_with("directory")).collect();
                assert!(files.is_empty(), "{error}: it exported all the same: {files:?}");
                Err(error)
            }
        }
    }

    fn out(&self) -> PathBuf {
        self.world.root.join("out")
    }

    /// Puts the live site back to what it is after the restore.
    fn reset_live(&self) {
        let _ = std::fs::remove_dir_all(self.world.site_dir(SITE));
        copy_tree(&self.dir.path().join("live"), &self.world.root.join("srv"), &[SITE]);
    }
}

fn make_files(world: &World, site: &str, seed: u64) {
    let files = world.site_dir(site).join("files");
    std::fs::create_dir_all(files.join("deep")).expect("directories");
    std::fs::write(files.join("a.txt"), format!("{site} {seed} {}", "text ".repeat(40))).expect("a file");
    std::fs::write(files.join("b"), noise(seed, 300)).expect("a file");
    std::fs::write(files.join("deep/c"), noise(seed + 10, 200)).expect("a file");
}

async fn engine_on(
    world: &World,
    store: Arc<dyn Store>,
    memory: Arc<dyn HeadMemory>,
    inline: bool,
) -> Result<Engine, Error> {
    let mut engine = world.engine_with(store, memory).await?;
    engine.ingest.inline = inline;
    Ok(engine)
}

/// A name that no object has.
fn nothing() -> ObjectName {
    ObjectName::new("nothing").expect("a name")
}

/// An error about a damaged object: says what must be done, and which object it is.
fn check_named(error: &Error, object: &ObjectName, context: &str) {
    let text = error.to_string();
    assert!(matches!(error.fault(), Fault::Damage | Fault::Operator), "{context}: {:?}: {text}", error.fault());
    // An object that is not there has no name to begin with where it was to be found by listing.
    let is_named = text.contains(object.as_str())
        || match parse_object_name(object.as_str()) {
            Some(ParsedName::Config) => text.contains("no repository here"),
            Some(ParsedName::RootKey(id)) => text.contains(&format!("key id=`{id}`")),
            Some(ParsedName::Commit(..)) => text.contains("lost its newest commits"),
            Some(ParsedName::Run(number)) => text.contains(&format!("run=`{number}`")),
            _ => false,
        };
    assert!(is_named, "{context}: the error does not name the object: {text}");
}
