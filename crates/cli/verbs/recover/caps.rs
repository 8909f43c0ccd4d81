//! How many sites may come back: by one recovery, and by all of them within an hour.
//!
//! The hour is looked at when a plan is made, so that whoever asks for too much hears so at once, and again when it is
//! run: a plan may wait, and an undo is planned without asking.

use std::time::Duration;

use lifeboat_engine::{Journal, Recoveries};
use lifeboat_model::{CaseStage, CaseState, Timestamp};

use crate::CliError;
use crate::config::RecoveryConfig;
use crate::open::Open;

const HOUR: Duration = Duration::from_secs(3_600);

/// Before a plan over so many sites is made.
pub(super) async fn refuse_to_plan(count: usize, open: &Open) -> Result<(), CliError> {
    let RecoveryConfig { sites_max, .. } = open.config.recovery;
    if count > sites_max as usize {
        return Err(CliError::operator(format!(
            "more sites than one recovery may bring back: sites=`{count}`, recovery.sites_max=`{sites_max}`"
        ))
        .with_hint("if so many are meant, raise `sites_max` in [recovery]"));
    }
    refuse_beyond_hour(count, open).await
}

/// Before a run begins those that wait.
pub(super) async fn refuse_to_begin(journal: &Journal, open: &Open) -> Result<(), CliError> {
    let since = an_hour_ago();
    let cases = journal.state().cases.iter();
    // Whoever was begun within the hour is counted among those.
    let asked = cases.filter(|case| waits(case) && !began_since(case, since)).count();
    if asked == 0 { Ok(()) } else { refuse_beyond_hour(asked, open).await }
}

/// Those that a process was at when it was killed wait, too.
fn waits(case: &CaseState) -> bool {
    matches!(case.stage, CaseStage::Waiting | CaseStage::Running)
}

async fn refuse_beyond_hour(count: usize, open: &Open) -> Result<(), CliError> {
    let Some(most) = open.config.recovery.sites_per_hour else { return Ok(()) };
    let (since, recoveries, mut begun) = (an_hour_ago(), Recoveries::of(&open.engine), 0);
    for id in recoveries.list().await? {
        // A drill brings nobody back.
        if let Some(journal) = recoveries.open_since(id, since).await?.filter(|journal| !journal.plan().is_drill()) {
            begun += journal.state().cases.iter().filter(|case| began_since(case, since)).count();
        }
    }
    match begun + count > most as usize {
        true => Err(CliError::operator(format!(
            "more sites than an hour may bring back: begun=`{begun}`, asked=`{count}`, recovery.sites_per_hour=`{most}`"
        ))
        .with_hint("wait, or raise `sites_per_hour` in [recovery]")),
        false => Ok(()),
    }
}

fn an_hour_ago() -> Timestamp {
    Timestamp::now().saturating_sub(HOUR)
}

fn began_since(case: &CaseState, since: Timestamp) -> bool {
    case.began_at.is_some_and(|began| began >= since)
}
