//! What a host does with its time beside backups: by the product's own rules, in the order of its verbs.
//!
//!   ask the clocks ─▶ of each site: forget by the rules ▸ say what it needs of the log ▸ prune ─▶ prune the log

use std::time::Duration;

use jiff::tz::TimeZone;
use lifeboat_control::retention::{self, Epochs, KeepRules, LogDemand, LogDemands};
use lifeboat_engine::{HeadMemory, prune_log};
use lifeboat_model::{CommitEvent, Forgotten, SiteState, StateError, Timestamp};
use lifeboat_repo::{Error, PruneRules, Pruned, Site, TrustedNow};

use super::DAY;
use super::app::source;
use super::host::Host;
use super::ledger::Ledger;

/// Till then a forgotten point can be taken back.
pub const UNDELETE: i64 = 3 * DAY;
pub const RULES: PruneRules =
    PruneRules { grace: Duration::from_secs(2 * 86_400), unnamed: Duration::from_secs(86_400) };
const HAD_FOR: Duration = Duration::from_micros(UNDELETE as u64);

impl Host {
    /// Forgets and prunes.
    pub async fn tidy(&self, sites: &[String], ledger: &Ledger, now: Timestamp) -> Result<(), Error> {
        let clock = self.repository.trusted_now(Timestamp(now.0 + self.ahead)).await?;
        let seen = lifeboat_engine::epochs(&self.engine, &source()).await.map_err(of_repository)?;
        let epochs = Epochs::from([(source(), seen)]);
        let mut demands = LogDemands::new(clock.now, (self.window(), HAD_FOR));
        for site in sites {
            let mut open = self.open(site).await?;
            forget(&mut open, &epochs, (&clock, self.window())).await?;
            demands.add(&LogDemand { state: open.state(), window: self.window(), undelete: HAD_FOR, is_gone: false });
            let pruned = match open.prune(&RULES, &clock, &lifeboat_engine::this_process()).await {
                Err(Error::State(StateError::Held(_))) => Pruned::default(),
                other => other?,
            };
            self.memory.note_site(&open);
            ledger.count(|counts| {
                counts.condemned += pruned.condemned;
                counts.deleted += pruned.deleted;
            });
        }
        let (needs, _) = demands.needs(&source(), RULES.unnamed);
        let pruned = prune_log(&self.engine, &source(), &needs, (&RULES, &clock), true).await;
        for one in pruned.map_err(of_repository)? {
            ledger.count(|counts| {
                counts.log_condemned += one.condemned;
                counts.log_deleted += one.deleted;
            });
        }
        Ok(())
    }
}

/// Of the engine's errors those of the repository are known here.
pub fn of_repository(error: lifeboat_engine::Error) -> Error {
    match error {
        lifeboat_engine::Error::Repo(error) => error,
        lifeboat_engine::Error::Cancelled => Error::Cancelled,
        other => panic!("{other}"),
    }
}

/// Forgets what no rule keeps.
async fn forget(site: &mut Site, epochs: &Epochs, (clock, window): (&TrustedNow, Duration)) -> Result<(), Error> {
    let decided = |state: &SiteState| {
        let (points, facts) = retention::facts(state, epochs);
        let rules = KeepRules { daily: 7, weekly: 4, monthly: 6, window, ..KeepRules::default() };
        let decisions = retention::decide(&points, facts, (&rules, &TimeZone::UTC), clock.now);
        decisions.into_iter().filter(|one| !one.is_kept()).map(|one| one.id).collect::<Vec<_>>()
    };
    let forgotten = Forgotten { at: clock.later, till: Timestamp(clock.later.0 + UNDELETE) };
    let writer = lifeboat_engine::this_process();
    let committed = site.commit(&writer, |state, _| match decided(state) {
        none if none.is_empty() => Err(Error::Cancelled),
        snapshots => Ok(CommitEvent::Forgot { snapshots, forgotten, reason: "no rule keeps it".into() }),
    });
    match committed.await {
        // A killed store says the same: then the next operation says it again.
        Ok(_) | Err(Error::Cancelled | Error::State(StateError::Held(_))) => Ok(()),
        Err(error) => Err(error),
    }
}
