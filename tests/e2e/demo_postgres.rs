//! `demo --postgres`: the story of one tenant on a real server, and nothing left there.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lifeboat_testkit::postgres::{Postgres, query_text, run_sql};
use serde_json::Value;

use crate::place::{Place, Said};

fn place() -> Place {
    Place::new(None, vec![("NO_COLOR".to_owned(), "1".to_owned())])
}

fn last(said: &Said) -> Value {
    serde_json::from_str(said.out.lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{said:?}"))
}

fn exists(cluster: &Postgres, database: &str) -> bool {
    let query = format!("SELECT 1 FROM pg_database WHERE datname = '{database}'");
    !query_text(&cluster.url("postgres"), &query).unwrap().is_empty()
}

#[test]
fn the_story_of_one_tenant_is_proven_and_its_database_dropped() {
    let Some(cluster) = Postgres::shared_or_skip("the_story_of_one_tenant_is_proven") else { return };
    // No superuser: two privileges are enough (before PostgreSQL 15 they are not).
    let url = cluster.url("postgres");
    let grants =
        "CREATE ROLE demo_teller LOGIN CREATEDB; GRANT SET ON PARAMETER session_replication_role TO demo_teller";
    let role = if run_sql(&url, grants).is_ok() { "demo_teller" } else { "postgres" };
    let url = url.replace("postgres@", &format!("{role}:s3cret@"));
    let mut place = place();
    place.envs.push(("DEMO_URL".to_owned(), url));
    let said = place.run(&["demo", "--postgres", "env:DEMO_URL", "--scale", "2", "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let done = last(&said);
    let database = done["database"].as_str().unwrap();
    assert!(database.starts_with("lifeboat_demo_"), "{done}");
    assert!(!exists(cluster, database), "it is dropped");
    assert_eq!((done["sites"].as_u64(), done["kept"].is_null()), (Some(16), true), "{done}");
    assert!(done["restores"][0]["rows"].as_u64() > Some(1_000), "{done}");
    assert!(done["restores"][0]["files"].as_u64() >= Some(12), "{done}");
    assert!(done["application"]["transactions"].as_u64() > Some(0), "{done}");
    assert_eq!(done["application"]["errors"], 0, "{done}");
    assert_eq!(said.out.matches("proven: ").count(), 6, "{said:?}");
    assert!(!said.out.contains("s3cret") && !said.err.contains("s3cret"), "{said:?}");
}

#[test]
fn a_kept_story_can_be_looked_at_and_says_how_to_end_it() {
    let Some(cluster) = Postgres::shared_or_skip("a_kept_story_can_be_looked_at") else { return };
    let url = cluster.url("postgres").replace("postgres@", "postgres:s3cret@");
    let place = place();
    let said = place.ok(&["demo", "--postgres", &url, "--scale", "2", "--keep", "kept"]);
    let drop_it = said.out.lines().find(|line| line.contains("DROP DATABASE")).unwrap();
    let database = drop_it.trim_end_matches('\'').rsplit(' ').next().unwrap();
    assert!(exists(cluster, database), "{drop_it}");
    assert!(said.err.contains("everybody on this host can see the password"), "{said:?}");
    assert!(!said.out.contains("s3cret") && !said.err.contains("s3cret"), "{said:?}");

    let config = place.path("kept/lifeboat.toml");
    let config = config.to_str().unwrap();
    let points = place.ok(&["--config", config, "points", "hooli-01"]);
    assert!(points.out.contains("good"), "{points:?}");
    let plan = place.ok(&["--config", config, "restore", "acme-01", "--dry-run"]);
    assert!(plan.out.contains("Nothing has to be changed"), "{plan:?}");
    run_sql(&cluster.url("postgres"), &format!("DROP DATABASE {database}")).unwrap();
}

#[test]
fn a_story_that_is_interrupted_leaves_no_database() {
    let Some(cluster) = Postgres::shared_or_skip("a_story_that_is_interrupted") else { return };
    let place = place();
    let mut command = place.command(&["demo", "--postgres", &cluster.url("postgres"), "--scale", "2", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let first = lines.next().unwrap();
    let database = first.split(' ').find(|word| word.starts_with("lifeboat_demo_")).unwrap().to_owned();
    lines.find(|line| line.contains("\"text\":\"3. ")).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let end = lines.last().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{end}");
    assert!(!exists(cluster, &database), "{end}");
}

#[test]
fn what_keeps_the_demo_from_its_server_is_told_with_the_way_out() {
    let Some(cluster) = Postgres::shared_or_skip("what_keeps_the_demo_from_its_server") else { return };
    run_sql(&cluster.url("postgres"), "CREATE ROLE demo_plain LOGIN; CREATE ROLE \"demo Maker\" LOGIN CREATEDB")
        .unwrap();
    let mut place = place();
    place.envs.push(("EMPTY_URL".to_owned(), String::new()));
    let check = |url: &str, code: i32, parts: &[&str]| {
        let said = place.run(&["demo", "--postgres", url, "--scale", "2"]);
        assert_eq!(said.code, code, "{url}: {said:?}");
        parts.iter().for_each(|part| assert!(said.err.contains(part), "{url}: {part} in {said:?}"));
        assert!(!said.err.contains("s3cret"), "{said:?}");
    };
    let plain = cluster.url_as("demo_plain", "postgres");
    check(&plain, 10, &["may not make a database: role=`demo_plain`", "ALTER ROLE demo_plain CREATEDB"]);
    let maker = format!("host=127.0.0.1 port={} user='demo Maker' dbname=postgres sslmode=disable", cluster.port());
    let may_not =
        ["may not keep triggers from firing", "GRANT SET ON PARAMETER session_replication_role TO \"demo Maker\";"];
    check(&maker, 10, &may_not);
    let nobody = "postgres://me:s3cret@127.0.0.1:1/app?sslmode=disable";
    check(nobody, 10, &["cannot connect to the database", "is the server up, and host and port in --postgres right?"]);
    check("mysql://me:s3cret@host/app", 2, &["--postgres is no PostgreSQL connection URL"]);
    check("env:EMPTY_URL", 10, &["the environment variable is not set: name=`EMPTY_URL`", "postgres://"]);
    check("env:1x", 2, &["--postgres env:NAME or file:PATH"]);
    check("file:no-such-file", 10, &["cannot read the file of --postgres", "mode 0600"]);
}
