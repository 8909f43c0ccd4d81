//! Every site of a report: those that failed with their hints first, then a table that is cards on a narrow screen.

use lifeboat_control::recovery::{Report, SiteReport};
use lifeboat_model::{CaseStage, SignedReceipt};

use super::super::html::Html;
use super::super::{Signed, signature};
use super::second;
use crate::output::{bytes, count, duration};
use crate::verbs::recover::tell;

/// Headings, and their cells' names on a narrow screen.
const HEADS: &str = "<thead><tr><th>Site</th><th>State</th><th>Given back</th><th>Data age</th>\
    <th class=\"n\">Rows</th><th class=\"n\">Files</th><th class=\"n\">Bytes</th><th class=\"n\">Took</th>\
    <th class=\"n\">Tries</th></tr></thead>\n";

pub(super) fn failures(html: &mut Html, report: &Report<'_>) {
    let failed = report.sites().filter_map(|site| match &site.state.stage {
        CaseStage::Failed(failure) => Some((site, failure)),
        _ => None,
    });
    let mut is_first = true;
    for (site, failure) in failed {
        if std::mem::take(&mut is_first) {
            html.raw("<h2>Failed</h2>\n<ul class=\"failures\">\n");
        }
        html.raw("<li><b>").foreign(site.state.site.as_str()).raw("</b> <span class=\"bad\">");
        html.foreign(&failure.message).raw("</span>");
        if let Some(hint) = &failure.hint {
            html.raw("<br>hint: ").foreign(hint);
        }
        html.raw("</li>\n");
    }
    if !is_first {
        html.raw("</ul>\n");
    }
}

pub(super) fn table(html: &mut Html, report: &Report<'_>, signed: &Signed) {
    let counts = report.totals.counts;
    html.raw("<h2>Sites</h2>\n<i id=\"failed\"></i><i id=\"running\"></i><i id=\"waiting\"></i><i id=\"skipped\"></i>");
    html.raw("<i id=\"restored\"></i>\n<nav aria-label=\"Which sites\"><a href=\"#all\">all ");
    html.text(count(counts.all as u64)).raw("</a>");
    for (link, sites) in [
        (" <a href=\"#failed\">failed ", counts.failed),
        (" <a href=\"#running\">running ", counts.running),
        (" <a href=\"#waiting\">waiting ", counts.waiting),
        (" <a href=\"#skipped\">skipped ", counts.skipped),
        (" <a href=\"#restored\">restored ", counts.restored),
    ] {
        if sites > 0 {
            html.raw(link).text(count(sites as u64)).raw("</a>");
        }
    }
    html.raw("</nav>\n<table id=\"all\">\n").raw(HEADS);
    let mut sites: Vec<SiteReport<'_>> = report.sites().collect();
    sites.sort_by_key(rank);
    sites.iter().for_each(|site| one(html, site, signed));
    html.raw("</table>\n");
}

/// What a person has to look at stands first.
fn rank(site: &SiteReport<'_>) -> u8 {
    match &site.state.stage {
        CaseStage::Failed(_) => 0,
        CaseStage::Restored(signed) if !signed.receipt.all_passed() => 1,
        CaseStage::Running => 2,
        CaseStage::Waiting => 3,
        CaseStage::Skipped(_) => 4,
        CaseStage::Restored(_) => 5,
    }
}

fn one(html: &mut Html, site: &SiteReport<'_>, signed: &Signed) {
    let (body, pill) = match &site.state.stage {
        CaseStage::Waiting => ("<tbody class=\"waiting\">", "<span class=\"pill waiting\">"),
        CaseStage::Running => ("<tbody class=\"running\">", "<span class=\"pill running\">"),
        CaseStage::Restored(_) => ("<tbody class=\"restored\">", "<span class=\"pill restored\">"),
        CaseStage::Failed(_) => ("<tbody class=\"failed\">", "<span class=\"pill failed\">"),
        CaseStage::Skipped(_) => ("<tbody class=\"skipped\">", "<span class=\"pill skipped\">"),
    };
    let known = |number: String| site.receipt().map_or_else(|| "–".to_owned(), |_| number);
    let sums = site.sums();
    html.raw(body)
        .raw("\n<tr><th scope=\"row\">")
        .foreign(site.state.site.as_str())
        .raw("</th><td data-name=\"State\">");
    html.raw(pill).text(site.state.stage.name()).raw("</span></td><td data-name=\"Given back\">");
    html.raw(given_back(site)).raw("</td><td data-name=\"Data age\">").text(duration(site.data_age()));
    html.raw("</td><td class=\"n\" data-name=\"Rows\">").text(known(count(sums.rows)));
    html.raw("</td><td class=\"n\" data-name=\"Files\">").text(known(count(sums.files)));
    html.raw("</td><td class=\"n\" data-name=\"Bytes\">").text(known(bytes(sums.bytes)));
    html.raw("</td><td class=\"n\" data-name=\"Took\">").text(site.took().map_or_else(|| "–".to_owned(), duration));
    html.raw("</td><td class=\"n\" data-name=\"Tries\">").text(site.state.attempts.to_string());
    html.raw("</td></tr>\n<tr class=\"more\"><td colspan=\"9\">");
    more(html, site, signed);
    html.raw("</td></tr>\n</tbody>\n");
}

