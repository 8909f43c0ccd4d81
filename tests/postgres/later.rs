//! What was lost comes back into what was written since: planned, restored, undone, killed, raced with.

use std::collections::BTreeMap;

use lifeboat_engine::{Approval, RestorePoint, RestoreRequest, plan_restore, restore};
use lifeboat_model::PointInTime;
use lifeboat_testkit::postgres::{Postgres, query_text, site_name};
use lifeboat_testkit::world::{backup_all, restore_request, run_restore, site_id, undo};
use serde_json::Value;

use crate::killed::{Deed, Scene};
use crate::pooled::Pool;
use crate::proxy::Trap;
use crate::shop::{SCHEMAS, Shop};

const SITE: &str = "site-00002";
const RESTORE: [&str; 5] = ["restore", SITE, "--keep-later", "--yes", "--json"];
/// A bad script, and what people did before anybody noticed.
const DAMAGE: &str = "
    DELETE FROM comments WHERE issue_id IN (SELECT id FROM issues WHERE site_id = 'site-00002' AND number % 2 = 0);
    DELETE FROM worklog WHERE site_id = 'site-00002';
    UPDATE issues SET title = 'worked on since' WHERE id = (SELECT min(id) FROM issues WHERE site_id = 'site-00002');
    INSERT INTO labels (id, site_id, number, name) VALUES (-1, 'site-00002', 999, 'made later')";

fn keep_later() -> RestoreRequest {
    RestoreRequest { keep_later: true, ..restore_request(&site_name(2), RestorePoint::At(PointInTime::Latest)) }
}

fn undo_of(restore: lifeboat_model::RestoreId) -> RestoreRequest {
    restore_request(&site_name(2), RestorePoint::Undo(restore))
}

