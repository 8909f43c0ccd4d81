//! Tables of firings and decisions.

use std::time::{Duration, Instant};

use lifeboat_model::{SiteId, Timestamp};

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn schedule(cron: &str, zone: &str) -> Schedule {
    Schedule::new(cron, zone, Duration::ZERO).unwrap()
}

fn site(name: &str) -> SiteId {
    SiteId::new(name).unwrap()
}

fn named(name: &str, done_at: Option<&str>) -> DueSite {
    DueSite { site: site(name), policy: 0, done_at: done_at.map(at), failed_at: None, failures: 0, is_running: false }
}

fn room() -> Room {
    Room { batches: 4, sites_max: 1_000, ..Room::default() }
}

fn nightly(zone: &str) -> DuePolicy {
    DuePolicy { schedule: Some(schedule("0 2 * * *", zone)), rpo: DAY }
}

/// The sites that are due, of one policy.
fn due_of(now: &str, sites: &[DueSite], policy: DuePolicy) -> Vec<String> {
    let decision = due(at(now), sites, &[policy], &room());
    decision.batches.iter().flat_map(|batch| batch.sites.iter().map(ToString::to_string)).collect()
}

#[test]
fn a_policy_fires_as_its_zone_s_clocks_say() {
    let check = |cron: &str, zone: &str, now: &str, want: [&str; 3]| {
        let firings = schedule(cron, zone).firings(at(now));
        let got = [firings.before, firings.last, firings.next].map(|at| at.map_or("-".into(), |at| at.to_string()));
        assert_eq!(got, want, "{cron} {zone} {now}");
    };
    check(
        "0 2 * * *",
        "UTC",
        "2026-05-05T02:00:00Z",
        ["2026-05-04T02:00:00Z", "2026-05-05T02:00:00Z", "2026-05-06T02:00:00Z"],
    );
    check(
        "0 2 * * *",
        "UTC",
        "2026-05-05T01:59:59.9Z",
        ["2026-05-03T02:00:00Z", "2026-05-04T02:00:00Z", "2026-05-05T02:00:00Z"],
    );
    // 29 March 2026, Berlin: 02:00 is followed by 03:00. 02:30 fires once, when the gap is over.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-29T12:00:00Z",
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-29T00:59:59Z",
        ["2026-03-27T01:30:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z"],
    );
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-29T01:00:00Z",
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
    );
    // 25 October 2026, Berlin: 03:00 is followed by 02:00. 02:30 is there twice, and fires the first time.
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T12:00:00Z",
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-25T01:30:00Z",
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
    );
    // 8 March and 1 November 2026, New York.
    check(
        "30 2 * * *",
        "America/New_York",
        "2026-03-08T20:00:00Z",
        ["2026-03-07T07:30:00Z", "2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"],
    );
    check(
        "30 1 * * *",
        "America/New_York",
        "2026-11-01T20:00:00Z",
        ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"],
    );
    // What fires in intervals keeps its pace through both hours that are called two.
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-10-25T01:10:00Z",
        ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"],
    );
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T01:10:00Z",
        ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
    );
    check(
        "0 2 29 2 *",
        "UTC",
        "2026-05-05T00:00:00Z",
        ["2020-02-29T02:00:00Z", "2024-02-29T02:00:00Z", "2028-02-29T02:00:00Z"],
    );
    check(
        "0 22 * * 1-5",
        "UTC",
        "2026-05-10T00:00:00Z",
        ["2026-05-07T22:00:00Z", "2026-05-08T22:00:00Z", "2026-05-11T22:00:00Z"],
    );
    check(
        "0 2 * * *",
        "Pacific/Apia",
        "2026-05-05T12:59:00Z",
        ["2026-05-03T13:00:00Z", "2026-05-04T13:00:00Z", "2026-05-05T13:00:00Z"],
    );
}

