//! Two captures of the same database files, and what `status` says of them.

use crate::attachments::capture;
use crate::place::Place;

#[test]
fn a_second_capture_of_database_files_is_refused_and_the_first_one_goes_on() {
    let place = Place::new(None, Vec::new());
    let text = std::fs::read_to_string(place.path("lifeboat.toml")).expect("the configuration");
    let text = format!("{text}\n[capture]\nflush = \"1s\"\n[policies.all]\nsites = [\"*\"]\ncapture = true\n");
    std::fs::write(place.path("lifeboat.toml"), text).expect("the configuration");
    place.make_site("acme");
    let never = place.run(&["status"]);
    assert!(never.code == 4 && never.out.contains("notes: nothing was captured yet"), "{never:?}");
    let first = capture(&place);
    let second = place.run(&["capture", "--until-caught-up"]);
    assert!(second.code == 12 && second.err.contains("one capture a source"), "{second:?}");
    let captured_till = |place: &Place| {
        let captured = place.run(&["points", "acme", "--json"]).out;
        let done: serde_json::Value = serde_json::from_str(captured.lines().last().expect("a line")).expect("JSON");
        done["captured_till"].as_str().map(str::to_owned)
    };
    let before = captured_till(&place);
    let database = rusqlite::Connection::open(place.path("srv/acme/notes.db")).expect("a database");
    database.execute("INSERT INTO note VALUES (900000, 'since')", []).expect("a row");
    let till = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while captured_till(&place) <= before {
        assert!(till > std::time::Instant::now(), "nothing more is captured");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let status = place.run(&["status"]);
    assert!(status.code == 0 && status.out.contains("notes"), "{status:?}");
    drop(first);
    place.ok(&["capture", "--until-caught-up"]);
}
