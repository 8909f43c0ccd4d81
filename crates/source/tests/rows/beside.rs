//! Rows copied into a schema of their own, beside the live ones.

use lifeboat_model::{Fault, Faulty};
use lifeboat_source::postgres::export::About;
use lifeboat_source::postgres::target::{Found, RowsBeside, WantedTable};
use lifeboat_testkit::postgres::NASTY_SITES;

use crate::support::{Kept, World, fleet, nasty, site, victim};

fn about(site: &str) -> About {
    let text = |text: &str| text.to_owned();
    About { site: text(site), source: text("app"), at: text("2026-11-22T10:00:00Z"), snapshot: text("5ca1ab1e") }
}

fn tables(kept: &Kept) -> Vec<WantedTable> {
    kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect()
}

fn staged(world: &World, name: &str, kept: &Kept) -> RowsBeside {
    let mut beside = RowsBeside::new(&world.server(), name, about("acme")).unwrap();
    beside.begin(&tables(kept)).unwrap();
    for (at, (_, bytes)) in kept.tables.iter().enumerate() {
        beside.write_at(at, 0, bytes).unwrap();
    }
    beside
}

fn stages(world: &World) -> i64 {
    world.number("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'lifeboat_stage_%'")
}

#[test]
fn every_site_of_the_hardest_schema_is_copied_beside_and_the_live_rows_stay() {
    let Some(world) = nasty("nasty beside") else { return };
    // Two tables of one name, and default privileges that would give everything away.
    world.run(
        r#"CREATE TABLE "Audit Log".orders (tenant_id text PRIMARY KEY); INSERT INTO "Audit Log".orders VALUES ('acme');
           CREATE ROLE reader; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO reader, PUBLIC;
           ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC"#,
    );
    for (number, name) in NASTY_SITES.into_iter().enumerate() {
        let (kept, live) = (world.back_up(&site(name)), world.live(&site(name)));
        let copy = format!("a/b \"{number}\"");
        let mut beside = staged(&world, &copy, &kept);
        beside.verify().unwrap();
        assert_eq!(beside.look(&tables(&kept)).unwrap(), Found::Nothing);
        beside.switch().unwrap();
        assert_eq!(beside.look(&tables(&kept)).unwrap(), Found::Same);
        assert_eq!(world.live(&site(name)), live); // the catalogue passes over the copy
        assert_eq!(stages(&world), 0);
        let granted = format!(
            "SELECT count(*) FROM information_schema.table_privileges WHERE table_schema = '{copy}' \
             AND (grantee <> 'postgres' OR privilege_type NOT IN ('SELECT', 'MAINTAIN'))"
        );
        assert_eq!(world.number(&granted), 0);
        let schema = format!("SELECT has_schema_privilege('reader', '{copy}', 'USAGE')");
        assert_eq!(world.text(&schema), "f");
        // One row less is not this copy any more.
        world.run(&format!("DELETE FROM {}.accounts", beside.quoted_name()));
        let want = if kept.tables.iter().any(|(t, _)| t.name.as_str() == "app.accounts" && t.rows > 0) {
            Found::SomethingElse
        } else {
            Found::Same
        };
        assert_eq!(beside.look(&tables(&kept)).unwrap(), want);
    }
    assert_eq!(world.number(r#"SELECT count(*) FROM "a/b ""0"""."Audit Log.orders""#), 1);
    world.run(
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM reader, PUBLIC; DROP OWNED BY reader; DROP ROLE reader",
    );
}

#[test]
fn a_killed_copy_leaves_nothing_that_looks_whole_and_the_next_run_finishes() {
    let Some(world) = fleet("killed beside") else { return };
    let kept = world.back_up(&victim());
    let mut killed = staged(&world, "look", &kept);
    killed.verify().unwrap();
    drop(killed);
    assert_eq!((stages(&world), world.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'look'")), (1, 0));
    let mut beside = staged(&world, "look", &kept);
    beside.verify().unwrap();
    // Somebody makes a schema of that name at the last moment.
    world.run("CREATE SCHEMA look");
    assert!(beside.switch().unwrap_err().to_string().contains("made meanwhile"));
    world.run("DROP SCHEMA look");
    drop(beside);
    let mut beside = staged(&world, "look", &kept);
    beside.verify().unwrap();
    beside.switch().unwrap();
    assert_eq!((stages(&world), beside.look(&tables(&kept)).unwrap()), (0, Found::Same));
}

#[test]
fn a_restore_that_begins_meanwhile_leaves_the_copy_s_staging_alone() {
    let Some(world) = fleet("swept beside") else { return };
    let kept = world.back_up(&victim());
    let mut beside = staged(&world, "look", &kept);
    world.run("UPDATE issues SET title = 'changed' WHERE site_id = 'site-00002'");
    world.restore(&victim(), &kept).unwrap();
    beside.verify().unwrap();
    beside.switch().unwrap();
    assert_eq!(beside.look(&tables(&kept)).unwrap(), Found::Same);
    assert_eq!(stages(&world), 0);
}

#[test]
fn a_copy_that_cannot_be_made_says_what_to_do() {
    let Some(mut world) = fleet("refused beside") else { return };
    let mut kept = world.back_up(&victim());
    for name in ["pg_look", "lifeboat_stage_x", &"x".repeat(64)] {
        assert!(RowsBeside::new(&world.server(), name, about("acme")).is_err(), "{name}");
    }
    world.run("CREATE ROLE looker LOGIN");
    let owner = std::mem::replace(&mut world.restorer, world.cluster.url_as("looker", &database(&world.url)));
    let mut beside = RowsBeside::new(&world.server(), "look", about("acme")).unwrap();
    let error = beside.begin(&tables(&kept)).unwrap_err();
    assert!(error.hint().unwrap().starts_with("GRANT CREATE ON DATABASE"), "{error}");
    world.restorer = owner;
    kept.tables[0].0.definition.columns[0].type_name = "public.gone_type".into();
    let mut beside = RowsBeside::new(&world.server(), "look", about("acme")).unwrap();
    let error = beside.begin(&tables(&kept)).unwrap_err();
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.to_string().contains("type"), "{error}");
    beside.discard_staging().unwrap();
    assert_eq!(stages(&world), 0);
}

fn database(url: &str) -> String {
    url.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned()
}
