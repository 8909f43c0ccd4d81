//! Restores that are rehearsed: what they measure and prove, and that nothing live is written.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lifeboat_testkit::postgres::{Postgres, query_text, run_sql, site_name};
use serde_json::Value;

use crate::incident::{Incident, done, events};
use crate::shop::{Said, Shop};

/// The sites of a drill, by what became of them.
fn sites(said: &Said) -> BTreeMap<String, Value> {
    events(said, "site").into_iter().map(|site| (site["site"].as_str().unwrap().to_owned(), site)).collect()
}

/// What lies where sites were rebuilt.
fn left(shop: &Shop) -> Vec<String> {
    let names = std::fs::read_dir(shop.path("lifeboat.drills")).unwrap();
    names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
}

fn proven_at(shop: &Shop) -> BTreeMap<String, Option<String>> {
    let said = shop.ok(&["--json", "sites"]);
    let of = |site: &Value| (site["site"].as_str().unwrap().to_owned(), site["proven_at"].as_str().map(str::to_owned));
    events(&said, "site").iter().map(of).collect()
}

/// A database of its own for drills, with the types of the live one.
fn drill_database(shop: &Shop, server: &Postgres) -> String {
    let url = server.fresh_database().unwrap();
    let types = "SELECT string_agg(format('CREATE TYPE %I.%I AS ENUM (%s);', n.nspname, t.typname, (
            SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid
        )), '') FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE typtype = 'e'";
    let schemas = "SELECT string_agg(format('CREATE SCHEMA IF NOT EXISTS %I;', nspname), '') FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'";
    run_sql(&url, &shop.text(schemas)).unwrap();
    run_sql(&url, &shop.text(types)).unwrap();
    let file = shop.path("drill.url");
    std::fs::write(&file, &url).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    url
}

// Explains invariant: drill-touches-nobody
#[test]
fn a_drill_proves_sites_and_leaves_nothing_behind_and_nobody_else_touched() {
    let Some(incident) = Incident::of("a_drill_proves_sites", 6, 2) else { return };
    let shop = &incident.shop;
    let said = shop.ok(&["--json", "drill", "--sample", "4"]);
    let told = done(&said);
    assert_eq!((told["proven"].as_u64(), told["sites"].as_u64()), (Some(4), Some(4)), "{said:?}");
    for site in sites(&said).values() {
        assert_eq!((site["within_rto"].as_bool(), site["within_rpo"].as_bool()), (Some(true), Some(true)), "{site}");
        assert!(site["receipt"]["checks"].as_array().unwrap().len() >= 2, "{site}");
        assert!(site["receipt"]["parts"].as_array().unwrap().iter().all(|part| part["digest_ok"] == true), "{site}");
    }
    assert_eq!(shop.picture(), incident.damaged, "nothing live was written");
    assert_eq!(left(shop), Vec::<String>::new());
    // The next sample begins with those that nobody has proven.
    let first: Vec<String> = proven_at(shop).into_iter().filter(|(_, at)| at.is_some()).map(|(site, _)| site).collect();
    assert_eq!(first, sites(&said).into_keys().collect::<Vec<_>>());
    let second = sites(&shop.ok(&["--json", "drill", "--sample", "2"]));
    assert!(second.keys().all(|site| !first.contains(site)), "{second:?}");
    assert!(proven_at(shop).values().all(Option::is_some));
    // A host that knows nothing has it from the bucket, and every commit still follows from the one before.
    std::fs::remove_dir_all(shop.path("lifeboat.catalog")).unwrap();
    assert!(proven_at(shop).values().all(Option::is_some));
    shop.ok(&["check"]);
    let text = shop.ok(&["sites", "site-00001"]);
    assert!(text.out.contains("proven") && text.out.contains("rebuilt in"), "{}", text.out);
}

#[test]
fn rows_are_loaded_into_a_database_that_was_made_for_drills() {
    let Some(incident) = Incident::of("rows_are_loaded_into_a_database", 4, 1) else { return };
    let shop = &incident.shop;
    let url = drill_database(shop, Postgres::shared().unwrap());
    shop.configure("\n[drill.databases]\napp = \"file:drill.url\"\n");
    let said = shop.ok(&["--json", "drill", "--recovery", "4"]);
    assert_eq!(done(&said)["proven"], 4, "{said:?}");
    let rows = |site: &Value| {
        site["receipt"]["parts"].as_array().unwrap().iter().filter_map(|part| part["rows"].as_u64()).sum::<u64>()
    };
    assert!(sites(&said).values().all(|site| rows(site) > 100), "{said:?}");
    assert_eq!(shop.picture(), incident.damaged);
    let copies = "SELECT count(*)::text FROM pg_namespace WHERE nspname LIKE 'lifeboat%'";
    assert_eq!(query_text(&url, copies).unwrap()[0][0].as_deref(), Some("0"), "what was rebuilt is taken away");
    assert_eq!(left(shop), Vec::<String>::new());
    // The live database is none to be loaded for practice, however its URL is written.
    for url in [shop.url.clone(), format!("{}&application_name=other", shop.url)] {
        std::fs::write(shop.path("drill.url"), url).unwrap();
        shop.refused(
            &["drill", "site-00002"],
            2,
            &["the database for drills is a live one: key=`drill.databases.app`"],
        );
    }
    // Nor is it loaded when the live one cannot tell that it is another.
    std::fs::write(shop.path("drill.url"), &url).unwrap();
    let said = shop.run_at("postgres://nobody@127.0.0.1:1/gone", &["drill", "site-00002"]);
    assert!(
        said.code != 0 && said.err.contains("it cannot be told whether a database for drills is the live one"),
        "{said:?}"
    );
    assert_eq!(shop.picture(), incident.damaged);
}

