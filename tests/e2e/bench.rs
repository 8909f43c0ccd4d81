//! `lifeboat bench`: measured runs of the built binary, tiny ones, that leave results and nothing else.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use lifeboat_store::{OpenOptions, S3Credentials, S3Options};
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::Value;

use super::place::{Place, Said};

/// A directory with the result of one bench, as the last line names it.
fn result(place: &Place, said: &Said) -> (Value, String) {
    let done: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
    assert_eq!((said.code, done["event"].as_str()), (0, Some("done")), "{said:?}");
    let read = |key: &str| std::fs::read_to_string(done[key].as_str().unwrap()).unwrap();
    let (json, svg): (Value, String) = (serde_json::from_str(&read("json")).unwrap(), read("svg"));
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    // What is told on stdout is what is in the file.
    let told: Value = serde_json::from_str(said.out.lines().rev().nth(1).unwrap()).unwrap();
    assert_eq!((told["event"].as_str(), &told["turns"]), (Some("bench"), &json["turns"]));
    assert_eq!(names(place, "out"), 2, "a bench leaves its results and nothing else");
    assert_eq!(names(place, "work"), 0, "a bench leaves its results and nothing else");
    (json, svg)
}

fn names(place: &Place, directory: &str) -> usize {
    std::fs::read_dir(place.path(directory)).map_or(0, Iterator::count)
}

/// What is below a directory; in itself something was made meanwhile, and removed again.
fn inner(place: &Place, directory: &str) -> BTreeMap<String, String> {
    let mut picture = place.picture(directory);
    picture.remove("");
    picture
}

fn bench(place: &Place, args: &[&str]) -> Said {
    place.run(&[&["--json", "bench"], args, &["--dir", "work", "--out", "out"]].concat())
}

fn tasks(json: &Value) -> Vec<(&str, u64)> {
    let summaries = json["summaries"].as_array().unwrap();
    summaries.iter().map(|one| (one["task"].as_str().unwrap(), one["runs"].as_u64().unwrap())).collect()
}

#[test]
fn a_measured_restore_compares_what_came_back_and_leaves_only_its_results() {
    let place = Place::new(None, Vec::new());
    let before = inner(&place, "");
    let said = bench(&place, &["restore", "--bytes", "300KB", "--sites", "1,3", "--rounds", "2", "--seed", "7"]);
    let (json, svg) = result(&place, &said);
    assert_eq!(tasks(&json), [("restore", 2), ("restore", 6), ("cp -a, sync -f", 2), ("cp -a, sync -f", 6)]);
    let restore = &json["summaries"][1];
    assert_eq!(restore["setting"]["sites"], 3);
    let read = restore["read_share"]["median"].as_f64().unwrap();
    assert!((0.9..1.2).contains(&read), "the chunks, and what says where they are: {restore}");
    assert!(restore["requests"]["min"].as_f64().unwrap() > 0.0 && restore["peak_bytes"].as_u64().unwrap() > 0);
    assert_eq!((json["seed"].as_u64(), json["shape"]["bytes"].as_u64()), (Some(7), Some(300_000)));
    assert_eq!(json["fleets"][1]["bytes"], 300_000);
    assert!(json["machine"]["kernel"].is_string() && json["command"][2] == "bench", "{json}");
    assert!(svg.contains("MB/s by sites of the fleet"));
    ["out", "work"].iter().for_each(|made| std::fs::remove_dir_all(place.path(made)).unwrap_or_default());
    assert_eq!(inner(&place, ""), before, "the repository that is configured beside it is nobody's to touch");
}

