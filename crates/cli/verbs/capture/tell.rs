//! What a capture says while it goes on: to people once for each change of state, to programs each segment.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use lifeboat_control::capturing::{News, Tell};
use lifeboat_engine::{CaptureNews, ScanReport, SlotWatch};
use lifeboat_model::{EpochReason, HoldReason, SiteId, SourceName, Timestamp};
use serde_json::json;

use crate::output::{Output, and_more, bytes, count};
use crate::words;

/// Tables and sites that are named in one line.
const NAMED_MAX: usize = 5;

/// Tells news as it comes; `tells_segments`: each segment to people too.
pub fn to(output: Output, tells_segments: bool, slot_limit_bytes: u64) -> Box<Tell> {
    let waiting: Mutex<BTreeMap<SourceName, bool>> = Mutex::default();
    Box::new(move |source, news| {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_waiting = waiting.entry(source.clone()).or_default();
        let teller = Teller { output: &output, source, tells_segments, slot_limit_bytes };
        match news {
            News::Capture(news) => teller.capture(news, is_waiting),
            News::Waiting(message, hint) => {
                *is_waiting = true;
                teller.event("waiting", json!({ "message": message }));
                teller.warn(&format!("waits, and tries again until it works: {message}"), hint.as_deref());
            }
            News::Ended(message, hint) => {
                teller.event("ended", json!({ "message": message }));
                teller.warn(&format!("IT IS FOLLOWED NO MORE, while the others go on: {message}"), hint.as_deref());
            }
            News::SlotGrows(slot) => teller.slot_grows(&slot),
            News::SlotShrank(slot) => {
                teller.event("slot", slot_json(&slot));
                teller.say(&format!("the server keeps little for it again: {}", bytes(slot.kept_bytes)));
            }
            News::GaveUp(slot) => teller.gave_up(&slot),
            News::SpillIsFull(message, hint) => {
                teller.event("spill_full", json!({ "message": message }));
                teller.warn(&format!("{message}; the server keeps what comes from here on"), hint.as_deref());
            }
            News::TakingBases(sites) => {
                teller.event("bases", json!({ "taking": sites }));
                let sites = count(sites);
                teller.say(&format!("takes a base of {sites} sites, while their changes are followed"));
            }
            News::Scanned(report) => {
                // A round that went through says that whatever was waited for is over.
                *is_waiting = false;
                teller.scanned(&report);
            }
            News::NotScanned(site, reason, hint) => {
                teller.event("not_scanned", json!({ "site": site.as_str(), "reason": reason }));
                teller.warn(&format!("its files could not be scanned: site=`{site}`, {reason}"), hint.as_deref());
            }
            News::Unwatched(reason) => {
                teller.event("unwatched", json!({ "reason": reason }));
                teller.warn(&format!("each scan walks every site: {reason}"), None);
            }
            News::BasesTaken(taken) => {
                let failed = taken.failed.len();
                teller.event("bases", json!({ "taken": taken.good, "failed": failed, "error": taken.error }));
                if let Some(error) = &taken.error {
                    teller.warn(&format!("bases cannot be taken yet: {error}"), None);
                }
                for (site, reason) in taken.failed.iter().take(NAMED_MAX) {
                    teller.warn(&format!("no base yet: site=`{site}`, {reason}"), None);
                }
                if failed > NAMED_MAX {
                    teller.warn(&format!("no base yet of {} more sites", count((failed - NAMED_MAX) as u64)), None);
                }
                if taken.good > 0 {
                    let good = count(taken.good);
                    teller.say(&format!("{good} sites have their base: from here on each moment is restorable"));
                }
            }
        }
    })
}

struct Teller<'t> {
    output: &'t Output,
    source: &'t SourceName,
    tells_segments: bool,
    slot_limit_bytes: u64,
}

