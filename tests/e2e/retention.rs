//! The end of points, as an operator sees it: forgotten, brought back, held, deleted, and a tenant that is erased.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::place::{Place, Said};

/// The lines of `--json` with this event.
fn events(said: &Said, name: &str) -> Vec<Value> {
    let lines = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == name).collect()
}

fn done(said: &Said) -> Value {
    events(said, "done").pop().unwrap_or_else(|| panic!("{said:?}"))
}

/// Two sites, of which each keeps its last two points, and nothing for longer than a second.
fn place() -> Place {
    let place = Place::new(None, Vec::new());
    let config = place.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (repository, _) = text.split_once("[policy]").unwrap();
    let files =
        format!("[sources.files]\nkind = \"files\"\npath = \"{}/{{site}}/files\"\n", place.path("srv").display());
    let policy = "[policy]\nwindow = \"1s\"\nundo = \"1s\"\nundelete = \"2s\"\nkeep = { last = 2 }\n\
                  [prune]\ngrace = \"2s\"\nunnamed = \"1d\"\n";
    std::fs::write(&config, format!("{repository}{files}{policy}")).unwrap();
    place
}

fn write(place: &Place, site: &str, text: &str) {
    std::fs::create_dir_all(place.path(&format!("srv/{site}/files"))).unwrap();
    std::fs::write(place.path(&format!("srv/{site}/files/note")), text).unwrap();
}

/// So many points of both sites, each with other content.
fn nights(place: &Place, count: usize) {
    for night in 0..count {
        for site in ["acme", "beta"] {
            write(place, site, &format!("{site} in night {night}"));
        }
        place.ok(&["backup", "--all"]);
    }
    sleep(Duration::from_millis(1_100));
}

fn points(place: &Place, site: &str) -> (usize, usize) {
    let said = place.ok(&["points", site, "--json"]);
    (events(&said, "point").len(), events(&said, "forgotten").len())
}

#[test]
fn points_are_explained_forgotten_brought_back_and_deleted_in_the_end() {
    let place = place();
    nights(&place, 5);
    let explained = place.ok(&["forget", "acme", "--dry-run", "--json"]);
    let of = |kept: bool| events(&explained, "point").iter().filter(|point| point["kept"] == kept).count();
    assert_eq!((of(true), of(false)), (2, 3), "{explained:?}");
    assert!(events(&explained, "point").iter().all(|point| point["kept"] == false || point["reasons"][0].is_string()));
    assert_eq!(points(&place, "acme"), (5, 0), "a dry run");

    // Not with nobody looking: it is more than the limit. The hash of the plan is somebody who looked.
    let refused = place.run(&["forget", "--all", "--yes"]);
    assert_eq!(refused.code, 10, "{refused:?}");
    assert!(refused.err.contains("limit=`30 %`") && refused.err.contains("--plan "), "{refused:?}");
    let asks = place.run(&["forget", "--all"]);
    assert_eq!(asks.code, 2, "nobody is there: {asks:?}");
    let wrong = place.run(&["forget", "--all", "--yes", "--expect", "7"]);
    assert_eq!(wrong.code, 10, "{wrong:?}");
    let plan = done(&place.ok(&["forget", "--all", "--dry-run", "--json"]))["plan"].as_str().unwrap().to_owned();
    let forgot = done(&place.ok(&["forget", "--all", "--plan", &plan, "--json"]));
    assert_eq!(forgot["forgotten"], 6);
    assert_eq!(points(&place, "acme"), (2, 3));

    place.ok(&["undelete", "acme"]);
    assert_eq!(points(&place, "acme"), (5, 0));
    place.ok(&["forget", "acme", "--yes", "--expect", "3"]);
    assert_eq!(done(&place.ok(&["prune", "--yes", "--json"]))["condemned"], 0, "they can be undeleted still");
    sleep(Duration::from_millis(2_200));
    let shown = place.ok(&["prune", "--json"]);
    assert!(events(&shown, "site").iter().all(|site| site["to_condemn"] == 3), "{shown:?}");
    assert_eq!(points(&place, "acme"), (2, 3), "without --yes nothing happens");
    assert_eq!(done(&place.ok(&["prune", "--yes", "--json"]))["condemned"], 6);
    let late = place.run(&["undelete", "acme"]);
    assert!(late.out.contains("No point of acme is forgotten"), "{late:?}");

    // Time alone deletes nothing: another run must have been recorded.
    sleep(Duration::from_millis(2_200));
    assert_eq!(done(&place.ok(&["prune", "--yes", "--json"]))["deleted"], 0);
    place.ok(&["backup", "--all"]);
    assert_eq!(done(&place.ok(&["prune", "--yes", "--json"]))["deleted"], 6);
    place.ok(&["check", "--read-data"]);
    let newest = place.ok(&["cat", "acme:files/note"]);
    assert_eq!(newest.out, "acme in night 4");
}

