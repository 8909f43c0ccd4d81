//! A schema or a database a site: dropped, put back whole, and nobody else touched.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_engine::{AnySource, Approval, Engine, RestorePoint, RestoreRequest, SiteOutcome, plan_restore, restore};
use lifeboat_model::{PointInTime, SourceName};
use lifeboat_source::postgres::{PostgresSource, Tenancy};
use lifeboat_testkit::postgres::{Postgres, own_config, own_site, query_text, run_sql};
use lifeboat_testkit::world::{backup_all, engine_in_memory, restore_latest, restore_request, run_restore, undo};

/// One is another's prefix, and two need quotes.
const SITES: [&str; 4] = ["acme", "acme2", "O'Hara & \"Sons\"", "zebra"];
const ROWS: u32 = 500;

/// Sites with a place of their own each, in a cluster of their own: databases are dropped here.
struct Estate {
    server: Postgres,
    tenancy: Tenancy,
    engine: Engine,
}

impl Estate {
    async fn new(test: &str, tenancy: Tenancy) -> Option<Self> {
        let server = Postgres::start_or_skip(test, &Default::default())?;
        let door = server.url("postgres");
        for site in SITES {
            let name = quoted(&name_of(site));
            match tenancy {
                Tenancy::Database => {
                    run_sql(&door, &format!("CREATE DATABASE {name}")).unwrap();
                    run_sql(&door, &format!("ALTER DATABASE {name} SET statement_timeout = '5min'")).unwrap();
                    own_site(&server.url(&in_url(&name_of(site))), "public", ROWS).unwrap();
                }
                _ => {
                    run_sql(&door, &format!("CREATE SCHEMA {name}")).unwrap();
                    own_site(&door, &name, ROWS).unwrap();
                }
            }
        }
        let source = SourceName::new("app").unwrap();
        let rows = PostgresSource::new(source, own_config(&door, tenancy, "tenant {site}")).unwrap();
        let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(rows))]).await;
        Some(Self { server, tenancy, engine })
    }

    /// Connects to where the site's rows are.
    fn url(&self, site: &str) -> String {
        match self.tenancy {
            Tenancy::Database => self.server.url(&in_url(&name_of(site))),
            _ => self.server.url("postgres"),
        }
    }

    fn schema(&self, site: &str) -> String {
        match self.tenancy {
            Tenancy::Database => "public".to_owned(),
            _ => quoted(&name_of(site)),
        }
    }

    fn drop(&self, site: &str) {
        let kind = if self.tenancy == Tenancy::Database { "DATABASE" } else { "SCHEMA" };
        let more = if self.tenancy == Tenancy::Database { "" } else { "CASCADE" };
        run_sql(&self.server.url("postgres"), &format!("DROP {kind} {} {more}", quoted(&name_of(site)))).unwrap();
    }

    fn exists(&self, site: &str) -> bool {
        let list = "SELECT datname FROM pg_database UNION SELECT nspname FROM pg_namespace";
        let found = query_text(&self.server.url("postgres"), list).unwrap();
        found.iter().any(|row| row[0].as_deref() == Some(name_of(site).as_str()))
    }

    /// Structure as pg_dump writes it, every row of every table, view and sequence.
    fn picture(&self, site: &str) -> BTreeMap<String, String> {
        let url = self.url(site);
        let name = if self.tenancy == Tenancy::Database { "public".to_owned() } else { name_of(site) };
        let mut dump = Command::new(self.server.program("pg_dump"));
        dump.args(["--schema-only", &format!("--schema={}", quoted(&name)), &url]);
        let output = dump.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let structure = String::from_utf8(output.stdout).unwrap();
        let structure: Vec<&str> = structure.lines().filter(|line| !line.contains("restrict ")).collect();
        let mut picture = BTreeMap::from([("structure".to_owned(), structure.join("\n"))]);
        let relations = format!(
            "SELECT format('%I.%I', n.nspname, c.relname), c.relkind = 'S' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = '{}' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND c.relispopulated AND c.relname <> 'forgetful'",
            name.replace('\'', "''")
        );
        for row in query_text(&url, &relations).unwrap() {
            let relation = row[0].clone().unwrap();
            let digest =
                format!("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {relation} t");
            let digest = if row[1].as_deref() == Some("t") {
                format!("SELECT last_value, is_called FROM {relation}")
            } else {
                digest
            };
            picture.insert(relation, format!("{:?}", query_text(&url, &digest).unwrap()[0]));
        }
        picture
    }
}

