//! Servers on a bad day, through the built binary: unreachable, restarting, read-only, full, locked.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text, run_sql, site_name};

use crate::killed::DAMAGE;
use crate::proxy::{Proxy, Side, Trap, Verdict};
use crate::shop::{Said, Shop};

const RESTORE: [&str; 3] = ["restore", "site-00002", "--yes"];
const BACKUP: [&str; 2] = ["backup", "--all"];

#[test]
fn what_needs_no_database_works_without_one_and_the_rest_says_what_is_missing() {
    let Some(server) = Postgres::shared_or_skip("what_needs_no_database") else { return };
    let shop = Shop::fleet(server, 2, 50);
    shop.ok(&BACKUP);
    let nowhere = "postgres://x:s3cret@127.0.0.1:1/app?sslmode=disable";
    for url in ["", nowhere] {
        for args in [
            &["sites"][..],
            &["points", "site-00002"],
            &["ls", "site-00002:app"],
            &["cat", "site-00002:app/public.issues"],
            &["check", "site-00002"],
        ] {
            let said = shop.run_at(url, args);
            assert_eq!(said.code, 0, "{args:?}: {}\n{}", said.out, said.err);
        }
        let says = if url.is_empty() { "name=`TEST_DATABASE_URL`" } else { "cannot connect to the database" };
        for args in [&BACKUP[..], &RESTORE] {
            let said = shop.run_at(url, args);
            said.check(10, &[says, "source=`app`"]);
            assert!(!said.err.contains("s3cret"), "{}", said.err);
        }
    }
    assert_eq!(shop.run_at(nowhere, &BACKUP).code, 10);
}

#[test]
fn a_wrong_password_is_said_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("hba.conf");
    std::fs::write(&rules, "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n")
        .unwrap();
    for path in [dir.path(), rules.as_path()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let settings = vec![format!("hba_file = '{}'", rules.display())];
    let options = ClusterOptions { settings, ..ClusterOptions::default() };
    let Some(server) = Postgres::start_or_skip("a_wrong_password", &options) else { return };
    let shop = Shop::fleet(&server, 2, 50);
    shop.sql("CREATE ROLE app SUPERUSER LOGIN PASSWORD 'right one'");
    let url = |password: &str| shop.url.replace("postgres@", &format!("app:{password}@"));
    assert_eq!(shop.run_at(&url("right%20one"), &BACKUP).code, 0);
    for args in [&BACKUP[..], &["sources", "inspect", "app"], &RESTORE] {
        let said = shop.run_at(&url("wr0ng"), args);
        said.check(10, &["cannot connect to the database", "check user and password in the source's `url`"]);
        assert!(!format!("{said:?}").contains("wr0ng"), "{said:?}");
    }
}

