//! `lifeboat restore`, `undo` and `diff`: a plan, an approval, a receipt.

use futures_util::future::join;
use lifeboat_engine::{
    Approval, Only, Planned, RestorePlan, RestorePoint, RestoreRequest, RestoreTarget, find_undo, plan_restore, restore,
};
use lifeboat_model::{AuditAction, AuditTarget, Faulty, PartReceipt, PointInTime, Receipt, SiteId, TransactionId};

use super::plan::{parts_json, show_changes, show_counted, show_plan};
use crate::args::{ApprovalArgs, DiffArgs, OnlyArg, RestoreArgs, UndoArgs};
use crate::audit::Audited;
use crate::confirm::{Approvable, Decision, Left, decide};
use crate::open::Open;
use crate::output::{Align, Failed, Outcome, Table, bytes, count, duration, rate};
use crate::{CliError, Context, exit};

pub fn run(args: &RestoreArgs, context: &Context) -> Result<Outcome, CliError> {
    args.check_keep_later()?;
    let point = match args.without_xid {
        Some(id) => PointInTime::Without { transaction: TransactionId(id), till: None },
        None => super::point(args.at.as_deref())?,
    };
    let request = RestoreRequest {
        site: args.site.clone(),
        point: RestorePoint::At(point),
        only: args.only.as_ref().map(only),
        target: match (&args.beside, &args.export) {
            (Some(name), _) => RestoreTarget::Beside(name.clone()),
            (None, Some(directory)) => RestoreTarget::Export(absolute(&context.path(directory))?),
            (None, None) => RestoreTarget::InPlace,
        },
        restore: None,
        take_over: args.take_over,
        skip_damaged: args.skip_damaged,
        verify_read: args.verify.is_some(),
        exact: args.exact,
        keep_later: args.keep_later,
    };
    context.block_on(async {
        let open = context.open().await?;
        refuse_taken(&request, &open)?;
        if let Some(name) = &args.beside {
            super::known_site(&open, &args.site).await?;
            refuse_other_site(name, &args.site, &open).await?;
        }
        plan_and_run(&request, &args.approval, &open, context).await
    })
}

/// A restore beside may write where nobody's data is, and nothing of it could be undone: a name that
/// has points of its own is another customer, whatever the operator would approve.
async fn refuse_other_site(name: &SiteId, site: &SiteId, open: &Open) -> Result<(), CliError> {
    let hint =
        format!("name one that no site has, such as `{site}-look`; `lifeboat sites` lists the names that are taken");
    if name == site {
        return Err(CliError::usage(format!("beside the site needs another name: --beside=`{name}`")).with_hint(hint));
    }
    let remembered = open.memory.rows().into_iter().any(|row| row.site == *name);
    let is_site = remembered || {
        let run = open.engine.repository.newest_runs(1).await?.pop();
        run.is_some_and(|run| run.sites.iter().any(|seen| seen.site == *name))
    };
    if is_site {
        let message = format!("the name belongs to another site, which a restore never writes: --beside=`{name}`");
        return Err(CliError::usage(message).with_hint(hint));
    }
    Ok(())
}

/// An export never becomes a part of a site, nor of what Lifeboat itself keeps.
fn refuse_taken(request: &RestoreRequest, open: &Open) -> Result<(), CliError> {
    let RestoreTarget::Export(directory) = &request.target else { return Ok(()) };
    match open.config.taken_by(directory) {
        Some(owner) => {
            Err(CliError::usage(format!("the directory belongs to {owner}: path=`{}`", directory.display()))
                .with_hint("name a new or empty directory elsewhere"))
        }
        None => Ok(()),
    }
}

pub fn undo(args: &UndoArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let likely: Vec<SiteId> =
            open.memory.rows().into_iter().filter(|row| row.summary.undo > 0).map(|row| row.site).collect();
        let (site, restore) = find_undo(&open.engine, args.restore, &likely).await?;
        let request = RestoreRequest {
            point: RestorePoint::Undo(restore),
            take_over: args.take_over,
            ..in_place(site, PointInTime::Latest)
        };
        plan_and_run(&request, &args.approval, &open, context).await
    })
}

pub fn diff(args: &DiffArgs, context: &Context) -> Result<Outcome, CliError> {
    let point = super::point(args.at.as_deref())?;
    context.block_on(async {
        let open = context.open().await?;
        let request =
            RestoreRequest { only: args.only.as_ref().map(only), exact: true, ..in_place(args.site.clone(), point) };
        let mut audited = audited(&request, &open, context);
        let (planned, logged) = join(planned(&request, &open), audited.show(AuditAction::Read)).await;
        let plan = planned?.plan;
        logged?;
        open.bars.clear();
        context.output.say(format!("{} now, against {} (snapshot {})", plan.site, plan.at, plan.snapshot));
        let differences = show_changes(&plan, usize::MAX, context);
        show_counted(&plan, context);
        if differences == 0 {
            context.output.say("Nothing differs.");
        } else {
            context.output.say("That is what a restore would do. add: missing now; remove: not in the snapshot.");
        }
        for conflict in &plan.conflicts {
            context.output.say(format!("conflict: {}: {}", conflict.source, conflict.detail));
        }
        Ok(Outcome::ok()
            .with("site", plan.site.as_str())
            .with("snapshot_id", plan.snapshot.to_string())
            .with("at", plan.at.to_string())
            .with("differences", differences)
            .with("parts", parts_json(&plan)))
    })
}

