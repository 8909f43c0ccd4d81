//! Moments put back in place: just before a bad transaction, everything but it, and undone again.

use lifeboat_engine::{Approval, RestorePoint, RestoreRequest, plan_restore};
use lifeboat_model::{PointInTime, TransactionId};
use lifeboat_testkit::postgres::{query_text, run_sql};
use lifeboat_testkit::world::{backup_all, restore_request, run_restore, site_id};

use crate::world::World;

const SITE: &str = "site-00002";

/// What each table holds of the site, and of all others.
fn seen(world: &World, is_site: bool) -> Vec<String> {
    let operator = if is_site { "=" } else { "<>" };
    let tables = ["users", "labels", "issues", "worklog", "projects", "audit.events"];
    let one = |table: &&str| {
        let sql = format!(
            "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') FROM {table} t \
             WHERE site_id {operator} '{SITE}'"
        );
        format!("{table} {}", query_text(&world.url, &sql).unwrap()[0][0].clone().unwrap())
    };
    tables.iter().map(one).collect()
}

fn newest_transaction(world: &World) -> TransactionId {
    let sql = "SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::int8 - 1)::text";
    TransactionId(query_text(&world.url, sql).unwrap()[0][0].as_deref().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bad_transaction_is_taken_back_with_or_without_what_came_after_it() {
    const TEST: &str = "a_bad_transaction_is_taken_back_with_or_without_what_came_after_it";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    world.work(70, 15);
    let before = seen(&world, true);
    let bad = format!(
        "BEGIN; SELECT pg_logical_emit_message(true, 'deploy', 'release 42'); \
         UPDATE users SET name = 'oops' WHERE site_id = '{SITE}'; DELETE FROM worklog WHERE site_id = '{SITE}'; COMMIT"
    );
    run_sql(&world.url, &bad).unwrap();
    let id = newest_transaction(&world);
    let good = format!("INSERT INTO labels (site_id, number, name) VALUES ('{SITE}', 900, 'written later')");
    run_sql(&world.url, &good).unwrap();
    let others = seen(&world, false);
    let after = seen(&world, true);
    world.catch_up().await;
    let at = |at: PointInTime| restore_request(SITE, RestorePoint::At(at));

    // Everything but that transaction: what came later stays.
    let without = PointInTime::Without { transaction: id, till: None };
    let receipt = run_restore(&world.engine, &at(without)).await.unwrap();
    assert!(receipt.all_passed(), "{receipt:?}");
    let now = seen(&world, true);
    for (now, before) in now.iter().zip(&before).filter(|(now, _)| !now.starts_with("labels")) {
        assert_eq!(now, before);
    }
    let later = format!("SELECT count(*)::text FROM labels WHERE site_id = '{SITE}' AND name = 'written later'");
    assert_eq!(query_text(&world.url, &later).unwrap()[0][0].as_deref(), Some("1"));
    run_restore(&world.engine, &restore_request(SITE, RestorePoint::Undo(receipt.restore))).await.unwrap();
    assert_eq!(seen(&world, true), after, "undone");

    // Just before it, named by its number, by its note, and by the position before its commit.
    for point in [PointInTime::Before(id), PointInTime::BeforeNote("release 42".into())] {
        let receipt = run_restore(&world.engine, &at(point.clone())).await.unwrap();
        assert!(receipt.all_passed(), "{point}: {receipt:?}");
        assert_eq!(seen(&world, true), before, "{point}");
        run_restore(&world.engine, &restore_request(SITE, RestorePoint::Undo(receipt.restore))).await.unwrap();
        assert_eq!(seen(&world, true), after, "{point}, undone");
    }
    assert_eq!(seen(&world, false), others, "others' rows");

    // A later change of a row that it wrote is a conflict that a person approves by the plan's hash.
    run_sql(&world.url, &format!("UPDATE users SET name = 'oops again' WHERE site_id = '{SITE}'")).unwrap();
    let id = newest_transaction(&world);
    run_sql(&world.url, &format!("UPDATE users SET settings = '{{}}' WHERE site_id = '{SITE}'")).unwrap();
    world.catch_up().await;
    let request = at(PointInTime::Without { transaction: id, till: None });
    let planned = plan_restore(&world.engine, &request).await.unwrap();
    let conflict = planned.plan.conflicts.first().map(|conflict| conflict.detail.clone()).unwrap_or_default();
    assert!(conflict.contains("public.users"), "{:?}", planned.plan.conflicts);
    let refused = lifeboat_engine::restore(&world.engine, &request, planned, &Approval::Yes).await;
    assert!(refused.is_err(), "a conflict is not approved by a plain yes");
    assert_eq!(seen(&world, false), others, "others' rows");
    assert!(world.engine.site(&site_id(SITE)).await.unwrap().state().intent.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_lost_since_a_moment_come_back_into_what_was_written_since() {
    const TEST: &str = "rows_lost_since_a_moment_come_back_into_what_was_written_since";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    world.work(70, 15);
    let before = seen(&world, true);
    // Two transactions took rows away, and people worked in between.
    run_sql(&world.url, &format!("DELETE FROM worklog WHERE site_id = '{SITE}' AND id % 2 = 0")).unwrap();
    let id = newest_transaction(&world);
    let work = format!(
        "INSERT INTO labels (site_id, number, name) VALUES ('{SITE}', 901, 'written later');
         UPDATE users SET name = 'married since' WHERE id = (SELECT min(id) FROM users WHERE site_id = '{SITE}');
         DELETE FROM worklog WHERE site_id = '{SITE}'"
    );
    run_sql(&world.url, &work).unwrap();
    let (after, others) = (seen(&world, true), seen(&world, false));
    world.catch_up().await;
    let at = restore_request(SITE, RestorePoint::At(PointInTime::Before(id)));
    let request = RestoreRequest { keep_later: true, ..at };
    let receipt = run_restore(&world.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{receipt:?}");
    let now = seen(&world, true);
    for ((now, before), after) in now.iter().zip(&before).zip(&after) {
        let is_later = now.starts_with("labels") || now.starts_with("users");
        assert_eq!(now, if is_later { after } else { before });
    }
    assert_ne!(now, before);
    let undoing = restore_request(SITE, RestorePoint::Undo(receipt.restore));
    let plan = plan_restore(&world.engine, &undoing).await.unwrap().plan;
    assert!(plan.conflicts.is_empty(), "{:?}", plan.conflicts);
    run_restore(&world.engine, &undoing).await.unwrap();
    assert_eq!(seen(&world, true), after, "undone");
    assert_eq!(seen(&world, false), others, "others' rows");
}