#[test]
fn a_standby_is_backed_up_from_and_refused_as_a_place_to_restore_to() {
    let Some(server) = Postgres::shared_or_skip("a_standby_is_backed_up_from") else { return };
    let shop = Shop::fleet(server, 2, 50);
    let options = ClusterOptions { standby_of: Some(server.url("postgres")), ..ClusterOptions::default() };
    let Some(standby) = Postgres::start_or_skip("a_standby_is_backed_up_from", &options) else { return };
    let database = shop.text("SELECT current_database()");
    let there = standby.url(&database);
    assert_eq!(query_text(&there, "SELECT pg_is_in_recovery()").unwrap()[0][0].as_deref(), Some("t"));
    let said = shop.run_at(&there, &BACKUP);
    assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
    let whole = shop.picture();
    shop.sql("DELETE FROM sites WHERE id = 'site-00002'");
    for _ in 0..200 {
        let there = query_text(&there, "SELECT count(*) FROM sites").unwrap()[0][0].clone();
        if there.as_deref() == Some("1") {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    shop.run_at(&there, &RESTORE).check(10, &["standby", "name the primary in the source's `url`"]);
    shop.run_at(&there, &["sources", "inspect", "app"]).check(10, &["no restore can go to a standby"]);
    // The point was read from the standby: the primary is the same database.
    shop.ok(&RESTORE);
    assert_eq!(shop.picture(), whole);
}

#[test]
fn time_outs_and_read_only_defaults_of_the_role_do_not_matter() {
    let Some(server) = Postgres::shared_or_skip("time_outs_and_read_only") else { return };
    let shop = Shop::fleet(server, 2, 50);
    let database = shop.text("SELECT current_database()");
    let role = format!("hurried_{database}");
    let mut settings = vec![
        "statement_timeout = '200ms'",
        "lock_timeout = '1ms'",
        "idle_session_timeout = '300ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "search_path = audit",
    ];
    if shop.text("SELECT current_setting('server_version_num')::int >= 170000") == "t" {
        settings.push("transaction_timeout = '200ms'");
    }
    shop.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN"));
    for setting in settings {
        shop.sql(&format!("ALTER ROLE {role} SET {setting}"));
    }
    let url = server.url_as(&role, &database);
    let whole = shop.picture();
    shop.run_at(&url, &BACKUP).check(0, &[]);
    shop.sql("DELETE FROM sites WHERE id = 'site-00002'");
    shop.run_at(&url, &RESTORE).check(0, &[]);
    assert_eq!(shop.picture(), whole);
}

#[test]
fn a_server_that_restarts_under_a_restore_ends_it_and_the_next_one_finishes() {
    let Some(server) = Postgres::start_or_skip("a_server_that_restarts", &ClusterOptions::default()) else { return };
    let shop = Shop::fleet(&server, 2, 50);
    shop.ok(&BACKUP);
    let whole = shop.picture();
    let proxy = Proxy::start(server.port());
    for (statement, mode) in
        [("ANALYZE lifeboat_stage_", "immediate"), ("INSERT INTO ", "fast"), ("pg_export_snapshot", "immediate")]
    {
        shop.sql(DAMAGE);
        let damaged = shop.picture();
        proxy.set(Some(Trap::before(statement)));
        let mut child = shop.start(&proxy.url(&shop.url), &RESTORE);
        proxy.wait(|| child.try_wait().unwrap().is_some()).expect("it comes there");
        server.restart(mode).unwrap();
        proxy.release(Verdict::GoOn);
        let said = Said::of(child.wait_with_output().unwrap());
        assert!(said.code == 10 || said.code == 11, "{statement}: {said:?}");
        assert!(said.err.contains("hint: "), "{statement}: {}", said.err);
        assert_eq!(shop.picture(), damaged, "{statement}");
        shop.ok(&RESTORE);
        assert_eq!(shop.staging(), "", "{statement}");
        assert_eq!(shop.picture(), whole, "{statement}");
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for_when_the_server_is_back() {
    let Some(server) = Postgres::shared_or_skip("a_commit_whose_answer_is_lost") else { return };
    let shop = Shop::fleet(server, 2, 50);
    shop.ok(&BACKUP);
    let whole = shop.picture();
    let proxy = Proxy::start(server.port());
    proxy.set(None);
    shop.sql(DAMAGE);
    shop.run_at(&proxy.url(&shop.url), &RESTORE).check(0, &[]);
    let nth = proxy.statements().iter().filter(|statement| *statement == "COMMIT").count() - 1;
    for (side, code) in [(Side::Answer, 0), (Side::Before, 11)] {
        shop.sql(DAMAGE);
        let damaged = shop.picture();
        proxy.set(Some(Trap { text: "COMMIT".to_owned(), nth, side }));
        let mut child = shop.start(&proxy.url(&shop.url), &RESTORE);
        proxy.wait(|| child.try_wait().unwrap().is_some()).expect("it commits");
        proxy.set_down(true);
        proxy.release(Verdict::Cut);
        std::thread::sleep(Duration::from_millis(600));
        assert!(child.try_wait().unwrap().is_none(), "it cannot know yet");
        proxy.set_down(false);
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!(said.code, code, "{side:?}: {}\n{}", said.out, said.err);
        assert_eq!(shop.picture(), if code == 0 { whole.clone() } else { damaged }, "{side:?}");
        shop.ok(&RESTORE);
        assert_eq!((shop.picture(), shop.staging()), (whole.clone(), String::new()), "{side:?}");
    }
}

#[test]
fn a_lock_that_is_held_too_long_ends_the_wait_and_names_its_holder() {
    let Some(server) = Postgres::shared_or_skip("a_lock_that_is_held") else { return };
    let shop = Shop::fleet(server, 2, 50);
    shop.ok(&BACKUP);
    shop.sql(DAMAGE);
    let damaged = shop.picture();
    // Ended by its session's end, should the test fail.
    let locked = format!("{}&application_name=migration", shop.url);
    let lock = "BEGIN; LOCK TABLE comments IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)";
    let holder = std::thread::spawn(move || run_sql(&locked, lock));
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'comments'::regclass";
    while shop.text(held) == "0" {
        std::thread::sleep(Duration::from_millis(10));
    }
    let began = Instant::now();
    let said = std::thread::scope(|scope| {
        let commands = [&RESTORE[..], &BACKUP].map(|args| scope.spawn(|| shop.run(args)));
        commands.map(|command| command.join().unwrap())
    });
    for said in said {
        assert!(said.code == 10 || said.code == 11, "{said:?}");
        said.check(said.code, &["application=`migration`", "role=`postgres`", "transaction is"]);
    }
    assert!(began.elapsed() < Duration::from_secs(50));
    shop.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'migration' AND datname = current_database()");
    assert!(holder.join().unwrap().is_err());
    assert_eq!((shop.picture(), shop.staging()), (damaged, String::new()));
    shop.ok(&RESTORE);
}

#[test]
fn a_full_disk_of_the_server_ends_the_restore_with_nothing_changed_and_nothing_left() {
    // Of its own: a tablespace would be copied into the standby of another test.
    let Some(server) = Postgres::start_or_skip("a_full_disk_of_the_server", &ClusterOptions::default()) else { return };
    let server = &server;
    let Some(disk) = SmallDisk::mount(server) else {
        eprintln!("SKIPPED (1 so far): a_full_disk_of_the_server: nothing can be mounted here");
        return;
    };
    let shop = Shop::fleet(server, 2, 20_000);
    shop.ok(&BACKUP);
    let whole = shop.picture();
    shop.sql(&format!("DELETE FROM sites WHERE id = '{}'", site_name(2)));
    let without = shop.rows();
    let (database, role) = (shop.text("SELECT current_database()"), "cramped");
    shop.sql(&format!("CREATE ROLE {role} SUPERUSER LOGIN"));
    run_sql(&shop.url, &format!("CREATE TABLESPACE tiny LOCATION '{}'", disk.place)).unwrap();
    shop.sql(&format!("ALTER ROLE {role} SET default_tablespace = tiny"));
    let said = shop.run_at(&server.url_as(role, &database), &RESTORE);
    said.check(10, &["No space left on device", "free some space on the database server"]);
    assert_eq!((shop.rows(), shop.staging()), (without, String::new()));
    shop.ok(&RESTORE);
    assert_eq!(shop.picture(), whole);
    shop.sql("DROP TABLESPACE tiny");
}

/// A file system of one megabyte that the server may write.
struct SmallDisk {
    _dir: tempfile::TempDir,
    place: String,
}

impl SmallDisk {
    fn mount(server: &Postgres) -> Option<Self> {
        let dir = tempfile::tempdir_in("/tmp").ok()?;
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).ok()?;
        let place = dir.path().join("disk");
        std::fs::create_dir(&place).ok()?;
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs"]).arg(&place).output();
        let data = query_text(&server.url("postgres"), "SHOW data_directory").ok()?[0][0].clone()?;
        let owner = std::fs::metadata(data).ok()?;
        std::os::unix::fs::chown(&place, Some(owner.uid()), Some(owner.gid())).ok()?;
        let disk = Self { place: place.display().to_string(), _dir: dir };
        mounted.is_ok_and(|output| output.status.success()).then_some(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", &self.place]).output();
    }
}
