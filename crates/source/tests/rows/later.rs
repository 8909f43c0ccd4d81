//! Only what is missing comes back: what was written since stays, and is listed by its key.

use lifeboat_model::{RowsDigest, SiteId};
use lifeboat_source::Error;
use lifeboat_source::postgres::TableName;
use lifeboat_source::postgres::target::{
    ConflictKind, KeyRange, Narrow, RowsTarget, SwitchedRows, TableDiff, VerifiedRows,
};
use lifeboat_testkit::postgres::NASTY_SITES;

use crate::nasty::wipe;
use crate::support::{Kept, World, fleet, nasty, site, victim};

const OF_VICTIM: &str = "issue_id IN (SELECT id FROM issues WHERE site_id = 'site-00002')";

fn compared(world: &World, site: &SiteId, kept: &Kept) -> (RowsTarget, VerifiedRows) {
    let mut target = world.target(site).keep_later();
    let verified = world.verify(&mut target, kept).unwrap();
    (target, verified)
}

/// Restores, nobody else being touched, and the tables hold what was said they would.
fn restore(world: &World, site: &SiteId, kept: &Kept) -> (VerifiedRows, SwitchedRows) {
    let bystanders = world.bystanders(site);
    let (mut target, verified) = compared(world, site, kept);
    assert!(verified.conflicts().is_empty(), "{:?}", verified.conflicts());
    let switched = target.switch(verified.clone()).unwrap();
    target.discard_staging().unwrap();
    assert_eq!(world.bystanders(site), bystanders);
    assert!(!world.has_staging());
    let live = world.live(site);
    for left in verified.left() {
        let now = live.tables.iter().find(|table| table.name.as_str() == left.table).unwrap();
        let digest = left.digest.unwrap_or_else(|| panic!("untold: {}", left.table));
        assert!(now.digests.are(&digest), "{} holds something else than was said", left.table);
    }
    for diff in &switched.tables {
        assert_eq!(diff.update + diff.replace + diff.delete, 0, "{diff:?}");
    }
    (verified, switched)
}

fn of<'d>(switched: &'d SwitchedRows, table: &str) -> &'d TableDiff {
    switched.tables.iter().find(|diff| diff.table.as_str() == table).unwrap()
}

// Explains invariant: nothing-live-is-touched
#[test]
fn lost_rows_come_back_and_what_was_written_since_stays_and_is_listed_by_key() {
    let Some(world) = fleet("keep later") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let lost = world.number(&format!("SELECT count(*) FROM comments WHERE {OF_VICTIM}"));
    let changed = world.number("SELECT min(id) FROM issues WHERE site_id = 'site-00002'");
    let texts = |condition: &str| {
        world.text(&format!(
            "SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM comments c WHERE {OF_VICTIM} AND ({condition})"
        ))
    };
    let was = texts("true");
    world.run(&format!(
        "DELETE FROM comments WHERE {OF_VICTIM};
         UPDATE issues SET title = 'worked on since' WHERE id = {changed};
         INSERT INTO comments (id, issue_id, body, created) OVERRIDING SYSTEM VALUE VALUES (9000000, {changed}, 'later', now());
         INSERT INTO labels (id, site_id, number, name) VALUES (-1, 'site-00002', 999, 'made later')"
    ));
    let (verified, switched) = restore(&world, &site, &kept);
    assert_eq!(texts("id <> 9000000"), was);
    assert_eq!(world.number("SELECT count(*) FROM comments WHERE id = 9000000"), 1);
    assert_eq!(world.text(&format!("SELECT title FROM issues WHERE id = {changed}")), "worked on since");
    assert_eq!(world.number("SELECT count(*) FROM labels WHERE id = -1"), 1);
    let comments = of(&switched, "public.comments");
    assert_eq!((comments.insert, comments.unchanged, comments.kept, comments.newer), (lost as u64, 0, 0, 1));
    let issues = of(&switched, "public.issues");
    assert_eq!((issues.insert, issues.kept, issues.newer), (0, 1, 0));
    let [listed] = verified.kept() else { panic!("{:?}", verified.kept()) };
    assert_eq!(
        (listed.table.as_str(), listed.rows, &listed.keys[..]),
        ("public.issues", 1, &[changed.to_string()][..])
    );
    // Nothing is missing any more.
    let (_, again) = restore(&world, &site, &kept);
    assert_eq!(again.tables.iter().map(TableDiff::writes).sum::<u64>(), 0);
}

