//! Schemas that were dropped and are made again: what comes back beside tables, and what a person is told.

use lifeboat_engine::{
    BackupRequest, Certainty, DamageRequest, Restorable, RestorePoint, backup, find_damage, list, plan_restore, windows,
};
use lifeboat_model::{Faulty, PointInTime, Timestamp};
use lifeboat_testkit::postgres::{query_text, run_sql};
use lifeboat_testkit::world::{backup_all, restore_request, run_restore};

use crate::own::{Own, schema, seen, site};
use crate::world::app;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_schema_is_one_sites_loss_and_the_moment_that_is_told_can_be_restored() {
    const TEST: &str = "a_dropped_schema_is_one_sites_loss_and_the_moment_that_is_told_can_be_restored";
    let Some(mut own) = Own::new(TEST).await else { return };
    backup_all(&own.engine).await.unwrap(); // nothing is captured yet: no base
    own.catch_up().await;
    let bases = BackupRequest { sites: vec![site(2)], anew: true, ..BackupRequest::default() };
    backup(&own.engine, &bases).await.unwrap();
    let (s2, s3) = (schema(2), schema(3));
    run_sql(&own.url, &format!("DELETE FROM {s2}.comments WHERE id < 9; UPDATE {s3}.users SET name = 'x'")).unwrap();
    let before = seen(&own, 2);
    // A copy that was made beside and is thrown away has a name like a site's.
    run_sql(&own.url, "CREATE SCHEMA \"tenant copy\"; CREATE TABLE \"tenant copy\".users (id int)").unwrap();
    run_sql(&own.url, &format!("DROP SCHEMA {s2} CASCADE")).unwrap();
    run_sql(&own.url, &format!("DROP SCHEMA {s3} CASCADE")).unwrap();
    run_sql(&own.url, "DROP SCHEMA \"tenant copy\" CASCADE").unwrap();
    own.catch_up().await;
    let report = find_damage(&own.engine, &DamageRequest { since: Timestamp(0), source: None }).await.unwrap();
    let incident = &report.incidents[0];
    assert!(incident.dropped.is_empty() && incident.emptied.is_empty(), "{incident:?}");
    let hit: Vec<&str> = incident.sites.iter().map(|damage| damage.site.as_str()).collect();
    assert_eq!(hit, ["s2", "s3"], "{incident:?}");
    let users = format!("{s2}.users");
    assert!(incident.sites[0].gone.contains(&users), "{incident:?}");
    assert_eq!(incident.sites[0].restorable, Restorable::Exact);
    // Of the other one there is only a snapshot from before it was captured.
    let first = own.engine.site(&site(3)).await.unwrap().state().snapshots[0].id;
    let Restorable::Earlier { at, .. } = &incident.sites[1].restorable else { panic!("{incident:?}") };
    assert_eq!(*at, format!("snapshot:{first}"));
    for (damage, at) in [(&incident.sites[0], incident.sites[0].last_good.at()), (&incident.sites[1], at.clone())] {
        let at = PointInTime::parse(&at, Timestamp::now()).unwrap();
        let request = restore_request(damage.site.as_str(), RestorePoint::At(at));
        assert!(run_restore(&own.engine, &request).await.unwrap().all_passed());
    }
    assert_eq!(seen(&own, 2), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_stretches_that_are_told_of_a_site_are_those_that_a_restore_can_go_back_to() {
    const TEST: &str = "the_stretches_that_are_told_of_a_site_are_those_that_a_restore_can_go_back_to";
    let Some(mut own) = Own::new(TEST).await else { return };
    let (s, other) = (schema(2), schema(1));
    let work = format!("UPDATE {s}.users SET name = name || '.'; UPDATE {other}.users SET name = name || '.'");
    own.catch_up().await;
    backup_all(&own.engine).await.unwrap();
    run_sql(&own.url, &work).unwrap();
    own.catch_up().await;
    run_sql(&own.url, &format!("ALTER TABLE {s}.issues ALTER title TYPE varchar(99) USING upper(title)")).unwrap();
    let broken = own.now();
    run_sql(&own.url, &work).unwrap();
    own.catch_up().await;
    assert_eq!(own.take_bases().await, [site(2)]);
    run_sql(&own.url, &work).unwrap();
    own.catch_up().await;
    // Another epoch, and a base in it.
    run_sql(&own.url, "SELECT pg_drop_replication_slot('lifeboat_app')").unwrap();
    assert!(own.catch_up().await.begun.is_some());
    let between = Timestamp::now();
    std::thread::sleep(std::time::Duration::from_millis(50));
    run_sql(&own.url, &work).unwrap();
    backup_all(&own.engine).await.unwrap();
    run_sql(&own.url, &work).unwrap();
    own.catch_up().await;
    let opened = async |at: Timestamp| list(&own.engine, &site(2), &PointInTime::Time(at), None, None).await;
    let known = own.engine.site(&site(2)).await.unwrap();
    let parts = windows(&own.engine, &known, &[app()], Certainty::Whole).await.unwrap();
    let told = &parts[0].windows;
    assert_eq!(told.iter().map(|window| window.epoch.0).collect::<Vec<_>>(), [1, 1, 2], "{told:?}");
    for window in told {
        for at in [window.from, window.till] {
            let refused = opened(at).await.err().map(|error| format!("{error} {:?}", error.hint()));
            assert_eq!(refused, None, "{at}: {told:?}");
        }
    }
    for at in [broken, between] {
        assert!(!told.iter().any(|window| window.from <= at && at <= window.till), "{at}: {told:?}");
        assert!(opened(at).await.is_err(), "{at}: {told:?}");
    }
    let hint = opened(between).await.unwrap_err().hint().unwrap();
    assert!(hint.contains(&told[1].till.to_string()) && hint.contains(&told[2].from.to_string()), "{hint}: {told:?}");
    // Beyond the end a person is told what to wait for.
    let beyond = opened(Timestamp(told[2].till.0 + 600_000_000)).await.unwrap_err();
    let hint = beyond.hint().unwrap();
    assert!(hint.contains("has to run on") && hint.contains(&told[2].till.to_string()), "{hint}");
}
