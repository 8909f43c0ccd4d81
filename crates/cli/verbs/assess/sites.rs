//! One site: how far it reaches, whether it is gone, and what is known of its backups, checks and drills.

use std::time::Duration;

use lifeboat_control::alarms::{Listed, SiteFacts, Trouble};
use lifeboat_control::{CheckSeen, SiteSummary};
use lifeboat_engine::{has_base, is_loss_accepted, may_be_accepted};
use lifeboat_model::{RunOutcome, SiteId, SourceName, Timestamp};

use super::SourceStatus;
use crate::CliError;
use crate::config::Config;
use crate::open::Open;
use crate::output::{ago, duration};
use crate::verbs::sites::{Known, Line};

/// A cut takes no longer: a point so much newer than an epoch is a base of it.
const CUT_MAX: Duration = Duration::from_secs(3_600);

/// A site, and the newest moment that all of its parts can be put back to.
pub struct SiteStatus {
    pub line: Line,
    pub restorable_till: Option<Timestamp>,
    /// The source whose part is the oldest there.
    oldest: Option<SourceName>,
    /// Captured sources in which it has no base: what is captured of it leads nowhere.
    pub without_base: Vec<SourceName>,
    pub gone: Option<Gone>,
}

/// A site that has points, and that no source lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// A source could not be asked.
    Perhaps,
    Accepted,
    Alarm,
}

/// Whether the site is gone: at once, not only when a run has found it so. A host without sources believes the
/// newest run.
async fn gone(line: &Line, known: &Known, open: &Open) -> Result<Option<Gone>, CliError> {
    if !line.sources.is_empty() || !line.summary.as_ref().is_some_and(SiteSummary::has_points) {
        return Ok(None);
    }
    if line.has_failed_source {
        return Ok(Some(Gone::Perhaps));
    }
    let seen = known.remembered.seen.get(&line.site);
    if !line.is_unlisted() && !may_be_accepted(seen) {
        return Ok(None);
    }
    // The site itself is asked only where it may be.
    let is_accepted = may_be_accepted(seen) && is_loss_accepted(seen, open.engine.site(&line.site).await?.state());
    Ok(Some(if is_accepted { Gone::Accepted } else { Gone::Alarm }))
}

/// How far a site reaches.
pub struct Reach {
    pub line: Line,
    /// The newest moment that all of its parts can be put back to.
    pub till: Option<Timestamp>,
    /// No source lists it: there is nothing newer to be had.
    pub is_gone: bool,
}

/// The same as is compared with the RPO here.
pub async fn reach(line: Line, of: (&[SourceStatus], &Known), open: &Open) -> Result<Reach, CliError> {
    let status = SiteStatus::of(line, of, open).await?;
    Ok(Reach { till: status.restorable_till, is_gone: !status.is_expected(), line: status.line })
}

impl SiteStatus {
    pub async fn of(line: Line, (sources, known): (&[SourceStatus], &Known), open: &Open) -> Result<Self, CliError> {
        let gone = gone(&line, known, open).await?;
        let (mut without_base, mut oldest) = (Vec::new(), None::<(Option<Timestamp>, SourceName)>);
        for source in &line.sources {
            let mut till = line.good_till;
            if let Some(seen) =
                sources.iter().find(|status| status.source == *source).and_then(|status| status.epoch.as_ref())
            {
                let latest = line.summary.as_ref().and_then(|summary| summary.latest_at);
                let begun_at = seen.epoch.facts.begun_at;
                // Long after the epoch began there is no doubt; around its begin the snapshot itself is asked.
                let is_sure = latest.is_some_and(|latest| latest.since(begun_at) > CUT_MAX);
                if is_sure || has_base(&open.engine, &line.site, source, (&seen.epoch, seen.begins)).await? {
                    till = till.max(seen.till);
                } else {
                    without_base.push(source.clone());
                }
            }
            if oldest.as_ref().is_none_or(|(oldest, _)| till < *oldest) {
                oldest = Some((till, source.clone()));
            }
        }
        let (till, oldest) = oldest.map_or((line.good_till, None), |(till, source)| (till, Some(source)));
        Ok(Self { restorable_till: till, oldest, without_base, gone, line })
    }

    /// Of a site that no source lists there is nothing newer to be had.
    pub fn is_expected(&self) -> bool {
        self.gone.is_none() && !self.line.is_unlisted()
    }

