//! Ctrl-C and SIGTERM: the first asks to stop cleanly, the second stops at once.
//!
//! Stopping at once is safe: a kill at any moment is what everything is built for. The listener has
//! a thread of its own, so that busy workers cannot keep a person waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::output::Output;
use crate::{CliError, exit};

/// Whether the person asked to stop; cheap to clone and to ask.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag {
    asked: Arc<AtomicBool>,
}

impl CancelFlag {
    pub fn cancel(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// An error once the person asked to stop.
    pub fn check(&self) -> Result<(), CliError> {
        if self.is_cancelled() { Err(CliError::cancelled()) } else { Ok(()) }
    }

    /// The flag itself, for crates that take a plain one.
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }
}

/// Starts to listen for the rest of the process's life.
pub fn listen(cancel: CancelFlag, output: Output) -> Result<(), CliError> {
    let failed = |io: std::io::Error| CliError::operator(format!("cannot listen for signals: reason=`{io}`"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let listener = move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if output.is_asking() {
                    output.leave_question();
                    std::process::exit(exit::CANCELLED.into());
                }
                if cancel.is_cancelled() {
                    std::process::exit(exit::CANCELLED.into());
                }
                cancel.cancel();
                output.say("stopping cleanly; again to stop at once");
            }
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(listener).map_err(failed)?;
    Ok(())
}
