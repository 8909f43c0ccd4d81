//! `lifeboat run`: the daemon. It does what the configuration says, when it says so, until it is told to stop.
//!
//! ```text
//! look ─▶ facts ─▶ due? (`control::schedule`) ─▶ jobs, each on a thread of its own ─▶ how they ended ─▶ look again
//!                                                  backups of sites that are due     a batch is one run
//!                                                  periodic jobs (`jobs`)            read back, drill, forget and prune
//! capture, all the while (`follow`)                signals: SIGTERM, SIGHUP          systemd: READY, WATCHDOG
//! alarms, again and again (`watching`)             metrics for whoever asks
//! ```
//!
//! One task owns the state ([`daemon::Daemon`]); whatever takes time happens on other threads and comes back as an event. What
//! was done is read from the bucket and the catalog each time: a daemon that was killed and starts again, here or on
//! another host, goes on where that one was.
//!
//! Once it runs, nothing but a signal ends it: a store, a server or a disk that fails is told, waited for and tried again.
//!
//! What is not here: when something is due (`lifeboat-control`), and how it is done (the verbs beside this one).

mod backups;
mod daemon;
mod facts;
mod follow;
mod jobs;
mod notify;
mod reload;
mod telling;
mod threads;
mod watching;

use lifeboat_control::OnlyDaemon;

use crate::output::Outcome;
use crate::{CliError, Context};

pub fn run(context: &Context) -> Result<Outcome, CliError> {
    let config = context.config()?;
    context.tell_notes(&config);
    let _only = OnlyDaemon::claim(&config.repository.catalog)?;
    context.block_on_and_leave(async { daemon::Daemon::start(config, context).await?.go_on().await })
}
