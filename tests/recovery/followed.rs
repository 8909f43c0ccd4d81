//! Looking on from another terminal: what is told while it runs, and when its process is gone.

use std::time::{Duration, Instant};

use crate::incident::{Incident, Planned, done, events};
use crate::shop::Said;

/// Starts a run with so many seconds before each site, and waits until a site is at work.
fn started(incident: &Incident, planned: &Planned, seconds: &str) -> std::process::Child {
    incident.shop.configure(&format!(
        "\n[recovery]\nparallel = 1\nbefore = [[\"sh\", \"-c\", \"sleep {seconds}\", \"{{site}}\"]]\n"
    ));
    let child = incident.shop.start(&incident.shop.url, &["recover", "run", &planned.id, "--plan", &planned.hash]);
    let until = Instant::now() + Duration::from_secs(20);
    while incident.cases(planned).values().all(|case| case["state"] != "running") {
        assert!(Instant::now() < until, "no site began");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn a_runner_that_was_killed_is_told_and_nobody_follows_it_for_ever() {
    let Some(incident) = Incident::of("a_runner_that_was_killed_is_told", 3, 2) else { return };
    let (shop, planned) = (&incident.shop, incident.plan(&[]));
    let mut runner = started(&incident, &planned, "30");
    runner.kill().unwrap();
    runner.wait().unwrap();
    let said = shop.ok(&["--json", "recover", "status", &planned.id, "--follow"]);
    let told = done(&said);
    assert_eq!((&told["state"], &told["runner"]["is_gone"]), (&"stopped".into(), &true.into()), "{told}");
    assert_eq!(told["runner"]["pid"], runner.id());
    assert!(told["runner"]["last_heard_at"].is_string(), "{told}");
    let people = shop.ok(&["recover", "status", &planned.id, "--follow"]);
    assert!(people.out.contains(" is gone, last heard of ") && people.out.contains(" s ago"), "{people:?}");
    assert!(people.out.contains(&format!("lifeboat recover run {}", planned.id)), "{people:?}");
    assert!(!people.out.contains(" left ("), "nobody is at it: {people:?}");
    let list = shop.ok(&["recover", "status"]);
    assert!(list.out.contains("stopped: its process is gone"), "{list:?}");
}

#[test]
fn whoever_follows_is_told_what_changes_while_it_changes() {
    let Some(incident) = Incident::of("whoever_follows_is_told", 4, 3) else { return };
    let (shop, planned) = (&incident.shop, incident.plan(&[]));
    let runner = started(&incident, &planned, "2");
    let follow = |more: &[&str]| {
        let args = [&["recover", "status", &planned.id, "--follow"], more].concat();
        shop.start(&shop.url, &args)
    };
    let (programs, people) = (follow(&["--json"]), follow(&[]));
    let said = |child: std::process::Child| Said::of(child.wait_with_output().unwrap());
    let (programs, people, runner) = (said(programs), said(people), said(runner));
    assert_eq!((programs.code, people.code, runner.code), (0, 0, 0), "{programs:?} {people:?} {runner:?}");
    let standing = events(&programs, "recovery");
    assert_eq!((&standing[0]["state"], &standing[0]["sites"]), (&"running".into(), &3.into()), "{programs:?}");
    let cases = events(&programs, "case");
    let at_work = cases.iter().filter(|case| case["state"] == "running").count();
    assert!(at_work >= 1 && cases.len() > 3 + at_work, "each change, and in the end each site: {programs:?}");
    for said in [&people, &runner] {
        assert!(said.err.contains("/3 running: 1 at work, 0 failed"), "{said:?}");
    }
}