#[test]
fn limits_of_the_program_are_swept_with_a_panel_for_each() {
    let place = Place::new(None, Vec::new());
    let args = ["restore", "--bytes", "100KB", "--sites", "1", "--rounds", "1", "--no-floor"];
    let said = bench(&place, &[&args[..], &["--workers", "1,2", "--requests", "4,8"]].concat());
    let (json, svg) = result(&place, &said);
    let settings: Vec<String> =
        json["summaries"].as_array().unwrap().iter().map(|one| one["setting"].to_string()).collect();
    assert_eq!(settings.len(), 4, "{settings:?}");
    assert_eq!(settings[1], r#"{"requests":8,"sites":1,"workers":1}"#);
    assert!(svg.contains("MB/s by workers") && svg.contains("MB/s by requests at once"), "{svg}");
}

#[test]
fn a_measured_backup_knows_a_first_from_an_unchanged_one() {
    let place = Place::new(None, Vec::new());
    let said = bench(&place, &["backup", "--bytes", "300KB", "--sites", "2", "--rounds", "2", "--data", "sqlite"]);
    let (json, _) = result(&place, &said);
    assert_eq!(tasks(&json), [("first backup", 2), ("unchanged backup", 2)]);
    let [first, unchanged] = [0, 1].map(|at| &json["summaries"][at]);
    assert!(first["numbers"]["stored_bytes"]["min"].as_f64().unwrap() > 100_000.0, "{first}");
    assert_eq!(unchanged["numbers"]["stored_bytes"]["max"], 0.0);
    assert!(unchanged["megabytes_per_second"].is_null(), "it moves nothing");
    assert!(unchanged["requests"]["max"].as_f64() < first["requests"]["min"].as_f64());
}

#[test]
fn a_measured_recovery_is_measured_one_after_another_and_at_once() {
    let place = Place::new(None, Vec::new());
    let args = ["recover", "--bytes", "200KB", "--sites", "6", "--lost", "4", "--parallel", "2", "--rounds", "1"];
    let (json, _) = result(&place, &bench(&place, &args));
    assert_eq!(tasks(&json), [("one after another", 4), ("2 at once", 4)]);
    assert!(json["summaries"][1]["numbers"]["wall_per_sum_of_singles"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_measured_capture_sees_every_write_come_to_the_log() {
    let place = Place::new(None, Vec::new());
    let args =
        ["capture", "--bytes", "200KB", "--sites", "3", "--transactions", "50", "--seconds", "2", "--rounds", "1"];
    let (json, _) = result(&place, &bench(&place, &args));
    let numbers = &json["summaries"][0]["numbers"];
    assert!(numbers["objects"]["min"].as_f64().unwrap() >= 1.0, "{numbers}");
    assert!(numbers["transactions_per_second"]["min"].as_f64().unwrap() > 0.0, "{numbers}");
}

#[test]
fn a_fleet_that_is_taken_is_only_read() {
    let place = Place::new(None, Vec::new());
    ["acme", "globex"].iter().for_each(|site| place.make_site(site));
    place.ok(&["backup", "--all"]);
    let pictures = || ["srv", "repository"].map(|tree| inner(&place, tree));
    let before = pictures();
    let (json, _) = result(&place, &bench(&place, &["restore", "--take", "--rounds", "1", "--sample", "1"]));
    assert_eq!(tasks(&json), [("restore", 1)], "there is no floor of what is exported");
    assert!(json["shape"].is_null());
    assert!(json["repository"].as_str().unwrap().contains("/repository/bench-"), "{}", json["repository"]);
    assert_eq!(pictures(), before, "neither the fleet nor its repository");
    std::fs::remove_dir_all(place.path("out")).unwrap();
    let (json, _) = result(&place, &bench(&place, &["backup", "--take", "--rounds", "1"]));
    assert_eq!(json["fleets"][0]["sites"], 2);
    assert_eq!(pictures(), before, "neither the fleet nor its repository");
}

#[test]
fn sites_of_a_fleet_that_is_taken_are_exported_and_never_restored_in_place() {
    let place = Place::new(None, Vec::new());
    place.make_site("acme");
    let said = bench(&place, &["restore", "--take", "--rounds", "2", "--keep"]);
    assert_eq!(said.code, 0, "{said:?}");
    let work = std::fs::read_dir(place.path("work")).unwrap().next().unwrap().unwrap().path();
    for round in 0..2 {
        let exported = work.join(format!("export-{round}-0/acme/files/a.txt"));
        assert_eq!(std::fs::read_to_string(exported).unwrap(), "acme says hello\n");
    }
    assert!(work.join(".lifeboat-bench").is_file(), "what is kept says whose it is");
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_made() {
    let place = Place::new(None, Vec::new());
    let check = |args: &[&str], code: i32, message: &str| {
        let said = bench(&place, args);
        let last: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert!(last["message"].as_str().unwrap().contains(message), "{args:?}: {last}");
        assert!(last["hint"].is_string(), "{args:?}: {last}");
        assert!(!place.path("work").exists() && !place.path("out").exists(), "{args:?}");
    };
    check(&["restore", "--sites", "0"], 2, "a fleet has at least one site");
    check(&["restore", "--bytes", "much"], 2, "a size is a whole number and a unit");
    check(&["restore", "--delay", "20"], 2, "a delay is a whole number");
    check(&["restore", "--delay", "20ms"], 2, "the repository is a directory");
    check(&["restore", "--repository", "file:relative"], 2, "the path is relative");
    check(&["restore", "--bytes", "900TB"], 10, "not enough free space");
    check(&["restore", "--take", "--bytes", "1MB"], 2, "cannot be used with");
    check(&["recover", "--lost", "5", "--sites", "4"], 2, "more sites are lost than there are");
    check(&["capture", "--sites", "5000"], 2, "more databases than the bench can have open");
    check(&["--config", "missing.toml", "restore"], 2, "no configuration");
    let said = place.run(&["bench", "restore", "--take", "--dir", "repository/work"]);
    assert!(said.code == 2 && said.err.contains("a bench writes nothing into a repository"), "{said:?}");
    assert!(!place.path("repository/work").exists());
    let said = place.run(&["bench", "restore", "--out", "lifeboat.toml/out", "--dir", "work"]);
    assert!(said.code == 10 && said.err.contains("results cannot be written"), "{said:?}");
    assert!(!place.path("work").exists());
}

#[test]
fn a_bench_that_is_stopped_leaves_nothing() {
    let place = Place::new(None, Vec::new());
    let args = ["bench", "restore", "--bytes", "1MB", "--sites", "1", "--rounds", "1000", "--dir", "work"];
    let mut child = place.command(&args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("round 1 of 1000"));
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.last().unwrap().contains("what the bench made is removed"), "{rest:?}");
    assert!(!place.path("work").exists());
}

#[test]
fn a_server_that_is_far_away_is_measured_through_a_link() {
    let Some(server) = S3Server::shared_or_skip("a_server_that_is_far_away_is_measured_through_a_link") else { return };
    let url = server.fresh_url().unwrap();
    let envs = [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    let place = Place::new(None, envs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
    let args = ["restore", "--bytes", "100KB", "--sites", "1", "--rounds", "1", "--repository", &url];
    let said = bench(&place, &[&args[..], &["--delay", "0ms,20ms", "--rate", "85MB/s"]].concat());
    let (json, svg) = result(&place, &said);
    assert_eq!(tasks(&json), [("restore", 1), ("restore", 1), ("cp -a, sync -f", 1)]);
    let far = &json["summaries"][1];
    assert_eq!(far["setting"]["delay_seconds"], 0.02);
    // To connect and four requests, one after another: a restore has no fewer.
    assert!(far["wall_seconds"]["min"].as_f64().unwrap() > 0.1, "{far}");
    assert!(svg.contains("MB/s by round trip to the store"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let credentials =
        S3Credentials { access_key_id: ACCESS_KEY.into(), secret_access_key: SECRET_KEY.into(), session_token: None };
    let left = runtime.block_on(async {
        let s3 = S3Options { credentials: Some(credentials), ..S3Options::default() };
        let opened = lifeboat_store::open(&url, &OpenOptions { s3, ..OpenOptions::default() }).await.unwrap();
        opened.store.list("", None, 10).await.unwrap()
    });
    assert_eq!(left, [], "what the bench made in the bucket is removed");
}
