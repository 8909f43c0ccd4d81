//! Plans that are refused, each in its own words, with nothing done.

use std::os::unix::ffi::OsStringExt;

use crate::incident::Incident;
use crate::shop::Said;

#[test]
fn every_plan_that_cannot_be_meant_is_refused_in_its_own_words() {
    let Some(incident) = Incident::of("every_plan_that_cannot_be_meant", 6, 3) else { return };
    let shop = &incident.shop;
    let plan = |more: &[&'static str]| {
        let mut args = vec!["recover", "plan", "--at", "latest"];
        args.extend(more);
        args
    };
    let (a, b, c) = ("site-00001", "site-00002", "site-00003");
    shop.refused(
        &plan(&["--expect", "4", a, b, c]),
        2,
        &["another number of sites than expected: found=`3`, expected=`4`"],
    );
    shop.refused(
        &plan(&["--expect", "2", a, "site-00099"]),
        2,
        &["refused whole: 1 of 2 are no sites: nothing was ever backed up under that id", "an app"],
    );
    shop.refused(&plan(&["--expect", "2", a, "files"]), 2, &["that is the name of a source, and no site"]);
    shop.refused(&plan(&["--expect", "2", a, "0123456789abcdef"]), 2, &["looks like the id of a snapshot"]);
    shop.refused(&plan(&["--expect", "2", a, a]), 2, &["a site is named twice: site=`site-00001`"]);
    std::fs::write(shop.path("list"), format!("{a},1\n{b},soon\n")).unwrap();
    shop.refused(&plan(&["--expect", "2", "--sites", "list"]), 2, &["line=`2`, not a priority: priority=`soon`"]);
    shop.refused(&plan(&["--expect", "1", "--sites", "no-such-list"]), 2, &["cannot read the list of sites"]);
    // A list whose name is no text: read as any other, and told.
    let strange = std::ffi::OsString::from_vec(b"list-\xff".to_vec());
    std::fs::write(shop.path("").join(&strange), format!("{a}\n")).unwrap();
    let mut command = shop.command(&shop.url, &plan(&["--expect", "1", "--sites"]));
    let said = Said::of(command.arg(&strange).output().unwrap());
    assert!(said.code == 0 && said.out.contains("--sites 'list-\u{fffd}'"), "{said:?}");
    // A moment before anything was known, and one that nobody can have yet.
    shop.refused(
        &["recover", "plan", "--at", "2000-01-01T00:00:00Z", "--expect", "1", a, "-o", "none.json"],
        10,
        &["no plan was made: 1 of 1 sites", "no restorable point at or before the asked time: site=`site-00001`"],
    );
    assert!(!shop.path("none.json").exists(), "no plan, no file");
    shop.refused(&["recover", "plan", "--at", "lsn:0/1", "--expect", "1", a], 10, &["site-00001: "]);
    shop.refused(&["recover", "plan", "--before-damage", "--expect", "1", "site-00005"], 10, &["no damage was found"]);
    shop.configure("\n[recovery]\nsites_max = 2\n");
    shop.refused(&plan(&["--expect", "3", a, b, c]), 10, &["more sites than one recovery may bring back", "sites_max"]);
    assert_eq!(shop.picture(), incident.damaged, "nothing was done");
}

#[test]
fn only_the_stored_and_approved_plan_runs() {
    let Some(incident) = Incident::of("only_the_stored_and_approved_plan_runs", 4, 2) else { return };
    let (shop, planned) = (&incident.shop, incident.plan(&["-o", "plan.json"]));
    let text = std::fs::read_to_string(shop.path("plan.json")).unwrap();
    let asked = "--json recover plan --at latest --expect 2 -o plan.json site-00001 site-00002";
    assert!(text.contains(&format!("\"asked\": \"{asked}\"")), "as it can be typed again: {text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&shop.path("plan.json").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it names sites");
    let other = format!("{:016x}", !u64::from_str_radix(&planned.hash, 16).unwrap());
    shop.refused(&["recover", "run", &planned.id, "--plan", &other], 10, &["this is not the approved plan"]);
    shop.refused(&["recover", "run", &planned.id], 2, &["nobody is there to approve the plan"]);
    shop.refused(&["recover", "run", "0123456789abcdef", "--yes"], 2, &["there is no such recovery"]);
    shop.refused(&["recover", "run", "no-such-file.json", "--yes"], 2, &["neither a plan's file nor a recovery's id"]);
    shop.refused(
        &["recover", "plan", "--at", "latest", "--expect", "1", "site-00001", "-o", "plan.json"],
        2,
        &["the file is there already"],
    );
    let file = shop.path("plan.json");
    let edited = std::fs::read_to_string(&file).unwrap().replace(&planned.hash, &other);
    std::fs::write(&file, edited).unwrap();
    shop.refused(&["recover", "run", "plan.json", "--yes"], 10, &["the file is not of the plan that is stored"]);
    shop.refused(
        &["recover", "skip", &planned.id, "site-00004"],
        2,
        &["the recovery has no such site: site=`site-00004`"],
    );
    shop.refused(&["recover", "retry", &planned.id, "site-00001"], 2, &["cannot be retried"]);
    shop.refused(
        &["recover", "skip", &planned.id, "site-00001", "site-00004"],
        2,
        &["no such site: site=`site-00004`"],
    );
    assert_eq!(incident.cases(&planned)["site-00001"]["state"], "waiting", "all that is named is skipped, or nobody");
    assert_eq!(shop.picture(), incident.damaged, "nothing was done");
    assert_eq!(incident.run(&planned, &[]).code, 0);
    assert_eq!(shop.picture(), incident.whole);
}

