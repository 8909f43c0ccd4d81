//! Less than the whole part: a table, or some of its rows, with what they refer to.

use lifeboat_model::{Fault, Faulty, SiteId};
use lifeboat_source::Error;
use lifeboat_source::postgres::TableName;
use lifeboat_source::postgres::target::{
    ConflictKind, KeyRange, LiveRows, Narrow, RowsTarget, SwitchedRows, VerifiedRows, WantedRows,
};
use lifeboat_testkit::postgres::NASTY_SITES;

use crate::nasty::wipe;
use crate::support::{Kept, World, fleet, nasty, site, victim};

fn only(table: &str, keys: Option<&str>) -> Narrow {
    Narrow { table: TableName::quoted(table), keys: keys.map(|keys| KeyRange::parse(keys).unwrap()) }
}

/// A target for these rows, and of what was kept the tables that it needs.
fn narrowed(world: &World, site: &SiteId, kept: &Kept, narrow: Narrow) -> Result<(RowsTarget, Kept), Error> {
    let target = world.target(site).only(narrow)?;
    let needed = target.needed();
    let tables = kept.tables.iter().filter(|(wanted, _)| needed.contains(&wanted.name)).cloned().collect();
    Ok((target, Kept { tables, sequences: kept.sequences.clone() }))
}

fn compared(world: &World, site: &SiteId, kept: &Kept, narrow: Narrow) -> (RowsTarget, VerifiedRows) {
    let (mut target, kept) = narrowed(world, site, kept, narrow).unwrap();
    let verified = world.verify(&mut target, &kept).unwrap();
    (target, verified)
}

fn restore(world: &World, site: &SiteId, kept: &Kept, narrow: Narrow) -> SwitchedRows {
    let bystanders = world.bystanders(site);
    let switched = run(world, site, kept, narrow);
    assert_eq!(world.bystanders(site), bystanders);
    assert!(!world.has_staging());
    switched
}

fn run(world: &World, site: &SiteId, kept: &Kept, narrow: Narrow) -> SwitchedRows {
    let (mut target, verified) = compared(world, site, kept, narrow);
    assert!(verified.conflicts().is_empty(), "{:?}", verified.conflicts());
    let switched = target.switch(verified).unwrap();
    target.discard_staging().unwrap();
    switched
}

fn table<'l>(live: &'l LiveRows, name: &str) -> &'l lifeboat_source::postgres::target::LiveTable {
    live.tables.iter().find(|table| table.name.as_str() == name).unwrap()
}

const OF_VICTIM: &str = "issue_id IN (SELECT id FROM issues WHERE site_id = 'site-00002')";

#[test]
fn rows_in_the_range_are_as_they_were_and_rows_outside_stay_as_they_are() {
    let Some(world) = fleet("a range") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let ids = format!("SELECT id FROM comments WHERE {OF_VICTIM} ORDER BY id OFFSET");
    let [first, gone, last] = [2, 4, 7].map(|at| world.number(&format!("{ids} {at} LIMIT 1")));
    let picture = |condition: &str| {
        world.text(&format!(
            "SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM comments c WHERE {OF_VICTIM} AND ({condition})"
        ))
    };
    let inside = format!("id BETWEEN {first} AND {last}");
    let (was, live) = (picture(&inside), world.live(&site));
    world.run(&format!(
        "UPDATE comments SET body = 'oops' WHERE {OF_VICTIM}; DELETE FROM comments WHERE id = {gone};
         INSERT INTO comments (id, issue_id, body, created) OVERRIDING SYSTEM VALUE
            SELECT {last} + 1000000, issue_id, 'later', now() FROM comments WHERE id = {first}"
    ));
    let outside = picture(&format!("NOT ({inside})"));
    let switched = restore(&world, &site, &kept, only("public.comments", Some(&format!("{first}..{last}"))));
    assert_eq!((picture(&inside), picture(&format!("NOT ({inside})"))), (was, outside));
    let diff = switched.tables.iter().find(|diff| diff.table.as_str() == "public.comments").unwrap();
    assert_eq!((diff.insert, diff.delete), (1, 0));
    assert!(diff.update > 0);
    // Open at its end, it takes the later row away; then the whole table is as it was.
    restore(&world, &site, &kept, only("public.comments", Some(&format!("{}..", last + 1))));
    restore(&world, &site, &kept, only("public.comments", None));
    assert_eq!(world.live(&site), live);
}

