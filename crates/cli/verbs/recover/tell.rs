//! A recovery, for people and for programs.

mod standing;

use lifeboat_control::recovery::RunEnd;
use lifeboat_engine::Journal;
use lifeboat_model::{CasePlan, CaseStage, CaseState, HandOver, SiteId, Timestamp, worst_exit_code};
use serde_json::{Value, json};

pub(super) use self::standing::Stand;
use super::bystanders;
use crate::exit;
use crate::output::{Align, Failed, Outcome, Output, Table, ago, and_more, bytes, count, duration};

/// Sites that people are shown of a plan, and failures of a run.
const SHOWN_MAX: usize = 20;
/// A read from the repository takes about so long, and so much comes in a second, where nothing is known yet.
const REQUEST_SECONDS: f64 = 0.05;
const BYTES_PER_SECOND: f64 = 100e6;
/// What a restore takes beside its content: the plan, the intent, the undo, the last look.
const CASE_SECONDS: f64 = 0.5;

/// What is to be approved.
pub(super) fn plan(journal: &Journal, parallel: u32, output: &Output) {
    let plan = journal.plan();
    output.event("plan", plan_json(journal));
    let word = match plan.undoes {
        Some(undone) => format!("Undo of recovery {undone}"),
        None => "Recovery".to_owned(),
    };
    output.line(format!("{word} of {} sites: recovery {}", count(plan.cases.len() as u64), plan.id));
    output.line(format!("  asked: {}", plan.asked));
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("BACK TO", Align::Left),
        ("ADD", Align::Right),
        ("REPLACE", Align::Right),
        ("REMOVE", Align::Right),
        ("BYTES", Align::Right),
        ("FIRST", Align::Left),
    ]);
    let now = Timestamp::now();
    for (place, case) in plan.cases.iter().enumerate().take(SHOWN_MAX) {
        let is_canary = place < plan.rules.canaries as usize;
        table.row([
            case.site.to_string(),
            ago(case.at, now),
            count(case.work.add),
            count(case.work.replace),
            count(case.work.remove),
            bytes(case.work.write_bytes),
            if is_canary { "canary".to_owned() } else { format!("priority {}", case.priority) },
        ]);
    }
    table.lines().iter().for_each(|line| output.line(line));
    if let Some(more) = and_more(plan.cases.len(), SHOWN_MAX) {
        output.line(format!("  {more} (all are in --json and in the plan's file)"));
    }
    let sum = |of: fn(&CasePlan) -> u64| plan.cases.iter().map(of).sum::<u64>();
    output.line(format!(
        "In all: {} to add, {} to replace, {} to remove; {} to read in about {} requests, {}.",
        count(sum(|case| case.work.add)),
        count(sum(|case| case.work.replace)),
        count(sum(|case| case.work.remove)),
        bytes(sum(|case| case.work.read_bytes)),
        count(sum(|case| case.work.read_requests)),
        expected(&plan.cases, parallel),
    ));
    output.line(format!(
        "{} first, and nothing else until they have ended; it halts when more than {} % have failed.",
        match plan.rules.canaries {
            0 => "No canaries".to_owned(),
            canaries => format!("{canaries} canaries"),
        },
        plan.rules.halt_percent
    ));
    for case in plan.cases.iter().filter(|case| !case.conflicts.is_empty()) {
        case.conflicts.iter().for_each(|conflict| output.line(format!("  CONFLICT: {}: {conflict}", case.site)));
    }
    output.line(format!("Plan {}", journal.hash()));
}

/// What nobody has measured yet, as a range.
fn expected(cases: &[CasePlan], parallel: u32) -> String {
    let seconds: f64 = cases
        .iter()
        .map(|case| {
            CASE_SECONDS
                + case.work.read_requests as f64 * REQUEST_SECONDS
                + case.work.write_bytes as f64 / BYTES_PER_SECOND
        })
        .sum();
    let likely = seconds / f64::from(parallel.max(1));
    let time = |seconds: f64| duration(std::time::Duration::from_secs_f64(seconds.max(1.0)));
    format!("{} to {} with {parallel} at once", time(likely / 3.0), time(likely * 2.0))
}

