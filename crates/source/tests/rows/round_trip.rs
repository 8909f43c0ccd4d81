//! A site, or some of its rows, gone and back.

use lifeboat_model::RowsDigest;

use crate::support::{assert_restored, fleet, victim};

#[test]
fn a_site_deleted_by_cascade_comes_back_identical() {
    let Some(world) = fleet("round trip") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let bystanders = world.bystanders(&site);
    world.delete_victim();
    assert!(world.live(&site).is_absent());
    let switched = world.restore(&site, &kept).unwrap();
    let rows: u64 = kept.tables.iter().map(|(wanted, _)| wanted.rows).sum();
    assert!(rows > 50);
    assert_eq!(switched.tables.iter().map(|table| table.insert).sum::<u64>(), rows);
    assert!(switched.checks.iter().all(|check| check.passed) && switched.checks.len() >= 4);
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn rows_gone_changed_and_added_are_put_right_and_counted() {
    let Some(world) = fleet("partial damage") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let bystanders = world.bystanders(&site);
    world.run(
        "DELETE FROM comments WHERE id IN (SELECT c.id FROM comments c JOIN issues i ON i.id = c.issue_id
            WHERE i.site_id = 'site-00002' ORDER BY c.id LIMIT 3);
         UPDATE worklog SET seconds = seconds + 1 WHERE site_id = 'site-00002' AND id % 2 = 0;
         UPDATE issues SET number = number + 1000 WHERE site_id = 'site-00002' AND number < 3;
         INSERT INTO labels (site_id, number, name) VALUES ('site-00002', 900, 'new'), ('site-00002', 901, 'new')",
    );
    let switched = world.restore(&site, &kept).unwrap();
    let of = |name: &str| switched.tables.iter().find(|table| table.table.as_str() == name).unwrap().clone();
    assert_eq!(of("public.comments").insert, 3);
    assert!(of("public.worklog").update > 3);
    assert_eq!((of("public.issues").replace, of("public.issues").update), (2, 0));
    assert_eq!(of("public.labels").delete, 2);
    assert_eq!(of("public.sites").unchanged, 1);
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn where_nothing_differs_nothing_is_written() {
    let Some(world) = fleet("nothing differs") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let rows = "SELECT string_agg(xmin::text || xmax::text || ctid::text, ' ' ORDER BY id) FROM issues";
    let before = world.text(rows);
    let switched = world.restore(&site, &kept).unwrap();
    assert!(switched.tables.iter().all(|table| table.writes() == 0));
    assert_eq!(world.text(rows), before);
}

#[test]
fn values_that_have_changed_places_change_back() {
    let Some(world) = fleet("swap") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let bystanders = world.bystanders(&site);
    world.run(
        "UPDATE issues SET number = -1 WHERE site_id = 'site-00002' AND number = 1;
         UPDATE issues SET number = 1 WHERE site_id = 'site-00002' AND number = 2;
         UPDATE issues SET number = 2 WHERE site_id = 'site-00002' AND number = -1",
    );
    world.restore(&site, &kept).unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn a_site_without_rows_at_the_point_is_emptied() {
    let Some(world) = fleet("emptied") else { return };
    world.run("INSERT INTO sites SELECT 'site-00009', 'Nine', 1, 'DE', now()");
    let site = crate::support::site("site-00009");
    let mut kept = world.back_up(&site);
    for (wanted, bytes) in &mut kept.tables {
        (wanted.rows, wanted.size, wanted.digest) = (0, 0, RowsDigest::InOrder(*blake3::hash(b"").as_bytes()));
        bytes.clear();
    }
    let bystanders = world.bystanders(&site);
    let switched = world.restore(&site, &kept).unwrap();
    assert_eq!(switched.tables.iter().map(|table| table.delete).sum::<u64>(), 1);
    assert!(world.live(&site).is_absent());
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn sequences_are_raised_and_never_lowered() {
    let Some(world) = fleet("sequences") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run("SELECT setval('worklog_id_seq', 1); SELECT setval('labels_id_seq', 100000)");
    let switched = world.restore(&site, &kept).unwrap();
    let raised: Vec<&str> = switched.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    assert_eq!(raised, ["public.worklog_id_seq"]);
    assert_eq!(world.number("SELECT last_value FROM labels_id_seq"), 100_000);
    let highest = world.number("SELECT max(id) FROM worklog WHERE site_id = 'site-00002'");
    assert!(world.number("SELECT nextval('worklog_id_seq')") > highest);
}

#[test]
fn columns_that_are_newer_than_the_snapshot_keep_what_they_hold() {
    let Some(world) = fleet("added column") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(
        "ALTER TABLE worklog ADD COLUMN billed boolean NOT NULL DEFAULT false;
         UPDATE worklog SET billed = true, seconds = 0 WHERE site_id = 'site-00002'",
    );
    let switched = world.restore(&site, &kept).unwrap();
    assert!(switched.notes.iter().any(|note| note.contains("billed")), "{:?}", switched.notes);
    assert_eq!(world.number("SELECT count(*) FROM worklog WHERE site_id = 'site-00002' AND NOT billed"), 0);
    assert_eq!(world.number("SELECT count(*) FROM worklog WHERE site_id = 'site-00002' AND seconds = 0"), 0);
}

#[test]
fn a_wider_type_takes_the_rows_as_they_are() {
    let Some(world) = fleet("wider") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run("ALTER TABLE worklog ALTER COLUMN seconds TYPE bigint; DELETE FROM worklog WHERE site_id = 'site-00002'");
    let bystanders = world.bystanders(&site);
    world.restore(&site, &kept).unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn constraints_that_name_things_as_the_application_does_work() {
    let Some(world) = fleet("search path") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(
        "CREATE FUNCTION is_known(wanted text) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN RETURN EXISTS (SELECT FROM countries) AND wanted <> ''; END $$;
         ALTER TABLE labels ADD CHECK (is_known(name))",
    );
    let bystanders = world.bystanders(&site);
    world.delete_victim();
    world.restore(&site, &kept).unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}
