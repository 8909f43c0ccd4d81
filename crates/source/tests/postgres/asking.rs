//! Questions of the operator's about one site: one value, read and never written, whatever the site is called.

use std::time::{Duration, Instant};

use lifeboat_model::{Faulty, SiteId, SourceName};
use lifeboat_source::postgres::{Answer, PostgresConfig, PostgresSource, Question, Tenancy};
use lifeboat_testkit::postgres::{Postgres, own_config, pooled_config, query_text, run_sql};

/// Ids that end a text, a statement, a path or a shell's word somewhere.
const SITES: [&str; 6] =
    ["acme", "a b", "o'brien\"; DROP TABLE sites; --", "$(touch x)`y`", "/../..", "Zürich 東京 \\ %s"];

fn source(config: PostgresConfig) -> PostgresSource {
    PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap()
}

fn site(text: &str) -> SiteId {
    SiteId::new(text).unwrap()
}

fn ask(source: &PostgresSource, about: &str, sql: &str) -> Result<Answer, String> {
    let question = Question { sql: sql.to_owned(), timeout: Duration::from_secs(60) };
    source.ask(&site(about), &question).map_err(|error| error.to_string())
}

/// A database with these sites by text and by number.
fn sites(test: &str) -> Option<String> {
    let url = Postgres::shared_or_skip(test)?.fresh_database().unwrap();
    run_sql(&url, "CREATE TABLE sites (id text PRIMARY KEY); CREATE TABLE numbered (id bigint, big numeric)").unwrap();
    for name in SITES {
        let name = name.replace('\'', "''");
        run_sql(&url, &format!("INSERT INTO sites VALUES ('{name}')")).unwrap();
    }
    run_sql(&url, "INSERT INTO numbered VALUES (7, 1), (8, 2), (8, 3)").unwrap();
    Some(url)
}

#[test]
fn any_site_is_asked_about_as_one_value() {
    let Some(url) = sites("any_site_is_asked_about_as_one_value") else { return };
    let source = source(pooled_config(&url));
    for name in SITES {
        let is = |sql: &str| ask(&source, name, sql);
        assert_eq!(is("SELECT count(*) FROM sites WHERE id = $1"), Ok(Answer::Number(1)), "{name}");
        let length = i64::try_from(name.chars().count()).unwrap();
        assert_eq!(is("SELECT length($1)"), Ok(Answer::Number(length)), "{name}");
    }
    assert_eq!(ask(&source, "nobody", "SELECT count(*) = 0 FROM sites WHERE id = $1"), Ok(Answer::Flag(true)));
    assert_eq!(ask(&source, "7", "SELECT count(*) FROM numbered WHERE id = $1"), Ok(Answer::Number(1)), "as a number");
    let bad = ask(&source, "acme", "SELECT count(*) FROM numbered WHERE id = $1").unwrap_err();
    assert!(bad.contains("22P02") && !bad.contains("acme"), "{bad}");
}

#[test]
fn an_answer_is_one_value_of_one_row() {
    let Some(url) = sites("an_answer_is_one_value_of_one_row") else { return };
    let source = source(pooled_config(&url));
    let check = |sql: &str, want: Answer| assert_eq!(ask(&source, "8", sql), Ok(want), "{sql}");
    let other = |sql: &str, part: &str| match ask(&source, "8", sql) {
        Ok(Answer::Other(what)) => assert!(what.contains(part), "{sql}: {what}"),
        answer => panic!("{sql}: {answer:?}"),
    };
    check("SELECT true", Answer::Flag(true));
    check("SELECT NULL::boolean", Answer::Null);
    check("SELECT 3::smallint", Answer::Number(3));
    check("SELECT -3", Answer::Number(-3));
    check("SELECT max(big)::bigint FROM numbered", Answer::Number(3));
    check("VALUES (5::bigint); ", Answer::Number(5));
    other("SELECT big FROM numbered WHERE id = 7", "type numeric");
    other("SELECT 'yes'", "type text");
    other("SELECT id FROM numbered WHERE id = $1", "more than one row");
    other("SELECT generate_series(1, 1000000000)", "more than one row");
    other("SELECT id FROM numbered WHERE false", "no row");
    other("SELECT 1, 2", "2 columns");
    other("SELECT $1::text = $2", "2 parameters");
    other("SET work_mem = '1MB'", "0 columns");
    assert!(ask(&source, "8", "SELECT 1; SELECT 2").unwrap_err().contains("42601"));
    assert!(ask(&source, "8", "SELECT nonsense").unwrap_err().contains("42703"));
}

// Explains invariant: questions-read
#[test]
fn a_question_changes_nothing() {
    let Some(url) = sites("a_question_changes_nothing") else { return };
    run_sql(
        &url,
        "CREATE FUNCTION sneaky() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('transaction_read_only', 'off', true); DELETE FROM sites; RETURN true; END $$",
    )
    .unwrap();
    let source = source(pooled_config(&url));
    for sql in [
        "DELETE FROM sites RETURNING true",
        "WITH gone AS (DELETE FROM sites RETURNING 1) SELECT count(*) FROM gone",
        "SELECT sneaky()",
        "SELECT nextval('seq')",
        "COMMIT; DELETE FROM sites",
    ] {
        assert!(ask(&source, "acme", sql).is_err(), "{sql}");
    }
    assert_eq!(query_text(&url, "SELECT count(*) FROM sites").unwrap()[0][0].as_deref(), Some("6"));
}

#[test]
fn a_question_has_its_time() {
    let Some(url) = sites("a_question_has_its_time") else { return };
    let source = source(pooled_config(&url));
    let began = Instant::now();
    let question = Question { sql: "SELECT pg_sleep(30) IS NULL".into(), timeout: Duration::from_millis(300) };
    let error = source.ask(&site("acme"), &question).unwrap_err();
    assert!(error.to_string().contains("statement timeout"), "{error}");
    assert!(error.hint().is_some() && began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_site_with_a_schema_or_a_database_is_asked_about_there() {
    let test = "a_site_with_a_schema_or_a_database_is_asked_about_there";
    let Some(server) = Postgres::shared_or_skip(test) else { return };
    let url = server.fresh_database().unwrap();
    let odd = "o'b \"x";
    for (name, rows) in [("acme", 2), (odd, 3)] {
        let schema = format!("\"t {}\"", name.replace('"', "\"\""));
        run_sql(
            &url,
            &format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.notes AS SELECT generate_series(1, {rows}) id"),
        )
        .unwrap();
    }
    let by_schema = source(own_config(&url, Tenancy::Schema, "t {site}"));
    let count = "SELECT count(*) FROM notes";
    assert_eq!(ask(&by_schema, "acme", count), Ok(Answer::Number(2)));
    assert_eq!(ask(&by_schema, odd, count), Ok(Answer::Number(3)));
    assert!(matches!(ask(&by_schema, "gone", count), Ok(Answer::Other(what)) if what.contains("no schema")));
    let own = server.fresh_database().unwrap();
    let database = own.rsplit_once('/').unwrap().1.split('?').next().unwrap().to_owned();
    let by_database = source(own_config(&url, Tenancy::Database, &format!("{}{{site}}", &database[..4])));
    let here = "SELECT current_database() = 'test' || $1";
    let number = database[4..].to_owned();
    assert_eq!(ask(&by_database, &number, here), Ok(Answer::Flag(true)), "{database}");
}
