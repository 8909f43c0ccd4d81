//! What must hold of a fleet and its repository, whatever happened to the command before.
//!
//! The oracle knows the picture of every point that was ever good. It asks nothing of how a command
//! works: it restores, compares and looks at what a person would look at.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lifeboat_engine::{CheckRequest, Engine, RestorePoint, RestoreTarget, check};
use lifeboat_model::{Mark, PointInTime, SiteState, SnapshotId};
use lifeboat_repo::CheckDepth;

use crate::world::{World, digest, picture_of, restore_request, run_restore, site_id};

/// A failure shows this many of the entries that differ.
const DIFFERENCES_SHOWN_MAX: usize = 10;

/// What a person would call the state of a site; see [`World::picture`].
pub type Picture = BTreeMap<String, String>;

/// The points that are known, and what each holds.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    points: BTreeMap<SnapshotId, Picture>,
    /// What a snapshot that is not known yet must hold: the sites as they are now.
    now: BTreeMap<String, Picture>,
}

impl Oracle {
    /// Takes every snapshot that is not known yet for a true picture of its site as it is now.
    pub async fn learn(&mut self, world: &World, engine: &Engine, sites: &[&str]) {
        for site in sites {
            let picture = world.picture(site);
            if let Some(state) = state_of(engine, site).await {
                for record in state.snapshots.iter().filter(|record| record.mark != Mark::Undo) {
                    self.points.entry(record.id).or_insert_with(|| picture.clone());
                }
            }
        }
    }

    /// From here on a new snapshot must hold its site as it is now.
    pub fn expect_now(&mut self, world: &World, sites: &[&str]) {
        self.now = sites.iter().map(|site| ((*site).to_owned(), world.picture(site))).collect();
    }

    /// Every known point of the sites is there, and it and every newer one restores to its picture.
    pub async fn check_points(&self, world: &World, engine: &Engine, context: &str) {
        let mut found = BTreeSet::new();
        for (site, now) in &self.now {
            let Some(state) = state_of(engine, site).await else { continue };
            for record in state.snapshots.iter().filter(|record| record.mark != Mark::Undo) {
                let want = self.points.get(&record.id).unwrap_or(now);
                assert_eq!(record.mark, Mark::Good, "{context}: {record:?}");
                let got = export_picture(world, engine, site, record.id, context).await;
                assert_same(&got, want, &format!("{context}: snapshot {} of {site}", record.id));
                found.insert(record.id);
            }
        }
        let lost: Vec<_> = self.points.keys().filter(|id| !found.contains(id)).collect();
        assert!(lost.is_empty(), "{context}: lost points {lost:?}");
    }

    /// `latest` holds the site as it is expected now.
    pub async fn check_latest(&self, engine: &Engine, site: &str, context: &str) {
        let state = state_of(engine, site).await.unwrap_or_else(|| panic!("{context}: {site} has no commit"));
        let latest = state.latest().unwrap_or_else(|| panic!("{context}: {site} has no latest"));
        if let Some(known) = self.points.get(&latest.id) {
            assert_same(known, &self.now[site], &format!("{context}: latest of {site}"));
        }
    }
}

/// A site's state, or `None` when it has no commit.
pub async fn state_of(engine: &Engine, site: &str) -> Option<SiteState> {
    let opened = engine.repository.site(&site_id(site), None).await;
    opened.unwrap_or_else(|error| panic!("{site}: {error}")).map(|site| site.state().clone())
}

/// Exports a snapshot into an empty directory and takes its picture.
pub async fn export_picture(
    world: &World,
    engine: &Engine,
    site: &str,
    snapshot: SnapshotId,
    context: &str,
) -> Picture {
    let mut request = restore_request(site, RestorePoint::At(PointInTime::Snapshot(snapshot)));
    let directory = world.root.join("out");
    request.target = RestoreTarget::Export(directory.clone());
    let receipt = run_restore(engine, &request).await;
    let receipt = receipt.unwrap_or_else(|error| panic!("{context}: snapshot {snapshot} of {site}: {error}"));
    assert!(receipt.all_passed(), "{context}: snapshot {snapshot} of {site}: {:?}", receipt.checks);
    let picture = picture_of(&directory.join("files"), &directory.join("notes/notes.db"));
    assert_eq!(leftovers(&directory), Vec::<PathBuf>::new(), "{context}");
    std::fs::remove_dir_all(&directory).expect("the export is removed");
    picture
}

/// Nothing is open or half there: no intent, every byte that a commit names is whole, every run is
/// readable, no snapshot has a mark that nobody gave it.
pub async fn check_sane(engine: &Engine, sites: &[&str], context: &str) {
    for site in sites {
        let Some(state) = state_of(engine, site).await else { continue };
        assert!(state.intent.is_none(), "{context}: {site} has an open intent: {:?}", state.intent);
        assert!(state.holds.is_empty(), "{context}: {site} has holds: {:?}", state.holds);
        let odd = state.snapshots.iter().find(|record| !matches!(record.mark, Mark::Good | Mark::Undo));
        assert!(odd.is_none(), "{context}: {odd:?}");
    }
    check_whole(engine, context).await;
}

/// Every byte that any commit of any site names is there and opens.
pub async fn check_whole(engine: &Engine, context: &str) {
    let depth = CheckDepth::ReadData { percent: 100, turn: 0 };
    let checks = check(engine, &CheckRequest { sites: Vec::new(), depth }).await;
    let checks = checks.unwrap_or_else(|error| panic!("{context}: the check ended: {error}"));
    for check in &checks {
        assert!(check.is_whole(), "{context}: {check:?}");
    }
}

/// Everything of a site that a bystander's owner could notice: content, inode, times, also of the
/// database's files themselves.
pub fn strict_picture(directory: &Path) -> Picture {
    let mut picture = Picture::new();
    walk(directory, &mut |path| {
        let meta = std::fs::symlink_metadata(path).expect("an entry");
        let content = match meta.is_file() {
            true => digest(&std::fs::read(path).expect("a file")),
            false => String::new(),
        };
        let facts = format!(
            "{:o} {}:{} inode {} mtime {}.{:09} ctime {}.{:09} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        );
        picture.insert(path.display().to_string(), facts);
    });
    picture
}

/// What a restore left in the tree that is not the site's.
pub fn leftovers(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(directory, &mut |path| {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".lifeboat")) {
            found.push(path.to_owned());
        }
    });
    found
}

/// Compares pictures so that a failure shows only what differs.
pub fn assert_same(got: &Picture, want: &Picture, context: &str) {
    let names: BTreeSet<&String> = got.keys().chain(want.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| got.get(*name) != want.get(*name))
        .map(|name| format!("{name}: got {:?}, want {:?}", got.get(name), want.get(name)))
        .collect();
    let shown = &differing[..differing.len().min(DIFFERENCES_SHOWN_MAX)];
    assert!(differing.is_empty(), "{context}: {} differ:\n{}", differing.len(), shown.join("\n"));
}

fn walk(path: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return };
    visit(path);
    if meta.is_dir() {
        for entry in std::fs::read_dir(path).expect("a directory") {
            walk(&entry.expect("an entry").path(), visit);
        }
    }
}
