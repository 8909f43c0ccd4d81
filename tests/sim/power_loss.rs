//! Power lost after every change to the repository's disk: what was not synced is forgotten, names too.
//!
//! The command stops in the middle of a store's operation, the disk forgets, and then everything must
//! hold that must hold after a kill. The sites are on a disk of their own, which keeps what it has.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lifeboat_store::directory::{Disk, DiskEntry, FilePart, NewFile, Stat};
use lifeboat_store::{DirectoryStore, Store};
use lifeboat_testkit::crash_disk::{CrashDisk, Unsynced};
use lifeboat_testkit::crash_runner::{Live, Scene, bury, is_full, sample};

/// Changes tried of each command in a normal run.
const POINTS: usize = 16;
/// Seeds of the partial loss tried at each change in a full run.
const SEEDS: u64 = 4;

/// A disk that does nothing any more after so many changes.
#[derive(Debug)]
struct Failing {
    disk: CrashDisk,
    changes_max: usize,
}

impl Failing {
    fn check(&self) -> io::Result<()> {
        if self.disk.changes() < self.changes_max { Ok(()) } else { Err(io::Error::other("the power is gone")) }
    }

    fn store(disk: &CrashDisk, changes_max: usize) -> Arc<dyn Store> {
        let failing = Self { disk: disk.clone(), changes_max };
        Arc::new(DirectoryStore::on_disk(Arc::new(failing), Path::new("/simulated")))
    }
}

impl Disk for Failing {
    fn create_file(&self, path: &str) -> io::Result<Box<dyn NewFile>> {
        self.check()?;
        let file = self.disk.create_file(path)?;
        Ok(Box::new(FailingFile { file, disk: Self { disk: self.disk.clone(), ..*self } }))
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.check()?;
        self.disk.link(from, to)
    }

    fn make_dir(&self, path: &str) -> io::Result<()> {
        self.check()?;
        self.disk.make_dir(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.check()?;
        self.disk.sync_dir(path)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.check()?;
        self.disk.remove_file(path)
    }

    fn read(&self, path: &str, range: Option<Range<u64>>) -> io::Result<FilePart> {
        self.check()?;
        self.disk.read(path, range)
    }

    fn read_dir(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        self.check()?;
        self.disk.read_dir(path)
    }

    fn stat(&self, path: &str) -> io::Result<Stat> {
        self.check()?;
        self.disk.stat(path)
    }
}

struct FailingFile {
    file: Box<dyn NewFile>,
    disk: Failing,
}

impl NewFile for FailingFile {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.check()?;
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.check()?;
        self.file.sync()
    }
}

/// A disk with the scene's repository, all of it durable.
async fn disk_of(scene: &Scene) -> CrashDisk {
    let disk = CrashDisk::new();
    let store = Failing::store(&disk, usize::MAX);
    for (name, body) in &scene.objects {
        store.create(name, body.clone()).await.expect("an object");
    }
    disk.after_power_loss(disk.changes(), Unsynced::Lost)
}

/// Runs the command until the power goes after `changes` changes; gives the disk as it is found.
async fn lose_power(scene: &Scene, changes: usize, unsynced: Unsynced, context: &str) {
    scene.reset_host();
    let disk = disk_of(scene).await;
    let ended = scene.run(Failing::store(&disk, changes)).await;
    // The last changes only tidy up, and what an earlier one reads may come from memory.
    let is_done = ended.is_ok();
    let found = disk.after_power_loss(disk.changes(), unsynced);
    let store = Failing::store(&found, usize::MAX);
    if is_done {
        return scene.check_done(store, context).await;
    }
    bury(&scene.engine(store.clone()).await).await;
    scene.check_killed(store.clone(), context).await;
    scene.check_again(store, context).await;
}

async fn lose_power_everywhere(scene: Scene) {
    scene.reset_host();
    let disk = disk_of(&scene).await;
    scene.run(Failing::store(&disk, usize::MAX)).await.unwrap_or_else(|error| panic!("{}: {error}", scene.name));
    let count = disk.changes();
    // What the command promised when it returned holds whatever is lost from then on.
    for unsynced in [Unsynced::Lost, Unsynced::Some { seed: 1 }, Unsynced::Some { seed: 2 }] {
        let store = Failing::store(&disk.after_power_loss(count, unsynced), usize::MAX);
        scene.check_done(store, &format!("{}, power lost at its end, {unsynced:?}", scene.name)).await;
    }
    let points = sample(count, POINTS);
    let mut losses = 0;
    for changes in &points {
        let seeds = (0..SEEDS).map(|seed| Unsynced::Some { seed: seed * 1000 + *changes as u64 });
        let partial = seeds.take(if is_full() { SEEDS as usize } else { 1 });
        for unsynced in std::iter::once(Unsynced::Lost).chain(partial) {
            let context = format!("{}, power lost after change {changes} of {count}, {unsynced:?}", scene.name);
            lose_power(&scene, *changes, unsynced, &context).await;
            losses += 1;
        }
    }
    println!("{}: {count} changes to the disk, power lost {losses} times after {} of them", scene.name, points.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_during_backups_loses_no_point_that_was_reported() {
    lose_power_everywhere(Scene::first_backup().await).await;
    lose_power_everywhere(Scene::incremental_backup().await).await;
    lose_power_everywhere(Scene::unchanged_backup().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_during_a_restore_loses_neither_points_nor_the_undo() {
    lose_power_everywhere(Scene::restore(Live::Deleted).await).await;
    lose_power_everywhere(Scene::restore(Live::Damaged).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_during_an_undo_loses_neither_points_nor_the_undo() {
    lose_power_everywhere(Scene::undo(Live::Damaged).await).await;
    lose_power_everywhere(Scene::undo(Live::Deleted).await).await;
}
