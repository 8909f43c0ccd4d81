//! A recovery beside sites that nobody restores: they are looked at before and after, and what is found is told.

use lifeboat_testkit::postgres::{Postgres, site_name};

use crate::shop::{Said, Shop};

const SITES: u32 = 6;
const LOST: [&str; 2] = ["site-00002", "site-00003"];

fn shop(test: &str) -> Option<Shop> {
    let server = Postgres::shared_or_skip(test)?;
    let shop = Shop::fleet(server, SITES, 60);
    shop.ok(&["backup", "--all"]);
    Some(shop)
}

/// Deletes two sites, and plans how they come back; gives the recovery's id and the plan's hash.
fn planned(shop: &Shop) -> (String, String) {
    for site in LOST {
        shop.sql(&format!("DELETE FROM sites WHERE id = '{site}'"));
        let _ = std::fs::remove_dir_all(shop.path("srv").join(site));
    }
    let said = shop.ok(&["recover", "plan", LOST[0], LOST[1], "--at", "latest", "--expect", "2", "--json"]);
    (said.field("recovery_id"), said.field("plan_hash"))
}

fn run(shop: &Shop, more: &[&str]) -> (String, Said) {
    let (id, hash) = planned(shop);
    let said = shop.run(&[&["recover", "run", &id, "--plan", &hash], more].concat());
    (id, said)
}

/// What `--json` says of them at last.
fn json(shop: &Shop, id: &str) -> serde_json::Value {
    let said = shop.run(&["recover", "status", id, "--json"]);
    let line = said.out.lines().last().unwrap_or_default().to_owned();
    serde_json::from_str::<serde_json::Value>(&line).unwrap()["bystanders"].clone()
}

/// A trigger that fires in a restore, and writes over a connection of its own: in no transaction of ours.
fn plant_connection(shop: &Shop) {
    shop.sql(&format!(
        "CREATE EXTENSION dblink;
         CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM public.dblink_exec('{}', 'UPDATE public.issues SET title = ''leaked'' WHERE site_id = ''{}'''); RETURN NEW; END $$;
         CREATE TRIGGER leak AFTER INSERT ON projects FOR EACH ROW EXECUTE FUNCTION leak();
         ALTER TABLE projects ENABLE ALWAYS TRIGGER leak",
        shop.url,
        site_name(5)
    ));
}

#[test]
fn quiet_bystanders_are_proven_equal_in_run_status_report_and_json() {
    let Some(shop) = shop("quiet_bystanders") else { return };
    let (id, said) = run(&shop, &["--bystanders", "all"]);
    let sentence = "Bystanders: 4 of 4 looked at: 4 equal, 0 touched.";
    assert!(said.code == 0 && said.out.contains(sentence), "{said:?}");
    for verb in ["status", "report"] {
        let said = shop.ok(&["recover", verb, &id]);
        assert!(said.out.contains(sentence), "{verb}: {said:?}");
    }
    let json = json(&shop, &id);
    assert_eq!((&json["equal"], &json["others"], &json["failed"]), (&4.into(), &4.into(), &false.into()), "{json}");
    // Unasked, a sample, which does not keep the first case waiting for long; and nobody, if that is asked.
    let (id, said) = run(&shop, &[]);
    assert!(said.code == 0 && self::json(&shop, &id)["looked"].as_u64() <= Some(4), "{said:?}");
    let (id, said) = run(&shop, &["--bystanders", "sample:3"]);
    assert!(said.code == 0 && said.out.contains(" of 4 looked at: "), "{said:?}");
    assert!(self::json(&shop, &id)["looked"].as_u64() <= Some(3), "{said:?}");
    let (id, said) = run(&shop, &["--bystanders", "none"]);
    assert!(said.code == 0 && !said.out.contains("Bystanders"), "{said:?}");
    assert!(self::json(&shop, &id).is_null());
}

#[test]
fn a_trigger_that_writes_over_a_connection_of_its_own_passes_the_fence_and_not_the_proof() {
    let Some(shop) = shop("a_trigger_over_a_connection_of_its_own") else { return };
    plant_connection(&shop);
    let (id, said) = run(&shop, &["--bystanders", "all"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("3 equal, 1 changed meanwhile, not proven by whom, 0 touched"), "{said:?}");
    let note = "site-00005: app: it was changed, and there is no change log that says by whom";
    assert!(said.out.contains(note), "{said:?}");
    assert_eq!(json(&shop, &id)["notes"][0]["site"], "site-00005");
    // Where nobody else may be at work, that is a proof that failed, and no later one makes it good.
    shop.sql("UPDATE issues SET title = 'as before' WHERE site_id = 'site-00005'");
    let (id, said) = run(&shop, &["--bystanders", "all", "--bystanders-quiet"]);
    assert_eq!(said.code, 20, "{said:?}");
    assert!(said.out.contains("PROOF FAILED") && said.out.contains("recover pause"), "{said:?}");
    assert_eq!(shop.run(&["recover", "report", &id]).code, 20);
    assert_eq!(shop.run(&["recover", "run", &id]).code, 20);
}

#[test]
fn a_trigger_that_writes_to_another_site_within_the_transaction_fails_its_case_and_touches_nobody() {
    let Some(shop) = shop("a_trigger_within_the_transaction") else { return };
    shop.sql(
        "CREATE FUNCTION leak() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN UPDATE public.issues SET title = 'leaked' WHERE site_id = 'site-00005'; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER leak AFTER INSERT ON projects DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION leak();
         ALTER TABLE projects ENABLE ALWAYS TRIGGER leak",
    );
    let (_, said) = run(&shop, &["--bystanders", "all", "--bystanders-quiet"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.out.contains("it wrote what was not planned"), "{said:?}");
    assert!(said.out.contains("Bystanders: 4 of 4 looked at: 4 equal, 0 touched."), "{said:?}");
}

#[test]
fn what_changed_of_a_bystander_meanwhile_is_told_by_part_and_never_taken_for_proven() {
    let Some(shop) = shop("what_changed_meanwhile") else { return };
    // Somebody else, just when the first case begins.
    let logo = shop.path("srv/site-00004/attachments/logo.png");
    shop.configure(&format!(
        "[hooks]\nfreeze = [\"/bin/sh\", \"-c\", \"echo more >> {}\", \"{{site}}\"]\nthaw = [\"true\", \"{{site}}\"]\n",
        logo.display()
    ));
    let (_, said) = run(&shop, &["--bystanders", "all"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("3 equal, 1 changed meanwhile, not proven by whom, 0 touched"), "{said:?}");
    assert!(said.out.contains("site-00004: files: it was changed"), "{said:?}");
}

#[test]
fn bystanders_that_cannot_be_looked_at_keep_no_site_from_coming_back_unless_a_proof_is_asked_for() {
    let Some(shop) = shop("bystanders_that_cannot_be_looked_at") else { return };
    let (id, hash) = planned(&shop);
    // The newest run, from which they are known.
    let runs = std::fs::read_dir(shop.path("repository/runs")).unwrap().map(|entry| entry.unwrap().path());
    std::fs::write(runs.min().unwrap(), "no run at all").unwrap();
    shop.refused(&["recover", "run", &id, "--plan", &hash, "--bystanders-quiet"], 20, &["runs/"]);
    let said = shop.run(&["recover", "run", &id, "--plan", &hash]);
    assert!(said.code == 0 && said.err.contains("the bystanders cannot be looked at"), "{said:?}");
    assert!(said.out.contains("2 of 2 sites restored") && !said.out.contains("Bystanders:"), "{said:?}");
}
