//! What is not as promised of one site.

use lifeboat_model::{Mark, Timestamp};

use super::words::{after, span};
use super::{Alarm, AlarmKind, AlarmLimits, Listed, Severity, SiteFacts, Subject};
use crate::{SiteSummary, Standing};

pub(super) fn of_site(facts: &SiteFacts, (now, limits): (Timestamp, &AlarmLimits), alarms: &mut Vec<Alarm>) {
    if let Some(trouble) = &facts.unreadable {
        let usual = "`lifeboat check` names what is damaged; bring it back from the store's own versions or copies";
        let hint = trouble.hint.clone().unwrap_or_else(|| usual.to_owned());
        alarms.push(of(facts, (AlarmKind::DamageFound, Severity::Critical), None, trouble.reason.clone(), hint));
        return;
    }
    alarms.extend(vanished(facts));
    alarms.extend(damaged(facts));
    if facts.is_expected {
        alarms.extend(overdue(facts, now));
        alarms.extend(failing(facts, limits));
        alarms.extend(facts.without_base.iter().map(|source| Alarm {
            kind: AlarmKind::NoBase,
            severity: Severity::Warning,
            subject: Subject::Part(facts.site.clone(), source.clone()),
            since: None,
            text: "no base since the newest epoch began: no moment of it can be put back".to_owned(),
            hint: format!("is `lifeboat capture` running? `lifeboat backup {}` makes one", facts.site),
        }));
    }
    let Some(summary) = &facts.summary else { return };
    alarms.extend(drills(facts, summary, (now, limits)));
    if let Some(standing) = &summary.standing {
        alarms.extend(newest(facts, standing));
        alarms.extend(restore_open(facts, standing, (now, limits)));
    }
}

type What = (AlarmKind, Severity);

fn of(
    facts: &SiteFacts,
    (kind, severity): What,
    since: Option<Timestamp>,
    text: impl Into<String>,
    hint: impl Into<String>,
) -> Alarm {
    let subject = Subject::Site(facts.site.clone());
    Alarm { kind, severity, subject, since, text: text.into(), hint: hint.into() }
}

fn vanished(facts: &SiteFacts) -> Option<Alarm> {
    let what = (AlarmKind::SiteVanished, Severity::Critical);
    let site = &facts.site;
    // Whom only the change log has seen has no newest point.
    let back = match facts.summary.as_ref().is_some_and(SiteSummary::is_only_born) {
        true => format!("`lifeboat points {site}`, and `lifeboat restore {site} --at` one of its moments"),
        false => format!("`lifeboat restore {site}`"),
    };
    let hint = format!("gone by mistake: {back}; on purpose: `lifeboat backup {site} --accept-loss`, once");
    (facts.listed == Listed::Vanished)
        .then(|| of(facts, what, None, "no source lists it any more; it has points", hint))
}

fn damaged(facts: &SiteFacts) -> Option<Alarm> {
    let damage = facts.damage.as_ref()?;
    let text = match damage.findings {
        1 => damage.first.clone(),
        many => format!("{many} findings, the first: {}", damage.first),
    };
    let hint = format!(
        "bring the object back from the store's own versions, then `lifeboat check {0} --read-data`; lost for good: \
         `lifeboat check {0} --set-aside` and `lifeboat backup {0}`",
        facts.site
    );
    Some(of(facts, (AlarmKind::DamageFound, Severity::Critical), Some(damage.found_at), text, hint))
}

fn overdue(facts: &SiteFacts, now: Timestamp) -> Option<Alarm> {
    if facts.is_within_rpo(now) {
        return None;
    }
    let (site, rpo) = (&facts.site, span(facts.rpo));
    let since = facts.restorable_till.map(|till| after(till, facts.rpo));
    let text = match (facts.restorable_till, &facts.summary) {
        (Some(till), _) => {
            let of = facts.oldest.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
            format!("nothing newer than {}{of}; promised are {rpo}", span(now.since(till)))
        }
        (None, Some(_)) => format!("it has no good point; promised is one within {rpo}"),
        (None, None) => format!("it was never backed up; promised is a point within {rpo}"),
    };
    let hint = format!("`lifeboat backup {site}`, and see why the nightly backup did not");
    Some(of(facts, (AlarmKind::PointOverdue, Severity::Critical), since, text, hint))
}

