//! What befalls one case befalls no other, and shows in its own receipt or failure.

use lifeboat_testkit::postgres::Postgres;
use lifeboat_testkit::small_disk::SmallDisk;
use lifeboat_testkit::world::noise;

use crate::incident::{Incident, done};

#[test]
fn a_corrupted_pack_and_a_held_lock_hit_their_own_cases_alone() {
    let Some(incident) = Incident::of("a_corrupted_pack_and_a_held_lock", 14, 12) else { return };
    let shop = &incident.shop;
    let planned = incident.plan(&[]);
    // With its manifest damaged, nothing of a site can be read.
    let damaged = &incident.lost[8];
    hurt(shop, damaged);
    // Rows of another one are locked by somebody who does not let go.
    let locked = &incident.lost[5];
    let name = "locked by another session";
    let row = "(SELECT min(id) FROM plans)";
    shop.sql(&format!("INSERT INTO sites VALUES ('{locked}', '{name}', {row}, 'DE')"));
    let planned_anew = incident.plan(&[]);
    assert_ne!(planned.hash, planned_anew.hash);
    let planned = planned_anew;
    let mut holder = postgres::Client::connect(&shop.url, postgres::NoTls).unwrap();
    let mut transaction = holder.transaction().unwrap();
    transaction.execute("SELECT FROM sites WHERE id = $1 FOR UPDATE", &[locked]).unwrap();
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 20, "{said:?}");
    let mut failed = [(locked, 11), (damaged, 20)];
    failed.sort();
    for said in [&said, &shop.run(&["--json", "recover", "status", &planned.id])] {
        let done = done(said);
        let told =
            done["failed"].as_array().unwrap().iter().map(|one| (one["site"].as_str(), one["exit_code"].as_u64()));
        assert!(told.eq(failed.iter().map(|(site, code)| (Some(site.as_str()), Some(*code)))), "{done}");
        assert_eq!((&done["failed_sites"], &done["state"]), (&2.into(), &"done".into()), "{done}");
    }
    let people = shop.run(&["recover", "status", &planned.id]);
    assert_eq!((people.out.matches("FAILED").count(), people.err.contains("error")), (2, false), "{people:?}");
    // How the recovery went is what its report says; that it was written is another matter.
    let report = shop.ok(&["recover", "report", &planned.id, "--verify"]);
    let undo = incident.cases(&planned)[&incident.lost[0]]["receipt"]["restore_id"].as_str().unwrap().to_owned();
    assert!(report.out.contains(&undo), "`lifeboat undo` takes it: {}", report.out);
    let cases = incident.cases(&planned);
    for (site, case) in &cases {
        let want = if site == damaged || site == locked { "failed" } else { "restored" };
        assert_eq!(case["state"], want, "{site}: {case}");
    }
    assert_eq!(cases[locked]["exit_code"], 11, "{}", cases[locked]);
    drop(transaction);
    assert_eq!(cases[damaged]["exit_code"], 20, "{}", cases[damaged]);
    assert!(cases[damaged]["message"].as_str().unwrap().contains("object=`"), "{}", cases[damaged]);
    // The lock is gone: what has failed is tried again, and the damage stays what it is.
    shop.ok(&["recover", "retry", &planned.id, locked]);
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 20, "{said:?}");
    assert_eq!(incident.cases(&planned)[locked]["state"], "restored");
}

#[test]
fn a_full_disk_hits_the_case_whose_files_lie_there_alone() {
    let Some(server) = Postgres::shared_or_skip("a_full_disk_hits_the_case") else { return };
    let incident = Incident::with(server, None, (8, 6), |shop, site| {
        std::fs::write(shop.attachment(site, "scan.bin"), noise(site.into(), 3_000_000)).unwrap();
    });
    let shop = &incident.shop;
    let full = &incident.lost[3];
    let Some(disk) = SmallDisk::mount_or_skip(&shop.path("srv").join(full), 1) else { return };
    let planned = incident.plan(&[]);
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 10, "{said:?}");
    let cases = incident.cases(&planned);
    for (site, case) in &cases {
        assert_eq!(case["state"], if site == full { "failed" } else { "restored" }, "{site}: {case}");
    }
    let told = &cases[full];
    assert_eq!(told["exit_code"], 10, "{told}");
    assert!(told["message"].as_str().unwrap().contains("space") && told["hint"].is_string(), "{told}");
    assert_eq!(shop.text(&format!("SELECT count(*) FROM sites WHERE id = '{full}'")), "0", "nothing of it was done");
    disk.grow(64);
    shop.ok(&["recover", "retry", &planned.id, full]);
    assert_eq!(incident.run(&planned, &[]).code, 0);
    assert_eq!(shop.picture(), incident.whole);
}

/// Changes a bit in the middle of what the newest snapshot of a site lies in.
pub fn hurt(shop: &crate::shop::Shop, site: &str) {
    let object = largest_object_of(shop.path("repository/sites"), shop, site);
    let mut bytes = std::fs::read(&object).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&object, bytes).unwrap();
}

/// The object that says what the site is now.
pub fn newest_commit_of(shop: &crate::shop::Shop, site: &str) -> std::path::PathBuf {
    let commits = handle_of(shop.path("repository/sites"), shop, site).join("commit");
    std::fs::read_dir(commits).unwrap().map(|entry| entry.unwrap().path()).min().unwrap() // names are inverted
}

/// The largest object of a site's manifests.
fn largest_object_of(sites: std::path::PathBuf, shop: &crate::shop::Shop, site: &str) -> std::path::PathBuf {
    let manifests = handle_of(sites, shop, site).join("manifest");
    let objects = std::fs::read_dir(manifests).unwrap().map(|entry| entry.unwrap().path());
    objects.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap()
}

/// Where all of a site lies, found by taking one away after the other: names do not tell whose they are.
fn handle_of(sites: std::path::PathBuf, shop: &crate::shop::Shop, site: &str) -> std::path::PathBuf {
    let handles = std::fs::read_dir(&sites).unwrap().flat_map(|shard| {
        std::fs::read_dir(shard.unwrap().path()).unwrap().map(|handle| handle.unwrap().path()).collect::<Vec<_>>()
    });
    for handle in handles {
        let hidden = handle.with_extension("hidden");
        std::fs::rename(&handle, &hidden).unwrap();
        let is_gone = shop.run(&["points", site]).code != 0;
        std::fs::rename(&hidden, &handle).unwrap();
        if is_gone {
            return handle;
        }
    }
    panic!("no such site: {site}");
}