fn in_place(site: SiteId, at: PointInTime) -> RestoreRequest {
    RestoreRequest {
        site,
        point: RestorePoint::At(at),
        only: None,
        target: RestoreTarget::InPlace,
        restore: None,
        take_over: false,
        skip_damaged: false,
        verify_read: false,
        exact: false,
        keep_later: false,
    }
}

fn only(only: &OnlyArg) -> Only {
    Only {
        part: only.source.clone(),
        entry: only.entry.clone().filter(|entry| !entry.is_root()),
        keys: only.keys.clone(),
    }
}

fn absolute(path: &std::path::Path) -> Result<std::path::PathBuf, CliError> {
    std::path::absolute(path).map_err(|io| {
        CliError::usage(format!("not a directory's path: path=`{}`, reason=`{io}`", path.display()))
            .with_hint("name a new or empty directory")
    })
}

/// What the audit log is told of a request.
fn audited(request: &RestoreRequest, open: &Open, context: &Context) -> Audited {
    let mut audited = Audited::new(open, context).sites([&request.site]);
    audited.about(match &request.point {
        RestorePoint::At(point) => AuditTarget::point(point),
        RestorePoint::Undo(restore) => AuditTarget::Restore(*restore),
    });
    let part = request.only.as_ref().map(|only| only.part.clone());
    part.into_iter().for_each(|part| audited.about(AuditTarget::Source(part)));
    audited
}

async fn planned(request: &RestoreRequest, open: &Open) -> Result<Planned, CliError> {
    super::of_known_site(open, &request.site, plan_restore(&open.engine, request).await).await
}

