//! Whether receipts are what they were when they were signed: those of the journal, and those of a report that was given
//! to somebody.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use lifeboat_engine::Journal;
use lifeboat_model::{CaseStage, SignedReceipt, SiteId};
use serde_json::Value;

use super::signature;
use crate::output::{Outcome, Output};
use crate::verbs::restore::receipt_json;
use crate::{CliError, exit};

fn receipts(journal: &Journal) -> impl Iterator<Item = &SignedReceipt> {
    journal.state().cases.iter().filter_map(|case| match &case.stage {
        CaseStage::Restored(signed) => Some(&**signed),
        _ => None,
    })
}

/// The sites whose receipts have the repository's signature; the others are named.
pub(super) async fn signatures(journal: &Journal, output: &Output) -> Result<HashSet<SiteId>, CliError> {
    let key = journal.signing_key().await?;
    let (good, bad): (Vec<_>, Vec<_>) = receipts(journal).partition(|signed| journal.is_signed(&key, signed));
    for signed in &bad {
        output.line(format!("  NOT SIGNED by this repository: {}", signed.receipt.site));
    }
    output.line(format!("{} receipts have the repository's signature, {} do not.", good.len(), bad.len()));
    Ok(good.into_iter().map(|signed| signed.receipt.site.clone()).collect())
}

pub(super) fn told(journal: &Journal, good: usize, outcome: Outcome) -> Outcome {
    let bad = receipts(journal).count() - good;
    let exit_code = if bad == 0 { outcome.exit_code } else { exit::DAMAGE };
    Outcome { exit_code, ..outcome }.with("signed", good).with("not_signed", bad)
}

/// Compares the receipts in a `report.json` with those of the journal, whose signatures were checked.
pub(super) fn exported(file: &Path, journal: &Journal, output: &Output, outcome: Outcome) -> Result<Outcome, CliError> {
    let wrong = |reason: String| {
        CliError::usage(format!("not a report of this recovery: file=`{}`, {reason}", file.display()))
            .with_hint("name the report.json that `lifeboat recover report RECOVERY --out DIR` wrote")
    };
    let bytes = std::fs::read(file).map_err(|io| wrong(format!("reason=`{io}`")))?;
    let report: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(format!("reason=`{error}`")))?;
    let id = journal.plan().id.to_string();
    match report.get("recovery_id").and_then(Value::as_str) {
        Some(found) if found == id => {}
        found => return Err(wrong(format!("found=`{}`, expected=`{id}`", found.unwrap_or("none")))),
    }
    let Some(sites) = report.get("sites").and_then(Value::as_array) else {
        return Err(wrong("reason=`it names no sites: a public one has no receipts`".into()));
    };
    let known = receipts(journal).map(|signed| (signed.receipt.site.as_str(), signed)).collect();
    let differing = differing(sites, &known);
    for site in &differing {
        output.line(format!("  NOT as it was signed: {site}"));
    }
    let compared = sites.iter().filter(|site| site.get("receipt").is_some()).count();
    output.line(format!("{compared} receipts of the file were compared, {} are not as signed.", differing.len()));
    let exit_code = if differing.is_empty() { outcome.exit_code } else { exit::DAMAGE };
    Ok(Outcome { exit_code, ..outcome }.with("compared", compared).with("differing", differing))
}

/// The sites whose receipt in the file says something else than the one that was signed, or was never signed.
fn differing(sites: &[Value], known: &BTreeMap<&str, &SignedReceipt>) -> Vec<String> {
    let of_file = sites.iter().filter_map(|site| Some((site, site.get("receipt")?)));
    let differs = |(site, receipt): (&Value, &Value)| {
        let name = site.get("site").and_then(Value::as_str).unwrap_or_default();
        let is_same = known.get(name).is_some_and(|signed| {
            *receipt == receipt_json(&signed.receipt)
                && site.get("signature").and_then(Value::as_str) == Some(signature(signed).as_str())
        });
        (!is_same).then(|| name.to_owned())
    };
    of_file.filter_map(differs).collect()
}
