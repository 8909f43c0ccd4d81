//! A restore that goes on with what a killed one had staged: only what is as it should be is kept.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use lifeboat_model::{Entry, EntryKind, EntryPath, Extent};
use lifeboat_source::files::{Action, FilesTarget, MergePlan, Scope};

use crate::support::*;

const BLOCK: usize = 4096;

/// Stages all files, each from what is staged of it already; gives how many bytes were.
fn stage_again(target: &FilesTarget, plan: &MergePlan, wanted: &Tree) -> u64 {
    let mut kept = 0;
    for action in &plan.actions {
        let Action::Put { entry, .. } = action else { continue };
        if entry.kind != EntryKind::File {
            continue;
        }
        let content = wanted.content(&entry.path);
        let earlier = target.earlier(entry).unwrap();
        let is_earlier = earlier.is_some();
        let file = earlier.unwrap_or_else(|| target.stage_file(entry).unwrap());
        for (block, bytes) in content.chunks(BLOCK).enumerate() {
            let offset = (block * BLOCK) as u64;
            let mut there = vec![0; bytes.len()];
            if is_earlier && file.read_at(offset, &mut there).unwrap() == bytes.len() && there == bytes {
                file.keep(offset, bytes.len() as u64).unwrap();
                kept += bytes.len() as u64;
            } else {
                file.write_at(offset, bytes).unwrap();
            }
        }
        file.finish().unwrap();
    }
    kept
}

fn files(plan: &MergePlan) -> impl Iterator<Item = &EntryPath> {
    plan.actions.iter().filter_map(|action| match action {
        Action::Put { entry, .. } if entry.kind == EntryKind::File => Some(&entry.path),
        _ => None,
    })
}

fn restore_again(root: &Path, wanted: &Tree) -> u64 {
    let mut target = target(root);
    let plan = plan(&target, wanted, Scope::Whole);
    target.resume(files(&plan)).unwrap();
    let kept = stage_again(&target, &plan, wanted);
    assert!(finish(&mut target, &plan, &mut Steps::unlimited()).is_ok());
    kept
}

struct Killed {
    dir: tempfile::TempDir,
    root: PathBuf,
    tree: Tree,
}

/// A restore of everything, killed after so many steps, or (`None`) when all is staged; `is_fresh`: of an absent part.
fn killed(steps: Option<usize>, is_fresh: bool) -> Killed {
    let dir = quick_dir();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    fs::write(from.join("large"), vec![7; 300_000]).unwrap();
    let tree = read(&from);
    let root = dir.path().join("place/part");
    fs::create_dir_all(root.parent().unwrap()).unwrap();
    if !is_fresh {
        fs::create_dir(&root).unwrap();
    }
    let files = tree.entries.iter().filter(|entry| entry.kind == EntryKind::File).count();
    let _ = restore_steps(&root, &tree, &mut Steps::only(steps.unwrap_or(1 + 2 * files)));
    Killed { dir, root, tree }
}

/// Every file that lies in staging.
fn staged(killed: &Killed) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![killed.dir.path().join("place")];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => pending.push(entry.path()),
                kind if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn a_restore_killed_after_any_step_goes_on_from_there() {
    for is_fresh in [true, false] {
        let mut kept_most = 0;
        for steps in 0.. {
            let killed = killed(Some(steps), is_fresh);
            let is_done = staged(&killed).iter().all(|path| path.starts_with(&killed.root))
                && !killed.root.join(".lifeboat-stage-0707070707070707").exists()
                && killed.root.join("large").exists();
            kept_most = kept_most.max(restore_again(&killed.root, &killed.tree));
            assert_restored(&killed.root, &killed.tree);
            if is_done {
                break;
            }
        }
        assert!(kept_most >= 300_000, "{kept_most}");
    }
}

