//! A report as one HTML file: it opens from a disk, asks no server for anything, and runs no script.
//!
//! ```text
//!   head: where it stands, and a bar ─▶ totals ─▶ hand-over ─▶ curve ─▶ sites beside it ─▶ failures with hints ─▶ every site
//!   public: head, totals, hand-over, curve, one sentence on sites beside it    no site's id, and no text that somebody wrote
//! ```
//!
//! What it says comes from outside, and is hostile until it is escaped (`html`); beside that, its own policy lets a
//! browser load and run nothing.

mod beside;
mod curve;
mod sites;

use lifeboat_control::recovery::{Report, Runner, Standing};
use lifeboat_model::Timestamp;

use super::html::Html;
use super::{Audience, Signed};
use crate::output::{bytes, count, duration};

/// How often a browser asks again.
const HEAD_RENEWED: &str = "<meta http-equiv=\"refresh\" content=\"5\">\n";
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n\
    <meta name=\"robots\" content=\"noindex\">\n<meta name=\"referrer\" content=\"no-referrer\">\n";
const STYLE: &str = include_str!("page/style.css");

/// `is_renewed`: it is written anew every few seconds, and a browser may ask for it again.
pub(super) fn page(report: &Report<'_>, audience: Audience, signed: &Signed, is_renewed: bool) -> String {
    let mut html = Html::default();
    html.raw(HEAD);
    if is_renewed {
        html.raw(HEAD_RENEWED);
    }
    html.raw("<title>").text(title(report)).raw("</title>\n<style>\n").raw(STYLE).raw("</style>\n</head>\n<body>\n");
    head(&mut html, report, audience);
    html.raw("<main>\n");
    totals(&mut html, report);
    hand_over(&mut html, report);
    curve::draw(&mut html, report);
    beside::draw(&mut html, report, audience);
    if audience == Audience::Operators {
        sites::failures(&mut html, report);
        sites::table(&mut html, report, signed);
    }
    html.raw("</main>\n<footer>As of ").text(second(report.now));
    if is_renewed {
        html.raw(
            ". Written anew every few seconds while it runs: if this time stands still, nobody writes it any more",
        );
    }
    html.raw(". Times are UTC.</footer>\n</body>\n</html>\n");
    html.finish()
}

fn title(report: &Report<'_>) -> String {
    let counts = report.totals.counts;
    let (restored, all) = (count(counts.restored as u64), count(counts.all as u64));
    format!("{restored} of {all} sites are back, {}", report.standing.name())
}

fn head(html: &mut Html, report: &Report<'_>, audience: Audience) {
    let counts = report.totals.counts;
    html.raw("<header>\n<p class=\"over\">Recovery ").text(report.plan.id.to_string());
    if let Some(undone) = report.plan.undoes {
        html.raw(", which undoes ").text(undone.to_string());
    }
    html.raw("</p>\n<h1>").text(count(counts.restored as u64)).raw(" of ").text(count(counts.all as u64));
    html.raw(" sites are back <span class=\"pill ").raw(class(report.standing)).raw("\">");
    html.text(report.standing.name()).raw("</span></h1>\n");
    bar(html, report);
    if let Some(estimate) = report.estimate {
        html.raw("<p class=\"eta\">About <b>").text(duration(estimate.left)).raw("</b> left (");
        html.text(duration(estimate.left_min)).raw(" to ").text(duration(estimate.left_max)).raw(")</p>\n");
    }
    if audience == Audience::Operators {
        if let Some(reason) = &report.state.halted {
            html.raw("<p class=\"bad\">Halted: ").foreign(reason).raw("</p>\n");
        }
        let runs = report.runner != Runner::Nobody && report.standing != Standing::Done;
        if let Some(run) = report.state.run.as_ref().filter(|_| runs) {
            html.raw("<p class=\"quiet\">Run by process ").text(run.owner.pid.to_string()).raw(" on ");
            html.foreign(&run.owner.host);
            html.raw(if report.runner == Runner::Gone { ", which is gone" } else { "" });
            html.raw("; it was last heard of at ").text(second(run.heard_at)).raw("</p>\n");
        }
        html.raw("<p class=\"quiet\">Asked: <code>").foreign(&report.plan.asked).raw("</code><br>Plan ");
        html.text(report.hash).raw(", made ").text(second(report.plan.made_at)).raw("</p>\n");
    }
    html.raw("</header>\n");
}

