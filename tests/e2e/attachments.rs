//! A row and its attachment, written together, come back together: at random moments, while both are captured.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lifeboat_model::Timestamp;

use crate::place::Place;

const FIRST: u32 = 1_000_000;
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at a file, and a little more on a machine that is busy.
const RESOLUTION_MICROS: i64 = 3_000_000;
/// In which a scan begins and ends, on a machine that is busy.
const SCANNED_WITHIN: Duration = Duration::from_secs(6);
/// The log must have come further than the last moment.
const SETTLES: Duration = Duration::from_secs(4);

pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Follows the databases, from when every site has its base.
pub fn capture(place: &Place) -> Running {
    let log = std::fs::File::create(place.path("capture.log")).expect("a file");
    let mut command = place.command(&["capture"]);
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::from(log)).spawn().expect("the binary runs"));
    let till = Instant::now() + STARTS_WITHIN;
    loop {
        let said = std::fs::read_to_string(place.path("capture.log")).expect("a file");
        if said.contains("have their base") {
            return running;
        }
        assert!(Instant::now() < till, "no base was taken: {said}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    Timestamp(i64::try_from(since.as_micros()).expect("a time"))
}

/// Rows that name an attachment, and those of them whose attachment is not there.
fn look(place: &Place, site: &str) -> (Vec<u32>, Vec<u32>) {
    let database = rusqlite::Connection::open(place.path(&format!("srv/{site}/notes.db"))).expect("a database");
    let mut statement = database.prepare("SELECT id FROM note WHERE id >= ?1 ORDER BY id").expect("a statement");
    let ids = statement.query_map([FIRST], |row| row.get(0)).expect("rows");
    let ids: Vec<u32> = ids.map(|id| id.expect("a row")).collect();
    let files = place.path(&format!("srv/{site}/files"));
    let is_missing = |id: &u32| std::fs::read_to_string(file(&files, *id)).ok() != Some(id.to_string());
    let missing = ids.iter().copied().filter(is_missing).collect();
    (ids, missing)
}

fn file(files: &Path, id: u32) -> std::path::PathBuf {
    files.join(format!("attachment-{id}.txt"))
}

#[test]
fn a_row_never_comes_back_without_its_attachment_at_any_moment() {
    let moments_max = if std::env::var_os("LIFEBOAT_TEST_FULL").is_some() { 100 } else { 12 };
    let place = Place::new(None, Vec::new());
    let text = std::fs::read_to_string(place.path("lifeboat.toml")).expect("the configuration");
    let text =
        format!("{text}\n[capture]\nflush = \"1s\"\nscan = \"1s\"\n[policies.all]\nsites = [\"*\"]\ncapture = true\n");
    std::fs::write(place.path("lifeboat.toml"), text).expect("the configuration");
    place.make_site("acme");
    let running = capture(&place);
    let files = place.path("srv/acme/files");
    let database = rusqlite::Connection::open(place.path("srv/acme/notes.db")).expect("a database");
    let (mut moments, mut states) = (Vec::new(), vec![(now(), Vec::new())]);
    let mut known = Vec::new();
    for number in 0..moments_max * 8 {
        let id = FIRST + number;
        std::fs::write(file(&files, id), id.to_string()).expect("a file");
        database.execute("INSERT INTO note VALUES (?1, 'with its file')", [id]).expect("a row");
        known.push(id);
        states.push((now(), known.clone()));
        if number % 5 == 4 {
            database.execute("DELETE FROM note WHERE id = ?1", [id - 3]).expect("a row less");
            known.retain(|other| *other != id - 3);
            states.push((now(), known.clone()));
        }
        std::thread::sleep(Duration::from_millis(u64::from(number * 37 % 90)));
        if number % 8 == 5 {
            moments.push((now(), states.len() - 1));
        }
        if number == moments_max * 4 {
            place.ok(&["backup", "--all"]); // a night in the middle
        }
        if number == moments_max * 6 {
            // Since the night: no snapshot ever has some of the files that go now.
            std::thread::sleep(SCANNED_WITHIN);
            let gone: Vec<u32> = known.iter().copied().filter(|id| id % 3 == 0).collect();
            for id in &gone {
                database.execute("DELETE FROM note WHERE id = ?1", [id]).expect("a row less");
                std::fs::remove_file(file(&files, *id)).expect("a file less");
                known.retain(|other| other != id);
                states.push((now(), known.clone()));
            }
        }
    }
    std::thread::sleep(SETTLES);
    let last = look(&place, "acme").0;
    assert_eq!(last, known);
    let mut found = Vec::new();
    for (at, then) in &moments {
        let said = place.ok(&["restore", "acme", "--at", &at.to_string(), "--yes", "--json"]);
        let (rows, missing) = look(&place, "acme");
        assert_eq!(missing, Vec::<u32>::new(), "{at}: {} rows", rows.len());
        // What the database was at the moment, or at the look before it.
        let state = states[..=*then].iter().rposition(|(_, known)| *known == rows);
        let state = state.unwrap_or_else(|| panic!("{at}: never was so: {} rows", rows.len()));
        let next = states.get(state + 1).map_or(*at, |(since, _)| *since);
        assert!(state == *then || at.0 - next.0 <= RESOLUTION_MICROS, "{at}: as it was before {next}");
        found.push(state);
        let done: serde_json::Value = serde_json::from_str(said.out.lines().last().unwrap_or_default()).expect("JSON");
        place.ok(&["undo", done["restore_id"].as_str().expect("an id"), "--yes"]);
        assert_eq!(look(&place, "acme"), (last.clone(), Vec::new()), "{at}: undone");
    }
    assert!(found.last() > found.first() && found.is_sorted(), "{found:?}");
    drop(running);
}
