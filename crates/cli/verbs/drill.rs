//! `lifeboat drill`: sites rebuilt from the repository in a scratch place, verified, measured, and taken away again.
//!
//!   choose sites ▸ plan each ▸ a recovery whose cases are rehearsals ▸ run it ▸ what came back, how fast, how old
//!
//! It is a recovery in all but the place: the same plan, journal, workers and receipts. Nobody has to approve it, for nothing
//! live is written. A site that cannot be planned is what a drill is there to find: it is told, and the others go on.
//!
//! What is not here: how a site is rebuilt (`lifeboat-engine`), and when drills are due (a schedule).

mod choose;
mod place;
mod tell;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use lifeboat_control::recovery::{CaseSteps, EngineSteps, RecoveryEngine, RunOptions, Watch};
use lifeboat_engine::{CaseAsked, Engine, Journal, note_drill_failed, tells_of_the_site, this_process};
use lifeboat_model::{
    AuditAction, AuditTarget, CaseAim, PointInTime, RecoveryId, RecoveryPlan, RecoveryRules, SiteId, Timestamp,
};

use self::choose::Chosen;
use self::place::ScratchPlace;
use super::recover::{on_thread, plan_all};
use crate::args::DrillArgs;
use crate::audit::Audited;
use crate::open::Open;
use crate::output::Outcome;
use crate::progress::Steps;
use crate::{CliError, Context};

/// A drill goes on however many of its sites fail: that is what it is to tell.
const NEVER_HALT: u32 = 100;
const RULES: RecoveryRules = RecoveryRules {
    canaries: 0,
    halt_percent: NEVER_HALT,
    keeps_later: false,
    verifies_read: false,
    skips_damaged: false,
};

pub fn run(args: &DrillArgs, context: &Context) -> Result<Outcome, CliError> {
    // A wrong moment is told before anything is opened.
    super::point(args.at.as_deref())?;
    context.block_on(async {
        let open = context.open().await?;
        let outcome = hold(args, &open, context).await?;
        context.cancel.check()?;
        Ok(outcome)
    })
}

/// Holds one drill. Stopped, it has told of the sites until then.
pub(super) async fn hold(args: &DrillArgs, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let point = super::point(args.at.as_deref())?;
    let id = RecoveryId(lifeboat_format::random()?);
    let (chosen, damaged) = choose::sites(args, id, open, context).await?;
    let sites: BTreeSet<SiteId> = chosen.iter().map(|chosen| chosen.site.clone()).collect();
    let mut audited = Audited::new(open, context).sites(&sites);
    audited.about(AuditTarget::Recovery(id));
    audited.begin().await?;
    let drilled = drill(Drawn { id, point, chosen, damaged }, args, open, context).await;
    audited.end(AuditAction::Ended, drilled).await
}

/// What is rehearsed.
struct Drawn {
    id: RecoveryId,
    point: PointInTime,
    chosen: Vec<Chosen>,
    /// Those that cannot even be looked at.
    damaged: Vec<(SiteId, CliError)>,
}