/// Looking back finds what looking forward found, hour by hour through the weeks in which clocks are changed.
#[test]
fn the_last_firing_is_the_one_that_came_before_the_next() {
    let check = |cron: &str, zone: &str, from: &str, days: i64| {
        let schedule = schedule(cron, zone);
        let end = at(from).0 + days * 86_400_000_000;
        let mut known = schedule.firings(at(from)).last.unwrap();
        for now in (at(from).0..end).step_by(3_600_000_000).map(Timestamp) {
            let firings = schedule.firings(now);
            let (last, next) = (firings.last.unwrap(), firings.next.unwrap());
            assert!(firings.before.unwrap() < last && last <= now && now < next, "{zone} {cron} {now}: {firings:?}");
            // Of those in between nobody asked: each is the next of the one before it.
            while known < last {
                known = schedule.firings(known).next.unwrap();
            }
            assert_eq!(known, last, "{zone} {cron} {now}");
        }
    };
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
        for cron in ["30 2 * * *", "0 2 * * *", "59 1 * * *", "*/45 * * * *", "15 */2 * * *", "30 1,2 * * 0"] {
            check(cron, zone, "2026-03-05T00:10:00Z", 34);
            check(cron, zone, "2026-10-01T00:10:00Z", 34);
        }
    }
}

#[test]
fn what_is_no_schedule_says_why() {
    let check = |cron: &str, zone: &str, want: &str| {
        let error = Schedule::new(cron, zone, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(want), "{cron} {zone}: {error}");
    };
    check("0 2 * *", "UTC", "five fields");
    check("0 0 2 * * *", "UTC", "five fields");
    check("61 2 * * *", "UTC", "not a cron schedule");
    check("0 2 * * mo", "UTC", "not a cron schedule");
    check("0 2 31 2 *", "UTC", "never fires: schedule=`0 2 31 2 *`");
    check("0 2 * * *", "Europe/Berln", "no such time zone: timezone=`Europe/Berln`");
    assert!(zone_names().iter().any(|name| name == "Europe/Berlin"));
}

// Explains invariant: turns-stay
#[test]
fn sites_are_spread_over_the_window_and_keep_their_place() {
    let spread = Schedule::new("0 2 * * *", "UTC", 2 * HOUR).unwrap();
    let sites: Vec<SiteId> = (0..2_400).map(|number| site(&format!("site-{number}"))).collect();
    let night = |now: &str| {
        let firings = spread.firings(at(now));
        sites.iter().map(|site| firings.last_of(Turn::of(site), at(now)).unwrap()).collect::<Vec<_>>()
    };
    let (first, second) = (night("2026-05-05T12:00:00Z"), night("2026-05-06T12:00:00Z"));
    assert!(first.iter().zip(&second).all(|(first, second)| second.since(*first) == DAY));
    let mut moments = first.clone();
    moments.sort();
    assert!(moments[0] == at("2026-05-05T02:00:00Z") && *moments.last().unwrap() == at("2026-05-05T03:55:00Z"));
    let of_turn = |turn: &Timestamp| first.iter().filter(|moment| *moment == turn).count();
    moments.dedup();
    assert!(moments.len() == 24 && moments.iter().all(|turn| (60..140).contains(&of_turn(turn))), "{moments:?}");
    // Pinned: a version with another hash would run half of a fleet twice in one night, and half of it late.
    let firings = spread.firings(at("2026-05-05T12:00:00Z"));
    assert_eq!(firings.last_of(Turn::of(&site("acme")), at("2026-05-05T12:00:00Z")), Some(at("2026-05-05T02:50:00Z")));
    // A window never reaches into the next firing.
    let often = Schedule::new("*/10 * * * *", "UTC", 2 * HOUR).unwrap().firings(at("2026-05-05T12:05:00Z"));
    assert!(
        sites.iter().all(
            |site| often.next_of(Turn::of(site), at("2026-05-05T12:05:00Z")).unwrap() <= at("2026-05-05T12:10:00Z")
        )
    );
}