    /// When a run found it as its newest good snapshot has it: one that is incomplete was of before.
    fn found_good_at(&self, known: &Known) -> Option<Timestamp> {
        let seen = known.remembered.seen.get(&self.line.site)?;
        let latest = self.line.summary.as_ref()?.latest?;
        (seen.outcome == RunOutcome::Unchanged && seen.snapshot == Some(latest)).then_some(seen.seen_at)
    }

    /// Whether it came after the newest run: nobody has looked at it yet.
    pub fn is_new(&self, known: &Known) -> bool {
        let remembered = &known.remembered;
        let was_run = !remembered.sources.is_empty() && !remembered.seen.contains_key(&self.line.site);
        let is_unread = self.line.summary.as_ref().is_none_or(SiteSummary::is_only_born);
        was_run && is_unread && !self.line.sources.is_empty()
    }

    pub fn is_late(&self, now: Timestamp) -> bool {
        self.restorable_till.is_none_or(|till| now.since(till) > self.line.rpo)
    }

    pub fn facts(&self, config: &Config, known: &Known, checked: Option<&CheckSeen>) -> SiteFacts {
        let failures = known.remembered.failures.get(&self.line.site);
        SiteFacts {
            listed: match self.gone {
                Some(Gone::Perhaps) => Listed::Unknown,
                Some(Gone::Accepted) => Listed::Accepted,
                Some(Gone::Alarm) => Listed::Vanished,
                None if !self.line.sources.is_empty() => Listed::Yes,
                None if self.line.is_unlisted() => Listed::No,
                None => Listed::Unknown,
            },
            is_expected: self.is_expected(),
            summary: self.line.summary.clone(),
            found_good_at: self.found_good_at(known),
            restorable_till: self.restorable_till,
            oldest: self.oldest.clone(),
            without_base: self.without_base.clone(),
            failures: failures.map_or(0, |(times, _)| *times),
            failure: failures.map(|(_, reason)| reason.clone()),
            checked_at: checked.and_then(|seen| seen.read_at),
            damage: checked.and_then(|seen| seen.damage.clone()),
            ..nothing_of(self.line.site.clone(), config)
        }
    }

    /// In a few words, for a table. `trouble`: the worst of its alarms, for what has no word of its own here.
    pub fn state(&self, trouble: Option<&str>, now: Timestamp) -> String {
        let has_intent = self.line.summary.as_ref().is_some_and(|summary| summary.has_intent);
        match self.gone {
            Some(Gone::Alarm) if !has_intent => return "gone from its sources".into(),
            Some(Gone::Accepted) if !has_intent => return "gone, as accepted".into(),
            _ => {}
        }
        let Some(summary) = self.line.summary.as_ref().filter(|summary| summary.latest.is_some()) else {
            return self.line.state(now);
        };
        if summary.has_intent || self.line.is_unlisted() {
            return self.line.state(now);
        }
        if let Some(failed) = summary.drill_failed {
            return format!("its drill failed {}", ago(failed.at, now));
        }
        if self.is_late(now) {
            let source = self.oldest.as_ref().map_or_else(String::new, |source| format!(" ({source})"));
            return format!("older than {}{source}", duration(self.line.rpo));
        }
        if let Some(source) = self.without_base.first() {
            return format!("no base since the epoch of {source} began");
        }
        match trouble {
            Some(trouble) => trouble.to_owned(),
            None if summary.holds > 0 => "ok, held".into(),
            None => "ok".into(),
        }
    }
}

/// What the configuration alone says of a site.
fn nothing_of(site: SiteId, config: &Config) -> SiteFacts {
    let policy = config.policy_of(&site);
    SiteFacts {
        policy: config.policy_name_of(&site).to_owned(),
        rpo: policy.rpo,
        rto: policy.rto,
        listed: Listed::Unknown,
        is_expected: false,
        summary: None,
        new_since: None,
        found_good_at: None,
        restorable_till: None,
        oldest: None,
        without_base: Vec::new(),
        failures: 0,
        failure: None,
        checked_at: None,
        damage: None,
        unreadable: None,
        site,
    }
}

/// A site whose state in the store cannot be read.
pub fn unreadable(site: SiteId, config: &Config, trouble: Trouble) -> SiteFacts {
    SiteFacts { unreadable: Some(trouble), ..nothing_of(site, config) }
}
