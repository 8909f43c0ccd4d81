//! `lifeboat recover plan` and `undo`: what bringing many sites back would do, stored to be approved.

mod file;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_control::recovery::RecoveryEngine;
use lifeboat_engine::{CaseAsked, Engine, Journal, plan_case, this_process};
use lifeboat_model::{
    AuditAction, AuditTarget, CaseAim, CasePlan, CaseStage, RecoveryId, RecoveryPlan, RecoveryRules, SiteId, Timestamp,
    case_turn, worst_exit_code,
};
use lifeboat_repo::recovery_plan_hash;

use self::file::PlanFile;
use super::{caps, on_thread, refuse_drill, select, tell};
use crate::args::{RecoverPlanArgs, RecoverUndoArgs};
use crate::audit::Audited;
use crate::open::Open;
use crate::output::{Failed, Outcome};
use crate::progress::Steps;
use crate::{CliError, Context};

/// Sites whose refusal people are shown.
const REFUSED_SHOWN_MAX: usize = 20;

pub fn run(args: &RecoverPlanArgs, context: &Context) -> Result<Outcome, CliError> {
    let file = PlanFile::claim(args.output.as_deref(), context)?;
    context.block_on(async {
        let open = context.open().await?;
        let wanted = select::wanted(args, &open, context).await?;
        caps::refuse_to_plan(wanted.len(), &open).await?;
        let cases = select::cases(args, wanted, &open).await?;
        let config = &open.config.recovery;
        let rules = RecoveryRules {
            canaries: config.canaries,
            halt_percent: config.halt_percent,
            keeps_later: args.keep_later,
            verifies_read: args.verify.is_some(),
            skips_damaged: args.skip_damaged,
        };
        let words = context.typed.clone();
        let name = args.output.as_deref();
        plan(Asked { cases, rules, undoes: None, words, file: name.zip(file) }, &open, context).await
    })
}

/// A recovery of its own: every site of another one that was restored goes back to what was there before.
pub fn undo(args: &RecoverUndoArgs, context: &Context) -> Result<Outcome, CliError> {
    let file = PlanFile::claim(args.output.as_deref(), context)?;
    context.block_on(async {
        let open = context.open().await?;
        let journal = on_thread(|ledger| ledger.status(args.recovery), &open.engine)?;
        refuse_drill(&journal)?;
        let cases = undone(&journal)?;
        let rules = RecoveryRules { keeps_later: false, skips_damaged: false, ..journal.plan().rules };
        let words = format!("undo of recovery {}", args.recovery);
        let name = args.output.as_deref();
        plan(Asked { cases, rules, undoes: Some(args.recovery), words, file: name.zip(file) }, &open, context).await
    })
}

fn undone(journal: &Journal) -> Result<Vec<CaseAsked>, CliError> {
    let state = journal.state();
    if state.cases.iter().any(|case| case.stage == CaseStage::Running) {
        return Err(CliError::operator(format!("the recovery is running: recovery=`{}`", journal.plan().id))
            .with_hint("stop it with Ctrl-C where it runs, or wait until it is done; if its process is dead, `lifeboat recover run` goes on \
                 with it"));
    }
    let asked: Vec<CaseAsked> = state
        .cases
        .iter()
        .filter_map(|case| {
            let CaseStage::Restored(signed) = &case.stage else { return None };
            signed.receipt.undo?; // nothing was replaced or removed
            let aim = CaseAim::Undo(signed.receipt.restore);
            Some(CaseAsked { site: case.site.clone(), aim, priority: case.priority, deadline: None })
        })
        .collect();
    match asked.is_empty() {
        true => Err(CliError::usage(format!("nothing of it can be undone: recovery=`{}`", journal.plan().id))
            .with_hint("no site was restored by it, or nothing was replaced or removed")),
        false => Ok(asked),
    }
}

/// What a plan is asked for.
struct Asked<'a> {
    cases: Vec<CaseAsked>,
    rules: RecoveryRules,
    undoes: Option<RecoveryId>,
    /// In the words of who asked.
    words: String,
    /// As it was named.
    file: Option<(&'a Path, PlanFile)>,
}

/// A site that cannot be brought back so.
pub(in crate::verbs) type Refused = (SiteId, lifeboat_engine::Error);

