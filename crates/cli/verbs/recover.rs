//! `lifeboat recover`: many sites brought back by one approved plan.
//!
//!   plan ─▶ (printed, stored, approved by its hash) ─▶ run ─▶ report      from any terminal: status, pause, skip, retry …
//!
//! What is not here: who does which case when (`lifeboat-control`), how a site is restored (`lifeboat-engine`).

mod bar;
mod bystanders;
mod caps;
mod follow;
mod plan;
mod report;
mod run;
mod select;
mod status;
mod tell;

pub(super) use plan::plan_all;

use std::collections::BTreeSet;
use std::sync::Arc;

use lifeboat_control::recovery::{CaseSteps, Control, DatabaseLoad, EngineSteps, Ledger, RecoveryEngine};
use lifeboat_engine::{Engine, Journal, Recoveries, server_loads};
use lifeboat_model::{AuditAction, AuditTarget, HandOver, RecoveryId, SiteId};
use lifeboat_repo::ReadOnce;
use lifeboat_store::{Pace, Remembered, Store};

use crate::args::RecoverCommand;
use crate::audit::Audited;
use crate::config::Config;
use crate::open::Open;
use crate::output::Outcome;
use crate::{CliError, Context};

pub fn run(command: &RecoverCommand, context: &Context) -> Result<Outcome, CliError> {
    match command {
        RecoverCommand::Plan(args) => plan::run(args, context),
        RecoverCommand::Run(args) => run::run(args, context),
        RecoverCommand::Status(args) => status::run(args, context),
        RecoverCommand::Report(args) => report::run(args, context),
        RecoverCommand::Undo(args) => plan::undo(args, context),
        RecoverCommand::Pause(args) => tell_all(args.recovery, &[Control::Pause], context),
        RecoverCommand::Resume(args) => tell_all(args.recovery, &[Control::Resume], context),
        RecoverCommand::Skip(args) => {
            each(args.recovery, &args.sites, context, |site| Control::Skip { site, reason: args.reason.clone() })
        }
        RecoverCommand::Retry(args) if args.sites.is_empty() => {
            tell_all(args.recovery, &[Control::RetryFailed], context)
        }
        RecoverCommand::Retry(args) => each(args.recovery, &args.sites, context, |site| Control::Retry { site }),
        RecoverCommand::Reprioritise(args) => {
            each(args.recovery, &args.sites, context, |site| Control::Reprioritise { site, priority: args.priority })
        }
        RecoverCommand::Accept(args) => each(args.recovery, &args.sites, context, |site| Control::HandOver {
            site,
            to: if args.opened { HandOver::Opened } else { HandOver::Accepted },
            note: args.note.clone(),
        }),
    }
}

fn each(
    recovery: RecoveryId,
    sites: &[SiteId],
    context: &Context,
    control: impl Fn(SiteId) -> Control,
) -> Result<Outcome, CliError> {
    let controls: Vec<Control> = sites.iter().cloned().map(control).collect();
    tell_all(recovery, &controls, context)
}

/// What a drill has found stays as it is told, and nothing of it comes back.
fn refuse_drill(journal: &Journal) -> Result<(), CliError> {
    match journal.plan().is_drill() {
        false => Ok(()),
        true => Err(CliError::usage(format!("that is a drill, and no recovery: recovery=`{}`", journal.plan().id))
            .with_hint(
                "nothing of it comes back; look with `lifeboat recover report`, rehearse again with `lifeboat drill`",
            )),
    }
}

/// The site that a word to a recovery is about.
fn site_of(control: &Control) -> Option<&SiteId> {
    match control {
        Control::Skip { site, .. }
        | Control::Retry { site }
        | Control::Reprioritise { site, .. }
        | Control::HandOver { site, .. } => Some(site),
        Control::Pause | Control::Resume | Control::RetryFailed => None,
    }
}