impl Teller<'_> {
    fn event(&self, what: &str, mut body: serde_json::Value) {
        body["source"] = self.source.as_str().into();
        body["at"] = Timestamp::now().to_string().into();
        self.output.event(what, body);
    }

    fn say(&self, text: &str) {
        self.output.say(format!("{}: {text}", self.source));
    }

    fn warn(&self, text: &str, hint: Option<&str>) {
        self.output.warn(&format!("{}: {text}", self.source), hint);
    }

    fn lost(&self, site: &SiteId, reason: HoldReason, note: &str) {
        let what = words::hold(reason);
        self.event("lost", json!({ "site": site.as_str(), "reason": what, "note": note }));
        let hint = format!("`lifeboat find-damage` says what did it, and the last good moment of {site}");
        self.warn(&format!("a site {what}, its points are held: site=`{site}`, {note}"), Some(&hint));
    }

    fn scanned(&self, report: &ScanReport) {
        let (published, failed) = (report.published.len() as u64, report.failed.len());
        let sites: Vec<&str> = report.published.iter().map(SiteId::as_str).collect();
        self.event(
            "scan",
            json!({
                "sites": report.sites, "walked": report.walked, "published": sites, "failed": failed,
                "added_bytes": report.added_bytes, "watched": report.unwatched.is_none(),
            }),
        );
        if self.tells_segments && published > 0 {
            let (walked, added) = (count(report.walked), bytes(report.added_bytes));
            self.say(&format!("{} of {walked} walked sites changed, a scan of each: {added}", count(published)));
        }
    }

    fn need_base(&self, sites: &[SiteId]) {
        self.event("need_base", json!({ "sites": sites.iter().map(SiteId::as_str).collect::<Vec<_>>() }));
        let named = sites.iter().take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = and_more(sites.len(), NAMED_MAX).map_or_else(String::new, |more| format!(" {more}"));
        self.say(&format!("tables of these sites were made or altered, another base is taken: {named}{more}"));
    }

    fn capture(&self, news: CaptureNews, is_waiting: &mut bool) {
        match news {
            CaptureNews::Begun { epoch, why, note, gap_from, snapshots_only, structure_is_noted } => {
                *is_waiting = false;
                let gap = gap_from.map(|from| from.to_string());
                let why_word = words::epoch_reason(why);
                self.event("epoch", json!({ "epoch": epoch.0, "why": why_word, "note": note, "gap_from": gap }));
                match gap {
                    Some(from) => self.warn(
                        &format!("a gap: what changed between {from} and now is in no log, because {note}"),
                        Some("a new epoch has begun, bases are taken by itself; `lifeboat points SITE` shows the gap"),
                    ),
                    None if why == EpochReason::First => self.say("follows changes from here on (epoch 1)"),
                    None => self.say(&format!("follows changes from here on (epoch {epoch}): {note}")),
                }
                for (table, reason) in &snapshots_only {
                    self.warn(&format!("changes are not all in the log: table=`{table}`, {reason}"), None);
                }
                if !structure_is_noted {
                    let hint = "a superuser can set the event triggers up: see docs/operations/postgres-roles.md";
                    self.warn("rewritten and dropped tables go unseen: event triggers take a superuser", Some(hint));
                }
            }
            CaptureNews::Following { epoch, complete_till } => {
                self.event("following", json!({ "epoch": epoch.0, "complete_till": complete_till.to_string() }));
                let again = if std::mem::take(is_waiting) { "again " } else { "" };
                self.say(&format!("follows changes {again}from {complete_till} of epoch {epoch}"));
            }
            CaptureNews::Lost { site, reason, note } => self.lost(&site, reason, &note),
            CaptureNews::NeedBase(sites) => self.need_base(&sites),
            CaptureNews::Sealed { epoch, complete_till, sealed_at } => {
                let till = complete_till.to_string();
                self.event(
                    "segment",
                    json!({ "epoch": epoch.0, "complete_till": till, "sealed_at": sealed_at.to_string() }),
                );
                if self.tells_segments {
                    self.say(&format!("complete up to {till} at {sealed_at}"));
                }
            }
            CaptureNews::OnlyHere { till, at, bytes, is_first } => {
                self.only_here(&till.to_string(), at, (bytes, is_first))
            }
            CaptureNews::OnlyHereNoMore { bytes: kept } => {
                self.event("only_here_no_more", json!({ "bytes": kept }));
                self.say(&format!("what was only on this host is in the bucket: {}", bytes(kept)));
            }
            CaptureNews::Unclassed(tables) => {
                self.event("unclassed", json!({ "tables": tables }));
                if tables.is_empty() {
                    return self.say("every table is some site's, shared or ignored again");
                }
                let named: Vec<String> = tables.iter().take(NAMED_MAX).map(|table| format!("`{table}`")).collect();
                let rest = and_more(tables.len(), NAMED_MAX).map_or_else(String::new, |more| format!(" {more}"));
                let message =
                    format!("whose rows are those of {}{rest}? they are in no log and no snapshot", named.join(", "));
                self.warn(
                    &message,
                    Some(
                        "`lifeboat sources inspect` prints what to write for each of them; then start the capture anew",
                    ),
                );
            }
            CaptureNews::LookFailed(reason) => {
                tracing::warn!(source = %self.source, reason, "the tables could not be looked at");
            }
        }
    }

    fn only_here(&self, till: &str, at: Timestamp, (kept, is_first): (u64, bool)) {
        self.event("only_here", json!({ "complete_till": till, "till": at.to_string(), "bytes": kept }));
        if is_first {
            self.warn(
                "the store does not answer, and the server keeps much: changes are kept ONLY ON THIS HOST from here on, \
                 until the store is back; with this host they would be lost, a gap",
                Some("`lifeboat status` shows how much it is, when the store answers; `capture.spill_limit` is the limit"),
            );
        }
    }

    fn slot_grows(&self, slot: &SlotWatch) {
        self.event("slot", slot_json(slot));
        let own = bytes(self.slot_limit_bytes);
        let server = match slot.safe_bytes {
            Some(safe) => format!("; the server throws it away after {} more", bytes(safe)),
            None => String::new(),
        };
        self.warn(
            &format!(
                "the server keeps {} of log for it; at {own} the slot is given up{server}",
                bytes(slot.kept_bytes)
            ),
            Some("look why the log is not taken: `lifeboat status`, and docs/operations/capture-fell-behind.md"),
        );
    }

    fn gave_up(&self, slot: &SlotWatch) {
        self.event("gave_up", slot_json(slot));
        let (kept, limit) = (bytes(slot.kept_bytes), bytes(self.slot_limit_bytes));
        self.warn(
            &format!("THE SLOT IS GIVEN UP rather than fill the server's disk: it kept {kept}, {limit} is allowed; what was not taken yet is a gap"),
            Some("a new epoch begins as soon as the store can be reached; `capture.slot_limit` is the limit"),
        );
    }
}

fn slot_json(slot: &SlotWatch) -> serde_json::Value {
    json!({ "wal_status": slot.wal_status, "kept_bytes": slot.kept_bytes, "safe_bytes": slot.safe_bytes })
}
