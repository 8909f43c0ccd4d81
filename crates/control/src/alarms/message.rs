//! One message for a whole round: a failure of a fleet is one message with counts, not ten thousand.
//!
//! ```json
//! {"version":1,"event":"alarms","status":"firing","text":"…","sent_at":"…","sender":{…},"counts":{…},"kinds":[…],
//!  "began":[…],"repeated":[…],"resolved":[…],"left_out":0}
//! ```
//!
//! Its length is bounded: of each list the worst [`LISTED_MAX`] stand there, and `left_out` counts the others. `text` alone
//! says enough for a chat, and is what most of them look for in such an object.
//!
//! What is not here: which alarms (`transitions`), sending (`notify`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use lifeboat_model::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::{AlarmKind, AlarmNote, Round, Severity};

/// Alarms of each list that a message has.
pub const LISTED_MAX: usize = 50;
/// Lines of its text.
const LINES_MAX: usize = 10;

/// Who sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sender {
    pub host: String,
    /// The repository's id.
    pub repository: Option<String>,
    pub version: &'static str,
}

/// What is posted, or read by a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub text: String,
    pub json: String,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    began: usize,
    repeated: usize,
    resolved: usize,
}

impl Message {
    /// `firing`: how many are, at this moment, of those that this notifier wants to know of.
    pub fn of(round: &Round, firing: usize, sender: &Sender, now: Timestamp) -> Self {
        let status = if firing > 0 { "firing" } else { "resolved" };
        let text = text(round, firing, &sender.host);
        let listed = |alarms: &[AlarmNote]| json!(alarms.iter().take(LISTED_MAX).collect::<Vec<_>>());
        let lists = [&round.began, &round.repeated, &round.resolved];
        let left_out: usize = lists.iter().map(|alarms| alarms.len().saturating_sub(LISTED_MAX)).sum();
        let kinds = kinds(round).into_iter().map(|((severity, kind), counts)| {
            json!({
                "kind": kind,
                "severity": severity.0,
                "began": counts.began,
                "repeated": counts.repeated,
                "resolved": counts.resolved,
            })
        });
        let message = json!({
            "version": 1,
            "event": "alarms",
            "status": status,
            "text": text,
            "sent_at": now.to_string(),
            "sender": sender,
            "counts": {
                "began": round.began.len(),
                "repeated": round.repeated.len(),
                "resolved": round.resolved.len(),
                "firing": firing,
            },
            "kinds": kinds.collect::<Vec<_>>(),
            "began": listed(&round.began),
            "repeated": listed(&round.repeated),
            "resolved": listed(&round.resolved),
            "left_out": left_out,
        });
        Self { text, json: message.to_string() }
    }
}

/// Worst first.
fn kinds(round: &Round) -> BTreeMap<(Reverse<Severity>, AlarmKind), Counts> {
    let mut kinds: BTreeMap<_, Counts> = BTreeMap::new();
    let mut add = |alarms: &[AlarmNote], one: fn(&mut Counts) -> &mut usize| {
        for alarm in alarms {
            *one(kinds.entry((Reverse(alarm.severity), alarm.kind)).or_default()) += 1;
        }
    };
    add(&round.began, |counts| &mut counts.began);
    add(&round.repeated, |counts| &mut counts.repeated);
    add(&round.resolved, |counts| &mut counts.resolved);
    kinds
}

fn text(round: &Round, firing: usize, host: &str) -> String {
    let parts = [(round.began.len(), "began"), (round.repeated.len(), "go on"), (round.resolved.len(), "are over")];
    let counts: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let mut lines =
        vec![format!("Lifeboat on {host}: of its alarms {}; {firing} in all are firing.", counts.join(", "))];
    let all = round.firing().map(|alarm| ("", alarm)).chain(round.resolved.iter().map(|alarm| ("over: ", alarm)));
    let mut left = 0usize;
    for (state, alarm) in all {
        if lines.len() > LINES_MAX {
            left += 1;
            continue;
        }
        let of = [alarm.site.as_deref(), alarm.source.as_deref(), alarm.name.as_deref()];
        let of: Vec<&str> = of.into_iter().flatten().collect();
        let of = if of.is_empty() { String::new() } else { format!(" {}:", of.join("/")) };
        lines.push(format!("{state}{}{of} {}", alarm.severity.as_str(), alarm.text));
    }
    if left > 0 {
        lines.push(format!("and {left} more: `lifeboat status` lists them."));
    }
    lines.join("\n")
}
