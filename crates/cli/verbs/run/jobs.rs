//! Jobs that come again and again, beside the backups: what they are called, when each is due, and what it does.
//!
//! A job has come to its end when it has looked at everything it meant to, whatever it found; that is noted in the catalog,
//! by its name. One that could not is tried again after a pause that grows. To add one, add it to [`PERIODIC`].
//!
//! | job | due | does |
//! |---|---|---|
//! | read back | so that all sites are read within `check.every` | every byte of some sites |
//! | read logs | a tenth each tenth of `check.every` | every block of a tenth of the change logs' segments |
//! | drill | every `drill.every` | rebuilds the sites that were proven longest ago |
//! | forget and prune | every `prune.every` | marks the points that no rule keeps, deletes what was condemned long ago |

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use lifeboat_control::ReadBack;
use lifeboat_control::alarms::Trouble;
use lifeboat_control::schedule::{ReadSite, Reading, to_read};
use lifeboat_engine::{CheckRequest, check, check_logs};
use lifeboat_model::{Fault, Faulty, SiteId, Timestamp, worst_exit_code};
use lifeboat_repo::CheckDepth;

use super::facts::{Known, Rules};
use crate::args::{DrillArgs, ForgetArgs, PruneArgs};
use crate::open::Open;
use crate::output::{Failed, Outcome};
use crate::verbs::{check as check_verb, drill, forget, prune};
use crate::{CliError, Context};

/// A job of the daemon.
pub(super) struct Periodic {
    pub name: &'static str,
    /// When it is due next; `None`: never, by this configuration or for want of anything to do.
    pub due_at: fn(&Rules, &Known, Timestamp) -> Option<Timestamp>,
    pub run: for<'a> fn(&'a Task, &'a Open) -> LocalBoxFuture<'a, Result<Outcome, CliError>>,
    /// What it leaves undone is an alarm of its own; what the others find is told of sites and logs.
    pub is_alarmed_of: bool,
}

/// What a job works with: the rules and the facts of when it was begun.
pub(super) struct Task {
    pub context: Context,
    pub rules: Arc<Rules>,
    pub known: Known,
}

pub(super) const PERIODIC: [Periodic; 4] = [
    Periodic {
        name: "read back",
        due_at: sites_due_at,
        run: |task, open| Box::pin(read_back(task, open)),
        is_alarmed_of: false,
    },
    Periodic {
        name: "read logs",
        due_at: logs_due_at,
        run: |task, open| Box::pin(read_logs(task, open)),
        is_alarmed_of: false,
    },
    Periodic {
        name: "drill",
        due_at: drill_due_at,
        run: |task, open| Box::pin(hold_drill(task, open)),
        is_alarmed_of: false,
    },
    Periodic {
        name: "forget and prune",
        due_at: prune_due_at,
        run: |task, open| Box::pin(forget_and_prune(task, open)),
        is_alarmed_of: true,
    },
];

/// Runs a job, and notes that it came to its end.
pub(super) async fn run(job: &Periodic, task: Task) -> Result<Outcome, CliError> {
    let key = task.context.master_key(&task.rules.config)?;
    let open = task.context.open_with(task.rules.config.clone(), &key).await?;
    let outcome = (job.run)(&task, &open).await?;
    task.context.cancel.check()?;
    open.memory.note_job(job.name, Timestamp::now());
    if job.is_alarmed_of {
        open.memory.note_job_trouble(job.name, Timestamp::now(), trouble(&outcome.failed).as_ref());
    }
    Ok(outcome)
}

/// When a job is due that is to be done so often. What was never done is due now; what is noted of a time to come, too.
fn every(name: &str, interval: Duration, known: &Known, now: Timestamp) -> Timestamp {
    let last = known.jobs.get(name).filter(|last| **last <= now);
    last.map_or(now, |last| Timestamp(last.0.saturating_add(i64::try_from(interval.as_micros()).unwrap_or(i64::MAX))))
}

fn due_at(reading: Reading, now: Timestamp) -> Option<Timestamp> {
    if reading.sites.is_empty() { reading.look_again_at } else { Some(now) }
}

fn sites_due_at(rules: &Rules, known: &Known, now: Timestamp) -> Option<Timestamp> {
    due_at(to_read(now, rules.config.check.every?, &known.read_sites()), now)
}

/// Reads all stored data of the sites whose turn it is.
async fn read_back(task: &Task, open: &Open) -> Result<Outcome, CliError> {
    let Some(interval) = task.rules.config.check.every else { return Ok(Outcome::ok()) };
    let depth = CheckDepth::ReadData { percent: 100, turn: 0 };
    let mut failed: Vec<Failed> = Vec::new();
    for site in to_read(Timestamp::now(), interval, &task.known.read_sites()).sites {
        let request = CheckRequest { sites: vec![site.clone()], depth };
        for checked in check(&open.engine, &request).await? {
            check_verb::remember(std::slice::from_ref(&checked), &[], &request, &open.memory);
            match &checked.outcome {
                Ok(report) => {
                    let findings = report.findings.len() as u64;
                    open.memory.note_read_back(&site, ReadBack { read_at: Timestamp::now(), findings });
                    tracing::info!(job = "read back", %site, objects = report.objects, bytes = report.bytes_read, findings, "read back");
                    failed.extend(report.findings.iter().map(|finding| check_verb::damage(&site, finding)));
                }
                // What passes is tried again, and this site first.
                Err(error) if error.fault() == Fault::Retry => return Err(CliError::of(error)),
                Err(error) => {
                    open.memory.note_read_back(&site, ReadBack { read_at: Timestamp::now(), findings: 1 });
                    failed.push(Failed::of_site(&site, &CliError::of(error)));
                }
            }
        }
    }
    Ok(found(failed))
}

