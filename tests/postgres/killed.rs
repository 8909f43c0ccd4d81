//! Killed anywhere: the process, its sessions, its connections. The live rows are wholly as before or
//! wholly as wanted, the same command finishes, and nothing that was staged is left.
//!
//! Each statement of a command is a step: the proxy stops it there, before the server sees it or after
//! the server has done it. Only the steps that differ in kind are tried in a normal run, all of them
//! with LIFEBOAT_TEST_FULL=1.

use std::collections::BTreeMap;
use std::time::Instant;

use lifeboat_testkit::crash_runner::is_full;
use lifeboat_testkit::postgres::{Postgres, own_site, run_sql};

use crate::proxy::{COPY_DATA, COPY_DONE, Proxy, Side, Trap, Verdict};
use crate::shop::{SCHEMAS, Said, Shop};

const SIGKILL: i32 = -9;
/// Kills at random times, of each command.
const TIMES: u32 = 3;
const TIMES_FULL: u32 = 100;

/// One statement of each step of a restore or an undo, by a part of its text; its last one counts.
const STEPS: [&str; 11] = [
    "CREATE SCHEMA lifeboat_stage_",
    "COPY lifeboat_stage_",
    COPY_DATA,
    COPY_DONE,
    "ANALYZE lifeboat_stage_",
    "pg_advisory_lock",
    "SET LOCAL session_replication_role = replica",
    "INSERT INTO ",
    "pg_current_xact_id",
    "COMMIT",
    "DROP SCHEMA IF EXISTS",
];
/// What opens what was made: a commit, or a database's name.
const LAST: [&str; 2] = ["COMMIT", "RENAME TO"];
/// A normal run of an undo, or with a lost connection, tries these.
const FEW: [&str; 3] = [COPY_DATA, "INSERT INTO ", "COMMIT"];
/// Steps of a restore that stages nothing: the site has no row.
const STRAIGHT: [&str; 5] = ["pg_advisory_lock", COPY_DATA, COPY_DONE, "pg_current_xact_id", "COMMIT"];
/// Steps of a restore that makes a schema again.
const MAKING: [&str; 6] = ["CREATE SCHEMA", COPY_DATA, "ADD CONSTRAINT", "REFRESH", "pg_current_xact_id", "COMMIT"];
/// Steps of a backup.
const BACKUP: [&str; 4] = ["LOCK TABLE", "pg_export_snapshot", "SET TRANSACTION SNAPSHOT", "COPY ("];

/// What is done to a command that is held at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Kill,
    /// `pg_terminate_backend` of all its sessions.
    Terminate,
    /// The held connection is lost, and what was held with it.
    Cut,
}

/// A fleet whose second site is damaged, and its two states.
pub struct Scene {
    pub shop: Shop,
    damage: &'static str,
    proxy: Proxy,
    damaged: BTreeMap<String, String>,
    pub whole: BTreeMap<String, String>,
}

const RESTORE: [&str; 4] = ["restore", "site-00002", "--yes", "--json"];
pub const DAMAGE: &str = "
    DELETE FROM comments WHERE issue_id IN (SELECT id FROM issues WHERE site_id = 'site-00002');
    UPDATE issues SET title = 'oops' WHERE site_id = 'site-00002' AND number % 2 = 0;
    INSERT INTO labels (id, site_id, number, name) VALUES (-1, 'site-00002', 999, 'made later')";
const DELETION: &str = "
    DELETE FROM sites WHERE id = 'site-00002'; DELETE FROM audit.events WHERE site_id = 'site-00002'";

impl Scene {
    fn new(test: &str) -> Option<Self> {
        let server = Postgres::shared_or_skip(test)?;
        Some(Self::of(server, Shop::fleet(server, 3, 100), DAMAGE))
    }

    pub fn of(server: &Postgres, shop: Shop, damage: &'static str) -> Self {
        shop.ok(&["backup", "--all"]);
        let whole = shop.picture();
        shop.sql(damage);
        Self { damaged: shop.picture(), whole, damage, proxy: Proxy::start(server.port()), shop }
    }

    /// Runs a command, held at a statement for the deed; `None`: it ended before it came there.
    pub fn disturb(&self, args: &[&str], trap: &Trap, deed: Deed) -> Option<Said> {
        self.proxy.set(Some(trap.clone()));
        let mut child = self.shop.start(&self.proxy.url(&self.shop.url), args);
        let held = self.proxy.wait(|| child.try_wait().unwrap().is_some());
        match deed {
            _ if held.is_none() => {}
            Deed::Kill => child.kill().unwrap(),
            Deed::Terminate => self.shop.end_sessions(),
            Deed::Cut => {}
        }
        // A killed client sends nothing more, and its answers reach nobody.
        self.proxy.release(if deed == Deed::Terminate { Verdict::GoOn } else { Verdict::Cut });
        let said = Said::of(child.wait_with_output().unwrap());
        self.shop.wait_until_alone();
        held.map(|_| said)
    }

