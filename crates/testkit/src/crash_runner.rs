//! A command on a small fleet, to be killed somewhere and run again.
//!
//!   reset ─▶ run until the kill ─▶ check_killed ─▶ run again ─▶ check_again
//!
//! A [`Scene`] is everything before the command: the repository, the sites, what is known of every
//! point. It can be set up again and again at the same paths, so that each run starts alike.
//! What is not here: how the command is killed (`fault_store`, `crash_disk`, real processes).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use lifeboat_engine::{
    Approval, Engine, Error, HeadMemory, NoMemory, RestorePoint, backup, plan_restore, restore, this_process,
};
use lifeboat_format::SecretKey;
use lifeboat_model::{CommitEvent, Faulty, Mark, PointInTime, RestoreId, RestoreIntent, WriterIdentity};
use lifeboat_repo::Repository;
use lifeboat_store::{MemoryStore, ObjectName, Store};
use tempfile::TempDir;

use crate::memory::{Known, MapMemory};
use crate::oracle::{Oracle, Picture, assert_same, check_sane, check_whole, leftovers, state_of, strict_picture};
use crate::world::{World, backup_all, noise, restore_request, site_id};

/// The site that commands are about, and the one that nothing may touch.
pub const SITE: &str = "acme";
pub const NEIGHBOUR: &str = "beta";
const SITES: [&str; 2] = [SITE, NEIGHBOUR];

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `backup --all`
    Backup,
    /// `restore acme --yes`
    Restore,
    /// `undo <restore> --yes`
    Undo(RestoreId),
}

impl Verb {
    /// Runs the command as the command line does; gives the id under which it can be undone.
    pub async fn run(self, engine: &Engine) -> Result<Option<RestoreId>, Error> {
        let point = match self {
            Verb::Backup => {
                let report = backup(engine, &Default::default()).await?;
                for site in report.sites {
                    if let lifeboat_engine::SiteOutcome::Failed(error) = site.outcome {
                        return Err(error);
                    }
                }
                return Ok(None);
            }
            Verb::Restore => RestorePoint::At(PointInTime::Latest),
            Verb::Undo(restore) => RestorePoint::Undo(restore),
        };
        let request = restore_request(SITE, point);
        let planned = plan_restore(engine, &request).await?;
        let receipt = restore(engine, &request, planned, &Approval::Yes).await?;
        assert!(receipt.all_passed(), "{:?}", receipt.checks);
        Ok(receipt.undo.map(|_| receipt.restore))
    }
}

/// How the site is before the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    Deleted,
    /// Files replaced, removed and added, of other kinds than before, and other rows.
    Damaged,
}

/// Everything before one command.
pub struct Scene {
    pub name: String,
    pub world: World,
    pub verb: Verb,
    /// The repository before the command.
    pub objects: BTreeMap<ObjectName, Bytes>,
    pub oracle: Oracle,
    /// The site before the command, and when it has come to its end.
    pub start: Picture,
    pub goal: Picture,
    neighbour: Picture,
    /// Snapshots of the site before the command.
    snapshots_before: usize,
    /// Whether the commands' host has a catalog; what is checked is always read from the bucket alone.
    pub remembers: bool,
    memory: Arc<MapMemory>,
    remembered: Known,
    /// A copy of the site before the command; `None` for a command that does not write it.
    live: Option<PathBuf>,
    dir: TempDir,
}

impl Scene {
    /// A first backup of two sites.
    pub async fn first_backup() -> Self {
        Self::new("first backup").await
    }

    /// A backup after files and rows were changed.
    pub async fn incremental_backup() -> Self {
        let mut scene = Self::new("incremental backup").await;
        scene.back_up().await;
        std::fs::write(scene.world.site_dir(SITE).join("files/new"), noise(7, 9000)).expect("a file");
        std::fs::remove_file(scene.world.site_dir(SITE).join("files/empty.txt")).expect("a file");
        scene.world.write_rows(SITE, 3, 45);
        scene.settle(Verb::Backup);
        scene
    }

    /// A backup of which nothing was changed since the last.
    pub async fn unchanged_backup() -> Self {
        let mut scene = Self::new("unchanged backup").await;
        scene.back_up().await;
        scene
    }

    /// A restore in place.
    pub async fn restore(live: Live) -> Self {
        Self::restore_of(live, 0).await
    }

