//! A year of a thousand sites under a clock of its own: firings, failures, a daemon that is down, and hosts that come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_model::{SiteId, Timestamp};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const LOOK: i64 = 60_000_000;

struct World {
    policies: Vec<DuePolicy>,
    /// What the bucket says of each site: all that a daemon knows.
    sites: Vec<DueSite>,
    /// Every time that a site was backed up.
    runs: BTreeMap<SiteId, Vec<Timestamp>>,
    tries: u64,
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn site(number: usize) -> SiteId {
    SiteId::new(format!("site-{number}")).unwrap()
}

impl World {
    fn new() -> Self {
        let schedule = |cron: &str, zone: &str, spread| Some(Schedule::new(cron, zone, spread).unwrap());
        let policies = vec![
            DuePolicy { schedule: schedule("30 2 * * *", "Europe/Berlin", 2 * HOUR), rpo: 24 * HOUR },
            DuePolicy { schedule: schedule("30 1 * * *", "America/New_York", Duration::ZERO), rpo: 24 * HOUR },
            DuePolicy { schedule: schedule("0 */6 * * *", "UTC", Duration::ZERO), rpo: 6 * HOUR },
            DuePolicy { schedule: schedule("0 3 1 * *", "UTC", Duration::ZERO), rpo: 24 * HOUR },
        ];
        let policy = |number: usize| match number {
            0..700 => 0,
            700..900 => 1,
            900..990 => 2,
            _ => 3,
        };
        let new = |number: usize| DueSite {
            site: site(number),
            policy: policy(number),
            done_at: None,
            failed_at: None,
            failures: 0,
            is_running: false,
        };
        Self { policies, sites: (0..1_000).map(new).collect(), runs: BTreeMap::new(), tries: 0 }
    }

    /// One look of a daemon, whose batches are done before the next one. Gives when to look again.
    fn look(&mut self, now: Timestamp, is_broken: impl Fn(&SiteId) -> bool) -> Timestamp {
        let room = Room { batches: 4, sites_max: 400, ..Room::default() };
        let decision = due(now, &self.sites, &self.policies, &room);
        let started: usize = decision.batches.iter().map(|batch| batch.sites.len()).sum();
        for site in decision.batches.iter().flat_map(|batch| &batch.sites) {
            self.tries += 1;
            let number: usize = site.as_str().trim_start_matches("site-").parse().unwrap();
            let known = &mut self.sites[number];
            if is_broken(site) {
                (known.failed_at, known.failures) = (Some(now), known.failures + 1);
            } else {
                (known.done_at, known.failed_at, known.failures) = (Some(now), None, 0);
                self.runs.entry(site.clone()).or_default().push(now);
            }
        }
        // More is due than there was room for: the next look is soon.
        let is_more = decision.due > started;
        let again = decision.look_again_at.filter(|_| !is_more).unwrap_or(Timestamp(now.0 + LOOK));
        Timestamp(again.0.max(now.0 + 1_000_000))
    }

    /// Every firing of each policy in a span of time.
    fn firings(&self, from: Timestamp, till: Timestamp) -> Vec<Vec<Timestamp>> {
        let of = |policy: &DuePolicy| {
            let schedule = policy.schedule.as_ref().unwrap();
            let next = |at: &Timestamp| schedule.firings(*at).next.filter(|next| *next < till);
            std::iter::successors(next(&Timestamp(from.0 - 1_000_000)), |at| next(at)).collect()
        };
        self.policies.iter().map(of).collect()
    }
}

#[test]
fn in_a_year_every_site_runs_once_a_firing_and_none_is_lost() {
    let mut world = World::new();
    let (begin, end) = (at("2024-01-01T11:00:00Z"), at("2025-01-01T11:00:00Z"));
    let mut now = begin;
    while now < end {
        now = world.look(now, |_| false);
    }
    let all = world.firings(begin, end);
    for DueSite { site, policy, .. } in &world.sites {
        let (firings, runs) = (&all[*policy], &world.runs[site]);
        // The first is its first point, which no firing has to ask for.
        assert_eq!(runs.len(), firings.len() + 1, "{site}");
        for (number, (firing, run)) in firings.iter().zip(&runs[1..]).enumerate() {
            let following = firings.get(number + 1).copied().unwrap_or(end);
            assert!(firing <= run && *run < following && run.since(*firing) < 2 * HOUR, "{site}: {firing} {run}");
        }
    }
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [366, 366, 366 * 4, 12], "a leap year, in every zone");
}

#[test]
fn a_daemon_that_was_down_catches_up_once_wherever_it_comes_back() {
    let mut world = World::new();
    let mut now = at("2026-03-20T00:00:00Z");
    while now < at("2026-03-27T12:00:00Z") {
        now = world.look(now, |_| false);
    }
    let before: BTreeMap<SiteId, usize> = world.runs.iter().map(|(site, runs)| (site.clone(), runs.len())).collect();
    // Four days down, over the change of the clock. Whoever comes back knows what the bucket says and nothing else.
    now = at("2026-03-31T10:00:00Z");
    while now < at("2026-03-31T11:00:00Z") {
        now = world.look(now, |_| false);
    }
    for DueSite { site, policy, .. } in world.sites.iter().filter(|site| site.policy != 3) {
        assert_eq!(world.runs[site].len(), before[site] + 1, "{site} of policy {policy} catches up once");
    }
    // A clock that is set back by two hours makes nothing due again; one that was a year ahead is not believed for a year.
    let tries = world.tries;
    world.look(at("2026-03-31T09:30:00Z"), |_| false);
    assert_eq!(world.tries, tries);
    world.sites.iter_mut().for_each(|known| known.done_at = Some(at("2027-03-31T09:30:00Z")));
    world.look(at("2026-03-31T09:31:00Z"), |_| false);
    assert!(world.tries > tries);
}

#[test]
fn sites_that_always_fail_keep_nobody_waiting_and_are_tried_less_and_less() {
    let mut world = World::new();
    let is_broken = |site: &SiteId| site.as_str().ends_with('7');
    let (begin, end) = (at("2026-01-01T11:00:00Z"), at("2026-02-01T11:00:00Z"));
    let mut now = begin;
    while now < end {
        now = world.look(now, is_broken);
    }
    let all = world.firings(begin, end);
    for DueSite { site, policy, .. } in &world.sites {
        match is_broken(site) {
            true => assert!(!world.runs.contains_key(site)),
            false => assert_eq!(world.runs[site].len(), all[*policy].len() + 1, "{site}"),
        }
    }
    let succeeded: u64 = world.runs.values().map(|runs| runs.len() as u64).sum();
    let a_day_each = (world.tries - succeeded) as f64 / 100.0 / 31.0;
    assert!(a_day_each > 2.0 && a_day_each < 8.0, "{a_day_each} vain tries a day");
    // Mended: each comes back with its next try, and then runs as the others do.
    let mended = now;
    while now < Timestamp(mended.0 + 7 * 3_600_000_000) {
        now = world.look(now, |_| false);
    }
    assert!(world.sites.iter().filter(|site| site.policy != 3).all(|known| world.runs.contains_key(&known.site)));
}