/// Damages, and expects this conflict of these keys, and that nothing is changed by it.
#[track_caller]
fn check(test: &str, damage: &str, (table, kind, keys): (&str, ConflictKind, &str)) {
    let Some(world) = fleet(test) else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let keys = world.text(keys);
    world.run(damage);
    let before = (world.live(&site), world.bystanders(&site));
    let (mut target, verified) = compared(&world, &site, &kept);
    let found = verified.conflicts().iter().find(|found| found.table.as_str() == table && found.kind == kind);
    let found = found.unwrap_or_else(|| panic!("{:?}", verified.conflicts()));
    assert_eq!((found.keys.join(" "), found.rows), (keys, found.keys.len() as u64), "{found}");
    let error = target.switch(verified.clone()).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    target.discard_staging().unwrap();
    assert_eq!((world.live(&site), world.bystanders(&site)), before);
}

#[test]
fn a_unique_value_that_a_later_row_of_the_same_site_holds_is_a_conflict_by_row() {
    check(
        "keep later, unique taken by the site itself",
        "CREATE TEMP TABLE was AS SELECT * FROM users WHERE site_id = 'site-00002' ORDER BY id LIMIT 1;
         DELETE FROM users WHERE id = (SELECT id FROM was);
         INSERT INTO users (id, site_id, number, email, name) SELECT 9000000, site_id, number, 'x', 'again' FROM was",
        ("public.users", ConflictKind::UniqueTaken, "SELECT min(id)::text FROM users WHERE site_id = 'site-00002'"),
    );
}

#[test]
fn a_unique_value_over_an_expression_that_a_later_row_holds_is_a_conflict_by_row() {
    check(
        "keep later, unique expression",
        "CREATE TEMP TABLE was AS SELECT * FROM users WHERE site_id = 'site-00002' ORDER BY id LIMIT 2;
         DELETE FROM users WHERE id IN (SELECT id FROM was);
         INSERT INTO users (id, site_id, number, email, name)
            SELECT 9000000 + id, site_id, 9000 + number, upper(email), 'again' FROM was",
        (
            "public.users",
            ConflictKind::UniqueTaken,
            "SELECT string_agg(id::text, ' ') FROM (SELECT id FROM users WHERE site_id = 'site-00002' ORDER BY id LIMIT 2) u",
        ),
    );
}

#[test]
fn a_unique_value_that_another_site_holds_is_a_conflict_by_row() {
    check(
        "keep later, unique taken elsewhere",
        "CREATE TEMP TABLE was AS SELECT a.* FROM attachments a JOIN issues i ON i.id = a.issue_id
            WHERE i.site_id = 'site-00002' ORDER BY a.id LIMIT 1;
         DELETE FROM attachments WHERE id = (SELECT id FROM was);
         INSERT INTO attachments (issue_id, path, size, sha256)
            SELECT (SELECT min(id) FROM issues WHERE site_id = 'site-00001'), path, 0, '' FROM was",
        (
            "public.attachments",
            ConflictKind::UniqueTaken,
            "SELECT a.id::text FROM attachments a JOIN issues i ON i.id = a.issue_id
                WHERE i.site_id = 'site-00002' ORDER BY a.id LIMIT 1",
        ),
    );
}

#[test]
fn a_key_that_is_another_site_s_row_now_is_a_conflict_by_row() {
    check(
        "keep later, key elsewhere",
        "UPDATE worklog SET site_id = 'site-00003' WHERE id = (SELECT min(id) FROM worklog WHERE site_id = 'site-00002')",
        (
            "public.worklog",
            ConflictKind::KeyElsewhere,
            "SELECT min(id)::text FROM worklog WHERE site_id = 'site-00002'",
        ),
    );
}

#[test]
fn a_row_whose_parent_is_missing_and_not_in_the_point_is_a_conflict_by_row() {
    check(
        "keep later, parent missing",
        "DELETE FROM sites WHERE id = 'site-00002'; DELETE FROM audit.events WHERE site_id = 'site-00002';
         INSERT INTO audit.events (site_id, at, what) VALUES ('site-00002', now(), '{}');
         SET session_replication_role = replica;
         DELETE FROM plans WHERE id = 1 + 2 % 3",
        ("public.sites", ConflictKind::SharedMissing, "SELECT 'site-00002'"),
    );
}

#[test]
fn rows_written_since_they_were_kept_are_not_overlooked() {
    let Some(world) = fleet("keep later, written meanwhile") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(&format!("DELETE FROM comments WHERE {OF_VICTIM}"));
    let (mut target, verified) = compared(&world, &site, &kept);
    world.run("UPDATE issues SET title = 'meanwhile' WHERE site_id = 'site-00002'");
    let before = (world.live(&site), world.bystanders(&site));
    let error = target.switch(verified).unwrap_err();
    assert!(error.to_string().contains("was written to while it was restored"), "{error}");
    target.discard_staging().unwrap();
    assert_eq!((world.live(&site), world.bystanders(&site)), before);
    restore(&world, &site, &kept);
    assert_eq!(world.text("SELECT min(title) FROM issues WHERE site_id = 'site-00002'"), "meanwhile");
}