// Explains invariant: once-a-firing
#[test]
fn a_site_is_due_once_for_all_firings_that_it_missed() {
    let check = |now: &str, done_at: Option<&str>, want: bool| {
        let due = due_of(now, &[named("acme", done_at)], nightly("UTC"));
        assert_eq!(!due.is_empty(), want, "{now} {done_at:?}");
    };
    check("2026-05-05T01:59:00Z", Some("2026-05-04T02:00:01Z"), false);
    check("2026-05-05T02:00:00Z", Some("2026-05-04T02:00:01Z"), true);
    check("2026-05-05T02:00:05Z", Some("2026-05-05T02:00:00Z"), false);
    // Never; a first point cannot come too soon.
    check("2026-05-05T12:00:00Z", None, true);
    // Days down, at any time of day.
    check("2026-05-09T12:00:00Z", Some("2026-05-05T02:00:00Z"), true);
    check("2026-05-09T12:05:00Z", Some("2026-05-09T12:00:01Z"), false);
    // By hand after the firing is as good.
    check("2026-05-05T23:00:00Z", Some("2026-05-05T08:00:00Z"), false);
    // The clock was set back by less than the night is away, and by more.
    check("2026-05-05T02:10:00Z", Some("2026-05-05T02:40:00Z"), false);
    check("2026-05-05T01:50:00Z", Some("2026-05-05T02:00:30Z"), false);
    check("2026-05-05T01:50:00Z", Some("2027-05-05T02:00:30Z"), true);
}

#[test]
fn what_failed_is_tried_again_after_a_pause_that_grows_up_to_the_next_firing() {
    let failed = |failures: u32| DueSite {
        failed_at: Some(at("2026-05-05T02:00:10Z")),
        failures,
        ..named("acme", Some("2026-05-04T02:00:10Z"))
    };
    let check = |now: &str, failures: u32, want_due: bool, want_again: &str| {
        let decision = due(at(now), &[failed(failures)], &[nightly("UTC")], &room());
        let batches: Vec<bool> = decision.batches.iter().map(|batch| batch.is_again).collect();
        assert_eq!(batches, vec![failures > 1; want_due.into()], "{now} {failures}");
        assert_eq!(decision.look_again_at, Some(at(want_again)), "{now} {failures}");
    };
    check("2026-05-05T02:05:00Z", 1, false, "2026-05-05T02:05:10Z");
    check("2026-05-05T02:05:10Z", 1, true, "2026-05-06T02:00:00Z");
    check("2026-05-05T02:05:10Z", 2, false, "2026-05-05T02:10:10Z");
    check("2026-05-05T02:41:00Z", 4, true, "2026-05-06T02:00:00Z");
    check("2026-05-05T06:00:00Z", 40, false, "2026-05-05T08:00:10Z");
    // A new night is no repetition.
    let night = due(at("2026-05-06T02:00:00Z"), &[failed(40)], &[nightly("UTC")], &room());
    assert_eq!(night.batches.iter().map(|batch| batch.is_again).collect::<Vec<_>>(), [false]);
    // The pause ends where the next firing begins, however long it would be.
    let hourly = DuePolicy { schedule: Some(schedule("0 * * * *", "UTC")), rpo: HOUR };
    let decision = due(at("2026-05-05T02:05:00Z"), &[failed(9)], &[hourly], &room());
    assert_eq!((decision.batches.len(), decision.look_again_at), (0, Some(at("2026-05-05T03:00:00Z"))));
}

#[test]
fn the_most_overdue_go_first_and_what_fails_takes_one_place_only() {
    let mut sites: Vec<DueSite> = (0..100)
        .map(|number| DueSite {
            failed_at: Some(at("2026-05-05T02:00:10Z")),
            failures: 2,
            ..named(&format!("broken-{number}"), Some("2026-04-01T02:00:10Z"))
        })
        .collect();
    sites.push(named("new", None));
    sites.push(named("old", Some("2026-05-01T02:00:10Z")));
    sites.push(named("late", Some("2026-05-04T02:00:10Z")));
    sites.push(DueSite { policy: 1, ..named("gold", Some("2026-05-05T08:00:10Z")) });
    sites.push(DueSite { policy: 2, ..named("by-hand", None) });
    sites.push(DueSite { is_running: true, ..named("busy", None) });
    let policies = [
        nightly("UTC"),
        DuePolicy { schedule: Some(schedule("0 * * * *", "UTC")), rpo: HOUR },
        DuePolicy { schedule: None, rpo: HOUR },
    ];
    let now = at("2026-05-05T12:00:00Z");
    let told = |room: &Room| {
        let decision = due(now, &sites, &policies, room);
        let batch = |batch: &Batch| (batch.is_again, batch.sites.iter().map(ToString::to_string).collect::<Vec<_>>());
        decision.batches.iter().map(batch).collect::<Vec<_>>()
    };
    let all = told(&room());
    assert_eq!(all[0], (false, vec!["new".into(), "old".into(), "late".into()]));
    assert_eq!(all[1], (false, vec!["gold".into()]));
    assert!(all.len() == 3 && all[2].0 && all[2].1.len() == 16, "{all:?}");
    // One place: it is not the failing ones'. A policy has one batch at a time, and so have they.
    assert_eq!(told(&Room { batches: 1, ..room() }).len(), 1);
    assert_eq!(told(&Room { batches: 1, running: vec![0], ..room() }), [(false, vec!["gold".to_owned()])]);
    assert!(told(&Room { running: vec![0, 1], is_trying_again: true, ..room() }).is_empty());
    assert_eq!(told(&Room { sites_max: 2, ..room() })[0].1, ["new", "old"]);
}