    /// A restore in place of a site with that many more small files, half of them damaged.
    pub async fn restore_of(live: Live, files: usize) -> Self {
        let mut scene = Self::new(&format!("restore of a {live:?} site").to_lowercase()).await;
        let many = scene.world.site_dir(SITE).join("files/many");
        let write = |number: usize, text: &str| {
            let directory = many.join((number % 7).to_string());
            std::fs::create_dir_all(&directory).expect("a directory");
            std::fs::write(directory.join(number.to_string()), format!("{number} {text}")).expect("a file");
        };
        (0..files).for_each(|number| write(number, "as it was"));
        scene.back_up().await;
        scene.goal = scene.world.picture(SITE);
        scene.damage(live);
        if live == Live::Damaged {
            (0..files).step_by(2).for_each(|number| write(number, "damaged"));
            (files..files + files / 2).for_each(|number| write(number, "extra"));
        }
        scene.settle(Verb::Restore);
        scene
    }

    /// The undo of a restore in place.
    pub async fn undo(live: Live) -> Self {
        Self::undo_of(live, 0).await
    }

    /// The undo of [`Scene::restore_of`].
    pub async fn undo_of(live: Live, files: usize) -> Self {
        let mut scene = Self::restore_of(live, files).await;
        let goal = scene.start.clone();
        let store = scene.memory();
        let restore = scene.run(store.clone()).await.expect("a restore").expect("an undo");
        scene.keep(&store).await;
        scene.name = format!("undo of the restore of a {live:?} site").to_lowercase();
        scene.settle(Verb::Undo(restore));
        scene.goal = goal;
        scene
    }

    async fn new(name: &str) -> Self {
        let dir = quick_dir();
        let root = dir.path().join("world");
        std::fs::create_dir_all(root.join("srv")).expect("directories");
        let store = Arc::new(MemoryStore::new());
        let master = SecretKey::generate().expect("random bytes");
        Repository::init(store.clone(), &master).await.expect("a new repository");
        let world = World::attach(root, master);
        make_small_site(&world, SITE, 1);
        make_small_site(&world, NEIGHBOUR, 2);
        let mut scene = Self {
            name: name.to_owned(),
            verb: Verb::Backup,
            objects: store.objects(),
            oracle: Oracle::default(),
            start: Picture::new(),
            goal: world.picture(SITE),
            neighbour: Picture::new(),
            snapshots_before: 0,
            remembers: true,
            memory: Arc::default(),
            remembered: Known::default(),
            live: None,
            world,
            dir,
        };
        scene.settle(Verb::Backup);
        scene
    }

    /// A good point before what the scene is about.
    async fn back_up(&mut self) {
        let store = self.memory();
        let engine = self.host_engine(store.clone()).await.expect("the repository opens");
        backup_all(&engine).await.expect("a backup");
        self.oracle.learn(&self.world, &engine, &SITES).await;
        self.oracle.expect_now(&self.world, &SITES);
        self.keep(&store).await;
    }

    /// The repository as it stands is what the command begins with.
    async fn keep(&mut self, store: &Arc<MemoryStore>) {
        let state = state_of(&self.engine(store.clone()).await, SITE).await;
        self.snapshots_before = state.map_or(0, |state| state.snapshots.len());
        self.objects = store.objects();
        self.remembered = self.memory.known();
    }

    fn damage(&self, live: Live) {
        let site = self.world.site_dir(SITE);
        if live == Live::Deleted {
            return std::fs::remove_dir_all(site).expect("the site is removed");
        }
        let files = site.join("files");
        std::fs::write(files.join("a.txt"), b"overwritten").expect("a file");
        std::fs::remove_file(files.join("deep/er/noise")).expect("a file");
        std::fs::write(files.join("extra"), b"not in the snapshot").expect("a file");
        std::fs::create_dir_all(files.join("more/of/it")).expect("directories");
        std::fs::write(files.join("more/of/it/x"), noise(9, 7000)).expect("a file");
        std::fs::remove_dir(files.join("empty")).expect("a directory");
        std::fs::write(files.join("empty"), b"a file where a directory was").expect("a file");
        self.world.write_rows(SITE, 99, 3);
    }

    /// The world as it stands is what the command begins with.
    fn settle(&mut self, verb: Verb) {
        self.verb = verb;
        self.start = self.world.picture(SITE);
        match verb {
            Verb::Backup => {
                self.goal = self.start.clone();
                self.oracle.expect_now(&self.world, &SITES);
            }
            Verb::Restore | Verb::Undo(_) => {
                let copy = self.dir.path().join("before");
                let _ = std::fs::remove_dir_all(&copy);
                copy_tree(&self.world.root.join("srv"), &copy, &[SITE]);
                self.live = Some(copy);
            }
        }
        self.neighbour = strict_picture(&self.world.site_dir(NEIGHBOUR));
    }