#[test]
fn a_proof_without_gaps_that_looks_at_nobody_is_refused() {
    let Some(incident) = Incident::of("a_proof_without_gaps_that_looks_at_nobody", 4, 2) else { return };
    let (shop, planned) = (&incident.shop, incident.plan(&[]));
    let run = ["recover", "run", &planned.id, "--plan", &planned.hash, "--bystanders-quiet"];
    let said = ["--bystanders-quiet asks for a proof", "`--bystanders none`"];
    shop.refused(&[&run[..], &["--bystanders", "none"]].concat(), 2, &said);
    shop.configure("\n[recovery]\nbystanders = \"none\"\n");
    shop.refused(&run, 2, &["--bystanders-quiet asks for a proof", "`recovery.bystanders = \"none\"`"]);
    assert_eq!(shop.picture(), incident.damaged, "nothing was done");
    assert_eq!(shop.run(&[&run[..], &["--bystanders", "all"]].concat()).code, 0, "what is asked for here counts");
}

#[test]
fn no_more_sites_begin_within_an_hour_than_are_allowed_whenever_their_plan_was_made() {
    let Some(incident) = Incident::of("no_more_sites_begin_within_an_hour", 5, 3) else { return };
    let (shop, planned) = (&incident.shop, incident.plan(&[]));
    shop.configure("\n[recovery]\nsites_per_hour = 2\n");
    let says = |begun: u32, asked: u32| {
        format!("more sites than an hour may bring back: begun=`{begun}`, asked=`{asked}`, recovery.sites_per_hour=`2`")
    };
    let run = ["recover", "run", &planned.id, "--plan", &planned.hash];
    shop.refused(&run, 10, &[&says(0, 3)]);
    shop.ok(&["recover", "run", &planned.id, "--dry-run"]);
    assert_eq!(shop.picture(), incident.damaged, "nothing was done");
    shop.ok(&["recover", "skip", &planned.id, "site-00001"]);
    shop.ok(&run);
    // An undo is planned without asking, and asks when it begins.
    let undo = shop.ok(&["--json", "recover", "undo", &planned.id]);
    let (id, hash) = (undo.field("recovery_id"), undo.field("plan_hash"));
    shop.refused(&["recover", "run", &id, "--plan", &hash], 10, &[&says(2, 2)]);
    shop.ok(&["recover", "retry", &planned.id, "site-00001"]);
    shop.refused(&run, 10, &[&says(2, 1)]);
}

#[test]
fn a_site_whose_key_is_gone_is_told_and_no_plan_is_made() {
    let Some(incident) = Incident::of("a_site_whose_key_is_gone", 4, 2) else { return };
    let shop = &incident.shop;
    let keys = |dir: &std::path::Path| -> Vec<std::path::PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    // Both copies of one of the four sites: which is in no name.
    let places = keys(&shop.path("repository/keys"));
    let handle = places.iter().find(|path| !path.ends_with("repository")).unwrap();
    let name = handle.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_dir_all(handle).unwrap();
    std::fs::remove_dir_all(shop.path(&format!("repository/sites/{}/{name}/key", &name[..2]))).unwrap();
    let all: Vec<String> = (1..=4).map(lifeboat_testkit::postgres::site_name).collect();
    let mut args = vec!["recover", "plan", "--at", "latest", "--expect", "4"];
    args.extend(all.iter().map(String::as_str));
    let said = shop.run(&args);
    assert_eq!(said.code, 20, "{said:?}");
    assert!(said.err.contains("no plan was made: 1 of 4 sites") && said.err.contains("key"), "{said:?}");
    assert_eq!(shop.picture(), incident.damaged);
}

#[test]
fn a_dry_run_does_nothing_of_an_approved_plan_either() {
    let Some(incident) = Incident::of("a_dry_run_does_nothing_of_an_approved_plan", 4, 2) else { return };
    let (shop, planned) = (&incident.shop, incident.plan(&[]));
    let dry = || {
        let said = shop.run(&["recover", "run", &planned.id, "--dry-run"]);
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(
            said.out.contains(&planned.id) && said.err.contains("Nothing was changed"),
            "{} {}",
            said.out,
            said.err
        );
    };
    dry();
    assert_eq!(shop.picture(), incident.damaged);
    assert_eq!(shop.run(&["recover", "skip", &planned.id, "site-00002"]).code, 0);
    assert_eq!(incident.run(&planned, &[]).code, 0);
    assert_eq!(shop.run(&["recover", "retry", &planned.id, "site-00002"]).code, 0);
    let half = shop.picture();
    dry();
    assert_eq!(shop.picture(), half);
    assert_eq!(shop.run(&["recover", "run", &planned.id]).code, 0, "it was approved");
    assert_eq!(shop.picture(), incident.whole);
}