fn name_of(site: &str) -> String {
    format!("tenant {site}")
}

/// Percent-encoded.
fn in_url(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn dropped_and_put_back(tenancy: Tenancy) {
    let Some(estate) = Estate::new("a site with a place of its own", tenancy).await else { return };
    let report = backup_all(&estate.engine).await.unwrap();
    assert_eq!(report.sites.len(), SITES.len());
    assert!(report.sites.iter().all(lifeboat_engine::SiteBackup::is_good), "{:?}", report.sites);
    let again = backup_all(&estate.engine).await.unwrap();
    let unchanged = |site: &lifeboat_engine::SiteBackup| matches!(site.outcome, SiteOutcome::Unchanged(_));
    assert!(again.sites.iter().all(unchanged), "{:?}", again.sites);

    // A change of structure alone is a change: the same length, and no row.
    let body = format!(
        "CREATE OR REPLACE FUNCTION {}.count_change() RETURNS trigger LANGUAGE plpgsql AS $$ \
                        BEGIN NEW.changes := NEW.changes + 2; RETURN NEW; END $$",
        estate.schema("acme2")
    );
    run_sql(&estate.url("acme2"), &body).unwrap();
    backup_all(&estate.engine).await.unwrap();
    run_sql(&estate.url("acme2"), &body.replace("+ 2", "+ 3")).unwrap();
    let changed = backup_all(&estate.engine).await.unwrap();
    let published = changed.sites.iter().filter(|site| matches!(site.outcome, SiteOutcome::Published(_)));
    assert_eq!(published.map(|site| site.site.as_str()).collect::<Vec<_>>(), ["acme2"]);

    let pictures: BTreeMap<&str, _> = SITES.iter().map(|site| (*site, estate.picture(site))).collect();
    let stop = AtomicBool::new(false);
    let (busy_url, busy_schema) = (estate.url("zebra"), estate.schema("zebra"));
    std::thread::scope(|scope| {
        let stopping = Stopping(&stop);
        // Somebody else's application goes on all the time, without one error.
        let busy = scope.spawn(|| {
            let mut wrote = 0;
            while !stop.load(Ordering::Relaxed) {
                run_sql(&busy_url, &format!("INSERT INTO {busy_schema}.nothing VALUES ({wrote})")).unwrap();
                wrote += 1;
            }
            wrote
        });
        for site in ["acme", "O'Hara & \"Sons\""] {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(there_and_back(&estate, site, &pictures))
            });
        }
        drop(stopping);
        let wrote: i64 = busy.join().unwrap();
        let rows = query_text(&busy_url, &format!("SELECT count(*) FROM {busy_schema}.nothing")).unwrap();
        assert_eq!(rows[0][0].as_deref(), Some(wrote.to_string().as_str()));
    });
    let staging = "SELECT datname FROM pg_database WHERE datname LIKE 'lifeboat%' \
                   UNION SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lifeboat%'";
    assert!(query_text(&estate.server.url("postgres"), staging).unwrap().is_empty());
}

/// Stops a thread when it is dropped: a failed assertion too must end the test.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Dropped, restored, undone, undone again; then some rows lost, and put back.
async fn there_and_back(estate: &Estate, site: &str, pictures: &BTreeMap<&str, BTreeMap<String, String>>) {
    estate.drop(site);
    let receipt = restore_latest(&estate.engine, site).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(estate.picture(site), pictures[site], "{site}");
    // A view that cannot be filled keeps nothing from coming back, and is named.
    assert!(receipt.checks.iter().any(|check| check.detail.contains("forgetful")), "{:?}", receipt.checks);
    assert_eq!(estate.picture("acme2"), pictures["acme2"]);

    let undone = undo(&estate.engine, site, receipt.restore).await.unwrap();
    assert!(undone.all_passed() && !estate.exists(site), "{:?}", undone.checks);
    undo(&estate.engine, site, undone.restore).await.unwrap();
    assert_eq!(estate.picture(site), pictures[site], "{site}");

    let (url, schema) = (estate.url(site), estate.schema(site));
    run_sql(
        &url,
        &format!(
            "DELETE FROM {schema}.\"Issue List\" WHERE id > 450; UPDATE {schema}.\"Issue List\" SET title = 'lost' WHERE id < 90"
        ),
    )
    .unwrap();
    let receipt = restore_latest(&estate.engine, site).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    let (mut now, mut then) = (estate.picture(site), pictures[site].clone());
    // A view over rows is as old as its last refresh.
    now.retain(|name, _| !name.contains("totals"));
    then.retain(|name, _| !name.contains("totals"));
    assert_eq!(now, then, "{site}");
}