/// The picture of the point, but for the tables in which people went on working.
fn with_later(point: &BTreeMap<String, String>, damaged: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut want = point.clone();
    for table in [".issues", ".labels"] {
        let (name, rows) = damaged.iter().find(|(name, _)| name.ends_with(table)).unwrap();
        want.insert(name.clone(), rows.clone());
    }
    want
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_rows_come_back_later_work_stays_and_undo_and_its_undo_give_back_both_states() {
    let Some(pool) = Pool::new("lost_rows_come_back_later_work_stays").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let point = pool.picture();
    pool.sql(DAMAGE);
    let damaged = pool.picture();
    let changed = query_text(&pool.url, "SELECT min(id)::text FROM issues WHERE site_id = 'site-00002'").unwrap();
    let planned = plan_restore(&pool.engine, &keep_later()).await.unwrap();
    let rows = planned.plan.parts.iter().find(|part| part.source.as_str() == "app").unwrap();
    let of = |table: &str| rows.limits.iter().find(|limit| limit.table == table).unwrap();
    let counted = of("public.issues").counted.unwrap();
    assert_eq!((counted.insert, counted.kept, counted.update, counted.delete), (0, 1, 0, 0));
    assert_eq!(of("public.issues").kept_keys, [changed[0][0].clone().unwrap()]);
    assert_eq!(of("public.labels").counted.unwrap().newer, 1);
    assert!(of("public.comments").counted.unwrap().insert > 0);
    assert_eq!((rows.replace, rows.remove), (0, 0));
    assert!(rows.notes.iter().any(|note| note.contains("deleted on purpose")), "{:?}", rows.notes);

    let receipt = restore(&pool.engine, &keep_later(), planned, &Approval::Yes).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(receipt.parts.iter().map(|part| part.kept).sum::<u64>(), 1);
    let both = pool.picture();
    assert_eq!(both, with_later(&point, &damaged));

    // Nothing was changed since, though the site is what no snapshot says.
    let plan = plan_restore(&pool.engine, &undo_of(receipt.restore)).await.unwrap().plan;
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
    let undone = undo(&pool.engine, &site_name(2), receipt.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    assert_eq!(pool.picture(), damaged);
    undo(&pool.engine, &site_name(2), undone.restore).await.unwrap();
    assert_eq!(pool.picture(), both);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_after_the_restore_is_a_conflict_of_its_undo_wherever_it_is() {
    let Some(pool) = Pool::of("what_is_changed_after_a_keep_later", 3, 200).await else { return };
    backup_all(&pool.engine).await.unwrap();
    pool.sql(DAMAGE);
    let receipt = run_restore(&pool.engine, &keep_later()).await.unwrap();
    let undoing = undo_of(receipt.restore);
    // In a table to which rows came back, and in one that was kept as it was.
    for (table, key) in [("worklog", "note"), ("issues", "body")] {
        let of = format!("{table} WHERE site_id = 'site-00002' ORDER BY id DESC LIMIT 1");
        let was = query_text(&pool.url, &format!("SELECT id::text, {key} FROM {of}")).unwrap();
        let id = was[0][0].clone().unwrap();
        let old = was[0][1].clone().map_or("NULL".to_owned(), |was| format!("'{}'", was.replace('\'', "''")));
        pool.sql(&format!("UPDATE {table} SET {key} = 'changed after' WHERE id = {id}"));
        let found = plan_restore(&pool.engine, &undoing).await.unwrap().plan.conflicts;
        assert!(found.iter().any(|found| found.detail.ends_with(&format!("public.{table}"))), "{found:?}");
        pool.sql(&format!("UPDATE {table} SET {key} = {old} WHERE id = {id}"));
        assert!(plan_restore(&pool.engine, &undoing).await.unwrap().plan.conflicts.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_of_which_nothing_is_left_or_nothing_was_there_is_planned_and_restored_all_the_same() {
    let Some(pool) = Pool::of("keep_later_of_nothing", 6, 200).await else { return };
    backup_all(&pool.engine).await.unwrap();
    let whole = pool.picture();
    pool.sql("DELETE FROM sites WHERE id = 'site-00002'; DELETE FROM audit.events WHERE site_id = 'site-00002'");
    let gone = pool.picture();
    let receipt = run_restore(&pool.engine, &keep_later()).await.unwrap();
    assert_eq!(pool.picture(), whole);
    let plan = plan_restore(&pool.engine, &undo_of(receipt.restore)).await.unwrap().plan;
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
    undo(&pool.engine, &site_name(2), receipt.restore).await.unwrap();
    assert_eq!(pool.picture(), gone);
    // The newest point has no rows of the site: what was written since stays.
    backup_all(&pool.engine).await.unwrap();
    pool.sql("INSERT INTO sites (id, name, plan_id, country) VALUES ('site-00002', 'again', 1, 'DE')");
    let again = pool.picture();
    let newest = pool.engine.site(&site_id(SITE)).await.unwrap().state().snapshots.last().unwrap().id;
    let point = RestorePoint::At(PointInTime::Snapshot(newest));
    let request = RestoreRequest { point, ..keep_later() };
    let plan = plan_restore(&pool.engine, &request).await.unwrap().plan;
    assert!(plan.is_empty() && plan.parts.iter().any(|part| part.newer == 1), "{:?}", plan.parts);
    run_restore(&pool.engine, &request).await.unwrap();
    assert_eq!(pool.picture(), again);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_plan_runs_while_people_work_and_not_when_more_would_come_back() {
    let Some(pool) = Pool::of("an_approved_keep_later", 3, 200).await else { return };
    backup_all(&pool.engine).await.unwrap();
    pool.sql(DAMAGE);
    let plan = |engine| async move { plan_restore(engine, &keep_later()).await.unwrap() };
    let approved = plan(&pool.engine).await.plan.hash;
    pool.sql("INSERT INTO labels (site_id, number, name) VALUES ('site-00002', 5000, 'later still')");
    pool.sql("DELETE FROM audit.events WHERE id = (SELECT min(id) FROM audit.events WHERE site_id = 'site-00002')");
    let now = pool.picture();
    let planned = plan(&pool.engine).await;
    assert_ne!(planned.plan.hash, approved, "a row more comes back");
    let refused = restore(&pool.engine, &keep_later(), planned, &Approval::Hash(approved)).await.unwrap_err();
    assert!(refused.to_string().contains("changed since the plan was approved"), "{refused}");
    assert_eq!(pool.picture(), now);
    let approved = plan(&pool.engine).await.plan.hash;
    pool.sql("INSERT INTO labels (site_id, number, name) VALUES ('site-00002', 5001, 'even later')");
    let planned = plan(&pool.engine).await;
    restore(&pool.engine, &keep_later(), planned, &Approval::Hash(approved)).await.unwrap();
    let labels = "SELECT count(*)::text FROM labels WHERE site_id = 'site-00002' AND (number >= 5000 OR id = -1)";
    assert_eq!(query_text(&pool.url, labels).unwrap()[0][0].as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rows_that_a_restore_left_alone_nothing_is_kept_for_its_undo() {
    let Some(pool) = Pool::of("keep_later_of_a_file", 3, 200).await else { return };
    backup_all(&pool.engine).await.unwrap();
    pool.sql("UPDATE issues SET title = 'worked on since' WHERE site_id = 'site-00002'");
    let now = pool.picture();
    let nothing = run_restore(&pool.engine, &keep_later()).await.unwrap();
    assert_eq!(nothing.undo, None, "nothing was missing");
    std::fs::remove_file(pool.attachment(2)).unwrap();
    let receipt = run_restore(&pool.engine, &keep_later()).await.unwrap();
    assert!(pool.attachment(2).exists());
    // People work on, and the undo takes the file away and nothing else.
    pool.sql("UPDATE issues SET title = 'even later' WHERE site_id = 'site-00002'");
    let later = pool.picture();
    assert_ne!(later, now);
    let undone = undo(&pool.engine, &site_name(2), receipt.restore).await.unwrap();
    assert!(undone.all_passed() && !pool.attachment(2).exists(), "{:?}", undone.checks);
    assert_eq!(pool.picture(), later);
}

/// The plan's event of `--json`.
fn plan_of(out: &str) -> Value {
    let lines = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.into_iter().find(|line| line["event"] == "plan").unwrap_or_else(|| panic!("{out}"))
}

#[test]
fn a_unique_value_that_a_live_row_holds_is_told_with_the_rows_and_with_what_can_be_done() {
    let Some(server) = Postgres::shared_or_skip("a_unique_value_that_a_live_row_holds") else { return };
    let shop = Shop::fleet(server, 3, 100);
    shop.ok(&["backup", "--all"]);
    let key = shop.text("SELECT min(id) FROM users WHERE site_id = 'site-00002'");
    shop.sql(
        "CREATE TABLE was AS SELECT * FROM users WHERE site_id = 'site-00002' ORDER BY id LIMIT 1;
         DELETE FROM users WHERE id = (SELECT id FROM was);
         INSERT INTO users (id, site_id, number, email, name) SELECT 9000000, site_id, number, 'x', 'again' FROM was;
         DROP TABLE was",
    );
    let said = shop.run(&["restore", SITE, "--keep-later", "--yes"]);
    let row = format!("keys=`{key}`");
    said.check(10, &[row.as_str(), "change or remove the live row", "--only PART/TABLE[KEY]", "--beside"]);
    assert!(!said.err.contains("--plan"), "{}", said.err);
}

#[test]
fn keys_of_kept_rows_and_of_conflicts_are_shown_where_all_is_asked_for_and_the_receipt_counts_them() {
    let Some(server) = Postgres::shared_or_skip("keys_of_kept_rows") else { return };
    let shop = Shop::fleet(server, 3, 100);
    shop.ok(&["backup", "--all"]);
    shop.sql(DAMAGE);
    let changed = shop.text("SELECT min(id) FROM issues WHERE site_id = 'site-00002'");
    let dry = ["restore", SITE, "--keep-later", "--dry-run"];
    let short = shop.ok(&dry).out;
    assert!(short.contains("kept     app/public.issues") && short.contains("(-v lists their keys)"), "{short}");
    assert!(short.contains("deleted on purpose") && !short.contains(&format!("[{changed}]")), "{short}");
    let long = shop.ok(&[&dry[..], &["-v"]].concat()).out;
    assert!(long.contains(&format!("[{changed}]")), "{long}");
    let plan = plan_of(&shop.ok(&[&dry[..], &["--json"]].concat()).out);
    let tables = plan["parts"][0]["tables"].as_array().unwrap();
    let issues = tables.iter().find(|table| table["table"] == "public.issues").unwrap();
    assert_eq!(
        (&issues["kept"], &issues["kept_keys"], &issues["insert"]),
        (&1.into(), &vec![changed.clone()].into(), &0.into())
    );
    assert_eq!((&plan["keeps_later"], &plan["parts"][0]["kept"]), (&true.into(), &1.into()));
    // The key is written as `--only` reads it.
    let only = format!("app/public.issues[{}]", issues["kept_keys"][0].as_str().unwrap());
    assert!(shop.ok(&["restore", SITE, "--only", &only, "--dry-run"]).out.contains("1 to update"));

    // In the way: a value that a row written since holds.
    shop.sql(
        "CREATE TABLE was AS SELECT * FROM users WHERE site_id = 'site-00002' ORDER BY id LIMIT 1;
         DELETE FROM users WHERE id = (SELECT id FROM was);
         INSERT INTO users (id, site_id, number, email, name) SELECT 900000, site_id, 9000, email, name FROM was",
    );
    let lost = shop.text("SELECT id FROM was");
    let before = shop.picture();
    let plan = plan_of(&shop.ok(&[&dry[..], &["--json"]].concat()).out);
    assert!(
        plan["conflicts"].as_array().unwrap().iter().any(|found| found["keys"] == Value::from(vec![lost.clone()])),
        "{plan}"
    );
    assert!(shop.ok(&[&dry[..], &["-v"]].concat()).out.contains(&format!("[{lost}]")));
    let words = ["unique values that other rows hold now", "change or remove the live row"];
    let refused = shop.refused(&["restore", SITE, "--keep-later", "--yes"], 10, &words);
    assert!(refused.out.contains("unique values that other rows hold now"), "{refused:?}");
    // Approved all the same, it is refused where it would happen.
    let insisted = ["restore", SITE, "--keep-later", "--plan", plan["plan_hash"].as_str().unwrap()];
    shop.refused(&insisted, 10, &["unique values that other rows hold now"]);
    assert_eq!(shop.picture(), before);
    shop.sql("DELETE FROM users WHERE id = 900000");
    let said = shop.ok(&RESTORE);
    let done: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    // The issue, and the rows in which a foreign key had forgotten the user.
    let kept = done["parts"].as_array().unwrap().iter().find(|part| part["source"] == "app").unwrap();
    assert!(kept["kept"].as_u64().is_some_and(|kept| kept > 1), "{done}");
    assert_eq!(shop.text(&format!("SELECT count(*) FROM users WHERE id = {lost}")), "1");
}

#[test]
fn a_schema_that_the_point_does_not_have_stays() {
    let Some(server) = Postgres::shared_or_skip("keep_later_of_no_schema") else { return };
    let shop = Shop::of(&server.fresh_database().unwrap(), SCHEMAS);
    let srv = shop.path("srv");
    shop.configure(&format!("[sources.files]\nkind = \"files\"\npath = \"{}/{{site}}\"\n", srv.display()));
    let make = |site: &str| {
        shop.sql(&format!("CREATE SCHEMA \"{site}\"; CREATE TABLE \"{site}\".t (id int PRIMARY KEY); INSERT INTO \"{site}\".t VALUES (7)"));
    };
    for site in (1..=6).map(site_name) {
        make(&site);
        std::fs::create_dir_all(srv.join(&site)).unwrap();
        std::fs::write(srv.join(&site).join("logo"), "a logo").unwrap();
    }
    shop.ok(&["backup", "--all"]);
    shop.sql("DROP SCHEMA \"site-00002\" CASCADE");
    shop.run(&["backup", "--all"]);
    let points = shop.ok(&["points", SITE, "--json"]).out;
    let points = points.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let newest = points.filter_map(|point| point["snapshot_id"].as_str().map(ToOwned::to_owned)).next_back().unwrap();
    make(SITE);
    std::fs::remove_file(srv.join(SITE).join("logo")).unwrap();
    let newest = format!("snapshot:{newest}");
    let plain = shop.ok(&["restore", SITE, "--at", &newest, "--dry-run"]).out;
    assert!(plain.contains("it was not there at the point: dropped"), "{plain}");
    let kept = shop.ok(&["restore", SITE, "--at", &newest, "--keep-later", "--yes"]).out;
    assert!(kept.contains("what is there stays") && !kept.contains("dropped"), "{kept}");
    assert!(srv.join(SITE).join("logo").exists());
    assert_eq!(shop.text("SELECT id FROM \"site-00002\".t"), "7");
}

#[test]
fn killed_in_between_it_is_all_or_nothing_and_the_same_command_finishes() {
    let Some(server) = Postgres::shared_or_skip("keep_later_killed") else { return };
    let scene = Scene::of(server, Shop::fleet(server, 3, 100), DAMAGE);
    let shop = &scene.shop;
    let damaged = shop.picture();
    let want = with_later(&scene.whole, &damaged);
    for step in ["COPY lifeboat_stage_", "INSERT INTO ", "pg_current_xact_id", "DROP SCHEMA IF EXISTS lifeboat_stage_"]
    {
        assert!(scene.disturb(&RESTORE, &Trap::before(step), Deed::Kill).is_some(), "{step}");
        let now = shop.picture();
        assert!(now == damaged || now == want, "{step}: {now:#?}");
        let again = shop.ok(&RESTORE);
        assert_eq!((shop.picture(), shop.staging()), (want.clone(), String::new()), "{step}");
        // A plain yes: nothing was changed since, and the undo knows it.
        shop.ok(&["undo", &again.field("restore_id"), "--yes"]);
        assert_eq!(shop.picture(), damaged, "{step}");
    }
    // A killed one that was to take everything back is another restore.
    let plain = ["restore", SITE, "--yes", "--json"];
    assert!(scene.disturb(&plain, &Trap::before("INSERT INTO "), Deed::Kill).is_some());
    let kept = shop.ok(&RESTORE);
    assert_eq!(shop.picture(), want);
    shop.ok(&["undo", &kept.field("restore_id"), "--yes"]);
    assert_eq!(shop.picture(), damaged);
}

#[test]
fn what_is_written_between_the_plan_and_the_switch_ends_it_and_nothing_is_changed() {
    let Some(server) = Postgres::shared_or_skip("keep_later_raced_with") else { return };
    let scene = Scene::of(server, Shop::fleet(server, 3, 100), DAMAGE);
    let shop = &scene.shop;
    let restore = ["restore", SITE, "--keep-later", "--yes"];
    // Before the rows are kept for the undo, or between that and the switch.
    for (step, code, says) in [
        ("SET LOCAL session_replication_role = replica; ROLLBACK", 10, "was written to while the restore looked at it"),
        ("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE", 11, "was written to while it was restored"),
    ] {
        let (said, written) = scene.meanwhile(&restore, &Trap::before(step), || {
            shop.sql("UPDATE projects SET name = name || '!' WHERE site_id = 'site-00002'");
            shop.picture()
        });
        said.check(code, &[says]);
        assert_eq!((shop.picture(), shop.staging()), (written, String::new()));
    }
    shop.ok(&RESTORE);
    assert_eq!(shop.text("SELECT count(*) FROM projects WHERE site_id = 'site-00002' AND name NOT LIKE '%!!'"), "0");
}
