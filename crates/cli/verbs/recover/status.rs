//! `lifeboat recover status`: how far a recovery is, from any terminal; with `--follow`, while it runs.

use std::time::Duration;

use lifeboat_control::recovery::{RecoveryEngine, estimate};
use lifeboat_engine::{Journal, Recoveries};
use lifeboat_model::{CaseStage, Timestamp};
use serde_json::json;

use super::report::LivePage;
use super::{on_thread, tell};
use crate::args::RecoverStatusArgs;
use crate::output::{Align, Outcome, Table, ago, count, duration};
use crate::progress::Steps;
use crate::{CliError, Context};

/// How often a journal that is followed is read.
const POLL: Duration = Duration::from_secs(1);
/// Sites at work that one line names.
const NAMED_MAX: usize = 3;

pub fn run(args: &RecoverStatusArgs, context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let recoveries = Recoveries::of(&open.engine);
        let Some(id) = args.recovery else { return list(&recoveries, context).await };
        let mut journal = on_thread(|ledger| ledger.status(id), &open.engine)?;
        let page = LivePage::asked(&args.page, id, context)?;
        let followed = if args.follow { follow(&mut journal, page.as_ref(), context).await } else { Ok(()) };
        if let Some(page) = &page {
            page.finish(&journal);
        }
        followed?;
        tell::summary(&journal, &context.output);
        let counts = journal.state().counts();
        tell::sites(&journal, &context.output, |case| {
            args.all || context.output.is_json() || (counts.running > 0 && case.stage == CaseStage::Running)
        });
        Ok(Outcome { exit_code: 0, ..tell::outcome(&journal) })
    })
}

/// Shows how it goes until nobody runs it any more.
async fn follow(journal: &mut Journal, page: Option<&LivePage>, context: &Context) -> Result<(), CliError> {
    let bar = Steps::telling("restored", journal.plan().cases.len() as u64, &context.output);
    loop {
        journal.refresh().await?;
        let state = journal.state();
        let counts = state.counts();
        bar.at(counts.restored as u64);
        let left = estimate(journal.plan(), state, Timestamp::now());
        let left = left.map_or_else(String::new, |left| format!(", {} left", duration(left.left)));
        let at_work = tell::running(journal);
        let names: Vec<&str> = at_work.iter().take(NAMED_MAX).map(|site| site.as_str()).collect();
        bar.doing(&format!("{} failed{left} | {}", counts.failed, names.join(" ")));
        if let Some(page) = page {
            page.show(journal);
        }
        let is_over = state.is_done() || state.run.as_ref().is_none_or(|run| run.ended_at.is_some());
        let stopped = context.cancel.check();
        if is_over || stopped.is_err() {
            bar.end();
            return stopped;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Which recoveries there are, the newest first.
async fn list(recoveries: &Recoveries, context: &Context) -> Result<Outcome, CliError> {
    let mut journals = Vec::new();
    for id in recoveries.list().await? {
        journals.push(recoveries.open(id).await?);
    }
    journals.sort_by_key(|journal| std::cmp::Reverse(journal.plan().made_at));
    let mut table = Table::new(&[
        ("RECOVERY", Align::Left),
        ("PLANNED", Align::Left),
        ("SITES", Align::Right),
        ("RESTORED", Align::Right),
        ("FAILED", Align::Right),
        ("STATE", Align::Left),
    ]);
    let now = Timestamp::now();
    for journal in &journals {
        let (plan, counts) = (journal.plan(), journal.state().counts());
        let state = tell::word(journal.state());
        context.output.event(
            "recovery",
            json!({
                "recovery_id": plan.id.to_string(),
                "made_at": plan.made_at.to_string(),
                "asked": plan.asked,
                "sites": counts.all,
                "restored": counts.restored,
                "failed_sites": counts.failed,
                "state": state,
            }),
        );
        table.row([
            plan.id.to_string(),
            ago(plan.made_at, now),
            count(counts.all as u64),
            count(counts.restored as u64),
            count(counts.failed as u64),
            state,
        ]);
    }
    match table.is_empty() {
        true => context.output.say("There is no recovery. `lifeboat recover plan --help` shows how to begin one."),
        false => table.lines().iter().for_each(|line| context.output.line(line)),
    }
    Ok(Outcome::ok().with("recoveries", journals.len()))
}
