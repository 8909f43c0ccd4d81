//! Large objects: part of the site whose rows refer to them, and never written when they are not.

use std::process::Command;

use lifeboat_engine::{
    AnySource, Only, RestorePoint, RestoreRequest, RestoreTarget, SiteBackup, SiteOutcome, plan_restore,
};
use lifeboat_model::{EntryPath, Fault, Faulty, PointInTime, SourceName};
use lifeboat_source::postgres::{PostgresSource, Tenancy};
use lifeboat_testkit::postgres::{Postgres, own_config, query_text, run_sql, site_name};
use lifeboat_testkit::world::{
    backup_all, engine_in_memory, restore_latest, restore_request, run_restore, site_id, undo,
};

use crate::pooled::Pool;

/// Of every size that matters: empty, less than a page, a page, more; more than a piece; with holes.
/// `{site}` has the numbers `{base}1` to `{base}7`.
const PICTURES: &str = "
    SELECT lo_from_bytea({base}1, ''), lo_from_bytea({base}2, 'pixels of {site}'),
        lo_from_bytea({base}3, convert_to(repeat('a', 2048), 'UTF8')),
        lo_from_bytea({base}4, convert_to(repeat('{site} ', 1000), 'UTF8')),
        lo_from_bytea({base}5, (SELECT string_agg(sha256(n::text::bytea), '') FROM generate_series(1, 100000) n)),
        lo_create({base}6), lo_from_bytea({base}7, '\\x00ff00');
    SELECT lo_put({base}6, 700000, 'far out'), lo_put({base}6, 2048 * 3, 'x');
    INSERT INTO {table} SELECT {base}0 + n, '{site}', {base}0 + n FROM generate_series(1, 7) n;
    INSERT INTO {table} VALUES ({base}8, '{site}', NULL), ({base}9, '{site}', 4000000000)";

fn pictures(table: &str, site: &str, base: u32) -> String {
    PICTURES.replace("{table}", table).replace("{site}", site).replace("{base}", &base.to_string())
}

/// Sites with a table that refers to large objects; the sites 1 and 2 have some.
async fn pool(test: &str) -> Option<Pool> {
    let pool = Pool::new(test).await?;
    pool.sql(
        "CREATE TABLE pictures (id bigint PRIMARY KEY, site_id text NOT NULL REFERENCES sites ON DELETE CASCADE, image oid)",
    );
    pool.sql(&pictures("pictures", &site_name(1), 10));
    pool.sql(&pictures("pictures", &site_name(2), 20));
    Some(pool)
}

/// Every large object: number, content, owner, grants, comment.
fn objects(url: &str) -> Vec<Vec<Option<String>>> {
    let query = "SELECT m.oid, md5(lo_get(m.oid)), length(lo_get(m.oid)), pg_get_userbyid(m.lomowner), \
                 (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(m.lomacl) a), \
                 obj_description(m.oid, 'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY m.oid";
    query_text(url, query).unwrap()
}