/// Lost rows come back into a place that is there, with what was written since; a place that is gone is made again.
async fn later_work_kept(tenancy: Tenancy) {
    let Some(estate) = Estate::new("later work in a place of its own", tenancy).await else { return };
    let (site, other) = (SITES[0], SITES[3]);
    backup_all(&estate.engine).await.unwrap();
    let request = RestoreRequest { keep_later: true, ..restore_request(site, RestorePoint::At(PointInTime::Latest)) };
    let (url, schema) = (estate.url(site), estate.schema(site));
    let rows = |what: &str| query_text(&url, &format!("SELECT {what} FROM {schema}.\"Issue List\"")).unwrap();
    let (lost, bystander) = (rows("count(*) FILTER (WHERE id > 450)"), estate.picture(other));
    let work = format!(
        "DELETE FROM {schema}.\"Issue List\" WHERE id > 450; UPDATE {schema}.\"Issue List\" SET title = 'since' \
         WHERE id = 7; INSERT INTO {schema}.nothing VALUES (77)"
    );
    run_sql(&url, &work).unwrap();
    let damaged = estate.picture(site);
    let receipt = run_restore(&estate.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(rows("count(*) FILTER (WHERE id > 450)"), lost);
    assert_eq!(rows("min(title) FILTER (WHERE id = 7)")[0][0].as_deref(), Some("since"));
    assert_eq!(estate.picture(other), bystander);
    // Gone since, the undo makes it again as it was kept: without what the restore had staged then.
    estate.drop(site);
    let undoing = restore_request(site, RestorePoint::Undo(receipt.restore));
    let planned = plan_restore(&estate.engine, &undoing).await.unwrap();
    assert_eq!(planned.plan.conflicts.len(), 1, "{:?}", planned.plan.conflicts);
    let hash = planned.plan.hash.clone();
    restore(&estate.engine, &undoing, planned, &Approval::Hash(hash)).await.unwrap();
    let staging = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lifeboat\\_stage%'";
    assert_eq!(query_text(&url, staging).unwrap().len(), 0);
    let rows_of = |mut picture: BTreeMap<String, String>| {
        picture.retain(|name, _| !name.contains("seq")); // a sequence never goes back
        picture
    };
    assert_eq!(rows_of(estate.picture(site)), rows_of(damaged));

    backup_all(&estate.engine).await.unwrap();
    let whole = estate.picture(site);
    estate.drop(site);
    let receipt = run_restore(&estate.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(estate.picture(site), whole);
    undo(&estate.engine, site, receipt.restore).await.unwrap();
    assert!(!estate.exists(site));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_since_stays_in_a_schema_that_is_there_and_one_that_is_gone_is_made_again() {
    later_work_kept(Tenancy::Schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_since_stays_in_a_database_that_is_there_and_one_that_is_gone_is_made_again() {
    later_work_kept(Tenancy::Database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_with_an_extension_in_it_is_never_called_whole() {
    let Some(server) = Postgres::shared_or_skip("a_schema_with_an_extension_in_it") else { return };
    let url = server.fresh_database().unwrap();
    run_sql(&url, "CREATE SCHEMA a; CREATE TABLE a.t (x int); CREATE SCHEMA b; CREATE EXTENSION citext SCHEMA b")
        .unwrap();
    let config = own_config(&url, Tenancy::Schema, "{site}");
    let rows = PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap();
    let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(rows))]).await;
    let report = backup_all(&engine).await.unwrap();
    let good: Vec<bool> = report.sites.iter().map(lifeboat_engine::SiteBackup::is_good).collect();
    assert_eq!(good, [true, false], "{:?}", report.sites);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_schema_comes_back_with_all_in_it_and_an_undo_drops_it_again() {
    dropped_and_put_back(Tenancy::Schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_database_comes_back_with_all_in_it_and_an_undo_drops_it_again() {
    dropped_and_put_back(Tenancy::Database).await;
}
