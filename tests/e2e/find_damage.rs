//! `find-damage` where nothing is captured: runs tell what vanished, shrank, or was not listed any more.

use serde_json::Value;

use crate::place::Place;

fn found(place: &Place, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["find-damage", "--json"].into_iter().chain(args.iter().copied()).collect();
    let lines = place.ok(&args).out;
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["event"] == "site")
        .collect()
}

#[test]
fn runs_tell_which_sites_are_worse_than_before_and_the_point_to_go_back_to() {
    let place = Place::new(None, Vec::new());
    let sites: Vec<String> = (0..12).map(|number| format!("site-{number:02}")).collect();
    sites.iter().for_each(|site| place.make_site(site));
    place.ok(&["backup", "--all"]);
    assert_eq!(found(&place, &[]), Vec::<Value>::new(), "all is well");

    std::fs::remove_dir_all(place.path("srv/site-03")).unwrap();
    std::fs::write(place.path("srv/site-05/files/sub/b.bin"), b"").unwrap();
    place.run(&["backup", "--all"]);
    let lines = found(&place, &[]);
    let told: Vec<(&str, &str)> =
        lines.iter().map(|line| (line["site"].as_str().unwrap(), line["kind"].as_str().unwrap())).collect();
    assert_eq!(told, [("site-03", "vanished"), ("site-05", "shrank")], "{lines:?}");
    // What it names as the last good point is one: the site comes back whole.
    for line in &lines {
        let (site, at) = (line["site"].as_str().unwrap(), line["at"].as_str().unwrap());
        place.ok(&["restore", site, "--at", at, "--export", site, "--yes"]);
        let lost = place.path(&format!("{site}/files/sub/b.bin"));
        assert_eq!(std::fs::metadata(lost).unwrap().len(), 300_000, "{site} at {at}");
    }
    let said = place.ok(&["find-damage"]);
    assert!(said.out.starts_with("In 2 runs:\nSITE     WHAT      LAST GOOD"), "{said:?}");
    assert!(said.err.contains("no source is captured: there is no change log"), "{said:?}");
    // The part that shrank is of files; of the notes nothing did.
    let of = |source: &str| found(&place, &["--source", source]).len();
    assert_eq!((of("files"), of("notes")), (2, 1));
    assert_eq!(place.run(&["find-damage", "--source", "nothing"]).code, 2);

    // So many at once that the source has failed, and lists nothing to vanish.
    for site in &sites[6..] {
        std::fs::remove_dir_all(place.path(&format!("srv/{site}"))).unwrap();
    }
    place.run(&["backup", "--all"]);
    let kinds: Vec<Value> = found(&place, &[]).into_iter().map(|line| line["kind"].clone()).collect();
    // The run looked at nobody; those that are there all the same are not told.
    assert_eq!(kinds.iter().filter(|kind| *kind == "not seen").count(), 6, "{kinds:?}");
}
