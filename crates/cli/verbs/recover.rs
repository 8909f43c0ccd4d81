//! `lifeboat recover`: many sites brought back by one approved plan.
//!
//!   plan ─▶ (printed, stored, approved by its hash) ─▶ run ─▶ report      from any terminal: status, pause, skip, retry …
//!
//! What is not here: who does which case when (`lifeboat-control`), how a site is restored (`lifeboat-engine`).

mod bystanders;
mod plan;
mod report;
mod run;
mod select;
mod status;
mod tell;

use lifeboat_control::recovery::{Control, Ledger, RecoveryEngine};
use lifeboat_engine::{Engine, Recoveries};
use lifeboat_model::{HandOver, RecoveryId, SiteId};

use crate::args::RecoverCommand;
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

/// Writes into the journal, and shows how the recovery stands then.
fn tell_all(recovery: RecoveryId, controls: &[Control], context: &Context) -> Result<Outcome, CliError> {
    context.block_on(async {
        let open = context.open().await?;
        let journal = on_thread(
            |ledger| {
                controls.iter().try_for_each(|control| ledger.control(recovery, control))?;
                ledger.status(recovery)
            },
            &open.engine,
        )?;
        tell::summary(&journal, &context.output);
        // What was told is written: how the cases stand is another matter.
        Ok(Outcome { exit_code: 0, ..tell::outcome(&journal) })
    })
}

/// The engine of recoveries blocks: it is used from a thread that may.
fn on_thread<T: Send>(
    work: impl FnOnce(&Ledger) -> Result<T, lifeboat_engine::Error> + Send,
    engine: &Engine,
) -> Result<T, lifeboat_engine::Error> {
    let ledger = ledger(engine);
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let worked = scope.spawn(|| work(&ledger)).join();
            worked.unwrap_or_else(|_| Err(lifeboat_engine::Error::Bug("a thread of a recovery panicked".into())))
        })
    })
}

fn ledger(engine: &Engine) -> Ledger {
    Ledger::new(Recoveries::of(engine), tokio::runtime::Handle::current())
}

impl Open {
    /// Engines for so many workers, each with sources, connections and a meter of its own; what several cases read of
    /// the change logs is read once.
    fn crew(&self, count: usize) -> Result<Vec<Engine>, CliError> {
        (0..count.max(1)).map(|_| self.another_engine(count.max(1))).collect()
    }
}
