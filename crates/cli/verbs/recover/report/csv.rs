//! A report as a table for spreadsheets: a site a line (RFC 4180, UTF-8).
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-` or `@` for a formula and would run it. Such text gets a `'`
//! before it: shown as text, and told in `docs/operations/recover-report.md`.

use lifeboat_control::recovery::{Report, SiteReport};
use lifeboat_model::{CaseStage, Timestamp};

use super::Signed;
use crate::verbs::recover::tell;

type Column = (&'static str, fn(&SiteReport<'_>, &Signed) -> Cell);

/// Numbers as they are, text in quotes.
enum Cell {
    Number(u64),
    Text(String),
    Nothing,
}

const COLUMNS: [Column; 33] = [
    ("site", |site, _| text(site.state.site.as_str())),
    ("state", |site, _| text(site.state.stage.name())),
    ("hand_over", |site, _| optional(site.state.hand_over.map(tell::hand_over))),
    ("priority", |site, _| Cell::Number(site.state.priority.into())),
    ("deadline", |site, _| time(site.state.deadline)),
    ("deadline_missed", |site, _| text(if site.has_missed_deadline() { "yes" } else { "no" })),
    ("point", |site, _| text(&site.case.aim)),
    ("at", |site, _| time(Some(site.case.at))),
    ("data_age_seconds", |site, _| Cell::Number(site.data_age().as_secs())),
    ("snapshot_id", |site, _| text(site.case.snapshot)),
    ("plan_hash", |site, _| text(&site.case.hash)),
    ("restore_id", |site, _| optional(site.receipt().map(|signed| signed.receipt.restore))),
    ("undo_id", |site, _| optional(site.receipt().and_then(|signed| signed.receipt.undo))),
    ("began_at", |site, _| time(site.state.began_at)),
    ("ended_at", |site, _| time(site.state.ended_at)),
    ("took_ms", |site, _| site.took().map_or(Cell::Nothing, |took| Cell::Number(took.as_millis() as u64))),
    ("attempts", |site, _| Cell::Number(site.state.attempts.into())),
    ("failures", |site, _| Cell::Number(site.state.failures.into())),
    ("entries", |site, _| of_receipt(site, site.sums().entries)),
    ("rows", |site, _| of_receipt(site, site.sums().rows)),
    ("files", |site, _| of_receipt(site, site.sums().files)),
    ("removed", |site, _| of_receipt(site, site.sums().removed)),
    ("kept", |site, _| of_receipt(site, site.sums().kept)),
    ("bytes", |site, _| of_receipt(site, site.sums().bytes)),
    ("bytes_read", |site, _| of_receipt(site, site.sums().bytes_read)),
    ("requests", |site, _| of_receipt(site, site.sums().requests)),
    ("checks_passed", |site, _| of_receipt(site, site.sums().checks_passed)),
    ("checks_failed", |site, _| of_receipt(site, site.sums().checks_failed)),
    ("failed_checks", |site, _| failed_checks(site)),
    ("message", |site, _| optional(message(site))),
    ("hint", |site, _| match &site.state.stage {
        CaseStage::Failed(failure) => optional(failure.hint.as_deref()),
        _ => Cell::Nothing,
    }),
    ("signature", |site, _| optional(site.receipt().map(super::signature))),
    ("signature_checked", |site, signed| match site.receipt() {
        Some(_) => text(signed.word(&site.state.site)),
        None => Cell::Nothing,
    }),
];

pub(super) fn csv(report: &Report<'_>, signed: &Signed) -> String {
    let mut table = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = Cell>| {
        let cells: Vec<String> = cells.map(|cell| cell.written()).collect();
        table.push_str(&cells.join(","));
        table.push_str("\r\n");
    };
    line(&mut COLUMNS.iter().map(|(name, _)| text(name)));
    for site in report.sites() {
        line(&mut COLUMNS.iter().map(|(_, cell)| cell(&site, signed)));
    }
    table
}

impl Cell {
    fn written(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => {
                // A line is a site, also for those who read lines.
                let text = text.replace(['\r', '\n'], " ");
                let is_formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
                let guard = if is_formula || text.starts_with('\t') { "'" } else { "" };
                format!("\"{guard}{}\"", text.replace('"', "\"\""))
            }
        }
    }
}

fn text(text: impl ToString) -> Cell {
    Cell::Text(text.to_string())
}

fn optional(text: Option<impl ToString>) -> Cell {
    text.map_or(Cell::Nothing, |text| Cell::Text(text.to_string()))
}

fn time(time: Option<Timestamp>) -> Cell {
    optional(time)
}

/// What only a receipt tells.
fn of_receipt(site: &SiteReport<'_>, number: u64) -> Cell {
    site.receipt().map_or(Cell::Nothing, |_| Cell::Number(number))
}

fn failed_checks(site: &SiteReport<'_>) -> Cell {
    let Some(signed) = site.receipt() else { return Cell::Nothing };
    let failed = signed.receipt.checks.iter().filter(|check| !check.passed);
    let told: Vec<String> = failed.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    if told.is_empty() { Cell::Nothing } else { Cell::Text(told.join("; ")) }
}

fn message<'a>(site: &SiteReport<'a>) -> Option<&'a str> {
    match &site.state.stage {
        CaseStage::Failed(failure) => Some(&failure.message),
        CaseStage::Skipped(reason) => Some(reason),
        CaseStage::Waiting | CaseStage::Running | CaseStage::Restored(_) => None,
    }
}
