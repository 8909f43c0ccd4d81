//! Partitions that come and go with rows, which is in no change of a row.

use lifeboat_engine::list;
use lifeboat_model::{EpochReason, PointInTime, Timestamp};
use lifeboat_testkit::postgres::{query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, site_id};

use crate::world::World;

const MAKE: &str = "
    CREATE TABLE visits (id bigserial, site_id text NOT NULL REFERENCES sites, at date NOT NULL, PRIMARY KEY (id, at))
        PARTITION BY RANGE (at);
    CREATE TABLE visits_1 PARTITION OF visits FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
    CREATE TABLE visits_2 PARTITION OF visits FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')
        PARTITION BY RANGE (at);
    CREATE TABLE visits_2_all PARTITION OF visits_2 DEFAULT;
    INSERT INTO visits (site_id, at) SELECT id, date '2021-03-01' + 200 * n FROM sites, generate_series(0, 2) n";
const VISIT: &str = "INSERT INTO visits (site_id, at) SELECT id, '2022-05-05' FROM sites";
const NO_NOTES: &str = "DROP EVENT TRIGGER lifeboat_capture_end; DROP EVENT TRIGGER lifeboat_capture_drop; \
    DROP EVENT TRIGGER lifeboat_capture_rewrite";
/// What is followed on: nothing came or went with it.
const SEEN: [&str; 4] = [
    "CREATE TABLE visits_3 PARTITION OF visits FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')",
    "CREATE TABLE visits_4 (LIKE visits); ALTER TABLE visits ATTACH PARTITION visits_4 \
        FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "DELETE FROM visits_3",
    "ALTER TABLE visits ADD COLUMN page text DEFAULT 'home'; TRUNCATE visits",
];
/// What is not.
const UNSEEN: [(&str, &str); 6] = [
    ("TRUNCATE visits_2_all", "emptied by itself"),
    ("ALTER TABLE visits DETACH PARTITION visits_1", "detached"),
    (
        "INSERT INTO visits_1 (site_id, at) SELECT id, '2021-02-02' FROM sites; ALTER TABLE visits ATTACH PARTITION \
        visits_1 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01')",
        "rows",
    ),
    ("DROP TABLE visits_1", "dropped"),
    ("ALTER TABLE labels ALTER name TYPE varchar(99) USING upper(name)", "written anew"),
    ("ALTER TABLE visits DETACH PARTITION visits_2", "detached"),
];

fn server_time(world: &World) -> Timestamp {
    let now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8::text";
    Timestamp(query_text(&world.url, now).unwrap()[0][0].as_deref().unwrap().parse().unwrap())
}

async fn expect_restorable(world: &World, at: Timestamp, is_wanted: bool, when: &str) {
    let site = site_id(&site_name(1));
    let opened = list(&world.engine, &site, &PointInTime::Time(at), None, None).await;
    assert_eq!(opened.is_ok(), is_wanted, "{when}: {at}: {:?}", opened.map(|listing| listing.lines.len()));
}

async fn run(test: &str, are_noted: bool) {
    let Some(mut world) = World::new(test).await else { return };
    run_sql(&world.url, MAKE).unwrap();
    world.catch_up().await;
    if !are_noted {
        run_sql(&world.url, NO_NOTES).unwrap();
    }
    backup_all(&world.engine).await.unwrap();
    for change in SEEN {
        run_sql(&world.url, VISIT).unwrap();
        if are_noted || !change.starts_with("ALTER TABLE visits ADD") {
            run_sql(&world.url, change).unwrap();
        }
        run_sql(&world.url, VISIT).unwrap();
        let report = world.catch_up().await;
        assert_eq!((report.begun, report.unrouted), (None, 0), "{change}");
        let replayed = world.all_replayed().await;
        backup_all(&world.engine).await.unwrap();
        world.expect_as_snapshots(&replayed, change).await;
    }
    run_sql(&world.url, "INSERT INTO visits (site_id, at) SELECT id, '2021-05-05' FROM sites").unwrap();
    for (change, why) in UNSEEN {
        if !are_noted && change.contains("DETACH PARTITION visits_2") {
            continue; // what it had is dropped from the index the same way as before
        }
        run_sql(&world.url, VISIT).unwrap();
        world.catch_up().await; // all is well
        let before = server_time(&world);
        std::thread::sleep(std::time::Duration::from_millis(20));
        run_sql(&world.url, "UPDATE labels SET name = name || '-'").unwrap(); // the log knows of a later time
        run_sql(&world.url, change).unwrap();
        let after = server_time(&world);
        std::thread::sleep(std::time::Duration::from_millis(20));
        run_sql(&world.url, "UPDATE labels SET name = name || '.'").unwrap();
        let report = world.catch_up().await;
        let (reason, note) = report.begun.clone().unwrap_or_else(|| panic!("{change}: {report:?}"));
        assert!(reason == EpochReason::TableRewritten && note.contains(why), "{change}: {note}");
        if are_noted && !change.starts_with("TRUNCATE") {
            expect_restorable(&world, before, true, change).await;
        }
        expect_restorable(&world, after, false, change).await;
        backup_all(&world.engine).await.unwrap();
        run_sql(&world.url, "UPDATE labels SET name = name || '!'").unwrap();
        assert_eq!(world.catch_up().await.begun, None, "{change}: the same again breaks nothing");
        let replayed = world.all_replayed().await;
        backup_all(&world.engine).await.unwrap();
        world.expect_as_snapshots(&replayed, change).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rows_that_come_and_go_with_a_partition_begin_a_new_epoch_and_are_never_replayed_over() {
    run("rows_that_come_and_go_with_a_partition_begin_a_new_epoch_and_are_never_replayed_over", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn they_do_where_nobody_may_note_changes_of_structure() {
    run("they_do_where_nobody_may_note_changes_of_structure", false).await;
}
