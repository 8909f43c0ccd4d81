//! The report of a recovery: while it runs, afterwards, for everybody, and as evidence that can be checked.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::place::{Place, Said};

/// Sites whose ids are as hostile as a path allows.
const SITES: [&str; 3] = ["<script>alert(1)<b>", "=cmd()|'calc'!A0", "acme \"&\" sons"];

fn done(said: &Said) -> Value {
    serde_json::from_str(said.out.lines().last().unwrap()).unwrap()
}

/// Three sites, deleted, and brought back by one plan, with a page: what was said, and the recovery's id. Each restore
/// begins with the command `look`.
fn recovered(place: &Place, look: &str) -> (Said, String) {
    SITES.iter().for_each(|site| place.make_site(site));
    place.ok(&["backup", "--all"]);
    let config = place.path("lifeboat.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!("\n[hooks]\nfreeze = [{look}]\nthaw = [\"/bin/true\", \"{{site}}\"]\n"));
    std::fs::write(&config, text).unwrap();
    SITES.iter().for_each(|site| std::fs::remove_dir_all(place.path("srv").join(site)).unwrap());
    let plan =
        [&["recover", "plan", "--at", "latest", "--expect", "3", "-o", "plan.json", "--json"][..], &SITES].concat();
    let plan = done(&place.ok(&plan));
    let hash = plan["plan_hash"].as_str().unwrap();
    let said = place.ok(&["recover", "run", "plan.json", "--plan", hash, "--parallel", "1", "--report", "page"]);
    (said, plan["recovery_id"].as_str().unwrap().to_owned())
}

/// A copy of the page as each site sees it when its restore begins.
fn copy_page(place: &Place) -> String {
    let (page, live) = (place.path("page/report.html"), place.path("live-{site}.html"));
    format!("\"/bin/cp\", \"{}\", \"{}\"", page.display(), live.display())
}

#[test]
fn a_page_is_there_while_sites_come_back_and_a_report_can_be_checked_afterwards() {
    let place = Place::new(None, Vec::new());
    let (_, id) = recovered(&place, &copy_page(&place));
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let (live, page) = (read(&format!("live-{}.html", SITES[2])), read("page/report.html"));
    assert!(live.contains("\"refresh\"") && live.contains("running</span>"), "{live}");
    assert!(!page.contains("\"refresh\"") && page.contains("<h1>3 of 3 sites are back"), "{page}");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)&lt;b&gt;"));

    place.ok(&["recover", "accept", &id, SITES[2], "--opened"]);
    let said = place.ok(&["recover", "report", &id, "--out", "given", "--verify", "--json"]);
    assert_eq!((&done(&said)["signed"], &done(&said)["not_signed"]), (&3.into(), &0.into()), "{said:?}");
    let report: Value = serde_json::from_str(&read("given/report.json")).unwrap();
    assert_eq!((&report["totals"]["restored"], &report["state"]), (&3.into(), &"done".into()));
    assert_eq!(report["curve"].as_array().unwrap().last().unwrap()["restored"], 3);
    let sites = report["sites"].as_array().unwrap();
    assert!(sites.iter().all(|site| site["signature_checked"] == "good" && site["sums"]["checks_failed"] == 0));
    let opened = sites.iter().find(|site| site["site"] == SITES[2]).unwrap();
    assert_eq!((&opened["hand_over"], &opened["state"]), (&"opened".into(), &"restored".into()));
    let csv = read("given/report.csv");
    assert!(csv.lines().count() == 4 && csv.contains("\"'=cmd()|'calc'!A0\""), "{csv}");
    let key = read("lifeboat.key");
    for name in ["report.html", "report.json", "report.csv"] {
        let path = place.path("given").join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        assert!(!std::fs::read_to_string(path).unwrap().contains(key.trim()), "{name}");
    }
}

#[test]
fn a_report_that_was_changed_is_told_and_a_public_one_names_nobody() {
    let place = Place::new(None, Vec::new());
    let (_, id) = recovered(&place, &copy_page(&place));
    place.ok(&["recover", "report", &id, "--out", "given"]);
    let file = place.path("given/report.json");
    let check = || place.run(&["recover", "report", &id, "--verify", "--from", "given/report.json", "--json"]);
    assert_eq!((check().code, &done(&check())["compared"]), (0, &3.into()));
    let mut report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    report["sites"][1]["receipt"]["parts"][0]["files"] = 1_000_000.into();
    let changed = report["sites"][1]["site"].clone();
    std::fs::write(&file, report.to_string()).unwrap();
    let said = check();
    assert_eq!((said.code, &done(&said)["differing"][0]), (20, &changed), "{said:?}");

    place.ok(&["recover", "report", &id, "--out", "public", "--public"]);
    for name in ["report.html", "report.json"] {
        let said = std::fs::read_to_string(place.path("public").join(name)).unwrap();
        assert!(said.contains(&id));
        for told in ["alert", "cmd", "sons", "latest"] {
            assert!(!said.contains(told), "{name}: {told}");
        }
    }
    assert!(!place.path("public/report.csv").exists());
    let public = place.run(&["recover", "report", &id, "--verify", "--from", "public/report.json"]);
    assert!(public.code == 2 && public.err.contains("it names no sites"), "{public:?}");

    // What somebody else has there stays.
    let refused = place.run(&["recover", "report", &id, "--out", "srv"]);
    assert!(refused.code == 2 && refused.err.contains("not for this report"), "{refused:?}");
    let refused = place.run(&["recover", "run", &id, "--report", "given", "--public"]);
    assert!(refused.code == 2 && refused.err.contains("a full report"), "{refused:?}");
}

#[test]
fn a_page_that_cannot_be_written_any_more_is_told_and_ends_no_recovery() {
    let place = Place::new(None, Vec::new());
    let page = place.path("page");
    let (said, _) = recovered(&place, &format!("\"/bin/rm\", \"-rf\", \"{}\", \"/no/such/{{site}}\"", page.display()));
    assert!(said.out.contains("3 of 3 sites restored"), "{said:?}");
    assert!(said.err.contains("cannot write the report"), "{said:?}");
}
