//! A tenant's rows where no live row is touched: in a directory, and in a schema of their own.

use std::process::Command;

use lifeboat_engine::{AnySource, Engine, Fleet, Only, RestorePoint, RestoreRequest, RestoreTarget};
use lifeboat_model::{EntryPath, Fault, Faulty, PointInTime, SourceName};
use lifeboat_source::postgres::{PostgresConfig, PostgresSource, Tenancy};
use lifeboat_testkit::postgres::{Postgres, own_config, own_site, pooled_config, query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, engine_in_memory, restore_request, run_restore, site_id};

use crate::pooled::Pool;

fn request(site: &str, target: RestoreTarget) -> RestoreRequest {
    RestoreRequest { target, ..restore_request(site, RestorePoint::At(PointInTime::Latest)) }
}

/// Count and content of a site's issues.
fn issues(url: &str, table: &str, site: &str) -> Vec<Vec<Option<String>>> {
    let columns = "id, site_id, number, title";
    let query = format!(
        "SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t.id)) FROM (SELECT {columns} FROM {table} \
         WHERE site_id = '{site}') t"
    );
    query_text(url, &query).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_exported_with_its_database_gone_and_psql_loads_it() {
    let Some(pool) = Pool::new("a_tenant_is_exported").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let site = site_name(2);
    let want = issues(&pool.url, "issues", &site);
    let name = |text: &str| SourceName::new(text).unwrap();
    // Nothing listens there.
    let rows = PostgresSource::new(name("app"), pooled_config("postgres://nobody@127.0.0.1:1/gone")).unwrap();
    let engine = Engine { fleet: Fleet::new(vec![AnySource::Postgres(Box::new(rows))]), ..pool.engine };
    let directory = pool.dir.path().join("out");
    let request = request(&site, RestoreTarget::Export(directory.clone()));
    let receipt = run_restore(&engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert!(receipt.undo.is_none() && receipt.parts[0].rows > 1_000, "{:?}", receipt.parts);
    // Nor need the source be configured any more.
    let engine = Engine { fleet: Fleet::new(Vec::new()), ..engine };
    // The same command again finds it there, and changes nothing.
    let again = run_restore(&engine, &request).await.unwrap();
    assert!(again.checks.iter().any(|check| check.detail.contains("there already")), "{:?}", again.checks);

    let server = Postgres::shared().unwrap();
    let empty = server.fresh_database().unwrap();
    let mut psql = Command::new(server.program("psql"));
    let psql = psql.current_dir(directory.join("app")).args(["-X", "-q", "-d", &empty, "-f", "load.sql"]);
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(issues(&empty, "issues", &site), want);
    let others = query_text(&empty, &format!("SELECT count(*) FROM issues WHERE site_id <> '{site}'")).unwrap();
    assert_eq!(others[0][0].as_deref(), Some("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_beside_is_whole_and_read_only_and_no_part_of_any_backup() {
    let Some(pool) = Pool::new("a_copy_beside").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let (site, before) = (site_name(3), pool.picture());
    let want = issues(&pool.url, "issues", &site);
    pool.sql(&format!("DELETE FROM sites WHERE id = '{site}'"));
    let without = pool.picture();
    let request = request(&site, RestoreTarget::Beside(site_id("Look \"here\"")));
    let receipt = run_restore(&pool.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(issues(&pool.url, r#""Look ""here""".issues"#, &site), want);
    let live: Vec<_> = pool.picture().into_iter().filter(|(table, _)| !table.contains("Look")).collect();
    assert_eq!(live, without.into_iter().collect::<Vec<_>>());
    assert_ne!(live, before.into_iter().collect::<Vec<_>>());
    // Made by an ordinary role it would refuse; the superuser of tests may do anything, so ask.
    let writes = "SELECT count(*) FROM information_schema.table_privileges \
                  WHERE table_schema LIKE 'Look%' AND privilege_type <> 'SELECT'";
    assert_eq!(query_text(&pool.url, writes).unwrap()[0][0].as_deref(), Some("0"));
    // Nothing to be done the second time; another point is something else.
    let again = run_restore(&pool.engine, &request).await.unwrap();
    assert!(again.checks.iter().any(|check| check.detail.contains("there already")), "{:?}", again.checks);
    // A copy is nobody's data: no backup fails for it, and none has it.
    let report = backup_all(&pool.engine).await.unwrap();
    assert!(report.sources.iter().all(|source| source.failure.is_none()), "{:?}", report.sources);
    let request = RestoreRequest { point: RestorePoint::At(PointInTime::Snapshot(receipt.snapshot)), ..request };
    pool.sql("COMMENT ON SCHEMA \"Look \"\"here\"\"\" IS 'mine now'");
    let error = run_restore(&pool.engine, &request).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator);
    assert!(error.to_string().contains("something else"), "{error}");
    run_sql(&pool.url, "DROP SCHEMA \"Look \"\"here\"\"\" CASCADE").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_its_own_is_exported_with_its_structure_and_copied_beside() {
    let Some(server) = Postgres::shared_or_skip("a_schema_of_its_own_is_exported") else { return };
    let url = server.fresh_database().unwrap();
    let make = |site: &str| {
        format!(
            "CREATE SCHEMA {site}; CREATE TYPE {site}.mood AS ENUM ('glad', 'sad');
             CREATE TABLE {site}.authors (id int PRIMARY KEY, name text NOT NULL UNIQUE);
             CREATE TABLE {site}.books (id serial PRIMARY KEY, author int NOT NULL REFERENCES {site}.authors,
                mood {site}.mood, title text, loud text GENERATED ALWAYS AS (upper(title)) STORED);
             INSERT INTO {site}.authors VALUES (2, 'B'), (1, 'A');
             INSERT INTO {site}.books (author, mood, title) VALUES (1, 'sad', 'one'), (2, NULL, '');
             GRANT SELECT ON {site}.books TO PUBLIC;"
        )
    };
    run_sql(&url, &(make("acme") + &make("umbrella"))).unwrap();
    let name = SourceName::new("app").unwrap();
    let config = PostgresConfig { tenancy: Tenancy::Schema, root: None, shared: Vec::new(), ..pooled_config(&url) };
    let config = PostgresConfig { tenant_column: None, not_sites: vec!["public".into()], ..config };
    let source = PostgresSource::new(name, config).unwrap();
    let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(source))]).await;
    let report = backup_all(&engine).await.unwrap();
    assert_eq!(report.sites.len(), 2, "{report:?}");
    run_sql(&url, "DROP SCHEMA acme CASCADE").unwrap();

    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let receipt = run_restore(&engine, &request("acme", RestoreTarget::Export(out.clone()))).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    // What is computed is in no file; the structure computes it again.
    let data = std::fs::read_dir(out.join("app/data")).unwrap().flatten();
    let data: Vec<String> = data.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
    let books = data.iter().find(|text| text.contains("mood")).unwrap();
    assert_eq!(books.lines().next().unwrap(), r#""id","author","mood","title""#);
    let empty = server.fresh_database().unwrap();
    let mut psql = Command::new(server.program("psql"));
    let output = psql.current_dir(out.join("app")).args(["-X", "-q", "-d", &empty, "-f", "load.sql"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
    let query = "SELECT string_agg(b::text, ' ' ORDER BY id) FROM acme.books b";
    assert_eq!(query_text(&empty, query).unwrap()[0][0].as_deref(), Some("(1,1,sad,one,ONE) (2,2,,\"\",\"\")"));
    assert!(run_sql(&empty, "INSERT INTO acme.books (author) VALUES (7)").unwrap_err().contains("foreign key"));
    assert_eq!(query_text(&empty, "SELECT nextval('acme.books_id_seq')").unwrap()[0][0].as_deref(), Some("4"));

    // Beside needs the types of the database; those of the dropped schema are gone.
    let error = run_restore(&engine, &request("acme", RestoreTarget::Beside(site_id("look")))).await.unwrap_err();
    assert!(error.to_string().contains("a type that the table had is gone"), "{error}");
    let receipt = run_restore(&engine, &request("umbrella", RestoreTarget::Beside(site_id("look")))).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(query_text(&url, "SELECT count(*) FROM look.books").unwrap()[0][0].as_deref(), Some("2"));
    let columns = "SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute \
                   WHERE attrelid = 'look.books'::regclass AND attnum > 0";
    let columns = query_text(&url, columns).unwrap()[0][0].clone();
    assert_eq!(columns.as_deref(), Some("id,author,mood,title"), "without what is computed");

    // Some rows of a schema of its own, and the row they refer to.
    run_sql(&url, "UPDATE umbrella.books SET title = 'oops'; DELETE FROM umbrella.books WHERE id = 2").unwrap();
    run_sql(&url, "DELETE FROM umbrella.authors WHERE id = 2").unwrap();
    let keys = (EntryPath::new(b"umbrella.books").unwrap(), "2".to_owned());
    let only = Only { part: SourceName::new("app").unwrap(), entry: None, keys: Some(keys) };
    let some = RestoreRequest { only: Some(only), ..request("umbrella", RestoreTarget::InPlace) };
    assert_eq!(run_restore(&engine, &some).await.unwrap().parts[0].rows, 2);
    let query = "SELECT string_agg(b::text, ' ' ORDER BY id) FROM umbrella.books b";
    assert_eq!(query_text(&url, query).unwrap()[0][0].as_deref(), Some("(1,1,sad,oops,OOPS) (2,2,,\"\",\"\")"));

    let report = backup_all(&engine).await.unwrap();
    assert!(report.sites.iter().all(|site| site.site.as_str() != "look"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_its_own_is_copied_beside_whole_and_read_only() {
    let Some(server) = Postgres::shared_or_skip("a_database_of_its_own_is_copied") else { return };
    let (door, live, copy) = (server.fresh_database().unwrap(), server.url("beside_acme"), server.url("look%20here"));
    run_sql(&door, "CREATE DATABASE beside_acme").unwrap();
    run_sql(&door, "CREATE ROLE visitor; GRANT CONNECT, CREATE ON DATABASE beside_acme TO visitor").unwrap();
    run_sql(&door, "ALTER DATABASE beside_acme SET default_transaction_read_only = off").unwrap();
    own_site(&live, "public", 50).unwrap();
    let config = own_config(&door, Tenancy::Database, "beside_{site}");
    let source = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
    let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(source))]).await;
    backup_all(&engine).await.unwrap();
    let users = "SELECT count(*), md5(string_agg(u::text, '|' ORDER BY id)) FROM users u";
    let [was, foreign_keys] = [users, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"]
        .map(|query| query_text(&live, query).unwrap());
    run_sql(&live, "UPDATE users SET settings = '{}' WHERE id > 7").unwrap();
    let now = query_text(&live, users).unwrap();

    let request = request("acme", RestoreTarget::Beside(site_id("look here")));
    let receipt = run_restore(&engine, &request).await.unwrap();
    assert!(receipt.all_passed() && receipt.undo.is_none(), "{:?}", receipt.checks);
    assert_eq!((query_text(&copy, users).unwrap(), query_text(&live, users).unwrap()), (was, now));
    let copied_keys = query_text(&copy, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'").unwrap();
    assert_eq!(copied_keys, foreign_keys);
    assert!(run_sql(&copy, "DELETE FROM users").unwrap_err().contains("25006"), "it only reads");
    let may = "SELECT has_database_privilege('visitor', 'look here', 'CONNECT, CREATE')";
    assert_eq!(query_text(&door, may).unwrap()[0][0].as_deref(), Some("f"));
    // The same again finds it there; no backup takes it for a site; anything else under the name stays.
    let again = run_restore(&engine, &request).await.unwrap();
    assert!(again.checks.iter().any(|check| check.detail.contains("there already")), "{:?}", again.checks);
    let report = backup_all(&engine).await.unwrap();
    assert_eq!(report.sites.len(), 1, "{report:?}");
    run_sql(&copy, "BEGIN READ WRITE; DELETE FROM events; COMMIT").unwrap();
    let error = run_restore(&engine, &request).await.unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");
    let only = Only { part: SourceName::new("app").unwrap(), entry: EntryPath::new(b"users").ok(), keys: None };
    let table = RestoreRequest { only: Some(only), ..self::request("acme", RestoreTarget::Beside(site_id("other"))) };
    let error = run_restore(&engine, &table).await.unwrap_err();
    assert!(error.to_string().contains("made whole"), "{error}");
    run_sql(&door, "DROP DATABASE \"look here\"").unwrap();
    run_sql(&door, "DROP DATABASE beside_acme").unwrap();
    run_sql(&door, "DROP ROLE visitor").unwrap();
}
