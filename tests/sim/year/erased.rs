//! An erasure while a transaction is open: what the site begins anew with is restorable to any moment all the same.
//!
//!   beta: open ──────────────────────────────────▶
//!   acme:    a row, captured ─▶ erased ─▶ a base, which sees the row ─▶ moments
//!
//! The search begins before the erasure, for the base does not see the open transaction; what acme did there nobody can
//! open, and nobody needs.

use lifeboat_engine::lifecycle;

use super::capture::{Compacts, Visit, capture};
use super::{HOUR, Timestamp, Year, midnight, moments};

/// So many hours of captures; acme writes and is backed up in some of them, and is erased in the fifth.
async fn hours(year: &Year, (hours, writes, backups): (i64, &[i64], &[i64])) {
    let [host, _] = &year.hosts;
    let truth = (&year.app, &year.ledger);
    let visit = Visit { segment: 1, begins_anew: false, compacts: Compacts::No };
    for hour in 1..=hours {
        year.store.set_clock(at(hour));
        if writes.contains(&hour) {
            year.app.write("acme", (hour as u64, 5), at(hour));
        }
        year.app.wait(at(hour));
        capture(host, truth, at(hour), visit).await.unwrap();
        if backups.contains(&hour) {
            host.back_up_all(&year.sites, truth, at(hour)).await.unwrap();
        }
        if hour == 5 {
            let clock = host.repository.trusted_now(at(hour)).await.unwrap();
            let mut acme = host.open("acme").await.unwrap();
            lifecycle::erase(&host.engine, &mut acme, "asked for", &clock).await.unwrap();
            year.ledger.erased("acme", year.app.unseen_of("acme"));
        }
    }
}

fn at(hour: i64) -> Timestamp {
    Timestamp(midnight(0).0 + hour * HOUR)
}

async fn begun() -> Year {
    let year = Year::new(1).await;
    let visit = Visit { segment: 1, begins_anew: false, compacts: Compacts::No };
    capture(&year.hosts[0], (&year.app, &year.ledger), at(0), visit).await.unwrap();
    year
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_in_nobodys_way_though_a_transaction_was_open_meanwhile() {
    let year = begun().await;
    year.app.write("beta", (0, 1), at(12));
    hours(&year, (8, &[1, 2, 3, 4], &[4, 6])).await;
    assert!(year.ledger.is_restorable("acme", at(7)) && !year.ledger.is_restorable("acme", at(5)));
    let truth = (&year.app, &year.ledger);
    for site in ["acme", "beta"] {
        moments::check(&year.hosts[0], truth, site, (&[at(6), at(7), at(8)], true), "over an erasure").await;
    }
    assert_eq!(year.ledger.counts().moments, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_and_is_in_no_base_is_refused() {
    let year = begun().await;
    // What is committed at three waits for a standby till eight.
    year.app.stall(at(8));
    hours(&year, (9, &[3, 7], &[5, 6])).await;
    moments::check(&year.hosts[0], (&year.app, &year.ledger), "acme", (&[at(8), at(9)], true), "erased and unseen")
        .await;
    assert_eq!((year.ledger.counts().moments, year.ledger.counts().refused), (0, 2));
}
