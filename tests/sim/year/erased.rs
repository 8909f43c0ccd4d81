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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_in_nobodys_way_though_a_transaction_was_open_meanwhile() {
    let year = Year::new(1).await;
    let [host, _] = &year.hosts;
    let truth = (&year.app, &year.ledger);
    let at = |hour: i64| Timestamp(midnight(0).0 + hour * HOUR);
    let visit = Visit { segment: 1, begins_anew: false, compacts: Compacts::No };
    capture(host, truth, at(0), visit).await.unwrap();
    year.app.write("beta", (0, 1), at(12));
    for hour in 1..=8 {
        year.store.set_clock(at(hour));
        if hour < 5 {
            year.app.write("acme", (hour as u64, 5), at(hour));
        }
        year.app.wait(at(hour));
        capture(host, truth, at(hour), visit).await.unwrap();
        if hour == 4 || hour == 6 {
            host.back_up_all(&year.sites, truth, at(hour)).await.unwrap();
        }
        if hour == 5 {
            let clock = host.repository.trusted_now(at(hour)).await.unwrap();
            let mut acme = host.open("acme").await.unwrap();
            lifecycle::erase(&host.engine, &mut acme, "asked for", &clock).await.unwrap();
            year.ledger.erased("acme", year.app.unseen_of("acme"));
        }
    }
    assert!(year.ledger.is_restorable("acme", at(7)) && !year.ledger.is_restorable("acme", at(5)));
    for site in ["acme", "beta"] {
        moments::check(host, truth, site, (&[at(6), at(7), at(8)], true), "over an erasure").await;
    }
    assert_eq!(year.ledger.counts().moments, 6);
}
