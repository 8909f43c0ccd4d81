//! The guard of one slot: it asks the server alone, so that it works while the store is down.

use std::sync::Arc;
use std::time::Duration;

use lifeboat_engine::{SlotDanger, look_at_slot};
use lifeboat_model::SourceName;

use super::follower::Beyond;
use super::{Capturing, News};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks at the slot of a source now and then, for ever: tells when it is half full, and when it keeps too much.
pub(super) async fn guard(shared: Arc<Capturing>, source: SourceName, beyond: Arc<Beyond>) {
    let mut before = SlotDanger::None;
    loop {
        // A server that does not answer writes no log either.
        if let Ok(Some(slot)) = tokio::task::block_in_place(|| look_at_slot(&shared.engine, &source)) {
            let danger = slot.danger(shared.slot_limit_bytes);
            match danger {
                SlotDanger::Beyond => beyond.put(slot),
                SlotDanger::Half if before == SlotDanger::None => (shared.tell)(&source, News::SlotGrows(slot)),
                SlotDanger::None if before != SlotDanger::None => (shared.tell)(&source, News::SlotShrank(slot)),
                _ => {}
            }
            beyond.note(danger);
            before = danger;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
