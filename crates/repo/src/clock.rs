//! What time it is, where forgetting and deleting depend on it.
//!
//!   host's clock, store's clock ─▶ the smaller is now, the larger is what a promise of time counts from
//!
//! Invariant (no-lone-clock): nothing is forgotten or deleted by a clock that is more than a day past the newest recorded
//! run, and nothing is deleted before a run was recorded since it was condemned.

use std::time::Duration;

use lifeboat_format::names;
use lifeboat_model::{ObjectId, Run, RunNumber, Timestamp};

use crate::upload::object_name;
use crate::{Error, Repository, random_id};

/// By how much a clock may be past the newest run.
const JUMP_MAX: Duration = Duration::from_secs(86_400);

/// A time that two clocks and the runs agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedNow {
    /// The smaller of the two clocks: no waiting time has ended that has not ended by it.
    pub now: Timestamp,
    /// The larger of them: waiting times begin with it. Not believed either where it is more than a day past the newest
    /// run: what one clock has dated a year ahead would wait for that year.
    pub later: Timestamp,
    /// The newest recorded run.
    pub run: RunNumber,
}

impl TrustedNow {
    /// Judges two clocks by the newest run, and by when it was recorded.
    pub fn judge(host: Timestamp, store: Timestamp, newest: Option<(RunNumber, Timestamp)>) -> Result<Self, Error> {
        let (now, later) = (host.min(store), host.max(store));
        let Some((run, finished)) = newest else {
            return Err(Error::Clock { detail: "no backup run was ever recorded".into() });
        };
        if now.since(finished) > JUMP_MAX {
            let detail = format!(
                "they are more than a day past the newest backup run: host=`{host}`, store=`{store}`, run {run}=`{finished}`"
            );
            return Err(Error::Clock { detail });
        }
        let latest = Timestamp(finished.0.saturating_add(JUMP_MAX.as_micros() as i64));
        Ok(Self { now, later: later.min(latest).max(now), run })
    }
}

impl Repository {
    /// Asks the store for its time, and judges it and the host's.
    pub async fn trusted_now(&self, host: Timestamp) -> Result<TrustedNow, Error> {
        let newest = self.newest_runs(1).await?.pop();
        let newest = match newest {
            Some(Run { number, finished_at, .. }) => Some((number, self.recorded_at(number, finished_at).await?)),
            None => None,
        };
        TrustedNow::judge(host, self.store_now().await?, newest)
    }

    /// When a run was recorded: by the smaller of two clocks as well, for its host's may have been the one that jumped.
    async fn recorded_at(&self, run: RunNumber, finished: Timestamp) -> Result<Timestamp, Error> {
        let name = names::run(run);
        let listed = self.store().list(names::RUNS_PREFIX, None, 2).await?;
        let listed = listed.into_iter().find(|listed| listed.name.as_str() == name);
        Ok(listed.and_then(|listed| listed.modified).map_or(finished, |at| at.min(finished)))
    }

    /// When an object that is created now was created, as the store says.
    async fn store_now(&self) -> Result<Timestamp, Error> {
        let name = object_name(names::probe(&ObjectId(random_id()?)))?;
        self.store().create(&name, bytes::Bytes::new()).await?;
        let listed = self.store().list(names::PROBE_PREFIX, None, 1000).await;
        // Whoever may not delete leaves an object that means nothing.
        if let Err(error) = self.store().delete(&name).await {
            tracing::debug!(object = %name, %error, "a probe of the store's clock was left behind");
        }
        let found = listed?.into_iter().find(|listed| listed.name == name);
        found.and_then(|listed| listed.modified).ok_or_else(|| Error::Clock {
            detail: format!("the store does not say when an object was created: store=`{}`", self.store().describe()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Explains invariant: no-lone-clock
    #[test]
    fn a_clock_that_jumped_is_not_believed_and_of_two_the_earlier_counts() {
        const HOUR: i64 = 3_600_000_000;
        let at = |hours: i64| Timestamp(hours * HOUR);
        let check = |host: i64, store: i64, run: Option<i64>, want: Option<(i64, i64)>| {
            let judged = TrustedNow::judge(at(host), at(store), run.map(|run| (RunNumber(7), at(run))));
            let got = judged.as_ref().ok().map(|trusted| (trusted.now, trusted.later));
            assert_eq!(got, want.map(|(now, later)| (at(now), at(later))), "{host} {store} {run:?}: {judged:?}");
        };
        check(100, 100, Some(99), Some((100, 100)));
        check(100, 101, Some(99), Some((100, 101)));
        // One clock a year ahead is harmless: the other one counts, and nothing is dated by it.
        check(8_860, 101, Some(99), Some((101, 123)));
        check(101, 8_860, Some(99), Some((101, 123)));
        // Both are.
        check(8_860, 8_861, Some(99), None);
        check(122, 123, Some(99), Some((122, 123)));
        check(123, 124, Some(99), Some((123, 123)));
        check(124, 124, Some(99), None);
        // Behind the newest run: nothing ends too early by it.
        check(50, 101, Some(99), Some((50, 101)));
        check(100, 100, None, None);
    }
}
