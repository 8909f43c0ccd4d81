//! Ended at any step, the live rows are wholly before or wholly after, and the next run cleans up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lifeboat_model::Faulty;
use lifeboat_source::postgres::target::WantedRows;
use lifeboat_testkit::postgres::{query_text, run_sql};

use crate::support::{assert_restored, fleet, victim};

#[test]
fn a_run_that_ended_at_any_step_is_finished_by_the_next() {
    let Some(world) = fleet("dropped") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let bystanders = world.bystanders(&site);
    // Where nothing is left, nothing is staged: the open transaction ends with its session.
    for is_staged in [false, true] {
        world.delete_victim();
        if is_staged {
            world.run("INSERT INTO sites (id, name, plan_id, country) VALUES ('site-00002', 'half there', 1, 'DE')");
        }
        let damaged = world.live(&site);
        for step in 0..4 {
            let mut target = world.target(&site);
            let tables: Vec<_> = kept.tables.iter().map(|(wanted, _)| wanted.clone()).collect();
            if step == 1 {
                let sequences = kept.sequences.clone();
                let wanted = WantedRows { is_present: true, tables, sequences, ..WantedRows::default() };
                target.begin(wanted, target.live().unwrap()).unwrap();
            }
            if step >= 2 {
                let verified = world.verify(&mut target, &kept).unwrap();
                if step == 3 {
                    target.switch(verified).unwrap();
                }
            }
            assert_eq!(world.has_staging(), is_staged && step > 0);
            assert_eq!(world.live(&site) == damaged, step < 3);
        }
        world.restore(&site, &kept).unwrap();
        assert_restored(&world, &site, &kept, &bystanders);
    }
    world.run("CREATE SCHEMA lifeboat_stage_0707070707070707; CREATE TABLE lifeboat_stage_0707070707070707.s0 (a int)");
    world.target(&site).discard_staging().unwrap();
    assert!(!world.has_staging());
}

#[test]
fn sessions_ended_by_an_administrator_leave_all_or_nothing() {
    let Some(world) = fleet("terminated") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let bystanders = world.bystanders(&site);
    let before = world.live(&site);
    let (mut failed, mut finished) = (0, 0);
    for pause in [0, 5, 10, 20, 30, 40, 60, 80, 100, 130, 160, 200, 250, 300] {
        world.delete_victim();
        let is_over = AtomicBool::new(false);
        let (url, over) = (&world.url, &is_over);
        let mut target = world.target(&site);
        let result = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(pause));
                while !over.load(Ordering::Relaxed) {
                    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                               WHERE application_name = 'lifeboat' AND datname = current_database()";
                    if query_text(url, end).unwrap()[0][0].as_deref() != Some("0") {
                        break;
                    }
                }
            });
            let result = (|| {
                let verified = world.verify(&mut target, &kept)?;
                target.switch(verified)
            })();
            over.store(true, Ordering::Relaxed);
            result
        });
        let live = world.live(&site);
        match result {
            Ok(_) => {
                assert_eq!(live, before);
                finished += 1;
            }
            Err(error) => {
                assert!(live.is_absent(), "{error}");
                assert!(error.hint().is_some(), "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "{failed} {finished}");
    world.delete_victim();
    world.restore(&site, &kept).unwrap();
    assert_restored(&world, &site, &kept, &bystanders);
}

#[test]
fn others_write_all_the_time_and_notice_nothing() {
    let Some(world) = fleet("traffic") else { return };
    let (site, kept) = (victim(), world.back_up(&victim()));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for other in ["site-00001", "site-00003"] {
            let (url, over) = (&world.url, &is_over);
            scope.spawn(move || {
                let mut writes = 0;
                while !over.load(Ordering::Relaxed) {
                    let sql = format!(
                        "INSERT INTO worklog (site_id, issue_id, seconds) SELECT site_id, id, 1 FROM issues WHERE site_id = '{other}' LIMIT 3;
                         UPDATE issues SET title = title || '.' WHERE site_id = '{other}' AND number = 1"
                    );
                    run_sql(url, &sql).unwrap();
                    writes += 1;
                }
                assert!(writes > 3);
            });
        }
        for _ in 0..4 {
            world.delete_victim();
            world.restore(&site, &kept).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let live = world.live(&site);
    for (wanted, _) in &kept.tables {
        assert!(live.tables.iter().any(|table| table.name == wanted.name && table.digests.are(&wanted.digest)));
    }
}