    /// A directory of the scene's own, outside of the fleet.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The repository before the command, in a store of its own.
    pub fn memory(&self) -> Arc<MemoryStore> {
        let store = MemoryStore::new();
        for (name, body) in &self.objects {
            store.replace(name, body.clone());
        }
        Arc::new(store)
    }

    /// The site before the command, at its own path, and the host's catalog of that time.
    pub fn reset_host(&self) {
        self.memory.set(self.remembered.clone());
        let Some(copy) = &self.live else { return };
        let _ = std::fs::remove_dir_all(self.world.site_dir(SITE));
        copy_tree(copy, &self.world.root.join("srv"), &[SITE]);
    }

    /// An engine that knows nothing but the bucket and the key.
    pub async fn engine(&self, store: Arc<dyn Store>) -> Engine {
        let engine = self.engine_with(store, Arc::new(NoMemory)).await;
        engine.unwrap_or_else(|error| panic!("{}: the repository does not open: {error}", self.name))
    }

    /// The engine of the host that runs the commands.
    async fn host_engine(&self, store: Arc<dyn Store>) -> Result<Engine, Error> {
        match self.remembers {
            true => self.engine_with(store, self.memory.clone()).await,
            false => self.engine_with(store, Arc::new(NoMemory)).await,
        }
    }

    /// With packs even for so little content, which would lie in the manifest otherwise.
    async fn engine_with(&self, store: Arc<dyn Store>, memory: Arc<dyn HeadMemory>) -> Result<Engine, Error> {
        let mut engine = self.world.engine_with(store, memory).await?;
        engine.ingest.inline = false;
        Ok(engine)
    }

    /// Runs the command in a fresh engine.
    pub async fn run(&self, store: Arc<dyn Store>) -> Result<Option<RestoreId>, Error> {
        self.verb.run(&self.host_engine(store).await?).await
    }

    /// After the kill: every point there was is there and whole, nothing is half there, the
    /// neighbour is as it was.
    pub async fn check_killed(&self, store: Arc<dyn Store>, context: &str) {
        let engine = self.engine(store).await;
        self.oracle.check_points(&self.world, &engine, context).await;
        check_whole(&engine, context).await;
        self.check_neighbour(context);
    }

    /// The same command, run again, finishes, and all is as if it had never been killed.
    pub async fn check_again(&self, store: Arc<dyn Store>, context: &str) {
        let was_done = self.world.picture(SITE) == self.goal;
        let again = self.run(store.clone()).await;
        let undo = again.unwrap_or_else(|error| {
            panic!("{context}: run again: {:?} {error}; hint: {:?}", error.fault(), error.hint())
        });
        let engine = self.engine(store.clone()).await;
        assert_same(&self.world.picture(SITE), &self.goal, &format!("{context}: after the second run"));
        self.oracle.check_points(&self.world, &engine, context).await;
        self.check_at_rest(&engine, context).await;
        if self.verb != Verb::Backup {
            self.check_undo(store, undo, was_done, context).await;
        }
        self.check_neighbour(context);
    }

    /// After a command that returned `Ok`: what it promised is there, without running it again.
    pub async fn check_done(&self, store: Arc<dyn Store>, context: &str) {
        let engine = self.engine(store).await;
        self.oracle.check_points(&self.world, &engine, context).await;
        self.check_at_rest(&engine, context).await;
        let snapshots = state_of(&engine, SITE).await.map_or(0, |state| state.snapshots.len());
        let is_new = snapshots > self.snapshots_before;
        assert!(is_new || self.start == self.goal && self.snapshots_before > 0, "{context}: nothing was published");
        self.check_neighbour(context);
    }

    async fn check_at_rest(&self, engine: &Engine, context: &str) {
        check_sane(engine, &SITES, context).await;
        for site in SITES {
            self.oracle.check_latest(engine, site, context).await;
        }
        let left = leftovers(&self.world.root.join("srv"));
        assert!(left.is_empty(), "{context}: left behind: {left:?}");
    }