#[test]
fn a_held_site_keeps_everything_till_it_is_released() {
    let place = place();
    nights(&place, 4);
    place.ok(&["hold", "acme", "--note", "claim 4711"]);
    let forgot = done(&place.ok(&["forget", "--all", "--yes", "--expect", "2", "--json"]));
    assert_eq!(forgot["forgotten"], 2, "those of the other site");
    assert_eq!((points(&place, "acme"), points(&place, "beta")), ((4, 0), (2, 2)));
    for args in [&["forget", "acme", "--everything", "--yes"][..], &["shred", "acme", "--reason", "asked", "--yes"]] {
        let refused = place.run(args);
        assert_eq!(refused.code, 10, "{refused:?}");
        assert!(refused.err.contains("claim 4711") && refused.err.contains("--release"), "{refused:?}");
    }
    let listed = place.ok(&["points", "acme"]);
    assert!(listed.out.contains("claim 4711"), "{listed:?}");
    place.ok(&["hold", "acme", "--release"]);
    place.ok(&["forget", "acme", "--yes", "--expect", "2"]);
    assert_eq!(points(&place, "acme"), (2, 2));
    // Named, though the rules keep it; the newest good one only by somebody who has seen it.
    let newest = events(&place.ok(&["points", "acme", "--json"]), "point").pop().unwrap()["snapshot_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let refused = place.run(&["forget", "acme", "--snapshot", &newest, "--yes", "--expect", "1"]);
    assert_eq!(refused.code, 10, "{refused:?}");
    let unknown = place.run(&["forget", "acme", "--snapshot", "00000000000000ff", "--dry-run"]);
    assert_eq!(unknown.code, 2, "{unknown:?}");
}

#[test]
fn a_tenant_is_erased_and_nothing_that_was_kept_aside_but_the_keys_brings_it_back() {
    let place = place();
    nights(&place, 2);
    let listed = place.run(&["shred", "acme", "--reason", "asked", "--dry-run"]);
    assert_eq!(listed.code, 10, "it is still in a source: {listed:?}");
    std::fs::remove_dir_all(place.path("srv/acme")).unwrap();
    // A fleet of two that loses one is a source that has failed; this one is meant.
    place.run(&["backup", "--all", "--accept-loss"]);
    let plan = place.ok(&["shred", "acme", "--reason", "ticket 4711", "--dry-run", "--json"]);
    let hash = done(&plan)["plan"].as_str().unwrap().to_owned();
    let yes = place.run(&["shred", "acme", "--reason", "ticket 4711", "--yes"]);
    assert_eq!(yes.code, 10, "--yes does not erase: {yes:?}");
    let receipt = done(&place.ok(&["shred", "acme", "--reason", "ticket 4711", "--plan", &hash, "--json"]));
    assert_eq!((receipt["shredded"].clone(), receipt["keys_destroyed"].as_array().unwrap().len()), (true.into(), 2));
    for name in receipt["keys_destroyed"].as_array().unwrap() {
        assert!(!place.path("repository").join(name.as_str().unwrap()).exists(), "{name}");
    }
    assert_eq!(points(&place, "acme"), (0, 0));
    let gone = place.run(&["restore", "acme", "--dry-run"]);
    assert_ne!(gone.code, 0, "{gone:?}");
    place.ok(&["check", "--read-data"]);
    // With the catalog gone it is the same, and the other site is whole.
    std::fs::remove_dir_all(place.path("lifeboat.catalog")).unwrap();
    place.ok(&["catalog", "rebuild"]);
    assert_eq!((points(&place, "acme"), points(&place, "beta").0), ((0, 0), 2));
    // The customer comes back, and is somebody new.
    write(&place, "acme", "a new beginning");
    place.ok(&["backup", "acme"]);
    assert_eq!(place.ok(&["cat", "acme:files/note"]).out, "a new beginning");
    place.ok(&["check", "--read-data"]);
}

#[test]
fn a_bucket_that_has_lost_commits_is_neither_forgotten_from_nor_pruned() {
    let place = place();
    nights(&place, 4);
    let sites = place.path("repository/sites");
    let mut newest: Vec<_> = Vec::new();
    for shard in std::fs::read_dir(sites).unwrap() {
        for handle in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            let mut commits: Vec<_> =
                std::fs::read_dir(handle.unwrap().path().join("commit")).unwrap().map(|e| e.unwrap().path()).collect();
            commits.sort();
            newest.push(commits.remove(0));
        }
    }
    std::fs::remove_file(&newest[0]).unwrap();
    for args in [&["forget", "--all", "--dry-run"][..], &["prune"], &["prune", "--yes"]] {
        let refused = place.run(args);
        assert_eq!(refused.code, 20, "{args:?}: {refused:?}");
    }
    // Without what this host remembers, the newest run knows it.
    std::fs::remove_dir_all(place.path("lifeboat.catalog")).unwrap();
    let refused = place.run(&["prune", "--yes"]);
    assert_eq!(refused.code, 20, "{refused:?}");
}
