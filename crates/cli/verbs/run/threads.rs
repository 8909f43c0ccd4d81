//! Work beside the one task that owns the state: a thread each, which ends with an event.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use crate::{CliError, log};

/// Starts work on a thread; what came of it, a panic too, is sent as an event.
///
/// It has the runtime to itself as a verb has: it may block, and need not be `Send` while it waits.
pub(super) fn begin<Event: Send + 'static, Came: Send + 'static>(
    name: &str,
    events: &Sender<Event>,
    work: impl AsyncFnOnce() -> Result<Came, CliError> + Send + 'static,
    event: impl FnOnce(Result<Came, CliError>) -> Event + Send + Clone + 'static,
) {
    let (events_within, runtime, event_within) = (events.clone(), Handle::current(), event.clone());
    let thread = move || {
        let came = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work())));
        let came = came.unwrap_or_else(|_| {
            let place = log::last_panic().map(|place| format!(": at=`{place}`")).unwrap_or_default();
            Err(CliError::bug(format!("internal error{place}")))
        });
        // Nobody listens any more once the daemon ends.
        let _ = events_within.blocking_send(event_within(came));
    };
    if let Err(io) = std::thread::Builder::new().name(name.to_owned()).spawn(thread) {
        let error = CliError::operator(format!("cannot start a thread: name=`{name}`, reason=`{io}`"));
        let (events, failed) = (events.clone(), event(Err(error)));
        tokio::spawn(async move { events.send(failed).await });
    }
}
