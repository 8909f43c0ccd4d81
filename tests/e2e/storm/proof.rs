//! That nothing was lost: each site at remembered moments and at last, compared with what its applications wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lifeboat_model::Timestamp;
use serde_json::Value;

use super::fleet::{BORN, Moment, Rows, SHORT, SITES, attachment, content, lock, now};
use super::is_full;
use crate::daemon::Daemon;
use crate::place::Place;

const SOON: Duration = Duration::from_secs(120);
/// Looks at files are five seconds apart; one that the store refuses is made again.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Commands at once: they wait for the store most of the time.
const RESTORERS: usize = 4;

/// Waits until no site lacks a base of any source, and nothing else is amiss.
pub fn wait_until_well(place: &Place) {
    let began = Instant::now();
    loop {
        let said = place.run(&["status", "--json"]);
        if said.code == 0 && !said.out.contains("\"without_base\":[\"") {
            return;
        }
        assert!(began.elapsed() < SOON, "never well: {said:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Gives a moment at which everything that was written is seen: every look that counts for it came after the last write,
/// and every log and scan has come further.
pub fn settled(place: &Place, last: &Moment, pulse: &impl Fn()) -> Timestamp {
    wait_until_captured(place, last.at, pulse);
    let at = now();
    wait_until_captured(place, at, pulse);
    at
}

/// Waits until logs and scans have come further than this.
fn wait_until_captured(place: &Place, at: Timestamp, pulse: &impl Fn()) {
    let began = Instant::now();
    loop {
        pulse();
        let said = place.run(&["status", "--json"]);
        let lines: Vec<Value> = said.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let till = |line: &Value| match line["event"].as_str() {
            Some("source") => line["complete_till"].as_str().map(str::to_owned),
            Some("scans") => line["scanned_at"].as_str().map(str::to_owned),
            _ => None,
        };
        let tills: Vec<String> = lines.iter().filter_map(till).collect();
        if tills.len() == 3 && tills.iter().all(|till| Timestamp::parse(till).expect("a time") > at) {
            return;
        }
        assert!(began.elapsed() < SOON, "not captured since {at}: {said:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// What was asked for, and how far it was from what was written.
#[derive(Default)]
struct Restored {
    rows: usize,
    files: usize,
    /// The oldest look that stood for a moment of a database file, in seconds.
    oldest_look: f64,
    count: usize,
}

/// Restores every site at every moment, and at last. One whose points are forgotten goes back to no older moment.
pub fn restore_all(place: &Place, moments: &[Moment], last: &Moment) -> String {
    let mut wanted: Vec<(&str, &Moment, bool)> = vec![(BORN, last, true)];
    for site in SITES {
        let from = if site == SITES[0] || is_full() { 0 } else { moments.len() - 1 };
        if site != SHORT {
            wanted.extend(moments[from..].iter().map(|moment| (site, moment, false)));
        }
        wanted.push((site, last, true));
    }
    let (todo, done) = (Mutex::new(wanted), Mutex::new(Restored::default()));
    std::thread::scope(|scope| {
        for _ in 0..RESTORERS {
            scope.spawn(|| {
                while let Some((site, moment, is_last)) = { lock(&todo).pop() } {
                    restore(place, site, (moment, is_last), &done);
                }
            });
        }
    });
    let done = done.into_inner().expect("no panic");
    format!(
        "{} sites at moments, {} rows and {} files as they were written; the oldest look for one {:.1} s before it",
        done.count, done.rows, done.files, done.oldest_look
    )
}

fn restore(place: &Place, site: &str, (moment, is_last): (&Moment, bool), done: &Mutex<Restored>) {
    let (at, name) = (moment.at.to_string(), format!("out-{site}-{}", moment.at.0));
    let began = Instant::now();
    let said = place.run(&["restore", site, "--at", &at, "--export", &name, "--yes", "--json"]);
    assert_eq!(said.code, 0, "{site} at {at}: {said:?}");
    let told: Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
    println!("  {site} at {at}: {} requests, {} ms", told["requests"], began.elapsed().as_millis());
    let exported = place.path(&name);
    assert_eq!(rows_of(&exported.join("app/data")), moment.rows[site], "{site} at {at}: rows");

    let database = rusqlite::Connection::open(exported.join("notes/notes.db")).expect("a database");
    let mut statement = database.prepare("SELECT id FROM note ORDER BY id").expect("a statement");
    let notes: Vec<i64> =
        statement.query_map([], |row| row.get(0)).expect("rows").map(|id| id.expect("a row")).collect();
    let seen = moment.seen[site];
    let (found, over_at) = {
        let history = lock(&moment.history);
        let history = &history[site][..seen];
        let found = history.iter().rposition(|(_, rows)| *rows == notes);
        let found =
            found.unwrap_or_else(|| panic!("{site} at {at}: never was so: {notes:?}, last {:?}", history.last()));
        (found, history.get(found + 1).map_or(moment.at, |(since, _)| *since))
    };
    assert!(!is_last || found == seen - 1, "{site}: changes of its database file are lost: {notes:?}");
    let age = (moment.at.0 - over_at.0) as f64 / 1e6;
    for id in &notes {
        let file = attachment(&exported.join("files"), *id);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{site} at {at}: row {id} has no file"));
        assert_eq!(text, content(site, *id), "{site} at {at}: {}", file.display());
    }
    if is_last {
        expect_files(&exported.join("files"), &place.path(&format!("srv/{site}/files")), moment);
    }
    let mut done = lock(done);
    done.count += 1;
    done.rows += moment.rows[site].len() + notes.len();
    done.files += notes.len();
    done.oldest_look = done.oldest_look.max(age);
}

/// Files of a moment are those of the looks around it: none is missing, and what is there beside was removed since the look
/// before it.
fn expect_files(given: &Path, live: &Path, moment: &Moment) {
    let names = |dir: &Path| names(dir).into_iter().collect::<BTreeSet<String>>();
    let (given, alive) = (names(given), names(live));
    let lost: Vec<&String> = alive.difference(&given).collect();
    assert!(lost.is_empty(), "{}: files are lost: {lost:?}", live.display());
    let removed = lock(&moment.removed);
    for extra in given.difference(&alive) {
        let removed_at = removed.get(&live.join(extra)).unwrap_or_else(|| panic!("{extra} never was there"));
        let age = Duration::from_micros((moment.at.0 - removed_at.0).unsigned_abs());
        assert!(age < LOOK_MAX, "{}: {extra} was removed {age:?} before", live.display());
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|_| panic!("no directory {}", dir.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The rows of an export, of which no value has a quotation mark or a line feed.
fn rows_of(data: &Path) -> Rows {
    let table = |name: &str| -> Vec<Vec<String>> {
        let path = data.join(format!("public.{name}.csv"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{error}: {}, there are {:?}", path.display(), names(data)));
        let row = |line: &str| line.split(',').map(|value| value.trim_matches('"').to_owned()).collect();
        text.lines().skip(1).map(row).collect()
    };
    let id = |row: &[String]| row[0].parse::<i64>().expect("an id");
    let mut rows: Rows =
        table("note").iter().map(|row| (id(row), (row[2].clone(), BTreeSet::new()))).collect::<BTreeMap<_, _>>();
    for tag in table("tag") {
        rows.get_mut(&id(&tag)).expect("a tag of a row").1.insert(tag[1].clone());
    }
    rows
}

/// All is as promised, and nothing waits for a person: asked while it storms.
pub fn nothing_is_left(place: &Place, daemon: &Daemon<'_>) {
    std::thread::scope(|scope| {
        scope.spawn(|| place.ok(&["check", "--read-data"]));
        scope.spawn(|| place.ok(&["audit", "verify"]));
        for site in SITES.iter().chain([&BORN]) {
            scope.spawn(move || {
                let points = place.ok(&["points", site, "--json"]);
                assert!(!points.out.contains("\"event\":\"gap\"") && !points.out.contains("only_here"), "{points:?}");
            });
        }
    });
    let status = place.ok(&["status", "--json"]);
    for line in status.out.lines().filter(|line| line.contains("\"event\":\"source\"")) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let unrouted = line["unrouted"].as_u64().unwrap_or(0);
        assert!(line["epoch"] == 1 && unrouted == 0, "an epoch ended, or rows are nobody's: {line}");
        assert!(line["problems"].as_array().is_some_and(Vec::is_empty), "{line}");
    }
    assert_eq!(daemon.count("follows changes from here on"), 1, "{:#?}", daemon.lines());
}