fn class(standing: Standing) -> &'static str {
    match standing {
        Standing::Done => "restored",
        Standing::Running => "running",
        Standing::Halted => "failed",
        Standing::NotApproved | Standing::Paused | Standing::Stopped => "waiting",
    }
}

/// One bar of all sites: back, failed, skipped, at work; what is left is empty.
fn bar(html: &mut Html, report: &Report<'_>) {
    let counts = report.totals.counts;
    html.raw("<svg class=\"bar\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"");
    html.text(title(report)).raw("\">");
    let mut from = 0.0;
    for (class, sites) in [
        ("<rect class=\"restored\" y=\"0\" height=\"4\" x=\"", counts.restored),
        ("<rect class=\"failed\" y=\"0\" height=\"4\" x=\"", counts.failed),
        ("<rect class=\"skipped\" y=\"0\" height=\"4\" x=\"", counts.skipped),
        ("<rect class=\"running\" y=\"0\" height=\"4\" x=\"", counts.running),
    ] {
        let width = 100.0 * sites as f64 / counts.all.max(1) as f64;
        html.raw(class).at(from).raw("\" width=\"").at(width).raw("\"/>");
        from += width;
    }
    html.raw("</svg>\n");
}

fn totals(html: &mut Html, report: &Report<'_>) {
    let (totals, counts) = (&report.totals, &report.totals.counts);
    let time = |time: Option<std::time::Duration>| time.map_or_else(|| "–".to_owned(), duration);
    html.raw("<dl class=\"tiles\">\n");
    let mut tile = |name: &'static str, value: String, more: String| {
        html.raw("<div><dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd>");
        if !more.is_empty() {
            html.raw("<dd class=\"quiet\">").text(more).raw("</dd>");
        }
        html.raw("</div>\n");
    };
    let sites = |sites: usize| count(sites as u64);
    tile("back", sites(counts.restored), format!("of {}", sites(counts.all)));
    tile("failed", sites(counts.failed), format!("{} skipped", sites(counts.skipped)));
    tile("at work", sites(counts.running), format!("{} waiting", sites(counts.waiting)));
    let rate = totals.sites_per_hour.map_or_else(|| "–".to_owned(), |rate| count(rate.round() as u64));
    tile("sites an hour", rate, format!("in {}", duration(totals.elapsed)));
    tile("first site back after", time(totals.first_back), String::new());
    tile("one site took", time(totals.took_median), format!("median; 95 % within {}", time(totals.took_p95)));
    let sums = &totals.sums;
    tile("rows", count(sums.rows), format!("{} files", count(sums.files)));
    tile("written", bytes(sums.bytes), format!("{} read", bytes(sums.bytes_read)));
    tile("checks passed", count(sums.checks_passed), format!("{} failed", count(sums.checks_failed)));
    if report.plan.cases.iter().any(|case| case.deadline.is_some()) {
        tile("deadlines missed", sites(totals.deadlines_missed), String::new());
    }
    html.raw("</dl>\n");
}

fn hand_over(html: &mut Html, report: &Report<'_>) {
    let totals = &report.totals;
    html.raw("<h2>Given back</h2>\n<ol class=\"steps\">\n");
    for (name, meaning, sites) in [
        ("restored", "its data is in place", totals.counts.restored),
        ("validated", "its checks passed", totals.validated),
        ("accepted", "its owner agrees", totals.accepted),
        ("opened", "its users are back", totals.opened),
    ] {
        html.raw("<li><b>").text(count(sites as u64)).raw("</b> ").raw(name).raw("<span class=\"quiet\">");
        html.raw(meaning).raw("</span></li>\n");
    }
    html.raw("</ol>\n");
}

/// Without parts of a second, which nobody reads.
fn second(time: Timestamp) -> String {
    Timestamp(time.0.div_euclid(1_000_000) * 1_000_000).to_string()
}