/// How it stands.
pub(super) fn summary(journal: &Journal, output: &Output) {
    let (plan, state, stand) = (journal.plan(), journal.state(), Stand::of(journal));
    let counts = state.counts();
    let (what, back) = if plan.is_drill() { ("Drill", "rebuilt") } else { ("Recovery", "restored") };
    output.line(format!(
        "{what} {}: {} of {} sites {back}, {} failed, {} skipped, {} running, {} waiting; {}",
        plan.id,
        count(counts.restored as u64),
        count(counts.all as u64),
        count(counts.failed as u64),
        count(counts.skipped as u64),
        count(counts.running as u64),
        count(counts.waiting as u64),
        stand.words(),
    ));
    if stand.is_left() && !plan.is_drill() {
        output.line(format!("Go on with it: lifeboat recover run {}", plan.id));
    }
    if let Some(left) = stand.estimate() {
        output.line(format!(
            "About {} left ({} to {}).",
            duration(left.left),
            duration(left.left_min),
            duration(left.left_max)
        ));
    }
    if let Some(rate) = stand.sites_per_hour() {
        output.line(format!("{rate:.0} sites an hour in the last run."));
    }
    let failed = state.cases.iter().filter(|case| matches!(case.stage, CaseStage::Failed(_)));
    for case in failed.clone().take(SHOWN_MAX) {
        if let CaseStage::Failed(failure) = &case.stage {
            output.line(format!("  FAILED  {}: {}", case.site, failure.message));
            if let Some(hint) = &failure.hint {
                output.line(format!("          {hint}"));
            }
        }
    }
    if let Some(more) = and_more(failed.count(), SHOWN_MAX) {
        output.line(format!("  {more} failed: lifeboat recover status {} --all", plan.id));
    }
    bystanders::tell(journal, output);
    tell_not_validated(journal, output);
}

/// Sites that are back, a check of which has failed, and for which nobody has vouched.
fn tell_not_validated(journal: &Journal, output: &Output) {
    for case in journal.state().not_validated().take(SHOWN_MAX) {
        let CaseStage::Restored(signed) = &case.stage else { continue };
        for check in signed.receipt.checks.iter().filter(|check| !check.passed) {
            output.line(format!("  NOT VALIDATED  {}: {}: {}", case.site, check.name, check.detail));
        }
    }
    if let Some(more) = and_more(journal.state().not_validated().count(), SHOWN_MAX) {
        output.line(format!("  {more} not validated: lifeboat recover status {} --all", journal.plan().id));
    }
}

/// One of several recoveries, for programs.
pub(super) fn recovery_json(journal: &Journal, stand: &Stand<'_>) -> Value {
    let (plan, counts) = (journal.plan(), journal.state().counts());
    let mut json = json!({
        "recovery_id": plan.id.to_string(),
        "made_at": plan.made_at.to_string(),
        "asked": plan.asked,
        "is_drill": plan.is_drill(),
        "sites": counts.all,
        "restored": counts.restored,
        "failed_sites": counts.failed,
    });
    if let Some(json) = json.as_object_mut() {
        json.extend(stand.json());
    }
    json
}

/// The way on from here.
pub(super) fn what_next(journal: &Journal, ended: RunEnd, output: &Output) {
    let id = journal.plan().id;
    let counts = journal.state().counts();
    output.say(match ended {
        RunEnd::Halted => {
            format!("Look at the failures; then `lifeboat recover resume {id}` and `lifeboat recover run {id}`.")
        }
        RunEnd::Stopped => format!("Stopped as asked. To go on: lifeboat recover run {id}"),
        RunEnd::Done if counts.failed > 0 => {
            format!("Mend what is told, then `lifeboat recover retry {id}` and `lifeboat recover run {id}`.")
        }
        RunEnd::Done => format!("All that it replaced and removed is kept: `lifeboat recover undo {id}`"),
    });
}

/// The last line for programs.
pub(super) fn outcome(journal: &Journal) -> Outcome {
    let (plan, state) = (journal.plan(), journal.state());
    let counts = state.counts();
    let failed: Vec<Failed> = state
        .cases
        .iter()
        .filter_map(|case| match &case.stage {
            CaseStage::Failed(failure) => Some(Failed {
                site: Some(case.site.to_string()),
                message: failure.message.clone(),
                hint: failure.hint.clone(),
                exit_code: u8::try_from(failure.exit_code).unwrap_or(1),
            }),
            _ => None,
        })
        .collect();
    let not_validated = state.not_validated().count();
    let exit_code = match failed.is_empty() && not_validated == 0 {
        true => 0,
        false => worst_exit_code(failed.iter().map(|failed| failed.exit_code).chain([exit::PARTLY])),
    };
    let exit_code = worst_exit_code([exit_code, bystanders::exit_code(journal)]);
    let failed_sites = failed.len();
    // People are told in the summary, with the first ones' hints.
    let mut outcome = Outcome { exit_code, failed, is_told: true, ..Outcome::ok() }
        .with("recovery_id", plan.id.to_string())
        .with("plan_hash", journal.hash());
    outcome.fields.extend(Stand::of(journal).json());
    outcome
        .with("sites", counts.all)
        .with("restored", counts.restored)
        .with("not_validated", not_validated)
        .with("failed_sites", failed_sites)
        .with("skipped", counts.skipped)
        .with("running", counts.running)
        .with("waiting", counts.waiting)
        .with("bystanders", bystanders::json(journal))
}