#[test]
fn ten_thousand_sites_are_decided_on_in_a_moment() {
    let sites: Vec<DueSite> = (0..10_000)
        .map(|number| DueSite { policy: number % 20, ..named(&format!("site-{number}"), Some("2026-05-04T02:00:10Z")) })
        .collect();
    let spread = DuePolicy { schedule: Some(Schedule::new("0 2 * * *", "Europe/Berlin", 2 * HOUR).unwrap()), rpo: DAY };
    let policies = vec![spread; 20];
    let began = Instant::now();
    let decision = due(at("2026-05-05T01:00:00Z"), &sites, &policies, &Room { batches: 99, ..room() });
    let took = began.elapsed();
    assert!(decision.due > 4_000 && decision.batches.len() == 20, "{}", decision.due);
    // Not optimised and beside other tests; 10 ms where it runs in earnest.
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn every_byte_is_read_within_the_days_evenly_and_whoever_is_late_at_once() {
    const EVERY: Duration = Duration::from_secs(30 * 86_400);
    let mut sites: Vec<ReadSite> = (0..300u64)
        .map(|number| ReadSite {
            site: site(&format!("site-{number}")),
            bytes: (number % 7) * 1_000_000,
            read_at: None,
        })
        .collect();
    sites.push(ReadSite { site: site("large"), bytes: 100_000_000, read_at: None });
    let total: u64 = sites.iter().map(|site| site.bytes).sum();
    let mut now = at("2026-01-01T00:00:00Z");
    let end = Timestamp(now.0 + 120 * 86_400_000_000);
    let (mut a_day, mut most_a_day, mut day) = (0u64, 0u64, now);
    while now < end {
        for name in to_read(now, EVERY, &sites).sites {
            let site = sites.iter_mut().find(|site| site.site == name).unwrap();
            (site.read_at, a_day) = (Some(now), a_day + site.bytes);
        }
        let is_settled = now.0 > at("2026-01-31T00:00:00Z").0;
        let oldest = sites.iter().map(|site| site.read_at).min().unwrap();
        assert!(!is_settled || oldest.is_some_and(|oldest| now.since(oldest) <= EVERY + HOUR), "{now}: {oldest:?}");
        if now.since(day) >= DAY {
            (most_a_day, a_day, day) = (most_a_day.max(a_day), 0, now);
        }
        now = Timestamp(now.0 + 20 * 60_000_000);
    }
    // A thirtieth, and what pace and the largest one add to it.
    assert!(most_a_day < total / 30 * 2 + 100_000_000, "{most_a_day} of {total}");
    // Ten days down: those whose time is over are read at once, the others in their turn.
    now = Timestamp(now.0 + 10 * 86_400_000_000);
    let late = sites.iter().filter(|site| now.since(site.read_at.unwrap()) >= EVERY).count();
    let reading = to_read(now, EVERY, &sites);
    assert!(late > 20 && reading.sites.len() >= late.min(64), "{late} {}", reading.sites.len());
    assert_eq!(to_read(now, EVERY, &[]), Reading::default());
    assert!(to_read(at("2026-01-01T00:00:00Z"), EVERY, &sites[..1]).look_again_at >= Some(at("2026-01-01T00:00:00Z")));
}