#[test]
fn rows_that_the_chosen_ones_refer_to_come_with_them_where_they_are_missing() {
    let Some(world) = fleet("a closure") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let comment = world.number(&format!("SELECT max(id) FROM comments WHERE {OF_VICTIM} AND author IS NOT NULL"));
    let issue = world.number(&format!("SELECT issue_id FROM comments WHERE id = {comment}"));
    world.delete_victim();
    restore(&world, &site, &kept, only("public.comments", Some(&comment.to_string())));
    let count = |table: &str, condition: &str| world.number(&format!("SELECT count(*) FROM {table} WHERE {condition}"));
    assert_eq!(count("sites", "id = 'site-00002'"), 1);
    assert_eq!(count("issues", &format!("site_id = 'site-00002' AND id = {issue}")), 1);
    assert_eq!(count("issues", "site_id = 'site-00002'"), 1);
    assert_eq!(count("comments", OF_VICTIM), 1);
    assert_eq!(count("projects", "site_id = 'site-00002'"), 1);
    assert_eq!(count("labels", "site_id = 'site-00002'"), 0);
    // What is there stays as it is, though the snapshot has it otherwise.
    world.run("UPDATE projects SET name = 'renamed' WHERE site_id = 'site-00002'");
    world.run(&format!("DELETE FROM comments WHERE {OF_VICTIM}"));
    let switched = restore(&world, &site, &kept, only("public.comments", Some(&comment.to_string())));
    assert_eq!(switched.tables.iter().map(|diff| diff.writes()).sum::<u64>(), 1, "{:?}", switched.tables);
    assert_eq!(count("projects", "name = 'renamed'"), 1);
}

#[test]
fn rows_that_would_be_left_behind_are_a_conflict() {
    let Some(world) = fleet("left behind") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(
        "INSERT INTO issues (id, site_id, number, project_id, title, state, created)
            SELECT 5000000, site_id, 5000000, project_id, 'later', 'open', now() FROM issues
            WHERE site_id = 'site-00002' LIMIT 1;
         INSERT INTO comments (issue_id, body, created) VALUES (5000000, 'about it', now())",
    );
    let live = world.live(&site);
    let (mut target, verified) = compared(&world, &site, &kept, only("public.issues", Some("5000000")));
    let found: Vec<_> = verified.conflicts().iter().map(|conflict| (conflict.kind, conflict.rows)).collect();
    assert_eq!(found, [(ConflictKind::StillReferred, 1)], "{:?}", verified.conflicts());
    assert!(target.switch(verified).is_err());
    target.discard_staging().unwrap();
    assert_eq!(world.live(&site), live);
}

#[test]
fn the_tables_of_the_hardest_schema_come_back_one_by_one() {
    let Some(world) = nasty("nasty narrow") else { return };
    let site = site(NASTY_SITES[0]);
    let (kept, whole, bystanders) = (world.back_up(&site), world.live(&site), world.bystanders(&site));
    wipe(&world, &site);
    for (wanted, _) in &kept.tables {
        run(&world, &site, &kept, only(wanted.name.as_str(), None));
        let (live, name) = (world.live(&site), wanted.name.as_str());
        // Whose rows a table has may depend on rows that come later.
        if table(&live, name) != table(&whole, name) {
            assert!(table(&live, name).rows <= wanted.rows, "{name}");
        }
    }
    assert_eq!((world.live(&site), world.bystanders(&site)), (whole, bystanders));
    // A key of two columns, text among them, and one that is quoted.
    world.run("UPDATE app.orders SET tenant_id = tenant_id WHERE tenant_id = 'acme'");
    restore(&world, &site, &kept, only("app.orders", Some("acme,1..\"acme\",2")));
}

