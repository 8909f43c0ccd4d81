//! A window that was made too short by mistake, and prunes meanwhile.
//!
//!   window = "4d" ─▶ nights ─▶ "1h" ─▶ two nights ─▶ "4d" again, points undeleted ─▶ every moment of four days
//!
//! What a log needs no more is marked, as a point is that is forgotten, and there for the undelete time.

use lifeboat_model::{CommitEvent, SnapshotId};

use super::capture::{Compacts, Visit, capture};
use super::{HOUR, Timestamp, WINDOW, Year, midnight, moments};

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_was_too_short_for_two_nights_has_cost_no_moment() {
    let mut year = Year::new(1).await;
    let at = |hour: i64| Timestamp(midnight(0).0 + hour * HOUR);
    let visit = Visit { segment: 1, begins_anew: false, compacts: Compacts::Due };
    let nights = 12;
    for hour in 0..=nights * 24 {
        let truth = (&year.app, &year.ledger);
        year.store.set_clock(at(hour));
        if hour % 6 == 1 {
            year.app.write("acme", (hour as u64 % 5, hour as u64), at(hour));
            year.app.write("beta", (hour as u64 % 3, hour as u64), at(hour));
        }
        year.app.wait(at(hour));
        capture(&year.hosts[0], truth, at(hour), visit).await.unwrap();
        if hour % 24 == 0 {
            year.hosts[0].window = if hour / 24 >= nights - 1 { HOUR } else { WINDOW };
            year.hosts[0].back_up_all(&year.sites, truth, at(hour)).await.unwrap();
            year.hosts[0].tidy(&year.names(), &year.ledger, at(hour)).await.unwrap();
        }
    }
    assert!(year.ledger.counts().log_condemned > 0);
    let now = at(nights * 24);
    for site in ["acme", "beta"] {
        let forgotten = year.hosts[0].open(site).await.unwrap().state().forgotten.clone();
        let snapshots: Vec<SnapshotId> = forgotten.iter().map(|record| record.id).collect();
        assert!(!snapshots.is_empty(), "{site}: {snapshots:?}");
        year.commit(site, CommitEvent::Undeleted { snapshots }).await;
    }
    year.hosts[0].window = WINDOW;
    let truth = (&year.app, &year.ledger);
    for _ in 0..2 {
        let asked: Vec<Timestamp> = (1..=16).map(|part| Timestamp(now.0 - part * WINDOW / 16)).collect();
        for site in ["acme", "beta"] {
            moments::check(&year.hosts[0], truth, site, (&asked, true), "a short window").await;
        }
        year.hosts[0].tidy(&year.names(), &year.ledger, now).await.unwrap();
    }
    assert_eq!(year.ledger.counts().moments, 64);
}
