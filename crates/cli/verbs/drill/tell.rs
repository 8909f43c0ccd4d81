//! What a drill found, for people and for programs: what came back, how fast, and how old it was.

use std::time::Duration;

use lifeboat_control::recovery::Report;
use lifeboat_engine::Journal;
use lifeboat_model::{CaseStage, Check, SiteId, Timestamp, worst_exit_code};
use serde_json::{Value, json};

use super::choose::Chosen;
use crate::open::Open;
use crate::output::{Align, Failed, Outcome, Output, Table, ago, count, duration};
use crate::{CliError, exit};

/// Failures that people are shown.
const SHOWN_MAX: usize = 20;

/// A drill that has ended.
pub(super) struct Drill<'a> {
    /// `None`: no site could be planned.
    pub journal: Option<&'a Journal>,
    /// Before anything was planned.
    pub began: Timestamp,
    pub chosen: &'a [Chosen],
    /// Sites that could not even be planned, and why.
    pub refused: Vec<(SiteId, CliError)>,
    /// Many at once, as in an incident: what counts for a site is when it is back, not how long it takes itself.
    pub is_incident: bool,
    /// The newest point was asked for; an older one says nothing of what would be lost.
    pub is_latest: bool,
    /// Nothing is left of what was rebuilt.
    pub is_cleared: bool,
}

/// What became of one site.
struct Row<'a> {
    site: &'a SiteId,
    end: End<'a>,
    /// The moment that was rebuilt, and how old the site's data would have been.
    at: Option<Timestamp>,
    data_age: Option<Duration>,
    /// `None`: it is not compared.
    rpo: Option<Duration>,
    /// From plan to last check; and since the drill began.
    took: Option<Duration>,
    back_after: Option<Duration>,
    /// Of both the one that counts.
    rto_took: Option<Duration>,
    rto: Duration,
    proven_before: Option<Timestamp>,
}

enum End<'a> {
    Proven(&'a lifeboat_model::Receipt),
    /// It was rebuilt, and a check failed.
    NotProven(&'a lifeboat_model::Receipt),
    Failed(Failed),
    /// The drill was stopped before it.
    NotRun,
}

impl Row<'_> {
    fn is_late(&self) -> bool {
        self.rto_took.is_some_and(|took| took > self.rto)
    }

    fn is_old(&self) -> bool {
        self.data_age.zip(self.rpo).is_some_and(|(age, rpo)| age > rpo)
    }

    fn word(&self) -> &'static str {
        match &self.end {
            End::Proven(_) if self.is_late() => "proven, beyond RTO",
            End::Proven(_) if self.is_old() => "proven, beyond RPO",
            End::Proven(_) => "proven",
            End::NotProven(_) => "NOT PROVEN",
            End::Failed(_) => "FAILED",
            End::NotRun => "not run",
        }
    }

    fn state(&self) -> &'static str {
        match &self.end {
            End::Proven(_) => "proven",
            End::NotProven(_) => "not_proven",
            End::Failed(_) => "failed",
            End::NotRun => "not_run",
        }
    }

    fn to_json(&self) -> Value {
        let millis = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let mut json = json!({
            "site": self.site.as_str(),
            "state": self.state(),
            "at": self.at.map(|at| at.to_string()),
            "data_age_seconds": self.data_age.map(|age| age.as_secs()),
            "rpo_seconds": self.rpo.map(|rpo| rpo.as_secs()),
            "within_rpo": self.data_age.zip(self.rpo).map(|_| !self.is_old()),
            "took_ms": millis(self.took),
            "back_after_ms": millis(self.back_after),
            "rto_seconds": self.rto.as_secs(),
            "within_rto": self.rto_took.map(|_| !self.is_late()),
            "proven_before": self.proven_before.map(|at| at.to_string()),
        });
        match &self.end {
            End::Proven(receipt) | End::NotProven(receipt) => {
                json["receipt"] = crate::verbs::restore::receipt_json(receipt);
            }
            End::Failed(failed) => {
                json["message"] = failed.message.as_str().into();
                json["hint"] = failed.hint.as_deref().into();
                json["exit_code"] = failed.exit_code.into();
            }
            End::NotRun => {}
        }
        json
    }
}

pub(super) fn told(drill: Drill<'_>, open: &Open, output: &Output) -> Outcome {
    let rows = rows(&drill, open);
    table(&rows, output);
    let failed: Vec<Failed> = rows.iter().filter_map(|row| failure(row, output)).collect();
    let is = |what: &dyn Fn(&Row<'_>) -> bool| rows.iter().filter(|row| what(row)).count();
    let proven = is(&|row| matches!(row.end, End::Proven(_)));
    let (late, old) = (is(&|row| row.is_late()), is(&|row| row.is_old()));
    let totals = drill.journal.map(|journal| Report::of_journal(journal, Timestamp::now()).totals);
    let rate = totals.as_ref().and_then(|totals| totals.sites_per_hour);
    output.line(summary(&rows, proven, (rate.filter(|_| drill.is_incident), drill.is_cleared)));
    if late + old > 0 {
        output.line(format!("{late} took longer than their RTO, {old} have points older than their RPO."));
    }
    let breach = if late + old > 0 { exit::BREACHED } else { 0 };
    let exit_code = worst_exit_code(failed.iter().map(|failed| failed.exit_code).chain([breach]));
    Outcome { exit_code, failed, ..Outcome::ok() }
        .with("drill_id", drill.journal.map(|journal| journal.plan().id.to_string()))
        .with("sites", rows.len())
        .with("proven", proven)
        .with("not_run", is(&|row| matches!(row.end, End::NotRun)))
        .with("beyond_rto", late)
        .with("beyond_rpo", old)
        .with("elapsed_ms", totals.as_ref().map(|totals| totals.elapsed.as_millis() as u64))
        .with("sites_per_hour", rate.map(f64::round))
}

fn rows<'a>(drill: &'a Drill<'a>, open: &Open) -> Vec<Row<'a>> {
    let row = |site: &'a SiteId, chosen: Option<&Chosen>| {
        let policy = open.config.policy_of(site);
        let mut row = Row {
            site,
            end: End::NotRun,
            at: None,
            data_age: None,
            rpo: Some(policy.rpo)
                .filter(|_| drill.is_latest && chosen.is_some_and(|chosen| chosen.reaches_till.is_some())),
            took: None,
            back_after: None,
            rto_took: None,
            rto: policy.rto,
            proven_before: chosen.and_then(|chosen| chosen.proven_at),
        };
        if let Some((_, error)) = drill.refused.iter().find(|(refused, _)| refused == site) {
            row.end = End::Failed(Failed::of_site(site, error));
        }
        if let Some(journal) = drill.journal {
            take(&mut row, journal, chosen.filter(|_| drill.is_latest), drill.began);
        }
        row.rto_took = if drill.is_incident { row.back_after } else { row.took };
        row
    };
    let chosen = drill.chosen.iter().map(|chosen| row(&chosen.site, Some(chosen)));
    let is_chosen = |site: &SiteId| drill.chosen.iter().any(|chosen| chosen.site == *site);
    let others = drill.refused.iter().filter(|(site, _)| !is_chosen(site)).map(|(site, _)| row(site, None));
    chosen.chain(others).collect()
}

