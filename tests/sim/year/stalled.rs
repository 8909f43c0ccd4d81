//! A standby that does not answer for hours, and a base that is cut meanwhile.
//!
//!   commit: in the log ─▶ nobody writes for hours ─▶ base, which does not see it ─▶ the standby answers ─▶ moments
//!
//! What the base does not see is in a segment of long before, and those in between say nothing.

use super::capture::{Compacts, Visit, capture};
use super::{HOUR, Timestamp, Year, midnight, moments};

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_standby_is_found_though_nothing_was_written_till_the_base() {
    for compacts in [Compacts::No, Compacts::Due] {
        let year = Year::new(1).await;
        let [host, _] = &year.hosts;
        let truth = (&year.app, &year.ledger);
        let at = |hour: i64| Timestamp(midnight(0).0 + hour * HOUR);
        let visit = Visit { segment: 1, begins_anew: false, compacts };
        capture(host, truth, at(0), visit).await.unwrap();
        host.back_up_all(&year.sites, truth, at(0)).await.unwrap();
        year.app.write("acme", (1, 5), at(1));
        year.app.wait(at(1));
        year.app.stall(at(12));
        year.app.write("acme", (2, 6), at(2));
        for hour in 1..=16 {
            year.store.set_clock(at(hour));
            year.app.wait(at(hour));
            capture(host, truth, at(hour), visit).await.unwrap();
            if hour == 10 {
                host.back_up_all(&year.sites, truth, at(hour)).await.unwrap();
            }
        }
        let asked = [at(9), at(10), at(11), at(13), at(16)];
        moments::check(host, truth, "acme", (&asked, true), &format!("{compacts:?}")).await;
        assert_eq!(year.ledger.counts().moments, 5);
    }
}
