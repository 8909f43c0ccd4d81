//! `lifeboat recover run`: what was approved, until every site has come to its end.

use lifeboat_control::recovery::{Governor, RecoveryEngine, RunEnd, RunOptions};
use lifeboat_engine::{Around, Journal};
use lifeboat_model::{AuditAction, AuditTarget, RecoveryId, worst_exit_code};

use super::bar::Bar;
use super::report::LivePage;
use super::{bystanders, caps, on_thread, refuse_drill, tell};
use crate::args::{ApprovalArgs, RecoverRunArgs};
use crate::audit::Audited;
use crate::confirm::{Approvable, Decision, Left, decide};
use crate::open::Open;
use crate::output::{Outcome, Output};
use crate::{CliError, Context, exit};

pub fn run(args: &RecoverRunArgs, context: &Context) -> Result<Outcome, CliError> {
    let (id, hash) = which(&args.recovery, context)?;
    context.block_on(async {
        let open = context.open().await?;
        let journal = on_thread(|ledger| ledger.status(id), &open.engine)?;
        refuse_drill(&journal)?;
        if let Some(hash) = hash.filter(|hash| hash != journal.hash()) {
            return Err(CliError::operator(format!(
                "the file is not of the plan that is stored: file=`{hash}`, stored=`{}`",
                journal.hash()
            ))
            .with_hint(format!("the file was changed; look at the stored plan with `lifeboat recover status {id}`")));
        }
        bystanders::refuse_blind(args, &open)?;
        if !args.approval.dry_run {
            caps::refuse_to_begin(&journal, &open).await?;
        }
        let mut audited = Audited::new(&open, context).sites(journal.plan().cases.iter().map(|case| &case.site));
        audited.about(AuditTarget::Recovery(id));
        audited.about(AuditTarget::Plan(journal.hash().to_owned()));
        if let Decision::Leave(left) = approved(args, &journal, &open, (&mut audited, context)).await? {
            return Ok(left_alone(&journal, left, context));
        }
        audited.begin().await?;
        let ran = work(args, journal, &open, context).await;
        if let Ok(outcome) = &ran {
            let field = |key: &str| outcome.fields.get(key).cloned().unwrap_or_default();
            audited.details(format!("{} of {} sites restored", field("restored"), field("sites")));
        }
        audited.end(AuditAction::Ended, ran).await
    })
}

/// Runs it until every site has come to its end, or somebody stops it.
async fn work(args: &RecoverRunArgs, journal: Journal, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let id = journal.plan().id;
    let page = LivePage::asked(&args.page, id, context)?;
    bystanders::look(args, id, open, context).await?;
    let parallel = args.parallel.unwrap_or(open.config.recovery.parallel) as usize;
    let sites = journal.plan().cases.iter().map(|case| case.site.clone()).collect();
    let (workers, governor) = (open.workers(parallel, sites)?, open.governor()?);
    let governor = governor.as_ref().map(|load| load as &dyn Governor);
    let (stop, watch) = (context.cancel.shared(), Bar::new(&journal, page, &context.output));
    let options = RunOptions { take_over: args.take_over, stop: &stop, watch: &watch, governor };
    let ended = on_thread(|ledger| ledger.work(id, workers, options), &open.engine);
    watch.bar.end();
    let proven = match &ended {
        Ok(RunEnd::Done | RunEnd::Halted) => bystanders::prove(id, args.bystanders_quiet, open, context),
        Ok(RunEnd::Stopped) | Err(_) => Ok(0), // who goes on compares with the same look
    };
    let journal = on_thread(|ledger| ledger.status(id), &open.engine);
    // However it ended, those who look on are told.
    if let (Some(page), Ok(journal)) = (&watch.page, &journal) {
        page.finish(journal);
    }
    let (ended, proven, journal) = (ended?, proven?, journal?);
    tell::summary(&journal, &context.output);
    tell::what_next(&journal, ended, &context.output);
    let outcome = tell::outcome(&journal);
    let exit_code = match ended {
        RunEnd::Stopped => exit::CANCELLED,
        RunEnd::Halted => exit::OPERATOR,
        RunEnd::Done => outcome.exit_code,
    };
    let exit_code = worst_exit_code([exit_code, proven, bystanders::exit_code(&journal)]);
    Ok(Outcome { exit_code, ..outcome })
}

