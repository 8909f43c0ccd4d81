//! kill -9 in the middle of a switch: the old state or the new one, and running again finishes.

use std::path::Path;
use std::time::Duration;

use lifeboat_source::Place;
use lifeboat_source::sqlite::{LiveCheck, SqliteTarget};

use crate::child::{Task, say};
use crate::support::{
    Fleet, RESTORE, Snapshot, assert_consistent, grow, make, names, read_part, restore_and_verify, stage,
};

const OLD_ROWS: i64 = 20_000;
const NEW_ROWS: i64 = 15_000;

/// Stages the image, says so, and switches it in, as a process that may be killed.
pub fn restore_task(image: &Path, path: &Path) {
    let open = |path: &Path| SqliteTarget::open(&Place::at(path).unwrap(), RESTORE).unwrap();
    let snapshot = read_part(open(image).read_live().unwrap().unwrap()).unwrap();
    let target = open(path);
    let verified = stage(&target, &snapshot, false).unwrap();
    say("staged");
    drop(target.switch(verified, &snapshot.entry.metadata).unwrap());
    say("switched");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_kill_at_any_moment_of_the_switch_leaves_the_old_or_the_new_state() {
    for mode in ["delete", "wal"] {
        let fleet = Fleet::new();
        let image = fleet.dir.path().join("image.db");
        drop(make(&image, "delete", NEW_ROWS as u32));
        drop(make(&fleet.path(), mode, OLD_ROWS as u32));
        let old = std::fs::read(fleet.path()).unwrap();
        let (mut torn, mut delay) = (0, Duration::ZERO);
        for round in 0..7 {
            // Each round begins with the old state and is killed a little later than the one before.
            if assert_consistent(&fleet.path()) != OLD_ROWS {
                std::fs::write(fleet.path(), &old).unwrap();
            }
            let arguments = [image.display().to_string(), fleet.path().display().to_string()];
            let mut task = Task::start("restore", &[&arguments[0], &arguments[1]]);
            assert_eq!(task.answer(), "staged");
            std::thread::sleep(delay);
            delay += Duration::from_millis(9);
            task.kill();
            let beside = names(fleet.path().parent().unwrap());
            torn += u32::from(beside.iter().any(|name| name.ends_with("-journal") || name.ends_with("-wal")));
            let rows = assert_consistent(&fleet.path());
            assert!(rows == OLD_ROWS || rows == NEW_ROWS, "{mode}, round {round}: {rows}");
        }
        assert!(torn > 0, "no kill hit the switch: the test proves nothing");

        let target = SqliteTarget::open(&Place::at(&image).unwrap(), RESTORE).unwrap();
        let snapshot: Snapshot = read_part(target.read_live().unwrap().unwrap()).unwrap();
        assert_eq!(restore_and_verify(&fleet, &snapshot).check, LiveCheck::Equal);
        assert_eq!(assert_consistent(&fleet.path()), NEW_ROWS);
        grow(&rusqlite::Connection::open(fleet.path()).unwrap(), 1);
        assert_eq!(names(fleet.path().parent().unwrap()), ["notes.db"]);
    }
}