#[test]
fn what_a_power_failure_left_is_mended_and_the_rest_is_kept() {
    for is_fresh in [true, false] {
        let killed = killed(None, is_fresh);
        let large = staged(&killed).into_iter().find(|path| path.metadata().unwrap().len() == 300_000).unwrap();
        let file = File::options().write(true).open(&large).unwrap();
        file.write_all_at(&[0; 5_000], 100_000).unwrap();
        file.write_all_at(b"longer than it should be", 400_000).unwrap();
        for other in staged(&killed).iter().filter(|path| **path != large) {
            File::create(other).unwrap(); // emptied
        }
        let kept = restore_again(&killed.root, &killed.tree);
        assert!((280_000..300_000).contains(&kept), "{kept}");
        assert_restored(&killed.root, &killed.tree);
    }
}

#[test]
fn what_else_lies_in_staging_is_neither_written_to_nor_restored() {
    for is_fresh in [true, false] {
        let killed = killed(None, is_fresh);
        let victim = killed.dir.path().join("victim");
        fs::write(&victim, "another site's").unwrap();
        let staged = staged(&killed);
        let (first, second) = (&staged[0], &staged[1]);
        fs::remove_file(first).unwrap();
        symlink(&victim, first).unwrap();
        fs::remove_file(second).unwrap();
        fs::hard_link(&victim, second).unwrap();
        let beside = first.parent().unwrap();
        fs::write(beside.join("nobody-wants-this"), "x").unwrap();
        if is_fresh {
            fs::create_dir(beside.join("nor-this")).unwrap();
            fs::write(beside.join("nor-this/inside"), "x").unwrap();
        }
        restore_again(&killed.root, &killed.tree);
        assert_restored(&killed.root, &killed.tree);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "another site's");
        assert_eq!(victim.metadata().unwrap().nlink(), 1);
    }
}

#[test]
fn a_file_that_is_wanted_no_more_is_not_in_the_tree() {
    let killed = killed(None, true);
    let mut target = target(&killed.root);
    let mut plan = plan(&target, &killed.tree, Scope::Whole);
    let is_large = |entry: &Entry| entry.path.as_bytes() == b"large";
    plan.actions.retain(|action| !matches!(action, Action::Put { entry, .. } if is_large(entry)));
    target.resume(files(&plan)).unwrap();
    stage_again(&target, &plan, &killed.tree);
    assert!(finish(&mut target, &plan, &mut Steps::unlimited()).is_ok());
    assert!(!killed.root.join("large").exists() && killed.root.join("docs/plain.txt").exists());
}

#[test]
fn nothing_is_taken_over_where_nothing_was_begun() {
    let dir = quick_dir();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    let tree = read(&from);
    let target_root = dir.path().join("place/part");
    let mut target = target(&target_root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.resume(files(&plan)).unwrap();
    let entry: &Entry = tree.entries.iter().find(|entry| entry.kind == EntryKind::File).unwrap();
    assert!(entry.extents.iter().all(|extent| matches!(extent, Extent::Chunk(_) | Extent::Hole { .. })));
    assert!(target.earlier(entry).unwrap().is_none());
    target.clean_up().unwrap();
}

#[test]
fn what_is_made_anew_inherits_nothing_from_directories_that_were_finished_already() {
    let dir = quick_dir();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    fs::create_dir_all(from.join("finished/hollow")).unwrap();
    set_mode(&from.join("finished/hollow"), 0o750);
    fs::write(from.join("finished/file"), "content").unwrap();
    let pipe = from.join("finished/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
    set_mode(&pipe, 0o640);
    let nobody = u32::MAX;
    let default = acl(&[(1, 7, nobody), (2, 7, 1234), (4, 7, nobody), (16, 7, nobody), (32, 7, nobody)]);
    set_xattr(&from.join("finished"), "system.posix_acl_default", &default);
    let tree = read(&from);
    let root = dir.path().join("place/part");
    fs::create_dir_all(root.parent().unwrap()).unwrap();
    let actions = plan(&target(&root), &tree, Scope::Whole).actions.len();
    let files = tree.entries.iter().filter(|entry| entry.kind == EntryKind::File).count();
    // Begun, all staged, all built, and sealed.
    assert!(restore_steps(&root, &tree, &mut Steps::only(1 + 2 * files + actions + 1)).is_err());
    assert!(!root.exists());
    restore_again(&root, &tree);
    assert_restored(&root, &tree);
}