/// The change logs are read in so many parts.
const PARTS: u8 = 10;

fn log_parts(known: &Known) -> Vec<ReadSite> {
    let part = |number: u8| {
        let read_at = known.jobs.get(&part_name(number)).copied();
        SiteId::new(number.to_string()).ok().map(|site| ReadSite { site, bytes: 1, read_at })
    };
    (0..PARTS).filter_map(part).collect()
}

fn part_name(number: u8) -> String {
    format!("read logs, part {number}")
}

fn logs_due_at(rules: &Rules, known: &Known, now: Timestamp) -> Option<Timestamp> {
    let is_any = known.run.is_some() && rules.config.wants_capture();
    due_at(to_read(now, rules.config.check.every.filter(|_| is_any)?, &log_parts(known)), now)
}

/// Reads the parts of all change logs whose turn it is.
async fn read_logs(task: &Task, open: &Open) -> Result<Outcome, CliError> {
    let Some(interval) = task.rules.config.check.every else { return Ok(Outcome::ok()) };
    let parts = to_read(Timestamp::now(), interval, &log_parts(&task.known)).sites;
    let mut failed: Vec<Failed> = Vec::new();
    for number in parts.iter().filter_map(|part| part.as_str().parse::<u8>().ok()) {
        let depth = CheckDepth::ReadData { percent: 100 / PARTS, turn: u64::from(number) };
        let request = CheckRequest { sites: Vec::new(), depth };
        for log in check_logs(&open.engine, &request).await? {
            check_verb::remember(&[], std::slice::from_ref(&log), &request, &open.memory);
            match &log.outcome {
                Ok(report) => failed.extend(report.findings.iter().map(check_verb::log_damage)),
                Err(error) if error.fault() == Fault::Retry => return Err(CliError::of(error)),
                Err(error) => {
                    let CliError { message, hint, fault } = CliError::of(error);
                    let message = format!("the change log cannot be checked: source=`{}`: {message}", log.source);
                    failed.push(Failed { site: None, message, hint, exit_code: fault.exit_code() });
                }
            }
        }
        open.memory.note_job(&part_name(number), Timestamp::now());
    }
    Ok(found(failed))
}

fn drill_due_at(rules: &Rules, known: &Known, now: Timestamp) -> Option<Timestamp> {
    let interval = rules.config.drill.every?;
    let is_any = known.rows.iter().any(|row| row.summary.latest.is_some());
    is_any.then(|| every("drill", interval, known, now))
}

/// Rebuilds the sites that were proven longest ago.
async fn hold_drill(task: &Task, open: &Open) -> Result<Outcome, CliError> {
    let sample = Some(task.rules.config.drill.sample);
    let args = DrillArgs { sites: Vec::new(), sample, recovery: None, at: None, parallel: None };
    drill::hold(&args, open, &task.context).await
}

/// A day after a run, at the latest, no clock is believed any more: it is never due before the first run.
fn prune_due_at(rules: &Rules, known: &Known, now: Timestamp) -> Option<Timestamp> {
    let interval = rules.config.prune.every?;
    known.run.is_some().then(|| every("forget and prune", interval, known, now))
}

/// What nobody needs any more is marked; what was condemned long ago goes. One that is refused does not keep the other.
async fn forget_and_prune(task: &Task, open: &Open) -> Result<Outcome, CliError> {
    let forgets = ForgetArgs::by_rules();
    let mut failed = left_undone(forget::forget(&forgets, open, &task.context).await)?;
    let prunes = PruneArgs { sites: Vec::new(), yes: true, dry_run: false };
    failed.extend(left_undone(prune::prune(&prunes, open, &task.context).await)?);
    Ok(found(failed))
}

/// What a person has to look at is told, and is no reason to try again at once.
fn left_undone(came: Result<Outcome, CliError>) -> Result<Vec<Failed>, CliError> {
    match came {
        Ok(outcome) => Ok(outcome.failed),
        Err(error) if matches!(error.fault, Fault::Operator | Fault::Damage) => {
            let CliError { message, hint, fault } = error;
            Ok(vec![Failed { site: None, message, hint, exit_code: fault.exit_code() }])
        }
        Err(error) => Err(error),
    }
}

/// All of it as one, for whoever is told.
fn trouble(failed: &[Failed]) -> Option<Trouble> {
    let first = failed.first()?;
    let whose = first.site.as_ref().map(|site| format!("{site}: ")).unwrap_or_default();
    let more = match failed.len() {
        1 => String::new(),
        all => format!(", and {} more", all - 1),
    };
    Some(Trouble { reason: format!("{whose}{}{more}", first.message), hint: first.hint.clone() })
}

fn found(failed: Vec<Failed>) -> Outcome {
    Outcome { exit_code: worst_exit_code(failed.iter().map(|failed| failed.exit_code)), failed, ..Outcome::ok() }
}
