//! Schemas that were dropped and are made again: what comes back beside tables, and what a person is told.

use lifeboat_engine::{RestorePoint, plan_restore};
use lifeboat_model::PointInTime;
use lifeboat_testkit::postgres::{query_text, run_sql};
use lifeboat_testkit::world::{backup_all, restore_request, run_restore};

use crate::own::{Own, schema, seen, site};

fn text(own: &Own, sql: &str) -> String {
    query_text(&own.url, sql).unwrap()[0][0].clone().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_schema_is_made_again_with_values_that_its_types_got_since_and_names_what_it_lacks() {
    const TEST: &str = "a_schema_is_made_again_with_values_that_its_types_got_since_and_names_what_it_lacks";
    let Some(mut own) = Own::new(TEST).await else { return };
    let s = schema(2);
    let mood =
        format!("CREATE TYPE {s}.mood AS ENUM ('ok', 'it''s; so'); ALTER TABLE {s}.users ADD m {s}.mood DEFAULT 'ok'");
    run_sql(
        &own.url,
        &format!("{mood}; CREATE PUBLICATION theirs FOR TABLE {s}.users; CREATE VIEW {s}.old AS SELECT 1"),
    )
    .unwrap();
    own.catch_up().await;
    backup_all(&own.engine).await.unwrap();
    for value in ["'new'", "'before' BEFORE 'ok'"] {
        run_sql(&own.url, &format!("ALTER TYPE {s}.mood ADD VALUE {value}")).unwrap();
    }
    let work = format!(
        "UPDATE {s}.users SET m = 'new' WHERE id % 3 = 0; UPDATE {s}.users SET m = 'before' WHERE id % 3 = 1;
         CREATE TYPE {s}.phase AS ENUM ('one'); CREATE TABLE {s}.steps (id int PRIMARY KEY, p {s}.phase);
         CREATE INDEX by_mood ON {s}.users (m); CREATE VIEW {s}.shown AS SELECT id FROM {s}.users; DROP VIEW {s}.old;
         CREATE FUNCTION {s}.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER fires AFTER INSERT ON {s}.users FOR EACH ROW EXECUTE FUNCTION {s}.f();
         CREATE MATERIALIZED VIEW {s}.sums AS SELECT count(*) FROM {s}.users"
    );
    run_sql(&own.url, &work).unwrap();
    run_sql(&own.url, &format!("REFRESH MATERIALIZED VIEW {s}.sums")).unwrap();
    own.catch_up().await;
    run_sql(&own.url, &format!("INSERT INTO {s}.steps VALUES (1, 'one')")).unwrap();
    let sums = format!("SELECT md5(string_agg(u::text, '|' ORDER BY m, id)) FROM {s}.users u");
    let (before, mut sorted) = (seen(&own, 2), text(&own, &sums));
    let at = own.now();
    std::thread::sleep(std::time::Duration::from_millis(20));
    run_sql(&own.url, &format!("DROP SCHEMA {s} CASCADE")).unwrap();
    run_sql(&own.url, &format!("UPDATE {}.doomed SET id = id", schema(1))).unwrap();
    own.catch_up().await;
    let request = restore_request("s2", RestorePoint::At(PointInTime::Time(at)));
    let receipt = run_restore(&own.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{receipt:?}");
    assert_eq!(seen(&own, 2), before);
    assert_eq!(text(&own, &sums), std::mem::take(&mut sorted), "values are in their order");
    assert_eq!(text(&own, &format!("SELECT p::text FROM {s}.steps")), "one");
    let notes: Vec<&str> = receipt.checks.iter().map(|check| check.detail.as_str()).collect();
    let told =
        notes.iter().find(|note| note.contains("without what else was made")).unwrap_or_else(|| panic!("{notes:?}"));
    for lacks in
        ["index", "by_mood", "view", "shown", "old (dropped)", "function", "trigger", "fires", "materialized view"]
    {
        assert!(told.contains(lacks), "{lacks}: {told}");
    }
    assert!(!told.contains("steps_pkey") && told.matches("sums").count() == 1, "{told}");
    // Of publications only those of others are a person's affair.
    let published = notes.iter().find(|note| note.contains("PUBLICATION")).unwrap_or_else(|| panic!("{notes:?}"));
    assert!(published.contains("theirs") && !published.contains("lifeboat_"), "{published}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_moment_at_which_the_schema_was_gone_already_is_not_restored_unless_that_very_plan_is_approved() {
    const TEST: &str =
        "a_moment_at_which_the_schema_was_gone_already_is_not_restored_unless_that_very_plan_is_approved";
    let Some(mut own) = Own::new(TEST).await else { return };
    own.catch_up().await;
    backup_all(&own.engine).await.unwrap();
    run_sql(&own.url, &format!("DROP SCHEMA {} CASCADE", schema(2))).unwrap();
    own.catch_up().await;
    backup_all(&own.engine).await.unwrap(); // suspect, for it is empty
    run_sql(&own.url, &format!("UPDATE {}.doomed SET id = id", schema(1))).unwrap();
    let at = own.now();
    run_sql(&own.url, &format!("UPDATE {}.doomed SET id = id", schema(1))).unwrap();
    own.catch_up().await;
    let request = restore_request("s2", RestorePoint::At(PointInTime::Time(at)));
    let plan = plan_restore(&own.engine, &request).await.unwrap().plan;
    let told = plan.conflicts.first().map(|conflict| conflict.detail.clone()).unwrap_or_default();
    let first = own.engine.site(&site(2)).await.unwrap().state().snapshots[0].id;
    assert!(told.contains("nothing of the site was there") && told.contains(&first.to_string()), "{plan:?}");
    assert!(run_restore(&own.engine, &request).await.is_err());
}
