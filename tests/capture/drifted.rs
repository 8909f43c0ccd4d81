//! Tables that come, go, and change their names while they are followed.

use lifeboat_engine::{CaptureNews, capture, list};
use lifeboat_model::{EpochId, EpochReason, PointInTime, Timestamp};
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};
use std::sync::Mutex;
use std::time::Duration;

use crate::world::{World, request};

const MAKE: &str = "CREATE TABLE tasks (id bigserial PRIMARY KEY, site_id text NOT NULL REFERENCES sites, body text)";

fn fill(site: u32) -> String {
    format!(
        "INSERT INTO tasks (site_id, body) SELECT '{}', 'task ' || n FROM generate_series(1, 20) n",
        site_name(site)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_table_joins_while_it_is_empty_and_all_of_its_rows_are_in_the_log() {
    const TEST: &str = "a_new_table_joins_while_it_is_empty_and_all_of_its_rows_are_in_the_log";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    backup_all(&world.engine).await.unwrap();
    run_sql(&world.url, MAKE).unwrap();
    let report = world.catch_up().await;
    assert_eq!((report.begun, report.epoch), (None, EpochId(1)), "no epoch is broken for it");
    run_sql(&world.url, &fill(1)).unwrap();
    run_sql(&world.url, &format!("{}; DELETE FROM tasks WHERE id % 3 = 0", fill(2))).unwrap();
    let report = world.catch_up().await;
    assert!(report.changes > 40 && report.unrouted == 0 && report.begun.is_none(), "{report:?}");
    let replayed = world.all_replayed().await;
    let rows: u64 = replayed.iter().map(|(_, rows)| rows.get("public.tasks").map_or(0, |(rows, _)| *rows)).sum();
    let live = query_text(&world.url, "SELECT count(*) FROM tasks").unwrap()[0][0].clone().unwrap();
    assert_eq!(rows.to_string(), live);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changes_unseen_begins_a_new_epoch_after_all_until_then() {
    const TEST: &str = "what_changes_unseen_begins_a_new_epoch_after_all_until_then";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    let mut epoch = EpochId(1);
    for (change, why) in [
        (format!("{MAKE}; {}", fill(1)), "has rows already"),
        ("ALTER TABLE tasks ALTER body TYPE varchar(99) USING upper(body)".to_owned(), "written anew"),
        ("ALTER TABLE tasks RENAME TO chores; UPDATE chores SET body = 'x'".to_owned(), "another name"),
        (
            "ALTER TABLE labels RENAME TO z; ALTER TABLE chores RENAME TO labels; ALTER TABLE z RENAME TO chores; \
            ALTER TABLE labels RENAME TO z; ALTER TABLE chores RENAME TO labels; ALTER TABLE z RENAME TO chores"
                .to_owned(),
            "another name",
        ),
        ("ALTER PUBLICATION lifeboat_app SET (publish = 'insert')".to_owned(), "changed a publication"),
        ("DROP PUBLICATION lifeboat_app; UPDATE labels SET name = name".to_owned(), "publication"),
    ] {
        run_sql(&world.url, "UPDATE labels SET name = name || '.'").unwrap();
        run_sql(&world.url, &change).unwrap();
        let report = world.catch_up().await;
        let (reason, note) = report.begun.clone().unwrap_or_else(|| panic!("{change}: {report:?}"));
        assert!(note.contains(why), "{change}: {note}");
        assert_eq!((reason, report.epoch), (EpochReason::TableRewritten, epoch.next()), "{change}");
        epoch = report.epoch;
        // The same again finds nothing to break.
        let again = world.catch_up().await;
        assert_eq!((again.begun, again.epoch), (None, epoch), "{change}");
        backup_all(&world.engine).await.unwrap();
        run_sql(&world.url, "UPDATE labels SET name = name || '-'; DELETE FROM comments WHERE id % 50 = 3").unwrap();
        assert_eq!(world.catch_up().await.unrouted, 0, "{change}");
        let replayed = world.all_replayed().await;
        backup_all(&world.engine).await.unwrap();
        world.expect_as_snapshots(&replayed, &change).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_that_are_swapped_where_nothing_notes_it_are_found_by_the_next_look() {
    const TEST: &str = "names_that_are_swapped_where_nothing_notes_it_are_found_by_the_next_look";
    let Some(mut world) = World::new(TEST).await else { return };
    run_sql(&world.url, &format!("{MAKE}; {}", fill(1))).unwrap();
    for (change, why) in [
        (
            "ALTER TABLE issues RENAME title TO z; ALTER TABLE issues RENAME body TO title; ALTER TABLE issues RENAME z TO body",
            "another name",
        ),
        ("ALTER TABLE labels ADD COLUMN extra int DEFAULT 7", "with a value"),
        (
            "ALTER TABLE labels RENAME TO z; ALTER TABLE tasks RENAME TO labels; ALTER TABLE z RENAME TO tasks",
            "another name",
        ),
    ] {
        world.catch_up().await;
        let forget = "DROP EVENT TRIGGER lifeboat_capture_end; DROP EVENT TRIGGER lifeboat_capture_drop;
            DROP EVENT TRIGGER lifeboat_capture_rewrite";
        run_sql(&world.url, forget).unwrap();
        assert_eq!(world.catch_up().await.begun, None, "{change}");
        backup_all(&world.engine).await.unwrap();
        run_sql(
            &world.url,
            "ALTER TABLE worklog ADD COLUMN IF NOT EXISTS more text; UPDATE users SET name = name || '.'",
        )
        .unwrap();
        assert_eq!(world.catch_up().await.begun, None, "a column that comes empty breaks nothing");
        run_sql(&world.url, change).unwrap();
        let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text";
        let at = query_text(&world.url, now).unwrap()[0][0].clone().unwrap().parse().unwrap();
        run_sql(&world.url, "UPDATE users SET name = name || '.'").unwrap();
        let (reason, note) = world.catch_up().await.begun.unwrap_or_else(|| panic!("{change}"));
        assert!(reason == EpochReason::TableRewritten && note.contains(why), "{change}: {note}");
        let site = site_id(&site_name(1));
        let opened = list(&world.engine, &site, &PointInTime::Time(Timestamp(at)), None, None).await;
        assert!(opened.is_err(), "{change}: rows of that time have other columns than the log knows");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_table_of_no_class_is_told_and_stops_no_capture() {
    const TEST: &str = "a_table_of_no_class_is_told_and_stops_no_capture";
    let Some(mut world) = World::new(TEST).await else { return };
    world.catch_up().await;
    run_sql(&world.url, "CREATE TABLE odd (x int); INSERT INTO odd VALUES (1); UPDATE labels SET name = 'y'").unwrap();
    for slot_is_lost in [false, true] {
        if slot_is_lost {
            run_sql(&world.url, "SELECT pg_drop_replication_slot('lifeboat_app')").unwrap();
        }
        let told: Mutex<Vec<String>> = Mutex::default();
        let told = std::sync::Arc::new(told);
        let tells = told.clone();
        let tell = move |news| {
            if let CaptureNews::Unclassed(tables) = news {
                tells.lock().unwrap().extend(tables);
            }
        };
        let request = request(Duration::from_millis(300), 20_000);
        let report = capture(&world.engine, &request, &mut world.index, &tell).await.unwrap();
        assert_eq!(report.begun.is_some(), slot_is_lost, "{report:?}");
        assert!(report.changes > 0 || slot_is_lost, "{report:?}");
        assert_eq!(*told.lock().unwrap(), ["public.odd"]);
    }
}
