//! A database being made again, or dropped again by an undo, and killed: under its name it is there wholly
//! or not at all, the same command finishes, and no database of another name is left.

use lifeboat_testkit::postgres::{Postgres, own_site, run_sql};

use crate::killed::{Deed, Scene};
use crate::proxy::{COPY_DATA, COPY_DONE};
use crate::shop::Shop;

/// A database a site.
const DATABASES: &str = "
[sources.app]
kind = \"postgres\"
url = \"env:TEST_DATABASE_URL\"
tenancy = \"database\"
database = \"of_{site}\"
";
/// Steps of a restore that makes a database again.
const MAKING: [&str; 8] = [
    "CREATE DATABASE",
    "CREATE TABLE",
    COPY_DATA,
    COPY_DONE,
    "ADD CONSTRAINT",
    "REFRESH",
    "SET \"statement_timeout\"",
    "RENAME TO",
];
/// With ended sessions or a lost connection a normal run tries these.
const FEW: [&str; 3] = ["CREATE DATABASE", COPY_DATA, "RENAME TO"];
/// Steps of an undo that drops it.
const DROPPING: [&str; 3] = ["COPY (", "RENAME TO", "DROP DATABASE"];

/// Two sites, the second of them dropped.
fn scene(server: &Postgres) -> Scene {
    let door = server.url("postgres");
    for site in ["site-00001", "site-00002"] {
        run_sql(&door, &format!("CREATE DATABASE \"of_{site}\"")).unwrap();
        let url = server.url(&format!("of_{site}"));
        own_site(&url, "public", 50).unwrap();
        // It comes back empty, and is tried elsewhere.
        run_sql(&url, "DROP MATERIALIZED VIEW forgetful").unwrap();
        run_sql(&url, &format!("ALTER DATABASE \"of_{site}\" SET statement_timeout = '5min'")).unwrap();
        run_sql(&url, &format!("COMMENT ON DATABASE \"of_{site}\" IS 'of {site}'")).unwrap();
    }
    let shop = Shop::of_databases(&door, DATABASES, "of\\_%");
    Scene::of(server, shop, "DROP DATABASE \"of_site-00002\" WITH (FORCE)")
}

#[test]
fn a_database_being_made_again_killed_at_any_statement_is_there_whole_or_not_at_all_and_is_made_when_run_again() {
    let Some(server) = Postgres::start_or_skip("a_database_being_made_again_killed", &Default::default()) else {
        return;
    };
    scene(&server).sweep_restore(Deed::Kill, &MAKING);
}

#[test]
fn a_database_being_made_again_whose_sessions_are_ended_is_there_whole_or_not_at_all_and_is_made_when_run_again() {
    let Some(server) = Postgres::start_or_skip("a_database_whose_sessions_are_ended", &Default::default()) else {
        return;
    };
    let scene = scene(&server);
    scene.sweep_restore(Deed::Terminate, &FEW);
    scene.sweep_restore(Deed::Cut, &["RENAME TO"]);
}

#[test]
fn a_database_being_dropped_by_an_undo_killed_at_any_statement_is_there_or_gone_and_is_gone_when_run_again() {
    let Some(server) = Postgres::start_or_skip("a_database_being_dropped_killed", &Default::default()) else { return };
    scene(&server).sweep_undo(&DROPPING);
}