// Explains invariant: drill-copies-alone
#[test]
fn in_a_database_for_drills_only_what_drills_have_made_is_dropped_and_one_works_there_at_a_time() {
    let Some(incident) = Incident::of("in_a_database_for_drills_only", 2, 1) else { return };
    let shop = &incident.shop;
    let url = drill_database(shop, Postgres::shared().unwrap());
    shop.configure("\n[drill.databases]\napp = \"file:drill.url\"\n");
    let schemas = "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname ~ 'lifeboat|mine'";
    let made = "CREATE SCHEMA lifeboat_drill_left; COMMENT ON SCHEMA lifeboat_drill_left IS 'lifeboat: copy of x';
        CREATE SCHEMA lifeboat_stage_0011223344556677; CREATE TABLE lifeboat_stage_0011223344556677.t (i int);
        CREATE SCHEMA lifeboat_drill_unmarked; CREATE SCHEMA mine; COMMENT ON SCHEMA mine IS 'lifeboat: copy of y'";
    run_sql(&url, made).unwrap();
    shop.ok(&["drill", "site-00002"]);
    let left = query_text(&url, schemas).unwrap()[0][0].clone();
    assert_eq!(
        left.as_deref(),
        Some("lifeboat_drill_unmarked mine"),
        "a killed drill's copy and staging, and no others"
    );
    let mut other = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    other.execute("SELECT pg_advisory_lock(hashtextextended('lifeboat drill', 0))", &[]).unwrap();
    shop.refused(&["drill", "site-00002"], 10, &["another drill is at work in the database for drills"]);
}

#[test]
fn a_site_that_came_back_without_a_part_of_it_is_not_proven() {
    let Some(incident) = Incident::of("a_site_that_came_back_without_a_part", 2, 1) else { return };
    let shop = &incident.shop;
    let config = shop.path("lifeboat.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (before, _) = text.split_once("[sources.files]").unwrap();
    std::fs::write(&config, before).unwrap();
    let said = shop.run(&["--json", "drill", "site-00002"]);
    assert_eq!((said.code, done(&said)["proven"].as_u64()), (3, Some(0)), "{said:?}");
    assert_eq!(sites(&said)["site-00002"]["state"], "not_proven");
    assert!(said.out.contains("files: part left out"), "{said:?}");
    assert!(proven_at(shop).values().all(Option::is_none));
}

#[test]
fn damage_of_one_site_is_found_and_told_of_that_one_alone() {
    let Some(incident) = Incident::of("damage_of_one_site_is_found_by_a_drill", 5, 1) else { return };
    let shop = &incident.shop;
    crate::faults::hurt(shop, "site-00003");
    let said = shop.run(&["--json", "drill", "--recovery", "5"]);
    assert_eq!(said.code, 20, "{said:?}");
    let told = done(&said);
    assert_eq!((told["proven"].as_u64(), told["failed"].as_array().unwrap().len()), (Some(4), 1), "{said:?}");
    assert_eq!(told["failed"][0]["site"], "site-00003", "{told}");
    assert!(told["failed"][0]["message"].as_str().unwrap().contains("object=`"), "{told}");
    assert_eq!(proven_at(shop).values().filter(|at| at.is_none()).count(), 1);
    assert_eq!(left(shop), Vec::<String>::new(), "nor does anything stay of what failed");
    // Whoever looks later is told, and the next sample does not begin with what cannot be proven.
    let told = shop.run(&["status"]);
    assert!(told.code == 4 && told.out.contains("its drill failed"), "{told:?}");
    assert!(shop.ok(&["sites"]).out.contains("FAILED"));
    assert_eq!(shop.run(&["drill", "site-00003"]).code, 20);
    let next = sites(&shop.run(&["--json", "drill", "--sample", "2"]));
    assert!(!next.contains_key("site-00003"), "{next:?}");
    // Not even its state can be read: the others are proven all the same.
    let commit = crate::faults::newest_commit_of(shop, "site-00004");
    let mut bytes = std::fs::read(&commit).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&commit, bytes).unwrap();
    std::fs::remove_dir_all(shop.path("lifeboat.catalog")).unwrap();
    let said = shop.run(&["--json", "drill", "--recovery", "5"]);
    assert_eq!((said.code, done(&said)["proven"].as_u64()), (20, Some(3)), "{said:?}");
    assert_eq!(done(&said)["failed"].as_array().unwrap().len(), 2, "{said:?}");
}

