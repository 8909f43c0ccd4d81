//! A report for programs. Its keys are a contract, and told in `docs/operations/recover-report.md`.

use lifeboat_control::recovery::{Report, SiteReport, SiteSums};
use serde_json::{Value, json};

use super::{Audience, Signed, signature};
use crate::verbs::recover::{bystanders, tell};

pub(super) fn json(report: &Report<'_>, audience: Audience, signed: &Signed) -> Value {
    let mut json = json!({
        "report": "recovery",
        "recovery_id": report.plan.id.to_string(),
        "public": audience == Audience::Public,
        "as_of": report.now.to_string(),
        "state": report.standing.name(),
        "is_live": report.is_live,
        "made_at": report.plan.made_at.to_string(),
        "began_at": report.state.began_at.map(|time| time.to_string()),
        "totals": totals(report),
        "estimate": report.estimate.map(|estimate| json!({
            "left_seconds": estimate.left.as_secs(),
            "left_seconds_min": estimate.left_min.as_secs(),
            "left_seconds_max": estimate.left_max.as_secs(),
        })),
        "bystanders": beside(report, audience),
        "curve": report.curve.iter().map(|point| json!({
            "after_ms": point.after.as_millis() as u64,
            "restored": point.restored,
        })).collect::<Vec<_>>(),
    });
    if audience == Audience::Operators {
        json["plan_hash"] = report.hash.into();
        json["approved_hash"] = report.state.approved.as_deref().into();
        json["asked"] = report.plan.asked.as_str().into();
        json["undoes"] = report.plan.undoes.map(|undone| undone.to_string()).into();
        let stand = tell::Stand::of_report(report).json();
        for key in ["halted", "runner"] {
            json[key] = stand.get(key).cloned().into();
        }
        json["sites"] = report.sites().map(|case| site(&case, signed)).collect();
    }
    json
}

/// Of the last proof, but failed is what any of them is.
fn beside(report: &Report<'_>, audience: Audience) -> Value {
    let proofs = &report.state.proofs;
    let mut json = proofs.last().map_or(Value::Null, |proof| bystanders::proof_json(proof));
    if let Some(json) = json.as_object_mut() {
        json.insert("failed".into(), proofs.iter().any(|proof| proof.has_failed()).into());
        if audience == Audience::Public {
            json.retain(|key, _| key != "notes" && key != "touched");
        }
    }
    json
}

fn totals(report: &Report<'_>) -> Value {
    let (totals, counts) = (&report.totals, &report.totals.counts);
    let mut json = sums(&totals.sums);
    let millis = |time: Option<std::time::Duration>| time.map(|time| time.as_millis() as u64);
    let more = json!({
        "sites": counts.all,
        "restored": counts.restored,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "running": counts.running,
        "waiting": counts.waiting,
        "validated": totals.validated,
        "accepted": totals.accepted,
        "opened": totals.opened,
        "deadlines_missed": totals.deadlines_missed,
        "elapsed_ms": totals.elapsed.as_millis() as u64,
        "sites_per_hour": totals.sites_per_hour.map(|rate| (rate * 10.0).round() / 10.0),
        "first_back_ms": millis(totals.first_back),
        "took_ms_median": millis(totals.took_median),
        "took_ms_p95": millis(totals.took_p95),
    });
    if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
        json.extend(more);
    }
    json
}

fn sums(sums: &SiteSums) -> Value {
    json!({
        "entries": sums.entries,
        "rows": sums.rows,
        "files": sums.files,
        "removed": sums.removed,
        "kept": sums.kept,
        "bytes": sums.bytes,
        "bytes_read": sums.bytes_read,
        "requests": sums.requests,
        "checks_passed": sums.checks_passed,
        "checks_failed": sums.checks_failed,
    })
}

/// As `recover status --json` tells it, and what was planned, and what its receipt is worth.
fn site(site: &SiteReport<'_>, signed: &Signed) -> Value {
    let mut json = tell::case_json(site.state);
    json["failures"] = site.state.failures.into();
    json["deadline"] = site.state.deadline.map(|deadline| deadline.to_string()).into();
    json["deadline_missed"] = site.has_missed_deadline().into();
    json["point"] = site.case.aim.to_string().into();
    json["at"] = site.case.at.to_string().into();
    json["data_age_seconds"] = site.data_age().as_secs().into();
    json["snapshot_id"] = site.case.snapshot.to_string().into();
    json["plan_hash"] = site.case.hash.as_str().into();
    json["conflicts"] = site.case.conflicts.clone().into();
    json["took_ms"] = site.took().map(|took| took.as_millis() as u64).into();
    if let Some(receipt) = site.receipt() {
        json["signature"] = signature(receipt).into();
        json["signature_checked"] = signed.word(&site.state.site).into();
        json["sums"] = sums(&site.sums());
    }
    json
}
