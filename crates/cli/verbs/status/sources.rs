//! The captured sources: how far each log is, what its server keeps for it, and what has drifted.

use std::time::Duration;

use lifeboat_control::RoutingFile;
use lifeboat_engine::{EpochSeen, SlotDanger, SlotWatch, look_at_slot, look_for_drift, newest_epoch};
use lifeboat_model::{SourceName, Timestamp};
use serde_json::json;

use crate::CliError;
use crate::only_here::OnlyHere;
use crate::open::Open;
use crate::output::{Align, Output, Table, ago, bytes, count, duration};
use crate::words;

/// A log that is further behind is not being followed, whatever the reason: it says once a minute how far it has come.
const LAG_MAX: Duration = Duration::from_secs(300);

/// A captured source.
pub struct SourceStatus {
    pub source: SourceName,
    /// `None`: nothing was captured yet.
    pub epoch: Option<EpochSeen>,
    slot: Option<SlotWatch>,
    /// Changes of the epoch whose site nobody could tell; `None`: another host captures.
    unrouted: Option<u64>,
    only_here: Option<OnlyHere>,
    /// What is not as promised.
    pub problems: Vec<String>,
}

impl SourceStatus {
    /// How long ago the log was complete.
    fn lag(&self, now: Timestamp) -> Option<Duration> {
        let seen = self.epoch.as_ref()?;
        Some(now.since(seen.till.unwrap_or(seen.epoch.facts.begun_at)))
    }
}

/// Every source that is captured, or that a policy wants to be.
pub async fn all(open: &Open, now: Timestamp) -> Result<Vec<SourceStatus>, CliError> {
    let captured = open.config.captured().chain(open.config.captured_files());
    let wanted: Vec<&SourceName> = captured.map(|source| &source.name).collect();
    let mut all = Vec::new();
    for source in open.config.sources.iter().filter(|source| source.can_be_captured() || source.has_pages()) {
        let epoch = newest_epoch(&open.engine, &source.name).await?;
        if epoch.is_some() || wanted.contains(&&source.name) {
            let of_log = of_log(&source.name, epoch, now);
            all.push(if source.has_pages() { of_log } else { of_server(open, of_log) });
        }
    }
    Ok(all)
}

/// What the log itself tells.
fn of_log(source: &SourceName, epoch: Option<EpochSeen>, now: Timestamp) -> SourceStatus {
    let mut status = SourceStatus {
        source: source.clone(),
        epoch,
        slot: None,
        unrouted: None,
        only_here: None,
        problems: Vec::new(),
    };
    if status.epoch.is_none() {
        status.problems.push("nothing was captured yet: run `lifeboat capture`".into());
    } else if let Some(lag) = status.lag(now).filter(|lag| *lag > LAG_MAX) {
        let lag = duration(lag);
        status.problems.push(format!("the log is {lag} behind: is `lifeboat capture` running, and what does it say?"));
    }
    status
}

/// And its server, and this host.
fn of_server(open: &Open, mut status: SourceStatus) -> SourceStatus {
    let source = &status.source.clone();
    let place = RoutingFile::peek(&open.config.repository.catalog, source).ok().flatten();
    let own = open.engine.repository.config().repository.0;
    let is_of_epoch = |epoch: u32| status.epoch.as_ref().is_some_and(|seen| seen.epoch.id.0 == epoch);
    let place = place.filter(|place| place.repository == own && is_of_epoch(place.epoch));
    status.unrouted = place.map(|place| place.unrouted);
    match status.epoch.as_ref().and_then(|seen| OnlyHere::of(open, source, seen)) {
        Some(Ok(only_here)) => {
            status.problems.push(only_here.text());
            status.only_here = Some(only_here);
        }
        Some(Err(reason)) => status.problems.push(reason),
        None => {}
    }
    if status.epoch.is_none() {
        return status;
    }
    match tokio::task::block_in_place(|| look_at_slot(&open.engine, source)) {
        Ok(slot) => status.slot = slot,
        Err(error) => {
            status.problems.push(format!("the server cannot be asked: {error}"));
            return status;
        }
    }
    let limit = open.config.capture.slot_limit_bytes;
    let trouble = match &status.slot {
        None => Some("the slot is gone: the next `lifeboat capture` begins a new epoch, after a gap".to_owned()),
        Some(slot) => match slot.danger(limit) {
            SlotDanger::None => None,
            SlotDanger::Half => Some(format!("the server keeps much for the slot: {}", bytes(slot.kept_bytes))),
            SlotDanger::Beyond => {
                let kept = bytes(slot.kept_bytes);
                Some(format!("the server keeps more for the slot than it may: {kept} of {}", bytes(limit)))
            }
            SlotDanger::Lost => {
                let reason = slot.lost.as_deref().unwrap_or_default();
                Some(format!("the slot is lost, a gap: the next `lifeboat capture` begins a new epoch: {reason}"))
            }
        },
    };
    status.problems.extend(trouble);
    match tokio::task::block_in_place(|| look_for_drift(&open.engine, source)) {
        Ok(drift) => status.problems.extend(drift),
        Err(error) => status.problems.push(format!("its tables cannot be looked at: {error}")),
    }
    status
}