#[test]
fn a_missed_objective_is_a_breach() {
    let Some(incident) = Incident::of("a_missed_objective_is_a_breach", 3, 1) else { return };
    let shop = &incident.shop;
    shop.configure("\n[policies.strict]\nsites = [\"site-00002\"]\nrpo = \"1s\"\n");
    std::thread::sleep(Duration::from_millis(1_200));
    let said = shop.run(&["--json", "drill", "site-00002", "site-00003"]);
    assert_eq!(said.code, 4, "{said:?}");
    let told = sites(&said);
    assert_eq!((&told["site-00002"]["within_rpo"], &told["site-00003"]["within_rpo"]), (&false.into(), &true.into()));
    assert_eq!(done(&said)["beyond_rpo"], 1);
}

#[test]
fn what_a_killed_drill_has_left_the_next_one_takes_away() {
    let Some(incident) = Incident::of("what_a_killed_drill_has_left", 6, 1) else { return };
    let shop = &incident.shop;
    let mut killed = shop.start(&shop.url, &["drill", "--recovery", "6"]);
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !shop.path("lifeboat.drills").exists() || left(shop).is_empty() {
        assert!(std::time::Instant::now() < until && killed.try_wait().unwrap().is_none(), "it never began");
        std::thread::sleep(Duration::from_millis(1));
    }
    let busy = shop.run(&["drill", "site-00002"]);
    killed.kill().unwrap();
    killed.wait().unwrap();
    // It may have ended before the second one looked.
    assert!(busy.code == 0 || busy.err.contains("another drill is at work here"), "{busy:?}");
    std::fs::create_dir(shop.path("lifeboat.drills/lifeboat_drill_0011223344556677")).unwrap();
    std::fs::write(shop.path("lifeboat.drills/mine"), "not a drill's").unwrap();
    shop.ok(&["drill", "site-00002"]);
    assert_eq!(left(shop), ["mine"]);
    assert_eq!(shop.picture(), incident.damaged);
}

#[test]
fn a_drill_that_cannot_be_meant_is_refused_in_its_own_words() {
    let Some(incident) = Incident::of("a_drill_that_cannot_be_meant", 3, 1) else { return };
    let shop = &incident.shop;
    shop.refused(&["drill"], 2, &["required"]);
    shop.refused(&["drill", "site-00099"], 2, &["no such site", "site-0000"]);
    shop.refused(&["drill", "site-00001", "site-00001"], 2, &["a site is named twice"]);
    shop.refused(&["drill", "site-00001", "--sample", "2"], 2, &["cannot be used with"]);
    shop.refused(&["drill", "--sample", "0"], 2, &["0 is not in"]);
    // A moment nobody has: told of the site, and nothing else to do.
    let said = shop.run(&["--json", "drill", "site-00001", "--at", "2000-01-01T00:00:00Z"]);
    assert_eq!((said.code, done(&said)["proven"].as_u64()), (10, Some(0)), "{said:?}");
    std::fs::set_permissions(shop.path("lifeboat.drills"), std::fs::Permissions::from_mode(0o755)).unwrap();
    shop.refused(&["drill", "site-00001"], 10, &["others may look into the directory for drills", "chmod 700"]);
    std::fs::set_permissions(shop.path("lifeboat.drills"), std::fs::Permissions::from_mode(0o700)).unwrap();
    // Nor may the directory be one in which anything else lies.
    let config = shop.path("lifeboat.toml");
    let usual = std::fs::read_to_string(&config).unwrap();
    for wrong in ["srv", "srv/site-00002/attachments", ".", "repository/sites", "lifeboat.catalog/drills"] {
        std::fs::write(&config, format!("{usual}\n[drill]\ndirectory = \"{wrong}\"\n")).unwrap();
        shop.refused(&["drill", "site-00002"], 2, &["the directory for drills and that of", "drill.directory"]);
    }
    std::fs::write(&config, format!("{usual}\n[drill]\ndirectory = \"/tmp/{{site}}/d\"\n")).unwrap();
    shop.refused(&["drill", "site-00002"], 2, &["one directory is meant", "drill.directory"]);
    std::fs::write(&config, usual).unwrap();
    let drill = shop.ok(&["--json", "drill", &site_name(2)]).field("drill_id");
    for verb in ["run", "retry", "undo", "pause"] {
        shop.refused(&["recover", verb, &drill], 2, &["that is a drill", "lifeboat drill"]);
    }
    assert_eq!(shop.picture(), incident.damaged);
}