async fn drill(drawn: Drawn, args: &DrillArgs, open: &Open, context: &Context) -> Result<Outcome, CliError> {
    let Drawn { id, point, chosen, damaged } = drawn;
    let sites: BTreeSet<SiteId> = chosen.iter().map(|chosen| chosen.site.clone()).collect();
    let place = ScratchPlace::claim(open)?;
    let crew = || place.crew(open, workers(args, open), sites.clone());
    let began = Timestamp::now();
    let aim = CaseAim::Rehearsal(point);
    let asked: Vec<CaseAsked> = chosen.iter().map(|chosen| asked(&chosen.site, &aim)).collect();
    let (cases, refused) = plan_all(&crew()?, &asked, RULES, context)?;
    open.bars.clear();
    let plan = RecoveryPlan {
        id,
        made_at: Timestamp::now(),
        made_by: this_process(),
        asked: format!("drill of {} sites", chosen.len()),
        undoes: None,
        rules: RULES,
        cases: in_order(cases, &chosen),
    };
    // Whoever rehearses has read nothing yet, as on the day.
    let rehearsed = match plan.cases.is_empty() {
        true => Ok(None),
        false => crew().and_then(|crew| rehearse(plan, crew, open, context)).map(Some),
    };
    // However it ended, customers' data does not stay.
    let left = tokio::task::block_in_place(|| place.scratch.sweep());
    let journal = rehearsed?;
    for (site, _) in refused.iter().filter(|(_, error)| tells_of_the_site(error)) {
        // It is told here; who looks at the site later is told, too, where that can be written.
        let noted = note_drill_failed(&open.engine, site, id).await;
        noted.unwrap_or_else(|error| tracing::warn!(%error, %site, "a failed drill was not recorded"));
    }
    let refused = refused.into_iter().map(|(site, error)| (site, CliError::of(&error))).chain(damaged).collect();
    let drill = tell::Drill {
        journal: journal.as_ref(),
        began,
        chosen: &chosen,
        refused,
        is_incident: args.recovery.is_some(),
        is_latest: args.at.is_none(),
        is_cleared: left.is_ok(),
    };
    let outcome = tell::told(drill, open, &context.output);
    left?; // told last, for somebody has to go there
    Ok(outcome)
}

fn workers(args: &DrillArgs, open: &Open) -> usize {
    // One alone is what the RTO of one site is measured by.
    let usual = if args.recovery.is_some() { open.config.recovery.parallel } else { 1 };
    args.parallel.unwrap_or(usual) as usize
}

fn asked(site: &SiteId, aim: &CaseAim) -> CaseAsked {
    CaseAsked { site: site.clone(), aim: aim.clone(), priority: 0, deadline: None }
}

/// As they were chosen.
fn in_order(mut cases: Vec<lifeboat_model::CasePlan>, chosen: &[Chosen]) -> Vec<lifeboat_model::CasePlan> {
    cases.sort_by_key(|case| chosen.iter().position(|chosen| chosen.site == case.site));
    cases
}

/// Runs the plan to its end; what became of each case is in the journal.
fn rehearse(plan: RecoveryPlan, crew: Vec<Engine>, open: &Open, context: &Context) -> Result<Journal, CliError> {
    let id = plan.id;
    let runtime = tokio::runtime::Handle::current();
    let steps = |engine| Box::new(EngineSteps::new(engine, runtime.clone())) as Box<dyn CaseSteps>;
    let workers: Vec<Box<dyn CaseSteps>> = crew.into_iter().map(steps).collect();
    let watch = Rehearsing::new(plan.cases.len(), context);
    let stop = context.cancel.shared();
    let journal = on_thread(
        |ledger| {
            ledger.submit(plan)?;
            ledger.approve(id, ledger.status(id)?.hash())?;
            ledger.work(id, workers, RunOptions { take_over: false, stop: &stop, watch: &watch, governor: None })?;
            ledger.status(id)
        },
        &open.engine,
    );
    watch.bar.end();
    Ok(journal?)
}

/// One bar for all of it.
struct Rehearsing {
    bar: Steps,
    told: Mutex<HashSet<SiteId>>,
    output: crate::output::Output,
}

impl Rehearsing {
    fn new(sites: usize, context: &Context) -> Self {
        let bar = Steps::telling("drill", sites as u64, &context.output);
        Self { bar, told: Mutex::default(), output: context.output.clone() }
    }
}

impl Watch for Rehearsing {
    fn moved(&self, journal: &Journal) {
        let counts = journal.state().counts();
        self.bar.at((counts.restored + counts.failed) as u64);
        self.bar.doing(&format!("{} rebuilding, {} failed", counts.running, counts.failed));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for case in journal.state().cases.iter().filter(|case| case.ended_at.is_some()) {
            if told.insert(case.site.clone()) {
                self.output
                    .event("case", serde_json::json!({ "site": case.site.as_str(), "state": case.stage.name() }));
            }
        }
    }

    fn beat(&self, _site: &SiteId, _at: u64, _of: u64) {}
}
