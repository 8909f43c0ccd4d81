//! `lifeboat audit verify | list`: whether the log is as it was written, and what it says.

mod list;

use lifeboat_model::Fault;
use lifeboat_repo::{AuditFinding, AuditHead, AuditReport};
use serde_json::json;

use crate::args::AuditCommand;
use crate::output::{Failed, Outcome, count};
use crate::{CliError, Context, exit};

pub fn run(command: &AuditCommand, context: &Context) -> Result<Outcome, CliError> {
    match command {
        AuditCommand::Verify => context.block_on(verify(context)),
        AuditCommand::List(args) => list::run(args, context),
    }
}

async fn verify(context: &Context) -> Result<Outcome, CliError> {
    let open = context.open().await?;
    let known = open.memory.audit_head();
    let report = open.engine.repository.verify_audit(known).await?;
    let AuditReport { entries, newest, findings } = report;
    let output = &context.output;
    for AuditFinding { object, detail } in &findings {
        output.event("finding", json!({ "object": object, "detail": detail }));
    }
    if let Some(newest) = newest.filter(|_| findings.is_empty()) {
        open.memory.note_audit(newest);
        output.line(format!("{} entries, each as it was written and in its place.", count(entries)));
    } else if findings.is_empty() {
        output.line("The audit log has no entry yet.");
    }
    if known.is_none() {
        output.say("This host had seen no entry before: that newer ones are gone could not be found.");
    }
    let failed: Vec<Failed> = findings.iter().map(|finding| damaged(&finding.object, &finding.detail)).collect();
    Ok(Outcome { exit_code: if failed.is_empty() { 0 } else { exit::DAMAGE }, failed, ..Outcome::ok() }
        .with("entries", entries)
        .with("newest", newest.map(|newest| newest.number.0))
        .with("seen_before", known.map(|known| known.number.0)))
}

/// An entry that is not as it was written.
fn damaged(object: &str, detail: &str) -> Failed {
    let error = CliError::new(Fault::Damage, format!("the audit log is damaged: object=`{object}`, {detail}"));
    Failed {
        site: None,
        message: error.message.clone(),
        hint: Some(
            "bring the object back from the store's own versions or copies; find out who could write there".into(),
        ),
        exit_code: error.exit_code(),
    }
}

/// A store that has less than this host has seen.
fn rolled_back(found: u64, known: AuditHead) -> Failed {
    let detail = format!("the newest entries are missing: newest there=`{found}`, seen before=`{}`", known.number);
    damaged(lifeboat_format::names::AUDIT_PREFIX, &detail)
}
