//! `lifeboat recover status`: how far a recovery is, from any terminal; with `--follow`, while it runs.

use lifeboat_control::recovery::RecoveryEngine;
use lifeboat_engine::Recoveries;
use lifeboat_model::{CaseStage, Timestamp};

use super::follow::follow;
use super::report::LivePage;
use super::tell::Stand;
use super::{on_thread, tell};
use crate::args::RecoverStatusArgs;
use crate::output::{Align, Outcome, Table, ago, count};
use crate::{CliError, Context};

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
        let stand = Stand::of(journal);
        context.output.event("recovery", tell::recovery_json(journal, &stand));
        table.row([
            plan.id.to_string(),
            ago(plan.made_at, now),
            count(counts.all as u64),
            count(counts.restored as u64),
            count(counts.failed as u64),
            if plan.is_drill() { format!("drill, {}", stand.brief()) } else { stand.brief() },
        ]);
    }
    match table.is_empty() {
        true => context.output.say("There is no recovery. `lifeboat recover plan --help` shows how to begin one."),
        false => table.lines().iter().for_each(|line| context.output.line(line)),
    }
    Ok(Outcome::ok().with("recoveries", journals.len()))
}