pub fn tell(sources: &[SourceStatus], now: Timestamp, output: &Output) {
    let mut table = Table::new(&[
        ("CAPTURED", Align::Left),
        ("EPOCH", Align::Right),
        ("SINCE", Align::Left),
        ("LAG", Align::Left),
        ("SLOT", Align::Left),
        ("KEPT", Align::Right),
        ("NOBODY'S", Align::Right),
        ("STATE", Align::Left),
    ]);
    for status in sources {
        output.event("source", to_json(status, now));
        let slot = match &status.slot {
            None => "-".to_owned(),
            Some(slot) if slot.is_followed => format!("{}, followed", slot.wal_status),
            Some(slot) => format!("{}, not followed", slot.wal_status),
        };
        let none = || "-".to_owned();
        let epoch = status.epoch.as_ref();
        table.row([
            status.source.to_string(),
            epoch.map_or_else(none, |seen| seen.epoch.id.to_string()),
            epoch.map_or_else(none, |seen| ago(seen.epoch.facts.begun_at, now)),
            status.lag(now).map_or_else(none, duration),
            slot,
            status.slot.as_ref().map_or_else(none, |slot| bytes(slot.kept_bytes)),
            status.unrouted.map_or_else(none, count),
            if status.problems.is_empty() { "ok".into() } else { "not as promised".into() },
        ]);
    }
    if table.is_empty() {
        return;
    }
    table.lines().iter().for_each(|line| output.line(line));
    for status in sources {
        status.problems.iter().for_each(|problem| output.line(format!("  {}: {problem}", status.source)));
        if status.slot.as_ref().is_some_and(|slot| slot.keep_size == "-1") {
            output.line(format!(
                "  {}: max_slot_wal_keep_size is -1: nothing guards the server's disk while no capture runs",
                status.source
            ));
        }
    }
}

fn to_json(status: &SourceStatus, now: Timestamp) -> serde_json::Value {
    let slot = status.slot.as_ref().map(|slot| {
        json!({
            "wal_status": slot.wal_status,
            "kept_bytes": slot.kept_bytes,
            "safe_wal_bytes": slot.safe_bytes,
            "max_slot_wal_keep_size": slot.keep_size,
            "confirmed": slot.confirmed.map(|confirmed| confirmed.to_string()),
            "followed": slot.is_followed,
        })
    });
    let epoch = status.epoch.as_ref();
    json!({
        "source": status.source.as_str(),
        "epoch": epoch.map(|seen| seen.epoch.id.0),
        "epoch_since": epoch.map(|seen| seen.epoch.facts.begun_at.to_string()),
        "epoch_reason": epoch.map(|seen| words::epoch_reason(seen.epoch.facts.why)),
        "epoch_note": epoch.map(|seen| seen.epoch.facts.note.clone()),
        "complete_till": epoch.and_then(|seen| seen.till).map(|till| till.to_string()),
        "lag_seconds": status.lag(now).map(|lag| lag.as_secs()),
        "slot": slot,
        "unrouted": status.unrouted,
        "only_here": status.only_here.as_ref().map(OnlyHere::to_json),
        "problems": status.problems,
    })
}
