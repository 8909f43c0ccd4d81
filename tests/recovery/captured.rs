//! Many sites of a database that is captured come back to the moment before what removed them, and the log is read once.

use lifeboat_testkit::postgres::{ClusterOptions, Postgres};

use crate::incident::{Incident, Planned, done, events};

const LOST: u32 = 12;

/// A slot is called after its source, once on a server: two of these tests at once need two.
fn own_server(test: &str) -> Option<Postgres> {
    Postgres::start_or_skip(test, &ClusterOptions::default())
}

#[test]
fn each_site_comes_back_to_before_its_own_damage_and_what_they_share_of_the_log_is_read_once() {
    let Some(server) = own_server("each_site_comes_back_to_before_its_own_damage") else { return };
    let mut incident = Incident::unharmed(&server, 16);
    let shop = &incident.shop;
    shop.configure("\n[policies.all]\nsites = [\"*\"]\ncapture = true\n");
    let capture = || shop.ok(&["capture", "--until-caught-up"]);
    capture();
    shop.ok(&["backup", "--all"]);
    // A day's work of everybody, which no snapshot has.
    for round in 0..30 {
        shop.sql(&format!("UPDATE users SET name = name || '{round}' WHERE id % 30 = {round}"));
        if round % 6 == 0 {
            capture();
        }
    }
    capture();
    incident.whole = incident.shop.picture();
    incident.lost = (1..=LOST).map(lifeboat_testkit::postgres::site_name).collect();
    incident.strike();
    let shop = &incident.shop;
    // The files of so many at once are gone that nobody may take it for meant; the rows are followed to their end.
    shop.refused(&["capture", "--until-caught-up"], 10, &["more than a fifth vanished at once"]);
    let plan = |sites: &[String]| {
        let expect = sites.len().to_string();
        let mut args = vec!["--json", "recover", "plan", "--before-damage", "--since", "1h", "--expect", &expect];
        args.extend(sites.iter().map(String::as_str));
        let said = shop.ok(&args);
        Planned { id: said.field("recovery_id"), hash: said.field("plan_hash") }
    };
    let requests = |planned: &Planned| -> u64 {
        let said = incident.run(planned, &["--parallel", "1", "--bystanders", "none"]);
        assert_eq!(said.code, 0, "{said:?}");
        events(&said, "case").iter().map(|case| case["receipt"]["requests"].as_u64().unwrap()).sum()
    };
    let alone = requests(&plan(&incident.lost[..1]));
    let together = requests(&plan(&incident.lost[1..]));
    println!("{alone} requests for one site, {together} for {} others", LOST - 1);
    assert!(together < alone * u64::from(LOST - 1) * 2 / 3, "{alone} requests for one site, {together} for the others");
    assert_eq!(incident.shop.picture(), incident.whole, "with all that no snapshot has");
    assert_eq!(done(&incident.shop.ok(&["--json", "sites"]))["sites"], 16);
}

#[test]
fn a_moment_in_a_gap_of_the_log_is_refused_with_the_gap_and_the_nearest_moments() {
    let Some(server) = own_server("a_moment_in_a_gap_of_the_log_is_refused") else { return };
    let incident = Incident::unharmed(&server, 3);
    let shop = &incident.shop;
    shop.configure("\n[policies.all]\nsites = [\"*\"]\ncapture = true\n");
    shop.ok(&["capture", "--until-caught-up"]);
    shop.ok(&["backup", "--all"]);
    shop.ok(&["capture", "--until-caught-up"]);
    // Nobody captures, the server gives the slot up, and the work of the meantime is in no log.
    shop.sql(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
    );
    shop.sql("UPDATE users SET name = name || ' lost'");
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let within = shop.text("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    let _ = shop.run(&["capture", "--until-caught-up"]);
    shop.ok(&["backup", "--all"]);
    let args = ["recover", "plan", "--at", &within, "--expect", "2", "site-00001", "site-00002"];
    let said = shop.run(&args);
    said.check(
        10,
        &[
            "no plan was made: 2 of 2 sites",
            "the change log of `app` has a gap there; the nearest restorable times are",
        ],
    );
}
