//! Now and then, segments of the logs that are captured are written again as long ones: of an hour, and of a day.
//!
//! Nobody waits for it and nothing depends on it: what fails is tried again the next time.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::compact_due;
use lifeboat_model::{Fault, Faulty, SourceName};

use super::Capturing;

const EVERY: Duration = Duration::from_secs(300);

/// For ever, until it is told to stop.
pub(super) async fn compact(shared: Arc<Capturing>) {
    while !shared.is_cancelled() {
        shared.pause(EVERY).await;
        compact_once(&shared).await;
    }
}

/// What is due of every source.
pub(super) async fn compact_once(shared: &Capturing) {
    let rows = shared.requests.iter().map(|request| &request.source);
    let sources: Vec<&SourceName> = rows.chain(shared.files.iter().map(|request| &request.source)).collect();
    for source in sources {
        if shared.is_cancelled() {
            return;
        }
        match compact_due(&shared.engine, source).await {
            Ok(_) => {}
            Err(error) if error.fault() == Fault::Cancelled => return,
            Err(error) => tracing::warn!(%error, %source, "segments could not be written again as long ones"),
        }
    }
}