async fn plan(asked: Asked<'_>, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let Asked { cases: asked, rules, undoes, words, file } = asked;
    let sites = asked.iter().map(|case| case.site.clone()).collect();
    let crew = open.crew(&open.config, open.config.recovery.parallel as usize, sites)?;
    let (cases, refused) = plan_all(&crew, &asked, rules, context)?;
    open.bars.clear();
    if !refused.is_empty() {
        return Ok(refusal(refused, asked.len(), context));
    }
    let plan = RecoveryPlan {
        id: RecoveryId(lifeboat_format::random()?),
        made_at: Timestamp::now(),
        made_by: this_process(),
        asked: words,
        undoes,
        rules,
        cases: in_order(cases, rules.canaries as usize),
    };
    let id = plan.id;
    let mut audited = Audited::new(open, context).sites(plan.cases.iter().map(|case| &case.site));
    audited.about(AuditTarget::Recovery(id));
    audited.about(AuditTarget::Plan(recovery_plan_hash(&plan)));
    audited.note(AuditAction::Planned).await?;
    let journal = on_thread(
        |ledger| {
            ledger.submit(plan)?;
            ledger.status(id)
        },
        &open.engine,
    )?;
    tell::plan(&journal, open.config.recovery.parallel, &context.output);
    let name = match file {
        Some((name, file)) => {
            file.write(&journal)?;
            name.display().to_string()
        }
        None => id.to_string(),
    };
    context.output.say(format!(
        "Nothing was changed. To run exactly this plan: lifeboat recover run {name} --plan {}",
        journal.hash()
    ));
    Ok(tell::outcome(&journal))
}

/// Plans every case, a few at a time; those that cannot be come with their reason.
pub(in crate::verbs) fn plan_all(
    crew: &[Engine],
    asked: &[CaseAsked],
    rules: RecoveryRules,
    context: &Context,
) -> Result<(Vec<CasePlan>, Vec<Refused>), CliError> {
    let (next, runtime) = (AtomicUsize::new(0), tokio::runtime::Handle::current());
    let planned = Mutex::new(Vec::new());
    let bar = Steps::new("planning", &context.output);
    bar.begin(asked.len() as u64);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            for engine in crew {
                scope.spawn(|| {
                    while let Some(case) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if context.cancel.check().is_err() {
                            return;
                        }
                        let plan = runtime.block_on(plan_case(engine, case, rules));
                        planned.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((case, plan));
                        bar.step();
                    }
                });
            }
        });
    });
    bar.end();
    context.cancel.check()?;
    let (mut cases, mut refused) = (Vec::new(), Vec::new());
    for (case, plan) in planned.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        match plan {
            Ok(plan) => cases.push(plan),
            Err(error) => refused.push((case.site.clone(), error)),
        }
    }
    refused.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok((cases, refused))
}

/// By priority, deadline and id; but first the canaries: those with the least to do, which soon tell whether it works.
fn in_order(mut cases: Vec<CasePlan>, canaries: usize) -> Vec<CasePlan> {
    cases.sort_by(|a, b| (a.work.write_bytes, &a.site).cmp(&(b.work.write_bytes, &b.site)));
    let mut rest = cases.split_off(canaries.min(cases.len()));
    rest.sort_by(|a, b| a.site.cmp(&b.site));
    rest.sort_by_key(|case| case_turn(case.priority, case.deadline)); // stable: equal ones stay in the order of their ids
    cases.extend(rest);
    cases
}

/// A plan that could bring back only some is none: a person takes the others out, knowing which.
fn refusal(refused: Vec<Refused>, asked: usize, context: &Context) -> Outcome {
    let count = refused.len();
    let failed: Vec<Failed> =
        refused.into_iter().map(|(site, error)| Failed::of_site(site, &CliError::of(&error))).collect();
    let exit_code = worst_exit_code(failed.iter().map(|failed| failed.exit_code));
    context.output.warn(
        &format!("no plan was made: {count} of {asked} sites cannot be brought back so"),
        Some("mend what is told of each, or take them out of the list and lower --expect"),
    );
    let shown = if context.output.is_json() { failed.len() } else { REFUSED_SHOWN_MAX };
    let failed = failed.into_iter().take(shown).collect();
    Outcome { exit_code, failed, ..Outcome::ok() }.with("refused", count).with("asked", asked)
}