/// What the journal has of the site.
fn take<'a>(row: &mut Row<'a>, journal: &'a Journal, chosen: Option<&Chosen>, began: Timestamp) {
    let case = journal.plan().cases.iter().find(|case| case.site == *row.site);
    let (Some(case), Some(state)) = (case, journal.state().case(row.site)) else { return };
    row.at = Some(case.at);
    // The newest point may be known to be the site of a later moment, and the log may reach further.
    let till = chosen.and_then(|chosen| chosen.reaches_till).map_or(case.at, |till| till.max(case.at));
    row.data_age = Some(began.since(till));
    row.end = match &state.stage {
        CaseStage::Restored(signed) if signed.receipt.all_passed() => End::Proven(&signed.receipt),
        CaseStage::Restored(signed) => End::NotProven(&signed.receipt),
        CaseStage::Failed(failure) => End::Failed(Failed {
            site: Some(case.site.to_string()),
            message: failure.message.clone(),
            hint: failure.hint.clone(),
            exit_code: u8::try_from(failure.exit_code).unwrap_or(1),
        }),
        CaseStage::Waiting | CaseStage::Running | CaseStage::Skipped(_) => End::NotRun,
    };
    if let CaseStage::Restored(signed) = &state.stage {
        row.took = Some(signed.receipt.duration);
        row.back_after = state.ended_at.map(|ended| ended.since(began));
    }
}

fn table(rows: &[Row<'_>], output: &Output) {
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("POINT", Align::Left),
        ("DATA AGE", Align::Right),
        ("RPO", Align::Right),
        ("BACK IN", Align::Right),
        ("RTO", Align::Right),
        ("RESULT", Align::Left),
    ]);
    let now = Timestamp::now();
    let or_dash = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), precise);
    for row in rows {
        output.event("site", row.to_json());
        table.row([
            row.site.to_string(),
            row.at.map_or_else(|| "-".to_owned(), |at| ago(at, now)),
            row.data_age.map_or_else(|| "-".to_owned(), duration),
            row.rpo.map_or_else(|| "-".to_owned(), duration),
            or_dash(row.rto_took),
            duration(row.rto),
            row.word().to_owned(),
        ]);
    }
    table.lines().iter().for_each(|line| output.line(line));
}

/// What was rebuilt and is not the site is told check by check.
fn failure(row: &Row<'_>, output: &Output) -> Option<Failed> {
    match &row.end {
        End::Failed(failed) => Some(failed.clone()),
        End::NotProven(receipt) => {
            let failed: Vec<&Check> = receipt.checks.iter().filter(|check| !check.passed).collect();
            for check in failed.iter().take(SHOWN_MAX) {
                output.line(format!("  NOT PROVEN  {}: {}: {}", row.site, check.name, check.detail));
            }
            let is_whole = receipt.parts.iter().all(|part| part.digest_ok);
            Some(Failed {
                site: Some(row.site.to_string()),
                message: format!("it was rebuilt, and {} of its checks failed", failed.len()),
                hint: Some("`lifeboat restore SITE --dry-run` tells what a restore would ask about".into()),
                exit_code: if is_whole { exit::PARTLY } else { exit::DAMAGE },
            })
        }
        End::Proven(_) | End::NotRun => None,
    }
}

fn summary(rows: &[Row<'_>], proven: usize, (rate, is_cleared): (Option<f64>, bool)) -> String {
    let mut took: Vec<Duration> = rows.iter().filter_map(|row| row.rto_took).collect();
    took.sort();
    let of = count(rows.len() as u64);
    let mut line = format!("{} of {of} sites proven restorable", count(proven as u64));
    if let (Some(median), Some(most)) = (took.get(took.len().saturating_sub(1) / 2), took.last()) {
        line += &format!("; back in {} (median), {} at most", precise(*median), precise(*most));
    }
    if let Some(rate) = rate {
        line += &format!("; {} sites an hour", count(rate.round() as u64));
    }
    line + if is_cleared { ". What was rebuilt is taken away." } else { ". NOT all that was rebuilt is taken away." }
}

/// A rebuilt site is a matter of seconds, or less.
fn precise(time: Duration) -> String {
    match time.as_secs() {
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        _ => duration(time),
    }
}
