//! The schema with everything in it: emptied of a site by all means, and back.

use lifeboat_model::{RowsDigest, SiteId};
use lifeboat_testkit::postgres::NASTY_SITES;

use crate::support::{World, assert_restored, nasty, site};

/// Deletes every row of the site, with no trigger, rule or cascade in between.
pub fn wipe(world: &World, site: &SiteId) {
    let mut target = world.target(site);
    let mut kept = world.back_up(site);
    for (wanted, bytes) in &mut kept.tables {
        (wanted.rows, wanted.size, wanted.digest) = (0, 0, RowsDigest::InOrder(*blake3::hash(b"").as_bytes()));
        bytes.clear();
    }
    let verified = world.verify(&mut target, &kept).unwrap();
    target.switch(verified).unwrap();
    target.discard_staging().unwrap();
    assert!(world.live(site).is_absent());
}

#[test]
fn every_site_of_the_hardest_schema_is_wiped_and_comes_back_identical() {
    let Some(world) = nasty("nasty round trip") else { return };
    for name in NASTY_SITES {
        let site = site(name);
        let (kept, bystanders) = (world.back_up(&site), world.bystanders(&site));
        wipe(&world, &site);
        assert_eq!(world.bystanders(&site), bystanders, "{name}");
        let switched = world.restore(&site, &kept).unwrap();
        assert!(switched.tables.iter().map(|table| table.insert).sum::<u64>() > 50);
        assert_restored(&world, &site, &kept, &bystanders);
    }
}

#[test]
fn nothing_differs_in_the_hardest_schema_either() {
    let Some(world) = nasty("nasty unchanged") else { return };
    let site = site("acme");
    let kept = world.back_up(&site);
    let switched = world.restore(&site, &kept).unwrap();
    let written: Vec<_> = switched.tables.iter().filter(|table| table.writes() > 0).collect();
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn changes_of_every_kind_are_put_right() {
    let Some(world) = nasty("nasty partial") else { return };
    let site = site("acme");
    let (kept, bystanders) = (world.back_up(&site), world.bystanders(&site));
    world.run(
        r#"SET session_replication_role = replica; SET row_security = off;
        DELETE FROM app.log_lines WHERE ctid = (SELECT min(ctid) FROM app.log_lines WHERE tenant_id = 'acme' AND line = 'same');
        INSERT INTO app.log_lines VALUES ('acme', 'extra', NULL);
        UPDATE app.orders SET total = 1 WHERE tenant_id = 'acme' AND number > 5;
        UPDATE app.measurements SET value = 0 WHERE tenant_id = 'acme';
        DELETE FROM app.measurements WHERE tenant_id = 'acme' AND at < '2026-03-01';
        UPDATE app.positions SET place = 4 - place WHERE tenant_id = 'acme';
        UPDATE app.bookings SET room = int4range(900, 901) WHERE tenant_id = 'acme';
        DELETE FROM app.employees WHERE id = 21; UPDATE app.departments SET head = 22 WHERE tenant_id = 'acme';
        UPDATE app.accounts SET data = NULL, ratio = 2, share = 3 WHERE tenant_id = 'acme';
        UPDATE "Audit Log"."Event/Entry" SET "a""b" = NULL WHERE "Tenant Id" = 'acme';
        DELETE FROM app."user" WHERE tenant_id = 'acme' AND "Name" = 'B2'; DELETE FROM app.secrets WHERE tenant_id = 'acme';
        DELETE FROM app.coupons WHERE tenant_id = 'acme' AND code IS NULL; UPDATE app.trucks SET load_kg = 1 WHERE tenant_id = 'acme';
        UPDATE app.tickets SET title = 'x' WHERE tenant_id = 'acme'; DELETE FROM app.posts WHERE id = 50"#,
    );
    let switched = world.restore(&site, &kept).unwrap();
    assert!(switched.checks.iter().any(|check| check.name == "deferrable unique keys"));
    assert_restored(&world, &site, &kept, &bystanders);
    assert_eq!(world.number("SELECT count(*) FROM app.orders WHERE tax IS DISTINCT FROM round(total * 0.19, 2)"), 0);
}