    /// The undo brings back what was there before the first attempt, not before the second.
    ///
    /// A first attempt that had done all (it was killed while it said so) may leave the second one a
    /// restore of its own, with an undo that changes nothing: then `points` lists both.
    async fn check_undo(&self, store: Arc<dyn Store>, second: Option<RestoreId>, was_done: bool, context: &str) {
        let engine = self.engine(store).await;
        if !was_done {
            let second = second.unwrap_or_else(|| panic!("{context}: the second run kept no undo"));
            return self.check_one_undo(&engine, second, &self.start, &format!("{context}: undo")).await;
        }
        let state = state_of(&engine, SITE).await.unwrap_or_else(|| panic!("{context}: no commit"));
        let mut undos = state.snapshots.iter().skip(self.snapshots_before).filter(|record| record.mark == Mark::Undo);
        let first = undos.next().and_then(|record| record.restore);
        let first = first.unwrap_or_else(|| panic!("{context}: there is no undo"));
        if let Some(second) = second.filter(|second| *second != first) {
            self.check_one_undo(&engine, second, &self.goal, &format!("{context}: undo of the second run")).await;
        }
        self.check_one_undo(&engine, first, &self.start, &format!("{context}: undo")).await;
    }

    async fn check_one_undo(&self, engine: &Engine, restore: RestoreId, want: &Picture, context: &str) {
        if let Err(error) = Verb::Undo(restore).run(engine).await {
            panic!("{context}: {error}; hint: {:?}", error.hint());
        }
        assert_same(&self.world.picture(SITE), want, context);
        self.check_at_rest(engine, context).await;
    }

    pub fn check_neighbour(&self, context: &str) {
        let now = strict_picture(&self.world.site_dir(NEIGHBOUR));
        assert_same(&now, &self.neighbour, &format!("{context}: the neighbour"));
    }
}

/// A site of several kinds of entries, and little to read.
pub fn make_small_site(world: &World, site: &str, seed: u64) {
    use std::os::unix::fs::PermissionsExt;
    let files = world.site_dir(site).join("files");
    std::fs::create_dir_all(files.join("deep/er")).expect("directories");
    std::fs::create_dir(files.join("empty")).expect("a directory");
    std::fs::write(files.join("empty.txt"), b"").expect("a file");
    std::fs::write(files.join("a.txt"), format!("{site} {seed} {}", "text ".repeat(300))).expect("a file");
    std::fs::write(files.join("deep/er/noise"), noise(seed, 20_000)).expect("a file");
    std::os::unix::fs::symlink("../a.txt", files.join("deep/link")).expect("a link");
    std::fs::hard_link(files.join("a.txt"), files.join("also-a.txt")).expect("a hard link");
    std::fs::set_permissions(files.join("deep"), std::fs::Permissions::from_mode(0o750)).expect("a mode");
    world.write_rows(site, seed, 40);
}

/// Gives the intent that a command "killed" in this process left open to a process that is gone,
/// as the intent of a killed process would be.
pub async fn bury(engine: &Engine) {
    let site = engine.repository.site(&site_id(SITE), None).await.expect("the site opens");
    let Some(mut site) = site else { return };
    let Some(open) = site.state().intent.clone() else { return };
    let me = this_process();
    let owner = WriterIdentity { started: me.started + 1, ..me };
    let opened = CommitEvent::RestoreOpened(RestoreIntent { owner: owner.clone(), ..open });
    site.commit(&owner, |_, _| Ok(opened.clone())).await.expect("a commit");
}

/// Copies directories as `cp -a` does: hard links, modes, owners and times are kept.
pub fn copy_tree(from: &Path, to: &Path, names: &[&str]) {
    std::fs::create_dir_all(to).expect("a directory");
    for name in names.iter().filter(|name| from.join(name).exists()) {
        let done = Command::new("cp").arg("-a").arg(from.join(name)).arg(to.join(name)).status().expect("cp runs");
        assert!(done.success(), "cp -a {}", from.join(name).display());
    }
}

/// A temporary directory in memory where there is one: these suites sync a lot.
pub fn quick_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// Which of the operations `1..=count` are tried: all with `LIFEBOAT_TEST_FULL=1`, else about
/// `some` of them, evenly spread, the first and the last included.
pub fn sample(count: usize, some: usize) -> Vec<usize> {
    if is_full() || count <= some {
        return (1..=count).collect();
    }
    let mut chosen: Vec<usize> = (0..some).map(|n| 1 + n * (count - 1) / (some - 1).max(1)).collect();
    chosen.dedup();
    chosen
}

/// Whether everything is tried, however long it takes.
pub fn is_full() -> bool {
    std::env::var("LIFEBOAT_TEST_FULL").is_ok_and(|value| value == "1")
}