fn given_back(site: &SiteReport<'_>) -> &'static str {
    match (site.state.hand_over, site.receipt()) {
        (Some(reached), _) => tell::hand_over(reached),
        (None, Some(_)) => "not validated",
        (None, None) => "–",
    }
}

/// What unfolds below a site.
fn more(html: &mut Html, site: &SiteReport<'_>, signed: &Signed) {
    match &site.state.stage {
        CaseStage::Failed(failure) => {
            html.raw("<p class=\"bad\">").foreign(&failure.message).raw("</p>");
        }
        CaseStage::Skipped(reason) => {
            html.raw("<p class=\"quiet\">").foreign(reason).raw("</p>");
        }
        CaseStage::Waiting | CaseStage::Running | CaseStage::Restored(_) => {}
    }
    if site.has_missed_deadline() {
        html.raw("<p class=\"bad\">It was not back by its deadline.</p>");
    }
    html.raw("<details><summary>");
    match site.receipt() {
        Some(signed) => {
            let sums = site.sums();
            html.raw("receipt of restore ").text(signed.receipt.restore.to_string()).raw(", checks: ");
            html.text(count(sums.checks_passed)).raw(" passed");
            if sums.checks_failed > 0 {
                html.raw(", <b class=\"bad\">").text(count(sums.checks_failed)).raw(" failed</b>");
            }
        }
        None => {
            html.raw("what is planned");
        }
    }
    html.raw("</summary>\n<dl class=\"facts\">\n");
    facts(html, site);
    if let Some(receipt) = site.receipt() {
        proof(html, site, receipt, signed);
    }
    html.raw("</dl></details>");
}

fn facts(html: &mut Html, site: &SiteReport<'_>) {
    let mut fact = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            html.raw("<div><dt>").raw(name).raw("</dt><dd>").foreign(value).raw("</dd></div>\n");
        }
    };
    fact("point", Some(site.case.aim.to_string()));
    fact("as it was at", Some(site.case.at.to_string()));
    fact("snapshot", Some(site.case.snapshot.to_string()));
    fact("plan", Some(site.case.hash.clone()));
    fact("priority", Some(site.state.priority.to_string()));
    fact("deadline", site.state.deadline.map(second));
    fact("began", site.state.began_at.map(second));
    fact("ended", site.state.ended_at.map(second));
    for conflict in &site.case.conflicts {
        fact("approved conflict", Some(conflict.clone()));
    }
}

fn proof(html: &mut Html, site: &SiteReport<'_>, signed: &SignedReceipt, checked: &Signed) {
    let receipt = &signed.receipt;
    for part in &receipt.parts {
        html.raw("<div><dt>part ").foreign(part.source.as_str()).raw("</dt><dd>");
        html.text(format!(
            "{} entries, {} rows, {} files, {} removed, {} kept, {}; ",
            count(part.entries),
            count(part.rows),
            count(part.files),
            count(part.removed),
            count(part.kept),
            bytes(part.bytes)
        ));
        html.raw(if part.digest_ok { "digest equal" } else { "<b class=\"bad\">digest differs</b>" });
        html.raw("</dd></div>\n");
    }
    for check in &receipt.checks {
        html.raw("<div><dt>");
        html.raw(if check.passed { "✓ " } else { "<b class=\"bad\">✗ failed</b> " });
        html.foreign(&check.name).raw("</dt><dd>").foreign(&check.detail).raw("</dd></div>\n");
    }
    html.raw("<div><dt>read</dt><dd>").text(bytes(receipt.bytes_read)).raw(" in ").text(count(receipt.requests));
    html.raw(" requests, ").text(duration(receipt.duration)).raw("</dd></div>\n<div><dt>undo</dt><dd>");
    match receipt.undo {
        Some(undo) => html.raw("kept as ").text(undo.to_string()),
        None => html.raw("nothing was replaced or removed"),
    };
    html.raw("</dd></div>\n<div><dt>signature</dt><dd><code>").text(signature(signed)).raw("</code> ");
    html.raw(match checked {
        Signed::NotChecked => "(not checked)",
        Signed::Checked(_) if checked.word(&site.state.site) == "good" => "✓ of this repository",
        Signed::Checked(_) => "<b class=\"bad\">✗ not of this repository</b>",
    });
    html.raw("</dd></div>\n");
}
