//! What is not as promised of a source, of the store, and of this host.

use lifeboat_model::Timestamp;

use super::words::{after, size, span};
use super::{
    Alarm, AlarmKind, AlarmLimits, CaptureFacts, DiskFacts, Facts, JobTrouble, NotifierHealth, ScanFacts, Severity,
    SlotFacts, SlotState, SourceFacts, Subject, Trouble,
};

pub(super) fn of_repository(facts: &Facts, alarms: &mut Vec<Alarm>) {
    let of = |kind, severity, text: &str, hint: &str| Alarm {
        kind,
        severity,
        subject: Subject::Repository,
        since: None,
        text: text.to_owned(),
        hint: hint.to_owned(),
    };
    if let Some(Trouble { reason, hint }) = &facts.repository.failure {
        let hint = hint.as_deref().unwrap_or("is the store up, and `repository.url` right?");
        alarms.push(of(AlarmKind::StoreUnreachable, Severity::Critical, reason, hint));
    }
    if facts.repository.recovery_key_verified == Some(false) {
        let text = "no recovery key of this repository was ever read back";
        let hint = "run `lifeboat key verify` with the key that `lifeboat init` showed";
        alarms.push(of(AlarmKind::RecoveryKeyUnproven, Severity::Notice, text, hint));
    }
}

pub(super) fn of_disk(disk: &DiskFacts, limits: &AlarmLimits, alarms: &mut Vec<Alarm>) {
    let wanted = limits.disk_free.of(disk.size_bytes);
    if disk.free_bytes < wanted {
        alarms.push(Alarm {
            kind: AlarmKind::DiskLow,
            severity: Severity::Critical,
            subject: Subject::Disk(disk.place.clone()),
            since: None,
            text: format!(
                "{} of {} are free, {} are to be: path=`{}`",
                size(disk.free_bytes),
                size(disk.size_bytes),
                size(wanted),
                disk.path
            ),
            hint: "make room, or make the disk larger: a full one stops backups, and restores that keep an undo"
                .to_owned(),
        });
    }
}

/// `None`: it works.
pub(crate) fn of_notifier(health: &NotifierHealth) -> Option<Alarm> {
    let (since, reason) = health.failing.as_ref()?;
    Some(Alarm {
        kind: AlarmKind::NotificationsFailing,
        severity: Severity::Warning,
        subject: Subject::Notifier(health.name.clone()),
        since: Some(*since),
        text: format!("nobody is told through it: {reason}"),
        hint: "mend what it says; what was not told is told again in the next cycle, or by `lifeboat status --notify`"
            .to_owned(),
    })
}

pub(super) fn of_job(JobTrouble { job, since, trouble }: &JobTrouble) -> Alarm {
    Alarm {
        kind: AlarmKind::JobTrouble,
        severity: Severity::Warning,
        subject: Subject::Job(job.clone()),
        since: Some(*since),
        text: trouble.reason.clone(),
        hint: trouble.hint.clone().unwrap_or_else(|| "the daemon's log says more".to_owned()),
    }
}

pub(super) fn of_source(facts: &SourceFacts, now: (Timestamp, &AlarmLimits), alarms: &mut Vec<Alarm>) {
    let of = |kind, severity, since, text: String, hint: &str| Alarm {
        kind,
        severity,
        subject: Subject::Source(facts.source.clone()),
        since,
        text,
        hint: hint.to_owned(),
    };
    if let Some(Trouble { reason, hint }) = &facts.failure {
        let hint = hint.as_deref().unwrap_or("`lifeboat sources inspect` says what it sees");
        alarms.push(of(AlarmKind::SourceFailed, Severity::Critical, None, reason.clone(), hint));
    }
    if let Some(Trouble { reason, hint }) = &facts.left_out {
        let hint = hint.as_deref().unwrap_or("`lifeboat sources inspect` lists all of them");
        alarms.push(of(AlarmKind::SitesLeftOut, Severity::Critical, None, reason.clone(), hint));
    }
    if let Some(damage) = &facts.damage {
        let text = match damage.findings {
            1 => format!("in its change log: {}", damage.first),
            many => format!("{many} findings in its change log, the first: {}", damage.first),
        };
        let hint = "`lifeboat check` lists it; a fresh `lifeboat backup --all` makes points that do not need it";
        alarms.push(of(AlarmKind::DamageFound, Severity::Critical, Some(damage.found_at), text, hint));
    }
    if let Some(capture) = &facts.capture {
        of_capture(capture, now, &of, alarms);
        // A source that is down has one alarm, not two of the same identity.
        if let Some(reason) = capture.unreachable.as_ref().filter(|_| facts.failure.is_none()) {
            let hint = "is its server up, and may the role read it? `lifeboat sources inspect` says more";
            alarms.push(of(AlarmKind::SourceFailed, Severity::Critical, None, reason.clone(), hint));
        }
    }
    if let Some((text, hint)) = facts.scan.as_ref().and_then(|scan| of_scan(scan, now.0)) {
        alarms.push(of(AlarmKind::ScansBehind, Severity::Warning, None, text, hint));
    }
}

