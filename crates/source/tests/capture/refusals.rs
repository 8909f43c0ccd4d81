//! What the server or the role lacks is said, with the way out.

use std::time::Duration;

use lifeboat_model::{Fault, Faulty};
use lifeboat_source::Error;
use lifeboat_source::postgres::Server;
use lifeboat_source::postgres::capture::{CaptureStream, ReplicationSession, set_up};
use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text, run_sql};

use crate::support::{WAIT, capture, covered};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, site text NOT NULL);";

#[track_caller]
fn check<T>(result: Result<T, Error>, fault: Fault, hint: &str) -> String {
    let error = result.err().expect("it is refused");
    let said = error.hint().unwrap_or_default();
    assert_eq!((error.fault(), said.contains(hint)), (fault, true), "{error}: {said}");
    error.to_string()
}

#[test]
fn two_cannot_follow_one_slot() {
    let Some(capture) = capture("two_cannot_follow_one_slot", TABLE) else { return };
    let session = ReplicationSession::connect(&capture.server).unwrap();
    let second = CaptureStream::begin(&capture.server, session, &capture.followed.slot, capture.followed.confirmed);
    let text = check(second, Fault::Fenced, "pg_stat_replication");
    assert!(text.contains("is active for PID"), "{text}");
}

#[test]
fn a_role_that_may_not_replicate_is_told_what_it_lacks() {
    let test = "a_role_that_may_not_replicate_is_told_what_it_lacks";
    let Some(cluster) = Postgres::shared_or_skip(test) else { return };
    let url = cluster.fresh_database().unwrap();
    let table = TABLE.replace("CREATE TABLE t", "SET ROLE owner_of_t; CREATE TABLE t");
    let database = query_text(&url, "SELECT current_database()").unwrap().concat()[0].clone().unwrap();
    let roles = format!(
        "CREATE ROLE \"follows it\" LOGIN; CREATE ROLE owner_of_t; GRANT CREATE ON SCHEMA public TO owner_of_t; {table}"
    );
    run_sql(&url, &roles).unwrap();
    let plain = Server::new("app", &url.replace("postgres@", "follows%20it@")).unwrap();
    check(ReplicationSession::connect(&plain), Fault::Operator, "ALTER ROLE \"follows it\" REPLICATION");
    run_sql(&url, "ALTER ROLE \"follows it\" REPLICATION").unwrap();
    ReplicationSession::connect(&plain).unwrap().identify().unwrap();
    let mut session = plain.connect().unwrap();
    let covered = covered(&mut session);
    let lacks =
        [format!("GRANT CREATE ON DATABASE {database} TO \"follows it\""), "GRANT owner_of_t TO \"follows it\"".into()];
    for lack in &lacks {
        check(set_up(&mut session, "lifeboat_roles", &covered), Fault::Operator, lack);
        run_sql(&url, lack).unwrap();
    }
    set_up(&mut session, "lifeboat_roles", &covered).unwrap();
}

#[test]
fn a_server_whose_log_lacks_the_changes_is_told_how_to_keep_them() {
    let test = "a_server_whose_log_lacks_the_changes_is_told_how_to_keep_them";
    let options = ClusterOptions { settings: vec!["wal_level = replica".into()], ..Default::default() };
    let Some(cluster) = Postgres::start_or_skip(test, &options) else { return };
    let server = Server::new("app", &cluster.url("postgres")).unwrap();
    let mut session = ReplicationSession::connect(&server).unwrap();
    let text = check(session.create_slot("s", WAIT), Fault::Operator, "ALTER SYSTEM SET wal_level = logical");
    assert!(text.contains("wal_level=`replica`"), "{text}");
}

#[test]
fn a_transaction_that_writes_for_long_is_not_waited_for_for_ever() {
    let test = "a_transaction_that_writes_for_long_is_not_waited_for_for_ever";
    let Some(capture) = capture(test, TABLE) else { return };
    let mut busy = capture.server.connect().unwrap();
    busy.batch_execute("BEGIN; INSERT INTO public.t VALUES (1, 'a')").unwrap();
    let mut session = ReplicationSession::connect(&capture.server).unwrap();
    let refused = session.create_temporary_slot("waits", Duration::from_millis(300));
    check(refused, Fault::Retry, "pg_prepared_xacts");
    busy.batch_execute("COMMIT").unwrap();
    session.create_temporary_slot("waits", WAIT).unwrap();
    drop(session);
}

#[test]
fn passwords_of_each_kind_are_given_over_the_socket_and_loopback() {
    let test = "passwords_of_each_kind_are_given_over_the_socket_and_loopback";
    let Some(cluster) = Postgres::start_or_skip(test, &ClusterOptions::default()) else { return };
    let url = cluster.url("postgres");
    run_sql(
        &url,
        "CREATE ROLE scram REPLICATION LOGIN PASSWORD 'se cret'; SET password_encryption = 'md5';
        CREATE ROLE md REPLICATION LOGIN PASSWORD 'se cret'",
    )
    .unwrap();
    let rules = "local all postgres trust\nhost all postgres 127.0.0.1/32 trust\nhost all clear 127.0.0.1/32 password\n\
                 local all all scram-sha-256\nhost all scram 127.0.0.1/32 scram-sha-256\nhost all md 127.0.0.1/32 md5\n";
    run_sql(&url, "CREATE ROLE clear REPLICATION LOGIN PASSWORD 'se cret'").unwrap();
    std::fs::write(cluster.dir().join("data/pg_hba.conf"), rules).unwrap();
    run_sql(&url, "SELECT pg_reload_conf()").unwrap();
    std::thread::sleep(Duration::from_millis(500));
    for role in ["scram", "md", "clear"] {
        let url = cluster.url_as(&format!("{role}:se%20cret"), "postgres");
        ReplicationSession::connect(&Server::new("app", &url).unwrap()).unwrap().identify().unwrap();
        let wrong = Server::new("app", &url.replace("se%20cret", "wrong")).unwrap();
        check(ReplicationSession::connect(&wrong), Fault::Operator, "check user and password");
        let none = Server::new("app", &url.replace(":se%20cret", "")).unwrap();
        let text = check(ReplicationSession::connect(&none), Fault::Operator, "check user and password");
        assert!(text.contains("asks for a password"), "{text}");
    }
    let socket = cluster.socket_url("postgres").replace("user=postgres", "user=scram password='se cret'");
    ReplicationSession::connect(&Server::new("app", &socket).unwrap()).unwrap().identify().unwrap();
    let tls = Server::new("app", &url.replace("disable", "require")).unwrap();
    let text = check(ReplicationSession::connect(&tls), Fault::Retry, "run the same command again");
    assert!(text.contains("does not do TLS"), "{text}");
    ReplicationSession::connect(&Server::new("app", &url.replace("disable", "prefer")).unwrap()).unwrap();
    let bound = Server::new("app", &format!("{url}&channel_binding=require")).unwrap();
    check(ReplicationSession::connect(&bound), Fault::Usage, "channel_binding=prefer");
}
