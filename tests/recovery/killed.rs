//! A recovery killed at any time ends as an undisturbed one.

use std::time::Duration;

use lifeboat_testkit::world::noise;

use crate::incident::{Incident, Planned, done};

/// A number from 0 to below `bound`, of a seed.
fn random(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

const KILLS: usize = 20;

#[test]
fn twenty_kills_at_any_time_and_all_are_back_with_hardly_a_byte_read_twice() {
    let Some(mut incident) = Incident::of("twenty_kills_at_any_time", 20, 16) else { return };
    // Attachments that take a while, so that kills fall into them.
    let undisturbed = {
        let planned = incident.plan(&[]);
        assert_eq!(incident.run(&planned, &[]).code, 0);
        for (number, site) in (1..).zip(&incident.lost) {
            let file = incident.shop.path("srv").join(site).join("attachments/scan.bin");
            std::fs::write(file, noise(number, 1_500_000)).unwrap();
        }
        incident.shop.ok(&["backup", "--all"]);
        incident.whole = incident.shop.picture();
        incident.strike();
        let planned = incident.plan(&[]);
        assert_eq!(incident.run(&planned, &[]).code, 0);
        assert_eq!(incident.shop.picture(), incident.whole);
        incident.bytes_read(&planned)
    };
    incident.strike();
    let planned = incident.plan(&[]);
    let mut seed = 26;
    let mut kills = 0;
    for _ in 0..KILLS * 3 {
        let mut child = incident
            .shop
            .start(&incident.shop.url, &["--json", "recover", "run", &planned.id, "--plan", &planned.hash]);
        std::thread::sleep(Duration::from_millis(60 + random(&mut seed, 700)));
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let was_killed = std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9);
        kills += usize::from(was_killed);
        incident.shop.wait_until_alone();
        if kills == KILLS || !was_killed {
            break;
        }
    }
    println!("killed {kills} times");
    assert!(kills >= 5, "it was killed only {kills} times before it was done");
    let said = incident.run(&planned, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(incident.shop.picture(), incident.whole);
    assert_eq!(incident.shop.staging(), "");
    let cases = incident.cases(&planned);
    assert!(cases.values().all(|case| case["state"] == "restored"), "{cases:?}");
    println!("undisturbed {undisturbed} bytes, killed {} in the last attempts", incident.bytes_read(&planned));
    // What every site had before is kept, whoever has kept it.
    let undo = incident.shop.ok(&["--json", "recover", "undo", &planned.id]);
    let undo = Planned { id: undo.field("recovery_id"), hash: undo.field("plan_hash") };
    assert_eq!(done(&incident.shop.ok(&["--json", "recover", "status", &undo.id]))["sites"], 16);
    assert_eq!(incident.run(&undo, &[]).code, 0);
    assert_eq!(incident.shop.picture(), incident.damaged);
}

#[test]
fn a_frozen_runner_is_put_out_and_changes_nothing_when_it_wakes() {
    let Some(incident) = Incident::of("a_frozen_runner_is_put_out", 14, 12) else { return };
    let planned = incident.plan(&[]);
    let args = ["--json", "recover", "run", &planned.id, "--plan", &planned.hash];
    let frozen = incident.shop.start(&incident.shop.url, &args);
    let pid = rustix::process::Pid::from_raw(i32::try_from(frozen.id()).unwrap()).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while incident.cases(&planned).values().all(|case| case["state"] != "restored") {
        assert!(std::time::Instant::now() < until, "nothing was restored");
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let refused = incident.run(&planned, &[]);
    let is_done = refused.code == 0; // it was frozen behind its last case
    if !is_done {
        assert_eq!(refused.code, 12, "{refused:?}");
        assert!(done(&refused)["message"].as_str().unwrap().contains("another process runs this recovery"));
        // What the frozen one has locked in the database it holds: its sessions are ended, as an operator would.
        incident.shop.end_sessions();
        let said = incident.run(&planned, &["--take-over"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    assert_eq!(incident.shop.picture(), incident.whole);
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    let woken = frozen.wait_with_output().unwrap();
    assert!(is_done || woken.status.code() == Some(12), "{woken:?}");
    assert_eq!(incident.shop.picture(), incident.whole, "it changed nothing when it woke");
    let cases = incident.cases(&planned);
    assert!(cases.values().all(|case| case["state"] == "restored"), "{cases:?}");
}
