//! One tenant of a pooled database: backed up, destroyed, put back, and nobody else touched.

use std::collections::BTreeMap;

use lifeboat_engine::{AnySource, Engine, RestorePoint, SiteOutcome, plan_restore};
use lifeboat_model::{Fault, Faulty, Mark, PointInTime, SourceName};
use lifeboat_source::PathTemplate;
use lifeboat_source::files::FilesSource;
use lifeboat_source::postgres::PostgresSource;
use lifeboat_testkit::postgres::{Postgres, pooled_config, pooled_fleet, query_text, run_sql, site_name};
use lifeboat_testkit::world::{backup_all, engine_in_memory, restore_latest, restore_request, undo};

const SITES: u32 = 4;
const ROWS: u32 = 2_000;

/// A pooled database, a directory of attachments for each site, and a repository.
pub struct Pool {
    pub url: String,
    pub dir: tempfile::TempDir,
    pub engine: Engine,
}

impl Pool {
    pub async fn new(test: &str) -> Option<Self> {
        Self::of(test, SITES, ROWS).await
    }

    pub async fn of(test: &str, sites: u32, rows: u32) -> Option<Self> {
        let server = Postgres::shared_or_skip(test)?;
        let url = server.fresh_database().unwrap();
        pooled_fleet(&url, sites, rows).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=sites {
            let attachments = dir.path().join(site_name(number)).join("attachments");
            std::fs::create_dir_all(&attachments).unwrap();
            std::fs::write(attachments.join("logo.png"), site_name(number).repeat(1000)).unwrap();
        }
        let name = |text: &str| SourceName::new(text).unwrap();
        let rows = PostgresSource::new(name("app"), pooled_config(&url)).unwrap();
        let template = format!("{}/{{site}}/attachments", dir.path().display());
        let files = FilesSource::new(name("attachments"), PathTemplate::parse(&template).unwrap(), Vec::new());
        let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(rows)), AnySource::Files(files)]).await;
        Some(Self { url, dir, engine })
    }

    /// Every row of every table of everybody.
    pub fn picture(&self) -> BTreeMap<String, String> {
        // Not those of a session that has just ended, and is being cleaned up after.
        let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                      WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'";
        let mut picture = BTreeMap::new();
        for row in query_text(&self.url, tables).unwrap() {
            let table = row[0].clone().unwrap();
            let digest = format!("SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t");
            let found = query_text(&self.url, &digest).unwrap();
            picture.insert(table, format!("{:?}", found[0]));
        }
        picture
    }

    pub fn sql(&self, sql: &str) {
        run_sql(&self.url, sql).unwrap();
    }

    pub fn attachment(&self, number: u32) -> std::path::PathBuf {
        self.dir.path().join(site_name(number)).join("attachments/logo.png")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_comes_back_with_its_files_and_an_undo_deletes_it_again() {
    let Some(pool) = Pool::new("a_deleted_tenant_comes_back").await else { return };
    let report = backup_all(&pool.engine).await.unwrap();
    assert_eq!(report.sites.len(), SITES as usize);
    assert!(report.sites.iter().all(lifeboat_engine::SiteBackup::is_good), "{:?}", report.sites);
    let whole = pool.picture();
    let site = site_name(2);
    pool.sql(&format!("DELETE FROM sites WHERE id = '{site}'"));
    std::fs::remove_dir_all(pool.dir.path().join(&site)).unwrap();
    let without = pool.picture();
    assert_ne!(without, whole);

    let receipt = restore_latest(&pool.engine, &site).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert!(receipt.parts.iter().any(|part| part.rows > 1_000), "{:?}", receipt.parts);
    assert_eq!(pool.picture(), whole);
    assert!(pool.attachment(2).exists());

    let undone = undo(&pool.engine, &site, receipt.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    assert_eq!(pool.picture(), without);
    assert!(!pool.attachment(2).exists());

    undo(&pool.engine, &site, undone.restore).await.unwrap();
    assert_eq!(pool.picture(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_destroyed_tenant_is_as_it_was_and_the_undo_brings_the_damage_back() {
    let Some(pool) = Pool::new("a_half_destroyed_tenant").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let whole = pool.picture();
    let site = site_name(3);
    pool.sql(&format!(
        "DELETE FROM comments WHERE issue_id IN (SELECT id FROM issues WHERE site_id = '{site}' AND number % 3 = 0);
         UPDATE issues SET title = 'oops' WHERE site_id = '{site}' AND number % 2 = 0;
         INSERT INTO labels (site_id, number, name) VALUES ('{site}', 999, 'made later')"
    ));
    let damaged = pool.picture();
    let receipt = restore_latest(&pool.engine, &site).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(pool.picture(), whole);
    undo(&pool.engine, &site, receipt.restore).await.unwrap();
    assert_eq!(pool.picture(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untouched_tenant_is_unchanged_the_next_night_and_has_nothing_to_restore() {
    let Some(pool) = Pool::new("an_untouched_tenant").await else { return };
    backup_all(&pool.engine).await.unwrap();
    pool.sql(&format!("UPDATE issues SET title = 'new' WHERE site_id = '{}'", site_name(1)));
    let report = backup_all(&pool.engine).await.unwrap();
    for backup in report.sites {
        let is_first = backup.site.as_str() == site_name(1);
        match backup.outcome {
            SiteOutcome::Published(record) => assert!(is_first && record.mark == Mark::Good, "{record:?}"),
            SiteOutcome::Unchanged(_) => assert!(!is_first),
            other => panic!("{}: {other:?}", backup.site),
        }
    }
    let request = restore_request(&site_name(4), RestorePoint::At(PointInTime::Latest));
    assert!(plan_restore(&pool.engine, &request).await.unwrap().plan.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tenants_are_read_together_and_one_of_them_comes_back() {
    let Some(mut pool) = Pool::of("many_tenants_are_read_together", 24, 200).await else { return };
    let database = query_text(&pool.url, "SELECT current_database()").unwrap()[0][0].clone().unwrap();
    pool.sql(&format!("ALTER DATABASE {database} SET log_statement = 'all'"));
    let copies = || {
        let log = Postgres::shared().unwrap().log();
        log.lines().filter(|line| line.contains(&format!("@{database} ")) && line.contains("COPY (SELECT")).count()
    };
    let report = backup_all(&pool.engine).await.unwrap();
    assert!(report.sites.iter().all(lifeboat_engine::SiteBackup::is_good), "{:?}", report.sites);
    let names: Vec<&str> = report.sites.iter().map(|site| site.site.as_str()).collect();
    assert!(names.len() == 24 && names.is_sorted(), "{names:?}");
    assert_eq!(copies(), 10, "each table once");
    let (whole, site) = (pool.picture(), site_name(13));
    pool.sql(&format!("DELETE FROM sites WHERE id = '{site}'"));
    let receipt = restore_latest(&pool.engine, &site).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(pool.picture(), whole);

    // Frozen sites are read as they are then.
    pool.engine.hooks.freeze = vec!["true".to_owned()];
    let before = copies();
    let report = backup_all(&pool.engine).await.unwrap();
    assert!(report.sites.iter().all(lifeboat_engine::SiteBackup::is_good), "{:?}", report.sites);
    assert_eq!(copies() - before, 24 * 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_nobody_classed_stops_the_backup_of_the_whole_source() {
    let Some(pool) = Pool::new("a_table_that_nobody_classed").await else { return };
    pool.sql("CREATE TABLE mystery (id int PRIMARY KEY, what text)");
    let report = backup_all(&pool.engine).await.unwrap();
    let app = report.sources.iter().find(|source| source.source.as_str() == "app").unwrap();
    let (reason, _) = app.failure.clone().unwrap();
    assert!(reason.contains("mystery"), "{reason}");
    assert!(report.sites.iter().all(|site| !site.is_good()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_writes_to_another_site_ends_the_restore_with_nothing_changed() {
    let Some(pool) = Pool::new("a_trigger_that_writes").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let site = site_name(2);
    // A trigger that fires even for a replica, and writes to another site.
    pool.sql(&format!(
        "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN UPDATE public.issues SET title = 'leaked' WHERE site_id = '{}' AND number = 1; RETURN NEW; END $$;
         CREATE TRIGGER leak AFTER INSERT ON comments FOR EACH ROW EXECUTE FUNCTION leak();
         ALTER TABLE comments ENABLE ALWAYS TRIGGER leak;
         DELETE FROM comments WHERE issue_id IN (SELECT id FROM issues WHERE site_id = '{site}')",
        site_name(1)
    ));
    let damaged = pool.picture();
    let error = restore_latest(&pool.engine, &site).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator, "{error}");
    assert_eq!(pool.picture(), damaged);
}