fn failing(facts: &SiteFacts, limits: &AlarmLimits) -> Option<Alarm> {
    let reason = facts.failure.as_deref().filter(|_| facts.failures >= limits.backup_failures)?;
    let text = format!("the last {} backups of it have failed: {reason}", facts.failures);
    let hint = format!("`lifeboat backup {}` tries it again and says what to do", facts.site);
    Some(of(facts, (AlarmKind::BackupFailing, Severity::Warning), None, text, hint))
}

/// Whether it was proven in time, by drills and by reading.
fn drills(
    facts: &SiteFacts,
    summary: &SiteSummary,
    (now, limits): (Timestamp, &AlarmLimits),
) -> impl Iterator<Item = Alarm> {
    let site = &facts.site;
    let failed = summary.drill_failed.map(|failed| {
        let text = format!("its last drill failed {} ago", span(now.since(failed.at)));
        let hint = format!("`lifeboat recover report {}` says why; then `lifeboat drill {site}`", failed.drill);
        of(facts, (AlarmKind::DrillFailed, Severity::Critical), Some(failed.at), text, hint)
    });
    let slow = summary.proven.filter(|proven| proven.took > facts.rto).map(|proven| {
        let text = format!("its last drill took {}, promised are {}", span(proven.took), span(facts.rto));
        let hint = format!("`lifeboat recover report {}`; then a faster store or `policy.rto`", proven.drill);
        of(facts, (AlarmKind::RtoBreached, Severity::Warning), Some(proven.at), text, hint)
    });
    let rehearsed = limits.proven_within.zip(facts.unproven_since()).filter(|_| facts.is_expected);
    let owed = rehearsed.filter(|(every, since)| now.since(*since) > *every).map(|(every, since)| {
        let ago = span(now.since(since));
        let text = match summary.proven {
            Some(_) => format!("proven by a drill {ago} ago, promised is one every {}", span(every)),
            None => format!("never proven by a drill in {ago}, promised is one every {}", span(every)),
        };
        let what = (AlarmKind::DrillOverdue, Severity::Warning);
        of(facts, what, Some(after(since, every)), text, format!("`lifeboat drill {site}`"))
    });
    let first = summary.standing.as_ref().and_then(|standing| standing.first_at);
    let verified = facts.verified_at().or(first).filter(|_| facts.is_expected);
    let unread = verified.filter(|at| now.since(*at) > limits.verified_within).map(|at| {
        let text = format!(
            "no point of it was verified for {}, promised are {}",
            span(now.since(at)),
            span(limits.verified_within)
        );
        let what = (AlarmKind::PointUnverified, Severity::Warning);
        of(facts, what, Some(after(at, limits.verified_within)), text, format!("`lifeboat check {site} --read-data`"))
    });
    [failed, slow, owed, unread].into_iter().flatten()
}

/// What is wrong with the newest snapshot itself.
fn newest(facts: &SiteFacts, standing: &Standing) -> Option<Alarm> {
    let (site, newest) = (&facts.site, standing.newest.as_ref()?);
    // What was lost of it before it went is part of what was accepted; and it may have been found whole since.
    if facts.listed == Listed::Accepted || facts.found_good_at.is_some_and(|at| at > newest.at) {
        return None;
    }
    let reason = newest.reason.as_deref().unwrap_or("nobody said why");
    match newest.mark {
        Mark::Suspect => {
            let text = format!("its newest snapshot is suspect, and its points are held: {reason}");
            let hint = format!(
                "`lifeboat find-damage` says what removed it; meant: `lifeboat backup {site} --accept-loss`; else \
                 `lifeboat restore {site}`"
            );
            Some(of(facts, (AlarmKind::SiteShrank, Severity::Critical), Some(newest.at), text, hint))
        }
        Mark::Incomplete => {
            let text = format!("its newest snapshot is incomplete, and is never restored by itself: {reason}");
            let hint = format!("`lifeboat points {site}` lists what is missing; then `lifeboat backup {site}`");
            Some(of(facts, (AlarmKind::SiteIncomplete, Severity::Warning), Some(newest.at), text, hint))
        }
        Mark::Good | Mark::Undo => None,
    }
}

fn restore_open(facts: &SiteFacts, standing: &Standing, (now, limits): (Timestamp, &AlarmLimits)) -> Option<Alarm> {
    let opened_at = standing.intent_opened_at.filter(|at| now.since(*at) > limits.restore_open)?;
    let text = format!("a restore was begun {} ago and is not finished", span(now.since(opened_at)));
    let hint = format!("run the same `lifeboat restore {}` again: it goes on where it was", facts.site);
    let since = Some(after(opened_at, limits.restore_open));
    Some(of(facts, (AlarmKind::RestoreOpen, Severity::Warning), since, text, hint))
}