    /// Runs a command, held at a statement while something else happens, and lets it go on.
    pub fn meanwhile<T>(&self, args: &[&str], trap: &Trap, happens: impl FnOnce() -> T) -> (Said, T) {
        self.proxy.set(Some(trap.clone()));
        let mut child = self.shop.start(&self.proxy.url(&self.shop.url), args);
        assert!(self.proxy.wait(|| child.try_wait().unwrap().is_some()).is_some(), "it never came there");
        let happened = happens();
        self.proxy.release(Verdict::GoOn);
        (Said::of(child.wait_with_output().unwrap()), happened)
    }

    /// The statements of a command that nothing disturbs.
    fn statements(&self, args: &[&str]) -> (Vec<String>, Said) {
        self.proxy.set(None);
        let said = self.shop.run_at(&self.proxy.url(&self.shop.url), args);
        assert_eq!(said.code, 0, "{}\n{}", said.out, said.err);
        (self.proxy.statements(), said)
    }

    /// Wholly before or wholly after, whatever the command said of it.
    fn check_state(&self, from: &BTreeMap<String, String>, till: &BTreeMap<String, String>, said: &Said, what: &str) {
        let now = self.shop.picture();
        assert!(now == *from || now == *till, "{what}: neither before nor after\n{said:?}\n{now:#?}");
        if said.code == 0 {
            assert_eq!(now, *till, "{what}: it said that it was done");
        } else if said.code != SIGKILL {
            assert!(!said.field("message").is_empty() && !said.field("hint").is_empty(), "{what}: {said:?}");
        }
    }

    /// The command, run again, has done everything and left nothing.
    fn check_again(&self, args: &[&str], till: &BTreeMap<String, String>, what: &str) -> Said {
        let again = self.shop.run(args);
        assert_eq!(again.code, 0, "{what}: {again:?}");
        assert_eq!(self.shop.picture(), *till, "{what}");
        assert_eq!(self.shop.staging(), "", "{what}: left behind");
        again
    }

    /// Does the deed at each of these steps of a restore, and undoes the restore that was killed at its last one.
    pub fn sweep_restore(&self, deed: Deed, wanted: &[&str]) {
        let (statements, said) = self.statements(&RESTORE);
        assert_eq!(self.shop.picture(), self.whole);
        self.undo(&said);
        let mut hits = 0;
        for trap in steps(&statements, wanted, deed as usize) {
            let what = format!("{deed:?} {trap:?}");
            let disturbed = self.disturb(&RESTORE, &trap, deed);
            let Some(said) = disturbed else { continue };
            hits += 1;
            self.check_state(&self.damaged, &self.whole, &said, &what);
            let again = self.check_again(&RESTORE, &self.whole, &what);
            if LAST.contains(&trap.text.as_str()) {
                self.undo(if said.code == 0 { &said } else { &again });
            } else {
                self.shop.sql(self.damage);
                assert_eq!(self.shop.picture(), self.damaged);
            }
        }
        println!("{deed:?}: {hits} times in {} statements of a restore", statements.len());
        assert!(hits >= wanted.len(), "{hits}");
    }

    /// Kills an undo at each of these steps.
    pub fn sweep_undo(&self, wanted: &[&str]) {
        let restored = || self.shop.ok(&RESTORE).field("restore_id");
        let first = restored();
        let (statements, _) = self.statements(&["undo", &first, "--yes", "--json"]);
        for trap in steps(&statements, wanted, 1) {
            let what = format!("{trap:?}");
            let restore = restored();
            let undo = ["undo", &restore, "--yes", "--json"];
            let Some(said) = self.disturb(&undo, &trap, Deed::Kill) else { continue };
            self.check_state(&self.whole, &self.damaged, &said, &what);
            self.check_again(&undo, &self.damaged, &what);
        }
    }

    fn undo(&self, said: &Said) {
        self.shop.ok(&["undo", &said.field("restore_id"), "--yes"]);
        assert_eq!(self.shop.picture(), self.damaged);
    }
}

/// Where a command is stopped: at the last statement of each wanted step, on one side or the other; at
/// the one that opens what was made on both. In a full run at every statement on both.
fn steps(statements: &[String], wanted: &[&str], turn: usize) -> Vec<Trap> {
    let both = |text: &str, nth| [Side::Before, Side::Answer].map(|side| Trap { text: text.to_owned(), nth, side });
    if is_full() {
        return (0..statements.len()).flat_map(|number| both("", number)).collect();
    }
    let mut chosen = Vec::new();
    for (at, step) in wanted.iter().enumerate() {
        let of_step = statements.iter().filter(|statement| statement.contains(step)).count();
        let last = of_step.checked_sub(1).unwrap_or_else(|| panic!("no statement has `{step}`"));
        let sides = both(step, last).into_iter().enumerate();
        chosen.extend(sides.filter(|(side, _)| *side == (at + turn) % 2 || LAST.contains(step)).map(|(_, trap)| trap));
    }
    chosen
}

