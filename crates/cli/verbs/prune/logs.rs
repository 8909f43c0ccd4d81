//! Of the change logs what no moment of any site needs: condemned, and later deleted.
//!
//! All sites share a source's log, so that all must have been looked at before any of it goes.

use lifeboat_control::retention::{KeptFor, LogDemands};
use lifeboat_engine::{LogNeeds, prune_log};
use lifeboat_model::{Fault, Faulty, SourceName, Timestamp};
use lifeboat_repo::{EpochPruned, Going};
use serde_json::{Value, json};

use crate::open::Open;
use crate::output::{Align, Failed, Table, bytes, count};
use crate::verbs::lifecycle::Begun;
use crate::{CliError, Context};

/// What became of one source's log.
pub(super) struct LogPruned {
    source: SourceName,
    epochs: Vec<EpochPruned>,
    /// What is kept of it goes on top of snapshots that were cut since.
    kept_since: Timestamp,
    kept_for: KeptFor,
    /// Why it was left alone.
    left_alone: Option<String>,
}

/// Objects that go and have gone, of all logs.
#[derive(Clone, Copy, Default)]
pub(super) struct LogsSum {
    pub deletes: Going,
    pub condemns: Going,
    pub deleted: u64,
    pub condemned: u64,
}

/// Prunes the log of every captured source. `is_whole`: every site has told what it needs.
pub(super) async fn prune(
    open: &Open,
    (demands, is_whole): (&LogDemands, bool),
    (begun, acts): (&Begun, bool),
    failed: &mut Vec<Failed>,
) -> Result<Vec<LogPruned>, CliError> {
    let rules = &open.config.prune.rules;
    let mut done = Vec::new();
    for source in open.engine.repository.captured_sources().await? {
        let (needs, kept_for) = demands.needs(&source, rules.unnamed);
        let left_alone = match (is_whole, demands.open_restore(&source)) {
            (false, _) => Some("not every site could be looked at".to_owned()),
            (true, Some(site)) => Some(format!("{site} is being restored")),
            (true, None) => None,
        };
        let pruned = match left_alone {
            Some(_) => Ok(Vec::new()),
            None => prune_log(&open.engine, &source, &needs, (rules, &begun.clock), acts).await,
        };
        let LogNeeds { since: kept_since, .. } = needs;
        match pruned {
            Ok(epochs) => done.push(LogPruned { source, epochs, kept_since, kept_for, left_alone }),
            Err(error) if error.fault() == Fault::Cancelled => return Err(error.into()),
            Err(error) => {
                let error = CliError::from(error);
                let message = format!("the change log of `{source}` was not pruned: {}", error.message);
                failed.push(Failed { site: None, message, hint: error.hint.clone(), exit_code: error.exit_code() });
            }
        }
    }
    Ok(done)
}

impl LogPruned {
    fn sum(&self) -> LogsSum {
        self.epochs.iter().fold(LogsSum::default(), |sum, EpochPruned { plan, deleted, condemned }| LogsSum {
            deletes: sum.deletes + plan.deletes,
            condemns: sum.condemns + plan.condemns,
            deleted: sum.deleted + deleted,
            condemned: sum.condemned + condemned,
        })
    }

    fn waits(&self) -> Going {
        self.epochs.iter().fold(Going::default(), |sum, one| sum + one.plan.waits)
    }

    fn marked(&self) -> Going {
        self.epochs.iter().fold(Going::default(), |sum, one| sum + one.plan.marked)
    }

    /// For whom it is kept so long, or why it was left alone.
    fn why(&self) -> String {
        match (&self.left_alone, &self.kept_for) {
            (Some(why), _) => format!("left alone: {why}"),
            (None, KeptFor::Window) => "the window".to_owned(),
            (None, KeptFor::Site { site, is_held: true }) => format!("{site}, which is held"),
            (None, KeptFor::Site { site, is_held: false }) => format!("the window of {site}"),
        }
    }
}

pub(super) fn sum(logs: &[LogPruned]) -> LogsSum {
    logs.iter().map(LogPruned::sum).fold(LogsSum::default(), |sum, one| LogsSum {
        deletes: sum.deletes + one.deletes,
        condemns: sum.condemns + one.condemns,
        deleted: sum.deleted + one.deleted,
        condemned: sum.condemned + one.condemned,
    })
}

pub(super) fn tell(logs: &[LogPruned], context: &Context) {
    let output = &context.output;
    let mut table = Table::new(&[
        ("CHANGE LOG", Align::Left),
        ("DELETE", Align::Right),
        ("SIZE", Align::Right),
        ("CONDEMN", Align::Right),
        ("SIZE", Align::Right),
        ("WAITING", Align::Right),
        ("MARKED", Align::Right),
        ("NEEDED SINCE", Align::Left),
        ("FOR", Align::Left),
    ]);
    for log in logs {
        output.event("log", to_json(log));
        let LogsSum { deletes, condemns, .. } = log.sum();
        table.row([
            log.source.to_string(),
            count(deletes.objects),
            bytes(deletes.bytes),
            count(condemns.objects),
            bytes(condemns.bytes),
            count(log.waits().objects),
            count(log.marked().objects),
            log.kept_since.to_string(),
            log.why(),
        ]);
    }
    if !output.is_log() && !table.is_empty() {
        table.lines().iter().for_each(|line| output.line(line));
    }
}

fn to_json(log: &LogPruned) -> Value {
    let LogsSum { deletes, condemns, deleted, condemned } = log.sum();
    json!({
        "source": log.source.as_str(),
        "to_delete": deletes.objects,
        "to_delete_bytes": deletes.bytes,
        "to_condemn": condemns.objects,
        "to_condemn_bytes": condemns.bytes,
        "waiting": log.waits().objects,
        "waiting_bytes": log.waits().bytes,
        "marked": log.marked().objects,
        "marked_bytes": log.marked().bytes,
        "needed_since": log.kept_since.to_string(),
        "needed_for": log.why(),
        "deleted": deleted,
        "condemned": condemned,
        "left_alone": log.left_alone,
    })
}
