//! Many tenants of one database, with their attachments, brought back and taken away again.

use crate::incident::{Incident, done, events};

#[test]
fn many_sites_come_back_by_one_plan_and_its_undo_is_the_state_before() {
    let Some(incident) = Incident::of("many_sites_come_back_by_one_plan", 24, 18) else { return };
    let planned = incident.plan(&[]);
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(incident.shop.picture(), incident.whole);
    let cases = events(&said, "case");
    assert_eq!(cases.len(), 18, "{said:?}");
    for case in &cases {
        assert_eq!((case["state"].as_str(), case["attempts"].as_u64()), (Some("restored"), Some(1)), "{case}");
        assert!(case["receipt"]["checks"].as_array().unwrap().len() > 3, "{case}");
    }
    assert_eq!(done(&said)["restored"], 18);
    let report = incident.shop.ok(&["--json", "recover", "report", &planned.id, "--verify"]);
    assert_eq!((done(&report)["signed"].as_u64(), done(&report)["not_signed"].as_u64()), (Some(18), Some(0)));

    let undo = incident.shop.ok(&["--json", "recover", "undo", &planned.id]);
    let undo = crate::incident::Planned { id: undo.field("recovery_id"), hash: undo.field("plan_hash") };
    let said = incident.run(&undo, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(incident.shop.picture(), incident.damaged);
    // And that can be undone, too.
    let again = incident.shop.ok(&["--json", "recover", "undo", &undo.id]);
    let again = crate::incident::Planned { id: again.field("recovery_id"), hash: again.field("plan_hash") };
    assert_eq!(incident.run(&again, &[]).code, 0);
    assert_eq!(incident.shop.picture(), incident.whole);
}

#[test]
fn those_that_vanished_are_found_without_a_list() {
    let Some(incident) = Incident::of("those_that_vanished_are_found", 6, 4) else { return };
    let args = |expect: &'static str| {
        ["--json", "recover", "plan", "--at", "latest", "--vanished-since", "1h", "--expect", expect]
    };
    let said = incident.shop.ok(&args("4"));
    let planned = crate::incident::Planned { id: said.field("recovery_id"), hash: said.field("plan_hash") };
    let sites: Vec<String> = incident.cases(&planned).into_keys().collect();
    assert_eq!(sites, incident.lost);
    incident.shop.refused(
        &["recover", "plan", "--at", "latest", "--vanished-since", "1h", "--expect", "5"],
        2,
        &["another number of sites than expected: found=`4`, expected=`5`"],
    );
}

#[test]
fn a_site_that_came_back_meanwhile_is_not_what_was_approved_and_stops_no_other() {
    let Some(incident) = Incident::of("a_site_that_came_back_meanwhile", 6, 5) else { return };
    // Where nothing is left of a site, nothing may be replaced.
    let other = &incident.lost[3];
    incident.shop.sql(&format!("DELETE FROM audit.events WHERE site_id = '{other}'"));
    let planned = incident.plan(&[]);
    let early = &incident.lost[4];
    incident.shop.ok(&["restore", early, "--yes"]);
    incident.shop.sql(&format!(
        "INSERT INTO sites SELECT (jsonb_populate_record(s, jsonb_build_object('id', '{other}', 'name', 'new'))).*
         FROM sites s WHERE id = 'site-00006'"
    ));
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 10, "{said:?}");
    let cases = incident.cases(&planned);
    assert_eq!(cases[early]["state"], "restored", "nothing was left to do: {}", cases[early]);
    assert_eq!(cases[other]["state"], "failed", "{}", cases[other]);
    assert!(
        cases[other]["message"].as_str().unwrap().contains("the site was written to since the plan was approved"),
        "{}",
        cases[other]
    );
    let restored = cases.values().filter(|case| case["state"] == "restored").count();
    assert_eq!(restored, 4);
}