/// Makes a role that nobody else has.
fn role(url: &str, kind: &str) -> String {
    let name = format!("{kind}_{}", query_text(url, "SELECT current_database()").unwrap()[0][0].clone().unwrap());
    run_sql(url, &format!("CREATE ROLE {name} LOGIN")).unwrap();
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_come_back_with_their_owners_and_an_undo_returns_what_was_there() {
    let Some(pool) = pool("large_objects_come_back").await else { return };
    let (site, owner, reader) = (site_name(2), role(&pool.url, "Owner"), role(&pool.url, "reader"));
    pool.sql(&format!(
        "ALTER LARGE OBJECT 202 OWNER TO {owner}; GRANT SELECT ON LARGE OBJECT 202 TO {reader} WITH GRANT OPTION;
         GRANT SELECT ON LARGE OBJECT 203 TO PUBLIC; COMMENT ON LARGE OBJECT 203 IS 'it''s \\one'"
    ));
    let report = backup_all(&pool.engine).await.unwrap();
    assert!(report.sites.iter().all(SiteBackup::is_good), "{:?}", report.sites);
    let (rows, whole) = (pool.picture(), objects(&pool.url));

    let unlink = "SELECT lo_unlink(n::oid) FROM generate_series(201, 207) n";
    let overwrite = "SELECT lo_put(202, 3, 'other'), lo_put(203, 5000, 'longer'), lo_put(206, 10000, 'in a hole');
         SELECT lo_truncate64(lo_open(205, x'20000'::int), 4096), lo_truncate64(lo_open(204, x'20000'::int), 100),
            lo_put(201, 0, 'not empty')";
    for (damage, leaves) in [
        (unlink.to_owned(), "nothing"),
        (overwrite.to_owned(), "others"),
        (format!("DELETE FROM pictures WHERE site_id = '{site}'; {unlink}"), "nothing"),
        (format!("DELETE FROM pictures WHERE site_id = '{site}'"), "all"),
        (format!("DELETE FROM sites WHERE id = '{site}'; {unlink}"), "nothing"),
    ] {
        pool.sql(&damage);
        let (damaged_rows, damaged) = (pool.picture(), objects(&pool.url));
        let receipt = restore_latest(&pool.engine, &site).await.unwrap();
        assert!(receipt.all_passed(), "{damage}: {:?}", receipt.checks);
        let equal = receipt.checks.iter().any(|check| check.name == "app: large objects equal the snapshot");
        assert!(equal, "{damage}: {:?}", receipt.checks);
        assert_eq!((&pool.picture(), &objects(&pool.url)), (&rows, &whole), "{damage}");

        let undone = undo(&pool.engine, &site, receipt.restore).await.unwrap();
        assert!(undone.all_passed(), "{damage}: {:?}", undone.checks);
        assert_eq!(pool.picture(), damaged_rows, "{damage}");
        // What was overwritten is as it was before; what was made stays, for nothing is unlinked.
        let want = if leaves == "others" { &damaged } else { &whole };
        assert_eq!(&objects(&pool.url), want, "{damage}");
        // Where rows were there and objects were made, there is nothing to be undone.
        assert_eq!(undone.undo.is_some(), damage != unlink, "{damage}");
        if undone.undo.is_some() {
            let again = undo(&pool.engine, &site, undone.restore).await.unwrap();
            assert!(again.all_passed(), "{damage}: {:?}", again.checks);
        }
        assert_eq!((&pool.picture(), &objects(&pool.url)), (&rows, &whole), "{damage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_that_changed_alone_is_a_change_and_is_shown() {
    let Some(pool) = pool("a_large_object_that_changed_alone").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let published = |sites: &[SiteBackup]| -> Vec<String> {
        let sites = sites.iter().filter(|site| matches!(site.outcome, SiteOutcome::Published(_)));
        sites.map(|site| site.site.to_string()).collect()
    };
    assert!(published(&backup_all(&pool.engine).await.unwrap().sites).is_empty());
    let site = site_id(&site_name(2));
    let whole = objects(&pool.url);
    // One that was empty, and one of the same length.
    pool.sql("SELECT lo_put(201, 0, 'filled'), lo_put(207, 0, 'abc')");
    let (plan, lines) = lifeboat_engine::diff(&pool.engine, &site, &PointInTime::Latest).await.unwrap();
    let paths: Vec<&str> = lines.iter().map(|line| line.path.as_str()).collect();
    assert_eq!(paths, ["large objects"], "{plan:?}");
    restore_latest(&pool.engine, &site_name(2)).await.unwrap();
    assert_eq!(objects(&pool.url), whole);
    pool.sql("SELECT lo_put(201, 0, 'filled')");
    let report = backup_all(&pool.engine).await.unwrap();
    assert_eq!(published(&report.sites), [site_name(2)], "{:?}", report.sites);
    pool.sql("SELECT lo_put(201, 0, 'FILLED')");
    restore_latest(&pool.engine, &site_name(2)).await.unwrap();
    let text = query_text(&pool.url, "SELECT convert_from(lo_get(201), 'UTF8')").unwrap();
    assert_eq!(text[0][0].as_deref(), Some("filled"));
}

// Explains invariant: no-object-of-others
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_the_site_s_alone_is_never_overwritten() {
    let Some(pool) = pool("an_object_that_is_not_the_site_s_alone").await else { return };
    let site = site_name(2);
    // Two sites refer to it.
    pool.sql(&format!("INSERT INTO pictures VALUES (300, '{}', 202)", site_name(1)));
    backup_all(&pool.engine).await.unwrap();
    let whole = objects(&pool.url);
    pool.sql("SELECT lo_put(202, 0, 'somebody')");
    let changed = objects(&pool.url);
    let error = restore_latest(&pool.engine, &site).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Operator, "{error}");
    assert!(error.to_string().contains("large object 202") && error.to_string().contains("public.pictures"), "{error}");
    assert_eq!(objects(&pool.url), changed);

    // No row of the site refers to it.
    pool.sql("DELETE FROM pictures WHERE id IN (300, 202)");
    let error = restore_latest(&pool.engine, &site).await.unwrap_err();
    assert!(error.to_string().contains("large object 202"), "{error}");
    assert_eq!(objects(&pool.url), changed);
    // The same where all of the site is gone, and rows would go straight in.
    pool.sql(&format!("DELETE FROM sites WHERE id = '{site}'"));
    let error = restore_latest(&pool.engine, &site).await.unwrap_err();
    assert!(error.to_string().contains("large object 202"), "{error}");
    assert_eq!(objects(&pool.url), changed);
    pool.sql("SELECT lo_unlink(202)");
    restore_latest(&pool.engine, &site).await.unwrap();
    assert_eq!(objects(&pool.url), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_writes_a_large_object_ends_the_restore_with_nothing_changed() {
    let Some(pool) = pool("a_trigger_that_writes_a_large_object").await else { return };
    let site = site_name(2);
    backup_all(&pool.engine).await.unwrap();
    pool.sql(
        "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER leak BEFORE INSERT ON pictures FOR EACH ROW EXECUTE FUNCTION leak();
         ALTER TABLE pictures ENABLE ALWAYS TRIGGER leak",
    );
    let bodies = [
        "PERFORM lo_put(102, 0, 'leaked')",
        "PERFORM lo_create(0)",
        "PERFORM lo_unlink(n::oid) FROM generate_series(107, 107) n WHERE EXISTS (SELECT FROM pg_largeobject_metadata WHERE oid = 107)",
        "COMMENT ON LARGE OBJECT 102 IS 'leaked'",
    ];
    // Staged, and straight: there the site has nothing.
    for damage in
        ["DELETE FROM pictures WHERE id > 204 AND site_id = '{site}'", "DELETE FROM sites WHERE id = '{site}'"]
    {
        pool.sql(&damage.replace("{site}", &site));
        pool.sql("SELECT lo_unlink(m.oid) FROM pg_largeobject_metadata m WHERE m.oid = 205");
        for body in bodies {
            pool.sql(&format!("CREATE OR REPLACE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$"));
            let damaged = (pool.picture(), objects(&pool.url));
            let error = restore_latest(&pool.engine, &site).await.unwrap_err();
            assert!(error.to_string().contains("not planned"), "{body}: {error}");
            assert_eq!((pool.picture(), objects(&pool.url)), damaged, "{body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_the_role_may_not_read_makes_the_snapshot_incomplete_and_names_the_grant() {
    let Some(pool) = pool("an_object_the_role_may_not_read").await else { return };
    let (reader, writer, owner) = (role(&pool.url, "reader"), role(&pool.url, "writer"), role(&pool.url, "owner"));
    let database = query_text(&pool.url, "SELECT current_database()").unwrap()[0][0].clone().unwrap();
    pool.sql(&format!(
        "GRANT USAGE ON SCHEMA public, audit TO {reader}, {writer}; GRANT CREATE ON DATABASE {database} TO {writer};
         GRANT SELECT ON ALL TABLES IN SCHEMA public, audit TO {reader}, {writer};
         GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, audit TO {writer};
         GRANT SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public, audit TO {reader}, {writer};
         GRANT SET ON PARAMETER session_replication_role TO {writer};
         DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata WHERE oid <> 202 LOOP
             EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO {reader}, {writer}', o); END LOOP; END $$;
         ALTER LARGE OBJECT 205 OWNER TO {owner}"
    ));
    let server = Postgres::shared().unwrap();
    let source = |role: &str| {
        let config = lifeboat_testkit::postgres::pooled_config(&server.url_as(role, &database));
        AnySource::Postgres(Box::new(PostgresSource::new(SourceName::new("app").unwrap(), config).unwrap()))
    };
    let mut engine = engine_in_memory(vec![source(&reader)]).await;
    let report = backup_all(&engine).await.unwrap();
    for backup in &report.sites {
        assert_eq!(backup.is_good(), backup.site.as_str() != site_name(2), "{backup:?}");
    }
    let site = site_id(&site_name(2));
    let opened = engine.repository.site(&site, None).await.unwrap().unwrap();
    let newest = opened.state().snapshots.last().unwrap().manifest;
    let manifest = opened.manifest(&newest).await.unwrap();
    let problem = &manifest.head().parts[0].problems[0];
    assert!(
        problem.entry.contains("202") && problem.reason.contains("GRANT SELECT ON LARGE OBJECT 202"),
        "{problem:?}"
    );

    // Read by its own grant, then by the one for all.
    pool.sql(&format!("GRANT SELECT ON LARGE OBJECT 202 TO {reader}"));
    assert!(backup_all(&engine).await.unwrap().sites.iter().all(SiteBackup::is_good));
    pool.sql(&format!("REVOKE SELECT ON LARGE OBJECT 202 FROM {reader}; GRANT pg_read_all_data TO {reader}"));
    let report = backup_all(&engine).await.unwrap();
    assert!(report.sites.iter().all(SiteBackup::is_good));

    // The role that restores.
    engine.fleet = lifeboat_engine::Fleet::new(vec![source(&writer)]);
    let whole = objects(&pool.url);
    let refused = |error: lifeboat_engine::Error, grant: &str| {
        assert_eq!(error.fault(), Fault::Operator, "{error}");
        assert!(error.hint().unwrap_or_default().contains(grant), "{error}: {:?}", error.hint());
    };
    pool.sql("SELECT lo_put(203, 0, 'changed')");
    let error = restore_latest(&engine, &site_name(2)).await.unwrap_err();
    refused(error, &format!("GRANT SELECT ON LARGE OBJECT 202 TO \"{writer}\""));
    pool.sql(&format!("GRANT SELECT ON LARGE OBJECT 202 TO {writer}"));
    let error = restore_latest(&engine, &site_name(2)).await.unwrap_err();
    refused(error, &format!("GRANT UPDATE ON LARGE OBJECT 203 TO \"{writer}\""));
    pool.sql(&format!("GRANT UPDATE ON LARGE OBJECT 203 TO {writer}; SELECT lo_unlink(204), lo_unlink(205)"));
    let error = restore_latest(&engine, &site_name(2)).await.unwrap_err();
    refused(error, &format!("GRANT \"{owner}\" TO \"{writer}\""));
    assert_eq!(objects(&pool.url).len(), whole.len() - 2);
    pool.sql(&format!("GRANT {owner} TO {writer}"));
    let receipt = restore_latest(&engine, &site_name(2)).await.unwrap();
    assert!(receipt.checks.iter().any(|check| check.detail.contains("that a superuser owned")), "{:?}", receipt.checks);
    let owners = "SELECT lomowner::regrole FROM pg_largeobject_metadata WHERE oid IN (204, 205) ORDER BY oid";
    let owners = query_text(&pool.url, owners).unwrap().into_iter().filter_map(|row| row[0].clone());
    assert_eq!(owners.collect::<Vec<_>>(), [writer, owner]);
    let content = |all: Vec<Vec<Option<String>>>| all.into_iter().map(|row| row[..3].to_vec()).collect::<Vec<_>>();
    assert_eq!(content(objects(&pool.url)), content(whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_loads_with_its_large_objects() {
    let Some(pool) = pool("an_export_loads_with_its_large_objects").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let directory = pool.dir.path().join("out");
    let request = RestoreRequest {
        target: RestoreTarget::Export(directory.clone()),
        ..restore_request(&site_name(2), RestorePoint::At(PointInTime::Latest))
    };
    let receipt = run_restore(&pool.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    let again = run_restore(&pool.engine, &request).await.unwrap();
    assert!(again.checks.iter().any(|check| check.detail.contains("there already")), "{:?}", again.checks);
    let server = Postgres::shared().unwrap();
    let empty = server.fresh_database().unwrap();
    let mut psql = Command::new(server.program("psql"));
    let psql = psql.current_dir(directory.join("app")).args(["-X", "-q", "-d", &empty, "-f", "load.sql"]);
    let output = psql.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (all, loaded) = (objects(&pool.url), objects(&empty));
    let own: Vec<_> = all.into_iter().filter(|row| row[0].as_deref().is_some_and(|oid| oid.starts_with('2'))).collect();
    assert_eq!(loaded, own);
    // A copy with an object that was written to is another copy.
    let file = directory.join("app/large-objects.sql");
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("lo_create(207)", "lo_create(208)")).unwrap();
    assert!(run_restore(&pool.engine, &request).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_table_takes_the_objects_that_its_rows_refer_to() {
    let Some(pool) = pool("one_table_takes_the_objects").await else { return };
    pool.sql(&format!("ALTER TABLE labels ADD COLUMN icon oid; UPDATE labels SET icon = lo_from_bytea(0, 'icon') WHERE site_id = '{}'", site_name(2)));
    backup_all(&pool.engine).await.unwrap();
    let whole = objects(&pool.url);
    pool.sql(&format!("SELECT lo_put(icon, 0, 'ICON') FROM labels WHERE site_id = '{}'", site_name(2)));
    let only_icons = objects(&pool.url);
    pool.sql("SELECT lo_put(202, 0, 'X'), lo_unlink(203); DELETE FROM pictures WHERE id IN (203, 204)");
    let damaged = objects(&pool.url);
    let only = |entry: &str| RestoreRequest {
        only: Some(Only {
            part: SourceName::new("app").unwrap(),
            entry: Some(EntryPath::new(entry.as_bytes().to_vec()).unwrap()),
            keys: None,
        }),
        ..restore_request(&site_name(2), RestorePoint::At(PointInTime::Latest))
    };
    let receipt = run_restore(&pool.engine, &only("public.pictures")).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(objects(&pool.url), only_icons);
    let undone = undo(&pool.engine, &site_name(2), receipt.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    let made = |row: &Vec<Option<String>>| row[0].as_deref() != Some("203");
    let now: Vec<_> = objects(&pool.url).into_iter().filter(made).collect();
    assert_eq!(now, damaged);
    run_restore(&pool.engine, &only("public.pictures")).await.unwrap();
    run_restore(&pool.engine, &only("public.labels")).await.unwrap();
    assert_eq!(objects(&pool.url), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_sites_each_gets_its_own_objects() {
    let Some(pool) = Pool::of("of_many_sites_each_gets_its_own_objects", 20, 10).await else { return };
    pool.sql("ALTER TABLE labels ADD COLUMN icon oid; UPDATE labels SET icon = lo_from_bytea(0, convert_to(site_id || name, 'UTF8'))");
    let report = backup_all(&pool.engine).await.unwrap();
    assert!(report.sites.iter().all(SiteBackup::is_good), "{:?}", report.sites);
    let whole = objects(&pool.url);
    pool.sql("SELECT lo_unlink(oid) FROM pg_largeobject_metadata");
    for number in 1..=20 {
        restore_latest(&pool.engine, &site_name(number)).await.unwrap();
    }
    assert_eq!(objects(&pool.url), whole);
}

/// Dropped with its objects, restored, undone, undone again; then an object overwritten.
async fn own(tenancy: Tenancy) {
    let Some(server) = Postgres::start_or_skip("objects of a place of its own", &Default::default()) else { return };
    let door = server.url("postgres");
    let is_database = tenancy == Tenancy::Database;
    let (url, table) = if is_database { (server.url("a"), "public.pictures") } else { (door.clone(), "a.pictures") };
    run_sql(&door, if is_database { "CREATE DATABASE a" } else { "CREATE SCHEMA a; CREATE SCHEMA b" }).unwrap();
    let make = format!("CREATE TABLE {table} (id bigint PRIMARY KEY, site text, image oid)");
    run_sql(&url, &format!("CREATE ROLE somebody; {make}; {}", pictures(table, "a", 10))).unwrap();
    run_sql(&url, "ALTER LARGE OBJECT 102 OWNER TO somebody; COMMENT ON LARGE OBJECT 102 IS 'c'").unwrap();
    if is_database {
        run_sql(&url, "SELECT lo_from_bytea(500, 'no row refers to it')").unwrap();
    }
    let rows = PostgresSource::new(SourceName::new("app").unwrap(), own_config(&door, tenancy, "{site}")).unwrap();
    let engine = engine_in_memory(vec![AnySource::Postgres(Box::new(rows))]).await;
    let report = backup_all(&engine).await.unwrap();
    assert!(report.sites.iter().all(SiteBackup::is_good), "{:?}", report.sites);
    let whole = objects(&url);
    let drop = if is_database {
        "DROP DATABASE a"
    } else {
        "DROP SCHEMA a CASCADE; SELECT lo_unlink(n::oid) FROM generate_series(101, 104) n"
    };
    run_sql(&door, drop).unwrap();
    let receipt = restore_latest(&engine, "a").await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(objects(&url), whole);
    let undone = undo(&engine, "a", receipt.restore).await.unwrap();
    assert!(undone.all_passed(), "{:?}", undone.checks);
    undo(&engine, "a", undone.restore).await.unwrap();
    assert_eq!(objects(&url), whole);
    run_sql(&url, "SELECT lo_put(104, 0, 'overwritten'), lo_unlink(105)").unwrap();
    let receipt = restore_latest(&engine, "a").await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!(objects(&url), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_its_own_comes_back_with_its_large_objects() {
    own(Tenancy::Schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_its_own_comes_back_with_its_large_objects() {
    own(Tenancy::Database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_later_work_is_kept_lost_objects_come_back_and_one_that_differs_stays_and_is_listed() {
    let Some(pool) = pool("keep_later_of_large_objects").await else { return };
    backup_all(&pool.engine).await.unwrap();
    let (rows, whole) = (pool.picture(), objects(&pool.url));
    // Lost with its row and without it; overwritten; a row that left its object behind.
    pool.sql(
        "SELECT lo_unlink(202), lo_unlink(203), lo_put(204, 0, 'since'); DELETE FROM pictures WHERE id IN (203, 207)",
    );
    let damaged = (pool.picture(), objects(&pool.url));
    let overwritten = damaged.1.iter().find(|object| object[0].as_deref() == Some("204")).unwrap().clone();
    let want: Vec<_> = whole
        .iter()
        .map(|object| if object[0] == overwritten[0] { overwritten.clone() } else { object.clone() })
        .collect();
    let at = restore_request(&site_name(2), RestorePoint::At(PointInTime::Latest));
    let request = RestoreRequest { keep_later: true, ..at };
    let planned = plan_restore(&pool.engine, &request).await.unwrap();
    let limits: Vec<_> = planned.plan.parts.iter().flat_map(|part| &part.limits).collect();
    let listed = limits.iter().find(|limit| limit.table == "large objects").unwrap();
    assert_eq!((listed.write, &listed.kept_keys[..]), (2, &["204".to_owned()][..]), "{listed:?}");
    let receipt = run_restore(&pool.engine, &request).await.unwrap();
    assert!(receipt.all_passed(), "{:?}", receipt.checks);
    assert_eq!((pool.picture(), objects(&pool.url)), (rows, want));

    let undoing = restore_request(&site_name(2), RestorePoint::Undo(receipt.restore));
    let conflicts = plan_restore(&pool.engine, &undoing).await.unwrap().plan.conflicts;
    assert!(conflicts.is_empty(), "{conflicts:?}");
    pool.sql("SELECT lo_put(203, 0, 'changed after'), lo_put(204, 0, 'changed after')");
    let conflicts = plan_restore(&pool.engine, &undoing).await.unwrap().plan.conflicts;
    let told = conflicts.first().map(|found| found.detail.clone()).unwrap_or_default();
    assert!(told.contains("large object 203") && told.contains("large object 204"), "{conflicts:?}");
}
