//! What is written of a large object is read back before it counts, and is nobody's newer bytes.

use std::time::Duration;

use lifeboat_source::postgres::describe::{LargeObjectDefinition, WantedLargeObject};
use lifeboat_source::postgres::target::WantedRows;
use lifeboat_testkit::postgres::run_sql;

use crate::support::{World, fleet, victim};

const OID: u32 = 777_777;

/// Restores the victim with one large object whose bytes are not those that were asked for.
fn restore_wrong(world: &World, damage: &str) -> String {
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(damage);
    let definition = LargeObjectDefinition { owner: "postgres".into(), ..Default::default() };
    let object = WantedLargeObject { oid: OID, size: 5, digest: *blake3::hash(b"right").as_bytes(), definition };
    let tables: Vec<_> = kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect();
    let wanted = WantedRows { is_present: true, tables, objects: vec![object], ..WantedRows::default() };
    let mut target = world.target(&site);
    target.begin(wanted, target.live().unwrap()).unwrap();
    for (at, (_, bytes)) in kept.tables.iter().enumerate() {
        target.write_at(at, 0, bytes).unwrap();
    }
    target.write_at(kept.tables.len(), 0, b"wrong").unwrap();
    // Straight in, it shows when it is verified; staged, in the switch.
    let refused = target.verify().and_then(|verified| target.switch(verified)).unwrap_err();
    target.discard_staging().unwrap();
    refused.to_string()
}

#[test]
fn a_large_object_that_does_not_come_out_as_the_snapshot_says_takes_everything_back() {
    let Some(world) = fleet("a large object of other bytes") else { return };
    for damage in ["DELETE FROM comments", "DELETE FROM sites; DELETE FROM audit.events"] {
        let error = restore_wrong(&world, damage);
        assert!(error.contains("a large object is not the snapshot's"), "{error}");
        assert_eq!(world.number("SELECT count(*) FROM pg_largeobject_metadata"), 0);
        assert_eq!(world.number("SELECT count(*) FROM comments"), 0);
    }
}

#[test]
fn bytes_that_somebody_wrote_since_the_undo_was_kept_are_not_overwritten() {
    let Some(mut world) = fleet("a large object written meanwhile") else { return };
    world.patience = Duration::from_secs(120);
    world.run(
        "CREATE TABLE pictures (id bigint PRIMARY KEY, site_id text NOT NULL REFERENCES sites, image oid);
         SELECT lo_from_bytea(1001, 'live'), lo_from_bytea(1002, 'live');
         INSERT INTO pictures VALUES (1, 'site-00002', 1001), (2, 'site-00002', 1002)",
    );
    let (site, kept) = (victim(), world.back_up(&victim()));
    let object = |oid| {
        let definition = LargeObjectDefinition { owner: "postgres".into(), ..Default::default() };
        WantedLargeObject { oid, size: 4, digest: *blake3::hash(b"then").as_bytes(), definition }
    };
    let tables: Vec<_> = kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect();
    let objects = vec![object(1001), object(1002)];
    let wanted = WantedRows { is_present: true, tables, objects, ..WantedRows::default() };
    let mut target = world.target(&site);
    target.begin(wanted, target.live().unwrap()).unwrap();
    for (at, bytes) in kept.tables.iter().map(|(_, bytes)| bytes.as_slice()).chain([&b"then"[..]; 2]).enumerate() {
        target.write_at(at, 0, bytes).unwrap();
    }
    let verified = target.verify().unwrap();
    // One object is locked by somebody who takes his write back; the other is written behind its back.
    let (url, waits) = (
        world.url.clone(),
        "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND \
                                            application_name = 'lifeboat' AND datname = current_database())",
    );
    let locker = std::thread::spawn(move || {
        let wait = String::from(
            "DO $$ BEGIN PERFORM lo_put(1001, 0, 'mine'); FOR n IN 1..1000 LOOP PERFORM pg_sleep(0.05); \
             EXIT WHEN convert_from(lo_get(1002), 'UTF8') = 'newer'; END LOOP; RAISE EXCEPTION 'taken back'; END $$",
        );
        run_sql(&url, &wait).unwrap_err()
    });
    let url = world.url.clone();
    let writer = std::thread::spawn(move || {
        let wait = format!(
            "DO $$ BEGIN FOR n IN 1..1000 LOOP PERFORM pg_sleep(0.05), pg_stat_clear_snapshot(); EXIT WHEN {waits}; \
             END LOOP; PERFORM lo_put(1002, 0, 'newer'); END $$"
        );
        run_sql(&url, &wait).unwrap();
    });
    std::thread::sleep(Duration::from_secs(1)); // the lock is taken
    let error = target.switch(verified).unwrap_err();
    writer.join().unwrap();
    assert!(locker.join().unwrap().contains("taken back"));
    target.discard_staging().unwrap();
    assert!(error.to_string().contains("large object 1002"), "{error}");
    assert_eq!(
        world.text("SELECT convert_from(lo_get(1001), 'UTF8') || convert_from(lo_get(1002), 'UTF8')"),
        "livenewer"
    );
}