async fn plan_and_run(
    request: &RestoreRequest,
    approval: &ApprovalArgs,
    open: &Open,
    context: &Context,
) -> Result<Outcome, CliError> {
    let mut audited = audited(request, open, context);
    // It is written while the plan is made. What is approved already has begun with that; otherwise a plan is shown.
    let is_export = matches!(request.target, RestoreTarget::Export(_));
    let is_approved = approval.yes || approval.plan.is_some();
    let logging = async {
        match (approval.dry_run, is_export) {
            (false, true) => audited.show_early(AuditAction::Read).await,
            (false, false) if is_approved => audited.begin().await,
            (true, _) | (false, false) => audited.show(AuditAction::Planned).await,
        }
    };
    let (planned, logged) = join(planned(request, open), logging).await;
    let ended = match (planned, logged) {
        (Ok(planned), Ok(())) => run_planned((request, planned), approval, open, (&mut audited, context)).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    audited.end(AuditAction::Ended, ended).await
}

async fn run_planned(
    (request, planned): (&RestoreRequest, Planned),
    approval: &ApprovalArgs,
    open: &Open,
    (audited, context): (&mut Audited, &Context),
) -> Result<Outcome, CliError> {
    audited.about(AuditTarget::Plan(planned.plan.hash.clone()));
    audited.about(AuditTarget::Snapshot(planned.plan.snapshot));
    open.bars.clear();
    show_plan(&planned.plan, request, context);
    let plan = &planned.plan;
    // What changes nothing needs nobody's leave; it still runs, because it may close a restore that
    // was killed at its end.
    let is_harmless = plan.is_empty() && plan.conflicts.is_empty() && !approval.dry_run && approval.plan.is_none();
    let approvable = Approvable {
        subject: ("the site's id", plan.site.as_str()),
        hash: &plan.hash,
        has_conflicts: !plan.conflicts.is_empty(),
    };
    if let Some(barred) = plan.barred().filter(|_| !approval.dry_run) {
        return Err(CliError::of(&barred));
    }
    if !is_harmless {
        match decide(approval, approvable, &context.output)? {
            Decision::Run => {}
            Decision::Leave(left) => return Ok(left_alone(plan, left, context)),
        }
    }
    context.cancel.check()?;
    if !matches!(request.target, RestoreTarget::Export(_)) {
        audited.begin().await?;
    }
    let approval = Approval::Hash(plan.hash.clone());
    let receipt = restore(&open.engine, request, planned, &approval).await;
    open.bars.clear();
    let receipt = receipt?;
    audited.about(AuditTarget::Restore(receipt.restore));
    let sum = |of: fn(&PartReceipt) -> u64| count(receipt.parts.iter().map(of).sum());
    audited.details(format!("{} written, {} removed", sum(|part| part.files + part.rows), sum(|part| part.removed)));
    show_receipt(&receipt, request, context);
    Ok(outcome(&receipt))
}

fn left_alone(plan: &RestorePlan, left: Left, context: &Context) -> Outcome {
    let exit_code = match left {
        Left::DryRun => {
            context.output.say(match plan.barred().and_then(|barred| barred.hint()) {
                Some(way_out) => format!("It cannot be run: {way_out}"),
                None => format!("Nothing was changed. To run exactly this plan: --plan {}", plan.hash),
            });
            0
        }
        Left::Declined => {
            context.output.say("Nothing was changed.");
            exit::CANCELLED
        }
    };
    Outcome { exit_code, ..Outcome::ok() }
        .with("site", plan.site.as_str())
        .with("plan_hash", &plan.hash)
        .with("snapshot_id", plan.snapshot.to_string())
        .with("at", plan.at.to_string())
}

/// The receipt as the last line of `--json`.
fn outcome(receipt: &Receipt) -> Outcome {
    let exit_code = match (receipt.all_passed(), receipt.parts.iter().all(|part| part.digest_ok)) {
        (true, _) => 0,
        (false, true) => exit::PARTLY,
        (false, false) => exit::DAMAGE,
    };
    let failed = receipt.checks.iter().filter(|check| !check.passed).map(|check| Failed {
        site: Some(receipt.site.to_string()),
        message: format!("{}: {}", check.name, check.detail),
        hint: None,
        exit_code,
    });
    let fields = match receipt_json(receipt) {
        serde_json::Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    Outcome { exit_code, failed: failed.collect(), fields, ..Outcome::ok() }
}

/// A receipt as JSON has it: its keys are a contract.
pub(super) fn receipt_json(receipt: &Receipt) -> serde_json::Value {
    let parts = receipt.parts.iter().map(|part| {
        serde_json::json!({
            "source": part.source.as_str(),
            "entries": part.entries,
            "rows": part.rows,
            "files": part.files,
            "removed": part.removed,
            "kept": part.kept,
            "bytes": part.bytes,
            "digest_ok": part.digest_ok,
            "transaction": part.transaction.map(|id| id.0),
        })
    });
    let checks = receipt
        .checks
        .iter()
        .map(|check| serde_json::json!({ "name": check.name, "passed": check.passed, "detail": check.detail }));
    serde_json::json!({
        "restore_id": receipt.restore.to_string(),
        "site": receipt.site.as_str(),
        "at": receipt.at.to_string(),
        "snapshot_id": receipt.snapshot.to_string(),
        "parts": parts.collect::<Vec<_>>(),
        "bytes_read": receipt.bytes_read,
        "requests": receipt.requests,
        "duration_ms": u64::try_from(receipt.duration.as_millis()).unwrap_or(u64::MAX),
        "checks": checks.collect::<Vec<_>>(),
        "undo_id": receipt.undo.map(|id| id.to_string()),
    })
}

fn show_receipt(receipt: &Receipt, request: &RestoreRequest, context: &Context) {
    let output = &context.output;
    match request.point {
        RestorePoint::At(_) => {
            output.line(format!("Restore {} of {} to {}", receipt.restore, receipt.site, receipt.at));
        }
        RestorePoint::Undo(undone) => {
            output.line(format!("Undo of restore {undone} of {}, itself restore {}", receipt.site, receipt.restore));
        }
    }
    let mut table = Table::new(&[
        ("PART", Align::Left),
        ("ENTRIES", Align::Right),
        ("WRITTEN", Align::Right),
        (if request.keep_later { "KEPT" } else { "REMOVED" }, Align::Right),
        ("BYTES", Align::Right),
        ("EQUAL", Align::Left),
    ]);
    for part in &receipt.parts {
        table.row([
            part.source.to_string(),
            count(part.entries),
            count(part.files + part.rows),
            count(if request.keep_later { part.kept } else { part.removed }),
            bytes(part.bytes),
            if part.digest_ok { "yes" } else { "NO" }.to_owned(),
        ]);
    }
    table.lines().iter().for_each(|line| output.line(line));
    let failed = receipt.checks.iter().filter(|check| !check.passed).count();
    for check in receipt.checks.iter().filter(|check| context.global.verbose > 0 || !check.passed) {
        let passed = if check.passed { "ok" } else { "FAILED" };
        output.line(format!("  {passed}  {}: {}", check.name, check.detail));
    }
    let written: u64 = receipt.parts.iter().map(|part| part.bytes).sum();
    let rate = if written > 0 { format!(" ({})", rate(written, receipt.duration)) } else { String::new() };
    output.line(format!(
        "{} of {} checks passed, {} read in {} requests, {}{rate}.",
        receipt.checks.len() - failed,
        receipt.checks.len(),
        bytes(receipt.bytes_read),
        count(receipt.requests),
        duration(receipt.duration)
    ));
    if receipt.undo.is_some() {
        output.say(format!("What it replaced and removed is kept: `lifeboat undo {}`", receipt.restore));
    }
    // With -v those of a restore in place are among the checks.
    let are_shown = request.target == RestoreTarget::InPlace && context.global.verbose > 0;
    if !are_shown {
        let notes = receipt.checks.iter().filter(|check| check.passed && check.name.ends_with(": note"));
        notes.for_each(|note| output.say(&note.detail));
    }
    if let RestoreTarget::Export(directory) = &request.target {
        output.say(format!("Exported to {}", directory.display()));
    }
}
