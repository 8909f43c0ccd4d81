//! What the operator wants around each case of a recovery: commands, checks, and a database that is left in peace.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use lifeboat_testkit::postgres::{ClusterOptions, Postgres, query_text, run_sql, site_name};
use serde_json::Value;

use crate::shop::{Said, Shop};

const PATIENCE: Duration = Duration::from_secs(120);

/// The number of a plan of these sites.
fn planned(shop: &Shop, sites: &[&str]) -> (String, String) {
    let expect = sites.len().to_string();
    let mut args = vec!["--json", "recover", "plan", "--at", "latest", "--expect", expect.as_str()];
    args.extend(sites);
    let done = done(&shop.ok(&args));
    (done["recovery_id"].as_str().unwrap().to_owned(), done["plan_hash"].as_str().unwrap().to_owned())
}

fn lines(said: &Said) -> Vec<Value> {
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn done(said: &Said) -> Value {
    lines(said).pop().unwrap()
}

/// The case of a site, as `status --all` shows it.
fn case(shop: &Shop, recovery: &str, site: &str) -> Value {
    let said = shop.run(&["--json", "recover", "status", recovery, "--all"]);
    lines(&said).into_iter().find(|line| line["event"] == "case" && line["site"] == site).unwrap()
}

/// Name, whether it passed, and the detail, of what is the operator's own in a receipt.
fn own_checks(case: &Value) -> Vec<(String, bool, String)> {
    let checks = case["receipt"]["checks"].as_array().unwrap().iter();
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let all = checks.map(|check| (text(check, "name"), check["passed"].as_bool().unwrap(), text(check, "detail")));
    let own = |name: &str| ["before: ", "after: ", "check: "].iter().any(|word| name.starts_with(word));
    all.filter(|(name, ..)| own(name)).collect()
}

/// A page for each site: it answers 200 but for one.
fn pages(ill: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut line = String::new();
            BufReader::new(&connection).read_line(&mut line).unwrap();
            let status = if line.contains(&ill) { "500 Oh" } else { "200 OK" };
            let _ = write!(connection, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 4\r\n\r\nwell");
        }
    });
    port
}

/// What a command is given that nobody else is to see.
const TOKEN: &str = "--token=a-secret-of-the-operator";

#[test]
fn commands_and_checks_are_in_each_receipt_and_what_fails_is_not_validated() {
    let test = "commands_and_checks_are_in_each_receipt_and_what_fails_is_not_validated";
    let Some(server) = Postgres::shared_or_skip(test) else { return };
    let shop = Shop::fleet(server, 3, 20);
    let [a, b, c] = [1, 2, 3].map(site_name);
    shop.ok(&["backup", "--all"]);
    let before_rows = shop.picture();
    let notes = shop.path("notes");
    let note = |word: &str| {
        let path = notes.display();
        format!("[\"sh\", \"-c\", \"echo {word} $1 >>'{path}'\", \"sh\", \"{{site}}\", \"{TOKEN}\"]")
    };
    let fails = format!("[\"sh\", \"-c\", \"echo no $1; test $1 != {c}\", \"sh\", \"{{site}}\"]");
    let port = pages(b.clone());
    shop.configure(&format!(
        "[recovery]\nparallel = 1\nhalt = \"100%\"\nbefore = [{}]\nafter = [{fails}, {}]\n\
         [recovery.checks.rows]\nsql = \"SELECT count(*) FROM sites WHERE id = $1\"\nexpect = 1\n\
         [recovery.checks.page]\nhttp = \"http://127.0.0.1:{port}/{{site}}/health\"\ncontains = \"well\"\n\
         [recovery.checks.smoke]\ncommand = [\"test\", \"-n\", \"{{site}}\"]\n",
        note("on"),
        note("off"),
    ));
    shop.sql(&format!("DELETE FROM sites WHERE id IN ('{a}', '{b}', '{c}')"));
    let (recovery, hash) = planned(&shop, &[&a, &b, &c]);
    let said = shop.run(&["recover", "run", &recovery, "--plan", &hash]);
    assert_eq!(said.code, 3, "not all of them are validated: {}\n{}", said.out, said.err);
    assert!(
        said.out.contains("Before each site: sh -c echo on") && said.out.contains("rows; page; smoke"),
        "{}",
        said.out
    );
    assert!(!said.out.contains(TOKEN), "an argument is for nobody's eyes: {}", said.out);
    assert!(
        said.out.contains(&format!("NOT VALIDATED  {b}: check: page: expected=`200`, status=`500`")),
        "{}",
        said.out
    );
    assert!(!said.out.contains(&format!("NOT VALIDATED  {a}")), "{}", said.out);
    assert_eq!(shop.picture(), before_rows, "all of them are back");
    let said = std::fs::read_to_string(&notes).unwrap();
    assert_eq!(said, format!("on {a}\noff {a}\non {b}\noff {b}\non {c}\n"));
    let passed = |site: &str| -> Vec<(String, bool)> {
        let words = |name: String| name.split(' ').take(5).collect::<Vec<_>>().join(" ");
        own_checks(&case(&shop, &recovery, site)).into_iter().map(|(name, passed, _)| (words(name), passed)).collect()
    };
    let names = [
        "before: sh -c echo on",
        "after: sh -c echo no",
        "after: sh -c echo off",
        "check: rows",
        "check: page",
        "check: smoke",
    ];
    let want = |passed: [bool; 6]| names.map(str::to_owned).into_iter().zip(passed).collect::<Vec<_>>();
    assert_eq!(passed(&a), want([true; 6]));
    assert_eq!(passed(&b), want([true, true, true, true, false, true]));
    assert_eq!(passed(&c), want([true, false, false, true, true, true]));
    let why = |site: &str, at: usize| own_checks(&case(&shop, &recovery, site))[at].2.clone();
    assert!(why(&b, 4).contains("status=`500`") && why(&c, 1).contains(&format!("it said: no {c}")));
    assert!(why(&c, 2).contains("not run"));
    let state =
        |site: &str| (case(&shop, &recovery, site)["state"].clone(), case(&shop, &recovery, site)["hand_over"].clone());
    assert_eq!(state(&a), ("restored".into(), "validated".into()));
    assert_eq!((state(&b), state(&c)), (("restored".into(), Value::Null), ("restored".into(), Value::Null)));
    // A person has looked, and vouches for them.
    let accepted = shop.ok(&["--json", "recover", "accept", &recovery, &b, &c, "--note", "Ada"]);
    assert_eq!(done(&accepted)["not_validated"], 0);
}

