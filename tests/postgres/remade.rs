//! What a schema or a database that is made again has besides its rows, and what it cannot have: event
//! triggers, views without data, publications, a comment, types of somebody else's.

use lifeboat_engine::{AnySource, Engine};
use lifeboat_model::{Fault, Faulty, SourceName};
use lifeboat_source::postgres::{PostgresSource, Tenancy};
use lifeboat_testkit::postgres::{Postgres, own_config, query_text, run_sql};
use lifeboat_testkit::world::{backup_all, engine_in_memory, restore_latest};

async fn engine(door: &str, tenancy: Tenancy, names: &str) -> Engine {
    let rows = PostgresSource::new(SourceName::new("app").unwrap(), own_config(door, tenancy, names)).unwrap();
    engine_in_memory(vec![AnySource::Postgres(Box::new(rows))]).await
}

/// All rows of a query as one text.
fn text(url: &str, query: &str) -> String {
    let rows = query_text(url, query).unwrap_or_else(|error| panic!("{query}: {error}"));
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
    let rows = rows.into_iter().map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join(","));
    rows.collect::<Vec<_>>().join(" ")
}

const POPULATED: &str = "SELECT relname, relispopulated FROM pg_class WHERE relkind = 'm' ORDER BY 1";
const EVENT_TRIGGERS: &str = "SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1";

#[tokio::test(flavor = "multi_thread")]
async fn event_triggers_of_a_remade_database_see_nothing_of_its_being_made() {
    let Some(server) = Postgres::shared_or_skip("event_triggers_of_a_remade_database") else { return };
    let door = server.fresh_database().unwrap();
    let url = server.url("remade_acme");
    run_sql(&door, "CREATE DATABASE remade_acme").unwrap();
    run_sql(&door, "COMMENT ON DATABASE remade_acme IS E'it''s \"acme\"\\\\'").unwrap();
    run_sql(
        &url,
        "CREATE TABLE t (x int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 9);
         CREATE MATERIALIZED VIEW filled AS SELECT count(*) FROM t;
         CREATE MATERIALIZED VIEW asleep AS SELECT count(*) FROM t WITH NO DATA;
         CREATE MATERIALIZED VIEW above AS SELECT * FROM filled;
         CREATE PUBLICATION everything FOR TABLE t;
         CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no change of structure'; END $$;
         CREATE EVENT TRIGGER off ON ddl_command_end EXECUTE FUNCTION refuse();
         ALTER EVENT TRIGGER off DISABLE;
         CREATE EVENT TRIGGER guard ON ddl_command_start EXECUTE FUNCTION refuse();
         CREATE EVENT TRIGGER always ON ddl_command_start EXECUTE FUNCTION refuse();
         ALTER EVENT TRIGGER always ENABLE ALWAYS",
    )
    .unwrap();
    let engine = engine(&door, Tenancy::Database, "remade_{site}").await;
    assert!(backup_all(&engine).await.unwrap().sites[0].is_good());
    let published = "SELECT pubname, schemaname, tablename FROM pg_publication_tables";
    let picture = || [POPULATED, EVENT_TRIGGERS, published, "SELECT * FROM above"].map(|query| text(&url, query));
    let comment =
        || text(&door, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'remade_acme'");
    let was = (picture(), comment());
    assert_eq!(was.0[0], "above,t asleep,f filled,t");
    run_sql(&door, "DROP DATABASE remade_acme").unwrap();

    let receipt = restore_latest(&engine, "acme").await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert!(receipt.parts[0].entries > 0 && receipt.parts[0].rows == 9, "{:?}", receipt.parts);
    assert!(receipt.checks.iter().all(|check| !check.name.ends_with("note")), "{:?}", receipt.checks);
    assert_eq!((picture(), comment()), was);
    assert!(run_sql(&url, "CREATE TABLE u ()").unwrap_err().contains("no change of structure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publications_of_a_remade_schema_are_named_with_the_lines_that_put_it_back() {
    let Some(server) = Postgres::shared_or_skip("the_publications_of_a_remade_schema") else { return };
    let url = server.fresh_database().unwrap();
    run_sql(
        &url,
        "CREATE SCHEMA acme; CREATE TABLE acme.\"A b\" (x int PRIMARY KEY, y text); CREATE TABLE acme.c (x int PRIMARY KEY);
         CREATE SCHEMA other; CREATE TABLE other.c (x int PRIMARY KEY); INSERT INTO acme.c VALUES (1), (2);
         CREATE MATERIALIZED VIEW acme.asleep AS SELECT 1 AS one WITH NO DATA;
         CREATE PUBLICATION \"Some\" FOR TABLE acme.c, other.c; CREATE PUBLICATION everything FOR ALL TABLES",
    )
    .unwrap();
    let is_14 = text(&url, "SHOW server_version_num").parse::<u32>().unwrap() < 150_000;
    let more = match is_14 {
        true => "CREATE PUBLICATION more FOR TABLE acme.\"A b\"",
        false => {
            "CREATE PUBLICATION more FOR TABLE acme.\"A b\" (x, y) WHERE (x > 3);
             CREATE PUBLICATION whole FOR TABLES IN SCHEMA acme, other"
        }
    };
    run_sql(&url, more).unwrap();
    let engine = engine(&url, Tenancy::Schema, "{site}").await;
    assert!(backup_all(&engine).await.unwrap().sites.iter().all(lifeboat_engine::SiteBackup::is_good));
    let published = || text(&url, "SELECT * FROM pg_publication_tables ORDER BY 1, 2, 3");
    let was = published();
    run_sql(&url, "DROP SCHEMA acme CASCADE").unwrap();
    let receipt = restore_latest(&engine, "acme").await.unwrap();
    assert!(receipt.all_passed() && receipt.parts[0].entries == 2, "{receipt:?}");
    assert_ne!(published(), was, "none of them is run");
    let note = receipt.checks.iter().find(|check| check.detail.contains("ALTER PUBLICATION")).unwrap();
    let lines = note.detail.split_once("by hand: ").unwrap().1;
    run_sql(&url, lines).unwrap();
    assert_eq!(published(), was);
    assert_eq!(text(&url, POPULATED), "asleep,f");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_whose_types_are_gone_says_what_to_make_first() {
    let Some(server) = Postgres::shared_or_skip("a_schema_whose_types_are_gone") else { return };
    let url = server.fresh_database().unwrap();
    let extension = "CREATE SCHEMA b; CREATE EXTENSION citext SCHEMA b";
    run_sql(&url, extension).unwrap();
    run_sql(&url, "CREATE SCHEMA a; CREATE TABLE a.t (x b.citext PRIMARY KEY); INSERT INTO a.t VALUES ('One')")
        .unwrap();
    let engine = engine(&url, Tenancy::Schema, "{site}").await;
    backup_all(&engine).await.unwrap();
    for gone in ["DROP SCHEMA a CASCADE; DROP EXTENSION citext", "DROP SCHEMA a, b CASCADE"] {
        run_sql(&url, gone).unwrap();
        let error = restore_latest(&engine, "a").await.unwrap_err();
        assert_eq!(error.fault(), Fault::Operator);
        assert!(error.hint().unwrap().contains("CREATE EXTENSION"), "{error} {:?}", error.hint());
        assert_eq!(text(&url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'a'"), "0");
        run_sql(&url, &format!("DROP SCHEMA IF EXISTS b; {extension}")).unwrap();
        assert!(restore_latest(&engine, "a").await.unwrap().all_passed());
        assert_eq!(text(&url, "SELECT x FROM a.t"), "One");
    }
}