#[test]
fn without_a_primary_key_lost_rows_come_back_as_often_as_they_are_missing() {
    let Some(world) = nasty("keep later, no key") else { return };
    let site = site("acme");
    let kept = world.back_up(&site);
    let lines = |line: &str| {
        world.number(&format!("SELECT count(*) FROM app.log_lines WHERE tenant_id = 'acme' AND line = '{line}'"))
    };
    let same = lines("same");
    assert!(same > 1);
    world.run(
        "DELETE FROM app.log_lines WHERE ctid = (SELECT min(ctid) FROM app.log_lines WHERE tenant_id = 'acme' AND line = 'same');
         INSERT INTO app.log_lines VALUES ('acme', 'later', NULL), ('acme', 'later', NULL)",
    );
    let (verified, switched) = restore(&world, &site, &kept);
    assert_eq!((lines("same"), lines("later")), (same, 2));
    let diff = of(&switched, "app.log_lines");
    assert_eq!((diff.insert, diff.kept, diff.newer), (1, 0, 2));
    assert!(verified.notes().iter().any(|note| note.contains("without a primary key")), "{:?}", verified.notes());
    // Unique all the same: what holds the value now is in the way, be it the changed row itself.
    world.run(
        "ALTER TABLE app.coupons ADD note text;
         UPDATE app.coupons SET note = 'x' WHERE tenant_id = 'acme'",
    );
    let kept = world.back_up(&site);
    world.run("UPDATE app.coupons SET note = 'changed since' WHERE tenant_id = 'acme'");
    let (mut target, verified) = compared(&world, &site, &kept);
    let found = verified.conflicts().iter().find(|found| found.table.as_str() == "app.coupons").unwrap();
    assert_eq!(found.kind, ConflictKind::UniqueTaken);
    target.discard_staging().unwrap();
}

#[test]
fn the_hardest_schema_comes_back_into_what_was_written_since() {
    let Some(world) = nasty("keep later, nasty") else { return };
    for name in NASTY_SITES {
        let site = site(name);
        let (kept, live) = (world.back_up(&site), world.live(&site));
        wipe(&world, &site);
        // Some rows are back already: those of one table.
        let some = world.target(&site).only(Narrow { table: TableName::quoted("app.secrets"), keys: None }).unwrap();
        let needed = some.needed();
        let tables = kept.tables.iter().filter(|(wanted, _)| needed.contains(&wanted.name)).cloned().collect();
        let mut some = some.keep_later();
        let verified = world.verify(&mut some, &Kept { tables, sequences: kept.sequences.clone() }).unwrap();
        some.switch(verified).unwrap();
        some.discard_staging().unwrap();
        assert!(!world.live(&site).is_absent(), "{name}");
        restore(&world, &site, &kept);
        assert_eq!(world.live(&site), live, "{name}");
    }
}

#[test]
fn some_rows_by_key_come_back_where_they_are_missing_and_others_stay() {
    let Some(world) = fleet("keep later, only") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let ids = format!("SELECT id FROM comments WHERE {OF_VICTIM} ORDER BY id OFFSET");
    let [lost, changed, outside] = [1, 2, 5].map(|at| world.number(&format!("{ids} {at} LIMIT 1")));
    world.run(&format!(
        "DELETE FROM comments WHERE id IN ({lost}, {outside}); UPDATE comments SET body = 'since' WHERE id = {changed}"
    ));
    let keys = KeyRange::parse(&format!("{lost}..{changed}")).unwrap();
    let narrow = Narrow { table: TableName::quoted("public.comments"), keys: Some(keys) };
    let target = world.target(&site).only(narrow).unwrap();
    let needed = target.needed();
    let tables = kept.tables.iter().filter(|(wanted, _)| needed.contains(&wanted.name)).cloned().collect();
    let mut target = target.keep_later();
    let verified = world.verify(&mut target, &Kept { tables, sequences: kept.sequences.clone() }).unwrap();
    assert_eq!(verified.kept()[0].keys, [changed.to_string()]);
    let switched = target.switch(verified.clone()).unwrap();
    target.discard_staging().unwrap();
    assert_eq!(of(&switched, "public.comments").insert, 1);
    let count = |condition: &str| world.number(&format!("SELECT count(*) FROM comments WHERE {condition}"));
    assert_eq!(
        (
            count(&format!("id = {lost}")),
            count(&format!("id = {outside}")),
            count(&format!("id = {changed} AND body = 'since'"))
        ),
        (1, 0, 1)
    );
    // What the whole table holds then was said, though only some of its rows were asked for.
    let left = verified.left().iter().find(|left| left.table == "public.comments").unwrap();
    let digest: RowsDigest = left.digest.unwrap();
    let now = world.live(&site);
    assert!(now.tables.iter().any(|table| table.name.as_str() == "public.comments" && table.digests.are(&digest)));
}
