//! The captured sources, and those that are scanned: how far each is, and what its server keeps for it.

use lifeboat_control::alarms::{AlarmKind, AlarmNote};
use lifeboat_model::Timestamp;
use serde_json::json;

use crate::only_here::OnlyHere;
use crate::output::{Align, Output, Table, ago, bytes, count, duration};
use crate::verbs::assess::{ScanStatus, SourceStatus};
use crate::words;

/// What is not as promised of a captured source, in the words of its alarms.
pub fn troubles<'a>(status: &SourceStatus, alarms: &'a [AlarmNote]) -> Vec<&'a str> {
    let is_of_capture = |kind: AlarmKind| {
        matches!(
            kind,
            AlarmKind::CaptureBehind
                | AlarmKind::ChangesOnlyHere
                | AlarmKind::CaptureDrift
                | AlarmKind::SlotFilling
                | AlarmKind::SlotLost
                | AlarmKind::SourceFailed
        )
    };
    let of_it = |alarm: &&AlarmNote| alarm.site.is_none() && alarm.source.as_deref() == Some(status.source.as_str());
    alarms.iter().filter(of_it).filter(|alarm| is_of_capture(alarm.kind)).map(|alarm| alarm.text.as_str()).collect()
}

pub fn tell(sources: &[SourceStatus], alarms: &[AlarmNote], now: Timestamp, output: &Output) {
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
        let troubles = troubles(status, alarms);
        output.event("source", to_json(status, &troubles, now));
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
            if troubles.is_empty() { "ok".into() } else { "not as promised".into() },
        ]);
    }
    if table.is_empty() {
        return;
    }
    table.lines().iter().for_each(|line| output.line(line));
    for status in sources {
        if status.slot.as_ref().is_some_and(|slot| slot.keep_size == "-1") {
            output.line(format!(
                "  {}: max_slot_wal_keep_size is -1: nothing guards the server's disk while no capture runs",
                status.source
            ));
        }
    }
}

fn to_json(status: &SourceStatus, troubles: &[&str], now: Timestamp) -> serde_json::Value {
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
        "only_here": status.only_here.as_ref().and_then(|found| found.as_ref().ok()).map(OnlyHere::to_json),
        "problems": troubles,
    })
}

/// Sources of files that are scanned between two nights.
pub fn tell_scans(scans: &[ScanStatus], alarms: &[AlarmNote], now: Timestamp, output: &Output) {
    for ScanStatus { source, facts } in scans {
        let is_of_it = |alarm: &&AlarmNote| {
            alarm.kind == AlarmKind::ScansBehind && alarm.source.as_deref() == Some(source.as_str())
        };
        let scanned = facts.scanned_at;
        output.event(
            "scans",
            json!({
                "source": source.as_str(),
                "scanned_at": scanned.map(|at| at.to_string()),
                "sites": scanned.map(|_| facts.sites),
                "failed": scanned.map(|_| facts.failed),
                "problem": alarms.iter().find(is_of_it).map(|alarm| &alarm.text),
            }),
        );
        if let Some(at) = scanned {
            output.line(format!("{source}: files of {} sites, last scanned {}", count(facts.sites), ago(at, now)));
        }
    }
}
