//! The cluster does what the tests built on it rely on.

use super::*;

#[test]
fn a_fresh_database_is_empty_and_its_own() {
    let Some(cluster) = Postgres::shared_or_skip("a_fresh_database_is_empty_and_its_own") else { return };
    let (one, other) = (cluster.fresh_database().unwrap(), cluster.fresh_database().unwrap());
    run_sql(&one, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (NULL)").unwrap();
    let rows = query_text(&one, "SELECT a FROM t ORDER BY 1").unwrap();
    assert_eq!(rows, [[Some("1".to_owned())], [None]]);
    assert!(query_text(&other, "SELECT a FROM t").unwrap_err().contains("42P01"));
}

#[test]
fn the_socket_and_loopback_lead_to_a_cluster_fit_for_change_capture() {
    let test = "the_socket_and_loopback_lead_to_a_cluster_fit_for_change_capture";
    let Some(cluster) = Postgres::shared_or_skip(test) else { return };
    let facts = "SELECT current_setting('wal_level'), current_setting('fsync'), datcollate FROM pg_database
                 WHERE datname = current_database()";
    let want = [["logical", "off", "C.UTF-8"].map(|text| Some(text.to_owned()))];
    assert_eq!(query_text(&cluster.url("postgres"), facts).unwrap(), want);
    assert_eq!(query_text(&cluster.socket_url("postgres"), facts).unwrap(), want);
}

#[test]
fn the_server_ends_and_its_directory_goes_with_its_owner() {
    let test = "the_server_ends_and_its_directory_goes_with_its_owner";
    let options =
        ClusterOptions { fsync: true, settings: vec!["work_mem = '1MB'".to_owned()], ..ClusterOptions::default() };
    let Some(cluster) = Postgres::start_or_skip(test, &options) else { return };
    let url = cluster.url("postgres");
    cluster.restart("immediate").unwrap();
    assert_eq!(query_text(&url, "SHOW work_mem").unwrap(), [[Some("1MB".to_owned())]]);
    let dir = cluster.dir.clone();
    assert!(dir.exists());
    drop(cluster);
    assert!(!dir.exists(), "{}", dir.display());
    assert!(query_text(&url, "SELECT 1").is_err());
}

#[test]
fn a_pooled_fleet_has_the_rows_asked_for() {
    let Some(cluster) = Postgres::shared_or_skip("a_pooled_fleet_has_the_rows_asked_for") else { return };
    let url = cluster.fresh_database().unwrap();
    pooled_fleet(&url, 5, 1000).unwrap();
    let of = |site: &str| {
        let count = |table: &str| format!("(SELECT count(*) FROM {table} WHERE site_id = '{site}')");
        let via = |table: &str| {
            format!("(SELECT count(*) FROM {table} JOIN issues i ON i.id = issue_id WHERE i.site_id = '{site}')")
        };
        let direct = ["users", "projects", "labels", "issues", "worklog", "audit.events"].map(count);
        let all = [direct.join(" + "), ["comments", "issue_labels", "attachments"].map(via).join(" + ")].join(" + ");
        query_text(&url, &format!("SELECT {all}")).unwrap()[0][0].as_deref().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!((of("site-00001"), of("site-00005"), of("site-00006")), (1000, 1000, 0));
    grow_site(&url, 5, 2000).unwrap();
    assert_eq!((of("site-00004"), of(&site_name(5))), (1000, 3000));
}

#[test]
fn the_nasty_schema_can_be_made() {
    let Some(cluster) = Postgres::shared_or_skip("the_nasty_schema_can_be_made") else { return };
    let url = cluster.fresh_database().unwrap();
    nasty_schema(&url).unwrap();
    let sites = query_text(&url, "SELECT id FROM app.tenants ORDER BY ctid").unwrap();
    assert_eq!(sites.concat(), NASTY_SITES.map(|site| Some(site.to_owned())));
}

#[test]
fn the_server_ends_with_a_test_that_is_killed() {
    const CHILD: &str = "LIFEBOAT_TEST_POSTGRES_CHILD";
    let test = "the_server_ends_with_a_test_that_is_killed";
    if let Some(told) = std::env::var_os(CHILD) {
        let cluster = Postgres::start(&ClusterOptions::default()).unwrap();
        fs::write(told, cluster.dir.display().to_string()).unwrap();
        std::thread::sleep(READY_MAX);
        return;
    }
    if Postgres::shared_or_skip(test).is_none() {
        return;
    }
    let told = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([&format!("postgres::tests::{test}"), "--exact", "--quiet"])
        .env(CHILD, told.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let wait = |is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < READY_MAX, "waited for too long");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(&|| fs::read_to_string(told.path()).is_ok_and(|text| !text.is_empty()));
    let dir = PathBuf::from(fs::read_to_string(told.path()).unwrap());
    assert!(dir.join("data/postmaster.pid").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait(&|| !dir.exists());
}
