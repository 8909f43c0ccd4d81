//! Whether anybody beside the recovery was touched: one sentence for everybody, and what is behind it for operators.

use lifeboat_control::recovery::Report;
use lifeboat_model::BystanderProof;

use super::super::Audience;
use super::super::html::Html;
use crate::verbs::recover::bystanders;

pub(super) fn draw(html: &mut Html, report: &Report<'_>, audience: Audience) {
    html.raw("<h2>Sites beside it</h2>\n");
    let Some(last) = report.state.proofs.last() else {
        html.raw(match report.state.looked {
            Some(_) => "<p>They were looked at before it began, and are compared when it has ended.</p>\n",
            None => "<p class=\"quiet\">They were not looked at.</p>\n",
        });
        return;
    };
    html.raw("<p>").text(bystanders::sentence(last)).raw("</p>\n");
    let failed = || report.state.proofs.iter().filter(|proof| proof.has_failed());
    if failed().next().is_some() {
        html.raw("<p class=\"bad\"><b>Proof failed</b>: a site that is not in this recovery may have been touched by it.</p>\n");
    }
    if audience == Audience::Operators {
        failed().for_each(|proof| touched(html, proof));
        notes(html, last);
    }
}

fn touched(html: &mut Html, proof: &BystanderProof) {
    html.raw("<ul class=\"failures\">\n");
    for touched in &proof.touched {
        html.raw("<li><b>").foreign(touched.site.as_str()).raw("</b> <span class=\"bad\">table ");
        html.foreign(&touched.table).raw(" of ").foreign(touched.source.as_str()).raw(", by transaction ");
        html.text(touched.transaction.to_string()).raw(", which restored ").foreign(touched.by.as_str());
        html.raw("</span></li>\n");
    }
    html.raw("</ul>\n");
}

fn notes(html: &mut Html, proof: &BystanderProof) {
    if proof.notes.is_empty() {
        return;
    }
    html.raw("<ul class=\"failures quiet\">\n");
    for note in &proof.notes {
        html.raw("<li>").foreign(note.site.as_str()).raw(", ").foreign(note.source.as_str()).raw(": ");
        html.foreign(&note.detail).raw("</li>\n");
    }
    html.raw("</ul>\n");
}