/// The recovery that is meant, and the hash that the file has.
fn which(text: &str, context: &Context) -> Result<(RecoveryId, Option<String>), CliError> {
    if let Ok(id) = RecoveryId::parse(text) {
        return Ok((id, None));
    }
    let wrong = |reason: String| {
        CliError::usage(format!("neither a plan's file nor a recovery's id: plan=`{text}`, reason=`{reason}`"))
            .with_hint("name the file that `lifeboat recover plan -o FILE` wrote, or the id that it printed")
    };
    let read = std::fs::read_to_string(context.path(std::path::Path::new(text))).map_err(|io| wrong(io.to_string()))?;
    let json: serde_json::Value = serde_json::from_str(&read).map_err(|error| wrong(error.to_string()))?;
    let word = |key: &str| json.get(key).and_then(|value| value.as_str());
    let id = word("recovery_id").and_then(|id| RecoveryId::parse(id).ok());
    match (id, word("plan_hash")) {
        (Some(id), Some(hash)) => Ok((id, Some(hash.to_owned()))),
        _ => Err(wrong("it has no recovery_id and plan_hash".into())),
    }
}

/// What whoever approves the plan has to know beside it: it is in the configuration, and not in the plan. Of a command no
/// more than its receipt will say: what else is in its arguments may be for nobody's eyes.
fn tell_around(around: &Around, output: &Output) {
    let [before, after] = around.names();
    let checks = around.checks.iter().map(|check| check.name.clone()).collect();
    for (when, prefix, what) in [("Before", "before: ", before), ("After", "after: ", after), ("Checks of", "", checks)]
    {
        if !what.is_empty() {
            let names: Vec<&str> = what.iter().map(|name| name.strip_prefix(prefix).unwrap_or(name)).collect();
            output.line(format!("{when} each site: {}", names.join("; ")));
        }
    }
}

/// Has the plan approved, unless it was: then it is only shown, where that was asked for.
async fn approved(
    args: &RecoverRunArgs,
    journal: &Journal,
    open: &Open,
    (audited, context): (&mut Audited, &Context),
) -> Result<Decision, CliError> {
    let (id, was_approved) = (journal.plan().id, journal.state().approved.is_some());
    let asks = !was_approved && !args.approval.yes && args.approval.plan.is_none();
    if args.approval.dry_run || asks {
        audited.show(AuditAction::Planned).await?;
    }
    if !was_approved || args.approval.dry_run {
        tell::plan(journal, open.config.recovery.parallel, &context.output);
        tell_around(&open.config.recovery.around, &context.output);
    }
    let has_conflicts = !was_approved && journal.plan().cases.iter().any(|case| !case.conflicts.is_empty());
    let approval = ApprovalArgs { yes: args.approval.yes || was_approved, ..args.approval.clone() };
    let plan = Approvable { subject: ("the recovery's id", &id.to_string()), hash: journal.hash(), has_conflicts };
    let decision = decide(&approval, plan, &context.output)?;
    if decision == Decision::Run && !was_approved {
        audited.note(AuditAction::Approved).await?;
        on_thread(|ledger| ledger.approve(id, journal.hash()), &open.engine)?;
    }
    Ok(decision)
}

fn left_alone(journal: &Journal, left: Left, context: &Context) -> Outcome {
    context.output.say(match left {
        Left::DryRun => format!("Nothing was changed. To run exactly this plan: --plan {}", journal.hash()),
        Left::Declined => "Nothing was changed.".to_owned(),
    });
    Outcome { exit_code: if left == Left::Declined { exit::CANCELLED } else { 0 }, ..tell::outcome(journal) }
}