#[test]
fn keys_that_cannot_be_are_refused_in_words() {
    let Some(world) = nasty("bad keys") else { return };
    let (site, kept) = (site(NASTY_SITES[0]), world.back_up(&site(NASTY_SITES[0])));
    for (name, keys, part) in [
        ("app.accounts", Some("not a number"), "no such keys can be"),
        ("app.orders", Some("acme"), "other columns"),
        ("app.accounts", Some("9..1"), "ends before it begins: table=`app.accounts`, key=`id`"),
        ("app.accounts", Some("10..9"), "ends before it begins"),
        ("app.orders", Some("b,1..a,2"), "ends before it begins: table=`app.orders`, key=`tenant_id, number`"),
        ("app.orders", Some("a,2..a,1"), "ends before it begins"),
        ("app.log_lines", Some("1"), "no primary key"),
        ("app.nowhere", None, "no table of this name"),
        ("countries", None, "no table of this name"),
    ] {
        let error = narrowed(&world, &site, &kept, only(name, keys)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(part), "{name}: {error}");
        assert_eq!(error.fault(), Fault::Usage);
    }
}

#[test]
fn keys_that_are_nowhere_are_refused_in_words_and_leave_nothing_behind() {
    let Some(world) = fleet("keys nowhere") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    // Another site's row is none of this one's.
    let other = world.text("SELECT min(id)::text FROM issues WHERE site_id = 'site-00001'");
    for keys in ["-7", "-9..-7", other.as_str()] {
        let (mut target, kept) = narrowed(&world, &site, &kept, only("public.issues", Some(keys))).unwrap();
        for error in [target.refuse_nowhere().unwrap_err(), world.verify(&mut target, &kept).unwrap_err()] {
            assert!(error.to_string().ends_with("table=`public.issues`, key=`id`"), "{error}");
            assert_eq!(error.fault(), Fault::Usage);
        }
        target.discard_staging().unwrap();
        assert!(!world.has_staging());
    }
}

#[test]
fn a_preview_finds_what_the_restore_would_do_and_leaves_nothing_behind() {
    let Some(world) = fleet("a preview") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    world.run(
        "DELETE FROM labels WHERE site_id = 'site-00002' AND number % 2 = 0;
         UPDATE issues SET title = 'oops' WHERE site_id = 'site-00002' AND number % 3 = 0",
    );
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lifeboat%'";
    for narrow in [None, Some(only("public.issue_labels", None))] {
        let (mut target, kept) = match narrow.clone() {
            Some(narrow) => narrowed(&world, &site, &kept, narrow).unwrap(),
            None => (world.target(&site), kept.clone()),
        };
        let tables = kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect();
        let wanted = WantedRows { tables, sequences: kept.sequences.clone(), ..WantedRows::default() };
        target.begin_preview(wanted).unwrap();
        for (at, (_, bytes)) in kept.tables.iter().enumerate() {
            target.write_at(at, 0, bytes).unwrap();
        }
        let preview = target.verify().unwrap();
        assert_eq!(world.number(schemas), 0);
        assert!(target.switch(preview.clone()).is_err(), "a preview is never switched");
        let mut target = match narrow {
            Some(narrow) => narrowed(&world, &site, &kept, narrow).unwrap().0,
            None => world.target(&site),
        };
        let verified = world.verify(&mut target, &kept).unwrap();
        assert_eq!(preview.tables(), verified.tables());
        assert!(preview.tables().iter().any(|diff| diff.insert > 0), "{:?}", preview.tables());
        target.discard_staging().unwrap();
    }
}