/// Writes into the journal, all of it or none, and shows how the recovery stands then.
fn tell_all(recovery: RecoveryId, controls: &[Control], context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        refuse_drill(&on_thread(|ledger| ledger.status(recovery), &open.engine)?)?;
        let mut audited = Audited::new(&open, context).sites(controls.iter().filter_map(site_of));
        audited.about(AuditTarget::Recovery(recovery));
        audited.begin().await?;
        let journal = on_thread(
            |ledger| {
                ledger.controls(recovery, controls)?;
                ledger.status(recovery)
            },
            &open.engine,
        );
        let told = journal.map_err(CliError::from).map(|journal| {
            tell::summary(&journal, &context.output);
            // What was told is written: how the cases stand is another matter.
            Outcome { exit_code: 0, ..tell::outcome(&journal) }
        });
        audited.end(AuditAction::Ended, told).await
    })
}

/// The engine of recoveries blocks: it is used from a thread that may.
pub(super) fn on_thread<T: Send>(
    work: impl FnOnce(&Ledger) -> Result<T, lifeboat_engine::Error> + Send,
    engine: &Engine,
) -> Result<T, lifeboat_engine::Error> {
    let ledger = ledger(engine);
    apart(|| work(&ledger))
}

/// Does what blocks on a thread of its own.
fn apart<T: Send>(
    work: impl FnOnce() -> Result<T, lifeboat_engine::Error> + Send,
) -> Result<T, lifeboat_engine::Error> {
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let worked = scope.spawn(work).join();
            worked.unwrap_or_else(|_| Err(lifeboat_engine::Error::Bug("a thread of a recovery panicked".into())))
        })
    })
}

fn ledger(engine: &Engine) -> Ledger {
    Ledger::new(Recoveries::of(engine), tokio::runtime::Handle::current())
}

/// What all workers of a recovery hold of the change logs at one time.
const LOG_BYTES_MAX: usize = 96 << 20;

impl Open {
    /// Engines for so many workers, with the sources of `config`, each with connections and a meter of its own; what
    /// several of the sites want of the change logs is read once. Together they read from the store as fast as is allowed.
    pub(super) fn crew(&self, config: &Config, count: usize, sites: BTreeSet<SiteId>) -> Result<Vec<Engine>, CliError> {
        let store = Arc::clone(self.engine.repository.store());
        let store = match self.config.recovery.bytes_per_second {
            Some(rate) => Arc::new(Pace::new(store, rate, Arc::clone(&self.engine.cancel))) as Arc<dyn Store>,
            None => store,
        };
        let once = Arc::new(ReadOnce::new(sites, LOG_BYTES_MAX));
        let remembered = Arc::new(Remembered::new(lifeboat_format::names::LOG_PREFIX, LOG_BYTES_MAX / 8));
        let engine = |_| {
            let engine = self.engine_at(config, (&store, count.max(1)), &remembered)?;
            Ok(Engine { read_once: Some(Arc::clone(&once)), ..engine })
        };
        (0..count.max(1)).map(engine).collect()
    }

    /// What holds cases back while a database is busy with others, where the operator wants that.
    fn governor(&self) -> Result<Option<DatabaseLoad>, CliError> {
        let Some(limit) = self.config.recovery.database_load else { return Ok(None) };
        let servers = server_loads(&self.engine);
        Ok(Some(apart(|| DatabaseLoad::begin(limit.into(), servers))?))
    }

    /// Workers for the cases of a recovery: each with an engine of its own, and all with what the operator wants around
    /// each case.
    fn workers(&self, count: usize, sites: BTreeSet<SiteId>) -> Result<Vec<Box<dyn CaseSteps>>, CliError> {
        let around = Arc::new(self.config.recovery.around.clone());
        let runtime = tokio::runtime::Handle::current();
        let worker = |engine| {
            let steps = EngineSteps::new(engine, runtime.clone());
            Box::new(steps.with_around(Arc::clone(&around))) as Box<dyn CaseSteps>
        };
        Ok(self.crew(&self.config, count, sites)?.into_iter().map(worker).collect())
    }
}
