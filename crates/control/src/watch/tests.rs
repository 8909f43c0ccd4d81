//! Cycles one after another, with a catalog that remembers and commands that are told.

use std::path::Path;

use super::*;
use crate::alarms::tests::{facts, site};
use crate::alarms::{Severity, Trouble};

const HOUR: i64 = 3_600_000_000;

fn command(name: &str, script: String) -> Notifier {
    Notifier {
        name: name.into(),
        min_severity: Severity::Warning,
        way: Way::Command(["sh".to_owned(), "-c".to_owned(), script].to_vec()),
        timeout: Duration::from_secs(60),
    }
}

fn ways(dir: &Path) -> Ways {
    let (log, off) = (dir.join("told").display().to_string(), dir.join("off").display().to_string());
    let told = format!("cat >>'{log}'; echo >>'{log}'");
    // This one cannot be reached while a file lies there.
    let shy = format!("test ! -e '{off}' && cat >>'{log}.shy'");
    let notifiers = vec![command("ops", told), command("shy", shy)];
    Ways { notifiers, ping: None, repeat: Duration::from_secs(86_400) }
}

fn sender() -> Sender {
    Sender { host: "h".into(), repository: None, version: "1" }
}

struct Scene {
    dir: tempfile::TempDir,
    memory: Mutex<Catalog>,
    now: Timestamp,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&dir.path().join("catalog"), "r").unwrap().catalog;
        let now = facts(Vec::new(), Vec::new()).at;
        Self { dir, memory: Mutex::new(catalog), now }
    }

    /// A cycle an hour later, in which the site is late or not.
    async fn cycle(&mut self, is_late: bool) -> Cycle {
        let mut site = site("acme");
        site.restorable_till = (!is_late).then_some(self.now);
        self.cycle_of(facts(vec![site], Vec::new())).await
    }

    async fn cycle_of(&mut self, facts: Facts) -> Cycle {
        self.now = Timestamp(self.now.0 + HOUR);
        let notifiers = lock(&self.memory).notifiers().unwrap();
        let facts = Facts { at: self.now, notifiers, ..facts };
        let ways = ways(self.dir.path());
        cycle(&facts, &AlarmLimits::default(), (&ways, &sender()), &self.memory).await
    }

    fn is_off(&self, is_off: bool) {
        let off = self.dir.path().join("off");
        if is_off { std::fs::write(off, "").unwrap() } else { std::fs::remove_file(off).unwrap() }
    }
}

/// Who was told how many that began, go on, and are over.
fn told(cycle: &Cycle) -> Vec<(&str, bool, [usize; 3])> {
    let of = |delivery: &'_ Delivery| {
        let Round { began, repeated, resolved } = &delivery.round;
        [began.len(), repeated.len(), resolved.len()]
    };
    cycle.deliveries.iter().map(|one| (one.notifier.as_str(), one.outcome.is_ok(), of(one))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_begins_is_told_once_and_once_when_it_is_over() {
    let mut scene = Scene::new();
    assert_eq!(told(&scene.cycle(false).await), []);
    let first = scene.cycle(true).await;
    assert_eq!(told(&first), [("ops", true, [1, 0, 0]), ("shy", true, [1, 0, 0])]);
    assert!(!first.is_healthy());
    for _ in 0..23 {
        assert_eq!(told(&scene.cycle(true).await), []);
    }
    let again = scene.cycle(true).await;
    assert_eq!(told(&again), [("ops", true, [0, 1, 0]), ("shy", true, [0, 1, 0])], "a day later");
    assert_eq!(again.alarms[0].since, first.alarms[0].since, "it is the same one");
    let over = scene.cycle(false).await;
    assert_eq!(told(&over), [("ops", true, [0, 0, 1]), ("shy", true, [0, 0, 1])]);
    assert!(over.is_healthy());
    assert_eq!(told(&scene.cycle(false).await), []);
    assert_eq!(std::fs::read_to_string(scene.dir.path().join("told")).unwrap().lines().count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_could_not_be_told_is_told_later_and_the_others_hear_of_it() {
    let mut scene = Scene::new();
    scene.is_off(true);
    let first = scene.cycle(true).await;
    assert_eq!(told(&first), [("ops", true, [1, 0, 0]), ("shy", false, [1, 0, 0])]);
    let kinds: Vec<AlarmKind> = first.alarms.iter().map(|alarm| alarm.kind).collect();
    assert_eq!(kinds, [AlarmKind::PointOverdue, AlarmKind::NotificationsFailing], "at once");
    // The next cycle tells the others, and tries again.
    assert_eq!(told(&scene.cycle(true).await), [("ops", true, [1, 0, 0]), ("shy", false, [2, 0, 0])]);
    scene.is_off(false);
    assert_eq!(told(&scene.cycle(true).await), [("shy", true, [2, 0, 0])]);
    let after = scene.cycle(true).await;
    assert_eq!(told(&after), [("ops", true, [0, 0, 1]), ("shy", true, [0, 0, 1])], "it works again");
    let health = after.notifiers.iter().find(|health| health.name == "shy").unwrap();
    assert_eq!((health.sent, health.failed, &health.failing), (2, 2, &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_be_told_is_an_alarm_before_there_is_one_to_tell() {
    let scene = Scene::new();
    let unusable = Notifier { way: Way::Unusable("not there".into()), ..command("ops", String::new()) };
    let ways = Ways { notifiers: vec![unusable], ping: None, repeat: Duration::from_secs(9) };
    let well = facts(vec![site("acme")], Vec::new());
    let cycle = cycle(&well, &AlarmLimits::default(), (&ways, &sender()), &scene.memory).await;
    assert_eq!(cycle.deliveries, [], "there is nothing to be told");
    assert_eq!(cycle.alarms[0].kind, AlarmKind::NotificationsFailing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_what_fires_goes_on_firing() {
    let mut scene = Scene::new();
    let first = scene.cycle(true).await;
    let away = Facts::without_store(scene.now, Trouble { reason: "no answer".into(), hint: None });
    let blind = scene.cycle_of(away.clone()).await;
    assert_eq!(told(&blind), [("ops", true, [1, 0, 0]), ("shy", true, [1, 0, 0])]);
    assert_eq!(told(&scene.cycle_of(away).await), []);
    let back = scene.cycle(true).await;
    assert_eq!(told(&back), [("ops", true, [0, 0, 1]), ("shy", true, [0, 0, 1])], "the store is back");
    assert_eq!(back.alarms[0].since, first.alarms[0].since, "and the site has been late all the time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_tells_nobody_and_a_lost_catalog_tells_again() {
    let mut scene = Scene::new();
    let late = || {
        let mut site = site("acme");
        site.restorable_till = None;
        facts(vec![site], Vec::new())
    };
    assert_eq!(look(&late(), &AlarmLimits::default(), &scene.memory).len(), 1);
    assert_eq!(told(&scene.cycle(true).await).len(), 2, "nobody was told by a look");
    let rebuilt = lock(&scene.memory).clear();
    rebuilt.unwrap();
    assert_eq!(told(&scene.cycle(true).await), [], "the bucket's part of it is another matter");
    scene.memory = Mutex::new(Catalog::in_memory("r").unwrap());
    assert_eq!(told(&scene.cycle(true).await).len(), 2, "better twice than never");
}