pub(super) fn plan_json(journal: &Journal) -> Value {
    let plan = journal.plan();
    let cases = plan.cases.iter().map(|case| {
        json!({
            "site": case.site.as_str(),
            "priority": case.priority,
            "deadline": case.deadline.map(|deadline| deadline.to_string()),
            "point": case.aim.to_string(),
            "snapshot_id": case.snapshot.to_string(),
            "at": case.at.to_string(),
            "plan_hash": case.hash,
            "conflicts": case.conflicts,
            "add": case.work.add,
            "replace": case.work.replace,
            "remove": case.work.remove,
            "write_bytes": case.work.write_bytes,
            "read_bytes": case.work.read_bytes,
            "read_requests": case.work.read_requests,
        })
    });
    json!({
        "recovery_id": plan.id.to_string(),
        "plan_hash": journal.hash(),
        "made_at": plan.made_at.to_string(),
        "asked": plan.asked,
        "undoes": plan.undoes.map(|undone| undone.to_string()),
        "canaries": plan.rules.canaries,
        "halt_percent": plan.rules.halt_percent,
        "keeps_later": plan.rules.keeps_later,
        "cases": cases.collect::<Vec<_>>(),
    })
}

pub(super) fn case_json(case: &CaseState) -> Value {
    let mut json = json!({
        "site": case.site.as_str(),
        "state": case.stage.name(),
        "priority": case.priority,
        "attempts": case.attempts,
        "began_at": case.began_at.map(|time| time.to_string()),
        "ended_at": case.ended_at.map(|time| time.to_string()),
        "hand_over": case.hand_over.map(hand_over),
    });
    match &case.stage {
        CaseStage::Restored(signed) => {
            json["receipt"] = crate::verbs::restore::receipt_json(&signed.receipt);
        }
        CaseStage::Failed(failure) => {
            json["message"] = failure.message.as_str().into();
            json["hint"] = failure.hint.as_deref().into();
            json["exit_code"] = failure.exit_code.into();
        }
        CaseStage::Skipped(reason) => json["message"] = reason.as_str().into(),
        CaseStage::Waiting | CaseStage::Running => {}
    }
    json
}

pub(super) fn hand_over(state: HandOver) -> &'static str {
    match state {
        HandOver::Validated => "validated",
        HandOver::Accepted => "accepted",
        HandOver::Opened => "opened",
    }
}

/// How far one site is, in a word.
pub(super) fn stage(case: &CaseState) -> &'static str {
    case.hand_over.map_or(case.stage.name(), hand_over)
}

/// Every site.
pub(super) fn sites(journal: &Journal, output: &Output, is_wanted: impl Fn(&CaseState) -> bool) {
    let mut table = Table::new(&[
        ("SITE", Align::Left),
        ("STATE", Align::Left),
        ("TOOK", Align::Right),
        ("TRIES", Align::Right),
        ("RESTORE", Align::Left),
    ]);
    let now = Timestamp::now();
    let wanted: Vec<&CaseState> = journal.state().cases.iter().filter(|case| is_wanted(case)).collect();
    for case in &wanted {
        output.event("case", case_json(case));
        let took = case.began_at.map(|began| case.ended_at.unwrap_or(now).since(began));
        table.row([
            case.site.to_string(),
            stage(case).to_owned(),
            took.map_or_else(|| "-".to_owned(), duration),
            case.attempts.to_string(),
            restore_id(case),
        ]);
    }
    if !table.is_empty() {
        table.lines().iter().for_each(|line| output.line(line));
    }
}

/// What `lifeboat undo` takes.
fn restore_id(case: &CaseState) -> String {
    match &case.stage {
        CaseStage::Restored(signed) => signed.receipt.restore.to_string(),
        _ => "-".to_owned(),
    }
}

/// The sites at work.
pub(super) fn running(journal: &Journal) -> Vec<&SiteId> {
    let running = journal.state().cases.iter().filter(|case| case.stage == CaseStage::Running);
    running.map(|case| &case.site).collect()
}
