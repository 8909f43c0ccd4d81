//! A restore that was killed, an application that went on, the restore again: whatever was live before a
//! switch that happened can be had back.

use std::collections::BTreeMap;

use lifeboat_testkit::postgres::Postgres;

use crate::killed::{DAMAGE, Deed, Scene};
use crate::proxy::Trap;
use crate::shop::{Said, Shop};

const RESTORE: [&str; 4] = ["restore", "site-00002", "--yes", "--json"];
const WRITES: &str = "UPDATE projects SET name = name || '!' WHERE site_id = 'site-00002'";

type Picture = BTreeMap<String, String>;

fn scene(test: &str) -> Option<Scene> {
    let server = Postgres::shared_or_skip(test)?;
    Some(Scene::of(server, Shop::fleet(server, 3, 100), DAMAGE))
}

/// Where a restore is killed: with its rows written, but for the COMMIT; or with staging to be removed.
const BEFORE_COMMIT: &str = "pg_current_xact_id";
const BEHIND_COMMIT: &str = "DROP SCHEMA IF EXISTS lifeboat_stage_";

fn kill(scene: &Scene, args: &[&str], before: &str) {
    assert!(scene.disturb(args, &Trap::before(before), Deed::Kill).is_some());
}

/// Runs a command, approving whatever its plan says, conflicts too.
fn insist(shop: &Shop, args: &[&str]) -> Said {
    let hash = shop.ok(&[args, &["--dry-run", "--json"]].concat()).field("plan_hash");
    shop.ok(&[args, &["--plan", &hash, "--json"]].concat())
}

/// The restores that have an undo, the newest last.
fn undoable(shop: &Shop) -> Vec<String> {
    let points = shop.ok(&["points", "site-00002", "--json"]).out;
    let undos = points.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let undos = undos.filter(|point| point["mark"] == "undo");
    undos.map(|point| point["restore_id"].as_str().unwrap_or_else(|| panic!("{point}")).to_owned()).collect()
}

fn undo(shop: &Shop, restore: &str, want: &Picture) {
    insist(shop, &["undo", restore]);
    assert_eq!(shop.picture(), *want);
}

#[test]
fn what_was_written_after_a_restore_was_killed_before_its_commit_is_in_the_undo() {
    let Some(scene) = scene("written_after_a_kill_before_commit") else { return };
    let shop = &scene.shop;
    // Files are added before rows are switched: the killed one has put this back.
    let logo = shop.path("srv/site-00002/attachments/logo.png");
    std::fs::remove_file(&logo).unwrap();
    let damaged = shop.picture();
    kill(&scene, &RESTORE, BEFORE_COMMIT);
    assert!(logo.exists());
    shop.sql(WRITES);
    let mut written = shop.picture();
    written.retain(|name, _| damaged.contains_key(name));
    let again = shop.ok(&RESTORE);
    assert_eq!(shop.picture(), scene.whole);
    assert_eq!(shop.staging(), "");
    // Rows as the application had left them, files as they were before the first attempt.
    undo(shop, &again.field("restore_id"), &written);
}

#[test]
fn a_restore_killed_after_its_commit_goes_on_with_the_undo_it_had() {
    let Some(scene) = scene("killed_after_its_commit") else { return };
    let shop = &scene.shop;
    let label = shop.text("SELECT id FROM labels WHERE site_id = 'site-00002' AND id > 0 ORDER BY id LIMIT 1");
    let only = format!("app/labels[..{label}]");
    shop.sql(&format!("UPDATE labels SET name = 'oops' WHERE id = {label}"));
    let damaged = shop.picture();
    // The whole site, and some rows, whose table is neither as it was nor as it is at the point.
    for args in [&RESTORE[..], &["restore", "site-00002", "--only", &only, "--yes", "--json"]] {
        kill(&scene, args, BEHIND_COMMIT);
        let restored = shop.picture();
        assert_ne!(restored, damaged);
        let before = undoable(shop);
        let again = shop.ok(args);
        assert_eq!((shop.picture(), undoable(shop)), (restored, before.clone()));
        assert_eq!(again.field("restore_id"), *before.last().unwrap());
        undo(shop, &again.field("restore_id"), &damaged);
    }
}

#[test]
fn what_was_written_after_a_restore_was_killed_behind_its_commit_is_kept_beside_what_it_replaced() {
    let Some(scene) = scene("written_after_a_kill_behind_commit") else { return };
    let shop = &scene.shop;
    let damaged = shop.picture();
    kill(&scene, &RESTORE, BEHIND_COMMIT);
    let first = undoable(shop).remove(0);
    shop.sql(WRITES);
    let written = shop.picture();
    let again = shop.ok(&RESTORE);
    assert_eq!(shop.picture(), scene.whole);
    assert_ne!(again.field("restore_id"), first);
    undo(shop, &again.field("restore_id"), &written);
    undo(shop, &first, &damaged);
}

#[test]
fn a_restore_killed_twice_with_writes_in_between_loses_none_of_them() {
    let Some(scene) = scene("killed_twice") else { return };
    let shop = &scene.shop;
    let logo = shop.path("srv/site-00002/attachments/logo.png");
    std::fs::remove_file(&logo).unwrap();
    let damaged = shop.picture();
    kill(&scene, &RESTORE, BEFORE_COMMIT);
    shop.sql(WRITES);
    // Before it has an undo of its own, then behind its commit.
    kill(&scene, &RESTORE, "pg_export_snapshot");
    let mut written = shop.picture();
    written.retain(|name, _| damaged.contains_key(name));
    kill(&scene, &RESTORE, BEHIND_COMMIT);
    let again = shop.ok(&RESTORE);
    assert_eq!(shop.picture(), scene.whole);
    undo(shop, &again.field("restore_id"), &written);
}
