//! A run killed after any step, and run again.

use crate::support::*;
use lifeboat_source::files::{FilesTarget, Scope};
use std::fs;
use std::path::Path;

fn damage(root: &Path) {
    fs::write(root.join("docs/plain.txt"), "damaged").unwrap();
    fs::remove_file(root.join("first-name")).unwrap();
    fs::write(root.join("first-name"), "no longer shared").unwrap();
    fs::remove_file(root.join("pipe")).unwrap();
    fs::create_dir_all(root.join("pipe/now/a")).unwrap();
    fs::write(root.join("pipe/now/file"), "extra").unwrap();
    fs::remove_dir_all(root.join("docs/deep")).unwrap();
    fs::write(root.join("docs/deep"), "a file in place of a directory").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::create_dir(root.join("extra")).unwrap();
    fs::write(root.join("extra/one"), "1").unwrap();
    set_mode(&root.join("docs-beside"), 0o600);
}

/// Kills after each step in turn; the run that follows must finish.
fn kill_everywhere(make_live: impl Fn(&Path)) -> usize {
    let dir = quick_dir();
    let from = dir.path().join("from");
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    let tree = read(&from);
    for steps in 0.. {
        let root = dir.path().join(format!("place-{steps}/part"));
        fs::create_dir_all(root.parent().unwrap()).unwrap();
        make_live(&root);
        let done = restore_steps(&root, &tree, &mut Steps::only(steps)).is_ok();
        restore(&root, &tree);
        assert_restored(&root, &tree);
        if done {
            return steps;
        }
    }
    unreachable!()
}

#[test]
fn a_fresh_restore_killed_after_any_step_is_finished_by_the_next_run() {
    let steps = kill_everywhere(|_| {});
    println!("killed at {steps} places");
    assert!(steps > 40);
}

#[test]
fn a_merge_killed_after_any_step_is_finished_by_the_next_run() {
    let steps = kill_everywhere(|root| {
        fs::create_dir(root).unwrap();
        build_everything(root);
        damage(root);
    });
    println!("killed at {steps} places");
    assert!(steps > 30);
}

// Explains invariant: stage-first
#[test]
fn before_the_switch_a_killed_run_has_changed_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (from, root) = (dir.path().join("from"), dir.path().join("place/part"));
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    let tree = read(&from);
    fs::create_dir_all(&root).unwrap();
    build_everything(&root);
    damage(&root);
    let before = read(&root);
    let mut target = target(&root);
    let plan = plan(&target, &tree, Scope::Whole);
    target.begin().unwrap();
    assert!(stage(&target, &plan, &tree, &mut Steps::unlimited()).is_ok());
    target.prepare(&plan.actions).unwrap();
    target.seal(&plan.directories).unwrap();
    let during = read(&root);
    assert_eq!(during.comparable(), before.comparable());
    assert_eq!(during.left_out.len(), 1, "the staging directory is named: {:?}", during.left_out);
    drop(target);
    let mut given_up = crate::support::target(&root);
    assert_eq!(given_up.clean_up().unwrap(), []);
    assert_restored(&root, &before);
}

/// The approved plan itself is run again, not a new one.
#[test]
fn the_same_actions_run_again_from_the_first_one_change_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let (from, root) = (dir.path().join("from"), dir.path().join("place/part"));
    fs::create_dir(&from).unwrap();
    build_everything(&from);
    let tree = read(&from);
    fs::create_dir_all(&root).unwrap();
    build_everything(&root);
    damage(&root);
    let mut first = target(&root);
    let plan = plan(&first, &tree, Scope::Whole);
    let begin = |target: &mut FilesTarget| {
        target.begin().unwrap();
        assert!(stage(target, &plan, &tree, &mut Steps::unlimited()).is_ok());
        target.seal(&plan.directories).unwrap();
    };
    begin(&mut first);
    for count in 1..=plan.actions.len() {
        first.switch(&plan.actions[..count]).unwrap();
    }
    first.switch(&plan.actions).unwrap();
    drop(first);
    // A new process stages everything again and runs the same list.
    let mut second = target(&root);
    begin(&mut second);
    assert!(finish(&mut second, &plan, &mut Steps::unlimited()).is_ok());
    assert_restored(&root, &tree);
}

#[test]
fn two_processes_cannot_run_one_restore_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for root in [dir.path().join("absent"), dir.path().to_owned()] {
        let (mut first, mut second) = (target(&root), target(&root));
        first.begin().unwrap();
        assert!(matches!(second.begin(), Err(lifeboat_source::Error::Busy { .. })), "{}", root.display());
        drop(first);
        second.begin().unwrap();
        second.clean_up().unwrap();
    }
}