// Explains invariant: before-or-nothing
#[test]
fn a_site_whose_command_before_fails_is_left_as_it_is() {
    let Some(server) = Postgres::shared_or_skip("a_site_whose_command_before_fails_is_left_as_it_is") else { return };
    let shop = Shop::fleet(server, 2, 20);
    let [a, b] = [1, 2].map(site_name);
    shop.ok(&["backup", "--all"]);
    shop.configure(&format!(
        "[recovery]\nhalt = \"100%\"\nbefore = [[\"sh\", \"-c\", \"test $1 != {a} || {{ echo busy; exit 7; }}\", \"sh\", \"{{site}}\"]]\n"
    ));
    shop.sql(&format!("DELETE FROM sites WHERE id IN ('{a}', '{b}')"));
    let commits = shop.ok(&["--json", "points", &a]).out;
    let (recovery, hash) = planned(&shop, &[&a, &b]);
    let said = shop.run(&["--json", "recover", "run", &recovery, "--plan", &hash]);
    assert_eq!(said.code, 10, "{}", said.err);
    let failed = case(&shop, &recovery, &a);
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("hook=`before`") && message.contains("exit status: 7, it said: busy"), "{message}");
    assert!(failed["hint"].as_str().unwrap().contains("[recovery]"), "{failed}");
    assert_eq!(case(&shop, &recovery, &b)["hand_over"], "validated");
    let here = |site: &str| shop.text(&format!("SELECT count(*) FROM sites WHERE id = '{site}'"));
    assert_eq!((here(&a).as_str(), here(&b).as_str()), ("0", "1"));
    assert_eq!(shop.ok(&["--json", "points", &a]).out, commits, "nothing was begun");
}

#[test]
fn no_case_begins_while_the_database_is_busy_with_others() {
    let test = "no_case_begins_while_the_database_is_busy_with_others";
    let Some(server) = Postgres::start_or_skip(test, &ClusterOptions::default()) else { return };
    let shop = Shop::fleet(&server, 2, 20);
    let [a, b] = [1, 2].map(site_name);
    shop.ok(&["backup", "--all"]);
    let whole = shop.picture();
    shop.configure("[recovery]\ndatabase_load = 1\nbytes_per_second = \"1GiB\"\n");
    shop.sql(&format!("DELETE FROM sites WHERE id IN ('{a}', '{b}')"));
    let (recovery, hash) = planned(&shop, &[&a, &b]);
    let busy = || {
        let url = shop.url.clone();
        std::thread::spawn(move || run_sql(&url, "SELECT pg_sleep(600)"))
    };
    let others = [busy(), busy()];
    let until = Instant::now() + PATIENCE;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    while query_text(&shop.url, active).unwrap()[0][0].as_deref() != Some("2") {
        assert!(Instant::now() < until, "they never began");
    }
    let mut child = shop.start(&shop.url, &["--json", "recover", "run", &recovery, "--plan", &hash]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let waiting = loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "it ended without waiting");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_ne!(line["event"], "case", "a case has ended: {line}");
        if line["event"] == "waiting" {
            break line;
        }
    };
    assert!(waiting["why"].as_str().unwrap().contains("the database is busy: source=`app`, active=`2`"), "{waiting}");
    let status = done(&shop.ok(&["--json", "recover", "status", &recovery]));
    assert_eq!((status["waiting"].as_u64(), status["running"].as_u64()), (Some(2), Some(0)));
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' LIMIT 1";
    run_sql(&shop.url, end).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
    assert_eq!(shop.picture(), whole);
    run_sql(&shop.url, end).unwrap();
    assert!(others.into_iter().all(|other| other.join().unwrap().is_err()));
}

#[test]
fn a_role_that_cannot_see_how_busy_the_database_is_is_told_before_anything_begins() {
    let test = "a_role_that_cannot_see_how_busy_the_database_is_is_told_before_anything_begins";
    let Some(server) = Postgres::start_or_skip(test, &ClusterOptions::default()) else { return };
    let shop = Shop::fleet(&server, 1, 5);
    shop.ok(&["backup", "--all"]);
    shop.configure("[recovery]\ndatabase_load = 1\n");
    let (recovery, hash) = planned(&shop, &[&site_name(1)]);
    shop.sql("CREATE ROLE blind LOGIN BYPASSRLS; GRANT pg_read_all_data, pg_write_all_data TO blind");
    let blind = shop.url.replace("postgres@", "blind@");
    let said = shop.run_at(&blind, &["recover", "run", &recovery, "--plan", &hash]);
    said.check(10, &["cannot see how busy the server is", "GRANT pg_read_all_stats TO blind"]);
    assert_eq!(case(&shop, &recovery, &site_name(1))["state"], "waiting");
}