type Of<'a> = &'a dyn Fn(AlarmKind, Severity, Option<Timestamp>, String, &str) -> Alarm;

fn of_capture(capture: &CaptureFacts, (now, limits): (Timestamp, &AlarmLimits), of: Of<'_>, alarms: &mut Vec<Alarm>) {
    const RUNNING: &str = "is `lifeboat capture` running, and what does it say?";
    match capture.complete_till() {
        None => {
            let text = "nothing was captured yet".to_owned();
            alarms.push(of(AlarmKind::CaptureBehind, Severity::Warning, None, text, "run `lifeboat capture`"));
        }
        Some(till) if now.since(till) > limits.capture_lag => {
            let text = format!("the log is {} behind", span(now.since(till)));
            let since = Some(after(till, limits.capture_lag));
            alarms.push(of(AlarmKind::CaptureBehind, Severity::Warning, since, text, RUNNING));
        }
        Some(_) => {}
    }
    if let Some((text, _)) = &capture.only_here {
        let hint = "with this host they would be lost: when the store answers, `lifeboat capture` brings them there";
        alarms.push(of(AlarmKind::ChangesOnlyHere, Severity::Warning, None, text.clone(), hint));
    }
    if let Some((kind, severity, text)) = capture.slot.as_ref().and_then(of_slot) {
        let hint = match kind {
            AlarmKind::SlotLost => "the next `lifeboat capture` begins a new epoch: moments in between are gone",
            _ => RUNNING,
        };
        alarms.push(of(kind, severity, None, text, hint));
    }
    if let Some(first) = capture.drift.first() {
        let text = match capture.drift.len() {
            1 => first.clone(),
            more => format!("{first}, and {} more", more - 1),
        };
        alarms.push(of(AlarmKind::CaptureDrift, Severity::Warning, None, text, RUNNING));
    }
}

fn of_slot(slot: &SlotFacts) -> Option<(AlarmKind, Severity, String)> {
    let (kept, limit) = (size(slot.kept_bytes), size(slot.limit_bytes));
    match &slot.state {
        SlotState::Well => None,
        SlotState::Half => {
            let text = format!("the server keeps much for the slot: {kept}");
            Some((AlarmKind::SlotFilling, Severity::Warning, text))
        }
        SlotState::Beyond => {
            let text = format!("the server keeps more for the slot than it may: {kept} of {limit}");
            Some((AlarmKind::SlotFilling, Severity::Critical, text))
        }
        SlotState::Lost(reason) => Some((AlarmKind::SlotLost, Severity::Critical, reason.clone())),
    }
}

fn of_scan(scan: &ScanFacts, now: Timestamp) -> Option<(String, &'static str)> {
    const RUN: &str = "run `lifeboat capture`";
    if let Some(trouble) = &scan.trouble {
        return Some((trouble.clone(), RUN));
    }
    let Some(scanned_at) = scan.scanned_at else { return Some(("its files were never scanned".to_owned(), RUN)) };
    let since = now.since(scanned_at);
    if since > scan.late_after {
        return Some((format!("its files were not scanned for {}", span(since)), "is `lifeboat capture` running?"));
    }
    let text = || format!("{} sites could not be scanned", scan.failed);
    (scan.failed > 0).then(|| (text(), "what does `lifeboat capture` say of them?"))
}
