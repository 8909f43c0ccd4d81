//! The captured sources: how far each log is, what its server keeps for it, and what has drifted.

use std::time::Duration;

use lifeboat_control::RoutingFile;
use lifeboat_control::alarms::{CaptureFacts, SlotFacts, SlotState};
use lifeboat_engine::{EpochSeen, SlotDanger, SlotWatch, look_at_slot, look_for_drift, newest_epoch};
use lifeboat_model::{SourceName, Timestamp};

use crate::CliError;
use crate::only_here::OnlyHere;
use crate::open::Open;

/// A captured source.
pub struct SourceStatus {
    pub source: SourceName,
    /// `None`: nothing was captured yet.
    pub epoch: Option<EpochSeen>,
    /// `None`: no server keeps one, or it could not be asked.
    pub slot: Option<SlotWatch>,
    /// The server was asked for it, and has none.
    is_slot_gone: bool,
    /// Changes of the epoch whose site nobody could tell; `None`: another host captures.
    pub unrouted: Option<u64>,
    /// What is only on this host, or why that cannot be read.
    pub only_here: Option<Result<OnlyHere, String>>,
    /// Why the server cannot be asked.
    unreachable: Option<String>,
    drift: Vec<String>,
}

impl SourceStatus {
    /// How long ago the log was complete.
    pub fn lag(&self, now: Timestamp) -> Option<Duration> {
        let seen = self.epoch.as_ref()?;
        Some(now.since(seen.till.unwrap_or(seen.epoch.facts.begun_at)))
    }

    pub fn facts(&self, limit_bytes: u64) -> CaptureFacts {
        let slot = self.slot.as_ref().map(|slot| SlotFacts {
            state: match slot.danger(limit_bytes) {
                SlotDanger::None => SlotState::Well,
                SlotDanger::Half => SlotState::Half,
                SlotDanger::Beyond => SlotState::Beyond,
                SlotDanger::Lost => {
                    SlotState::Lost(format!("the slot is lost: {}", slot.lost.as_deref().unwrap_or_default()))
                }
            },
            kept_bytes: slot.kept_bytes,
            limit_bytes,
        });
        let gone = self.is_slot_gone.then(|| SlotState::Lost("the slot is gone".to_owned()));
        CaptureFacts {
            begun_at: self.epoch.as_ref().map(|seen| seen.epoch.facts.begun_at),
            till: self.epoch.as_ref().and_then(|seen| seen.till),
            slot: slot.or(gone.map(|state| SlotFacts { state, kept_bytes: 0, limit_bytes })),
            unrouted: self.unrouted,
            only_here: self.only_here.as_ref().map(|found| match found {
                Ok(only_here) => (only_here.text(), only_here.bytes),
                Err(reason) => (reason.clone(), 0),
            }),
            unreachable: self.unreachable.clone(),
            drift: self.drift.clone(),
        }
    }
}

/// Every source that is captured, or that a policy wants to be.
pub async fn all(open: &Open) -> Result<Vec<SourceStatus>, CliError> {
    let captured = open.config.captured().chain(open.config.captured_files());
    let wanted: Vec<&SourceName> = captured.map(|source| &source.name).collect();
    let mut all = Vec::new();
    for source in open.config.sources.iter().filter(|source| source.can_be_captured() || source.has_pages()) {
        let epoch = newest_epoch(&open.engine, &source.name).await?;
        if epoch.is_some() || wanted.contains(&&source.name) {
            let of_log = of_log(&source.name, epoch);
            all.push(if source.has_pages() { of_log } else { of_server(open, of_log) });
        }
    }
    Ok(all)
}

/// What the log itself tells.
fn of_log(source: &SourceName, epoch: Option<EpochSeen>) -> SourceStatus {
    SourceStatus {
        source: source.clone(),
        epoch,
        slot: None,
        is_slot_gone: false,
        unrouted: None,
        only_here: None,
        unreachable: None,
        drift: Vec::new(),
    }
}

/// And its server, and this host.
fn of_server(open: &Open, mut status: SourceStatus) -> SourceStatus {
    let source = &status.source.clone();
    let place = RoutingFile::peek(&open.config.repository.catalog, source).ok().flatten();
    let own = open.engine.repository.config().repository.0;
    let is_of_epoch = |epoch: u32| status.epoch.as_ref().is_some_and(|seen| seen.epoch.id.0 == epoch);
    let place = place.filter(|place| place.repository == own && is_of_epoch(place.epoch));
    status.unrouted = place.map(|place| place.unrouted);
    status.only_here = status.epoch.as_ref().and_then(|seen| OnlyHere::of(open, source, seen));
    if status.epoch.is_none() {
        return status;
    }
    match tokio::task::block_in_place(|| look_at_slot(&open.engine, source)) {
        Ok(slot) => (status.is_slot_gone, status.slot) = (slot.is_none(), slot),
        Err(error) => {
            status.unreachable = Some(format!("the server cannot be asked: {error}"));
            return status;
        }
    }
    match tokio::task::block_in_place(|| look_for_drift(&open.engine, source)) {
        Ok(drift) => status.drift = drift,
        Err(error) => status.unreachable = Some(format!("its tables cannot be looked at: {error}")),
    }
    status
}