#[test]
fn a_restore_killed_at_any_statement_is_all_or_nothing_and_finishes_when_run_again() {
    let Some(scene) = Scene::new("a_restore_killed_at_any_statement") else { return };
    scene.sweep_restore(Deed::Kill, &STEPS);
}

#[test]
fn a_restore_whose_sessions_are_ended_at_any_statement_is_all_or_nothing_and_finishes_when_run_again() {
    let Some(scene) = Scene::new("a_restore_whose_sessions_are_ended") else { return };
    scene.sweep_restore(Deed::Terminate, &FEW);
}

#[test]
fn a_restore_whose_connection_is_lost_at_any_statement_is_all_or_nothing_and_finishes_when_run_again() {
    let Some(scene) = Scene::new("a_restore_whose_connection_is_lost") else { return };
    scene.sweep_restore(Deed::Cut, &FEW);
}

#[test]
fn a_restore_of_a_site_without_a_row_killed_at_any_statement_is_all_or_nothing_and_finishes_when_run_again() {
    let Some(server) = Postgres::shared_or_skip("a_restore_of_a_site_without_a_row_killed") else { return };
    let scene = Scene::of(server, Shop::fleet(server, 3, 100), DELETION);
    scene.sweep_restore(Deed::Kill, &STRAIGHT);
    scene.sweep_restore(Deed::Terminate, &["COMMIT"]);
}

#[test]
fn a_schema_being_made_again_killed_at_any_statement_is_there_whole_or_not_at_all_and_is_made_when_run_again() {
    let Some(server) = Postgres::shared_or_skip("a_schema_being_made_again_killed") else { return };
    let url = server.fresh_database().unwrap();
    for site in ["site-00001", "site-00002"] {
        run_sql(&url, &format!("CREATE SCHEMA \"{site}\"")).unwrap();
        own_site(&url, &format!("\"{site}\""), 50).unwrap();
    }
    let shop = Shop::of(&url, SCHEMAS);
    let scene = Scene::of(server, shop, "DROP SCHEMA \"site-00002\" CASCADE");
    scene.sweep_restore(Deed::Kill, &MAKING);
    scene.sweep_restore(Deed::Terminate, &["COMMIT"]);
}

#[test]
fn an_undo_killed_at_any_statement_is_all_or_nothing_and_finishes_when_run_again() {
    let Some(scene) = Scene::new("an_undo_killed_at_any_statement") else { return };
    scene.sweep_undo(&FEW);
}

#[test]
fn a_backup_killed_at_any_statement_loses_no_point_and_finishes_when_run_again() {
    let Some(scene) = Scene::new("a_backup_killed_at_any_statement") else { return };
    let backup = ["backup", "--all", "--json"];
    scene.shop.ok(&RESTORE);
    let (statements, _) = scene.statements(&backup);
    for (at, trap) in steps(&statements, &BACKUP, 0).into_iter().enumerate() {
        let what = format!("{trap:?}");
        scene.shop.sql(&format!("UPDATE issues SET title = 'night {at}'"));
        scene.disturb(&backup, &trap, Deed::Kill);
        scene.shop.ok(&backup);
        let kept = scene.shop.picture();
        scene.shop.sql("DELETE FROM sites WHERE id = 'site-00002'");
        scene.check_again(&RESTORE, &kept, &what);
    }
}

#[test]
fn a_restore_killed_at_any_time_is_all_or_nothing_and_finishes_when_run_again() {
    let Some(scene) = Scene::new("a_restore_killed_at_any_time") else { return };
    let began = Instant::now();
    scene.shop.ok(&RESTORE);
    let (whole_time, times) = (began.elapsed(), if is_full() { TIMES_FULL } else { TIMES });
    let mut kills = 0;
    for time in 1..=times {
        scene.shop.sql(DAMAGE);
        let mut child = scene.shop.start(&scene.shop.url, &RESTORE);
        std::thread::sleep(whole_time * time / (times + 1));
        child.kill().unwrap();
        let said = Said::of(child.wait_with_output().unwrap());
        kills += u32::from(said.code == SIGKILL);
        let what = format!("time {time} of {times}");
        // At once: the server may not have noticed that the client is dead.
        scene.check_again(&RESTORE, &scene.whole, &what);
    }
    println!("{kills} of {times} restores killed within {whole_time:?}");
    assert!(kills > 0);
}
