//! `[policy]` and `[policies.NAME]`: what each site is promised.
//!
//! Precedence: the named policies are asked in the order of the file, and the first with a pattern
//! that matches the site's whole id is its policy. A key it does not set comes from `[policy]`, and
//! one that `[policy]` does not set has the default. `keep` is taken as a whole.

use std::time::Duration;

use lifeboat_control::retention::KeepRules;
use lifeboat_control::schedule::{Schedule, ScheduleError, zone_names};
use lifeboat_model::SiteId;

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;
use crate::suggest::{either, nearest};

/// What holds for a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Cron, five fields, known to be readable; `None`: its sites are backed up when somebody says so.
    pub schedule: Option<String>,
    /// The zone of `schedule`, known to be there.
    pub timezone: String,
    /// Sites begin within this after each firing, each at its own moment.
    pub spread: Duration,
    /// The oldest the newest point may be.
    pub rpo: Duration,
    /// The longest a restore may take.
    pub rto: Duration,
    /// Changes are followed, for a restore to any moment.
    pub capture: bool,
    /// Which points are kept.
    pub keep: KeepRules,
    /// How long a forgotten point can be brought back.
    pub undelete: Duration,
    /// A snapshot smaller than the one before by more than this is suspect. Percent, 1 to 100.
    pub shrink_limit: u8,
}

/// A policy for some sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPolicy {
    pub name: String,
    /// Site ids, `*` standing for any run of characters.
    pub sites: Vec<String>,
    pub policy: Policy,
}

impl Default for Policy {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            schedule: None,
            timezone: "UTC".into(),
            spread: Duration::ZERO,
            rpo: DAY,
            rto: Duration::from_secs(900),
            capture: false,
            keep: KeepRules {
                daily: 14,
                weekly: 8,
                monthly: 12,
                window: DAY * 14,
                undo: DAY * 14,
                ..KeepRules::default()
            },
            undelete: DAY * 7,
            shrink_limit: 30,
        }
    }
}

impl Policy {
    /// When its sites are backed up.
    pub fn firing(&self) -> Option<Schedule> {
        let text = self.schedule.as_ref()?;
        // Both were read when the configuration was.
        Schedule::new(text, &self.timezone, self.spread).ok()
    }
}

impl NamedPolicy {
    pub fn matches(&self, site: &SiteId) -> bool {
        self.sites.iter().any(|pattern| matches(pattern, site.as_str()))
    }
}

/// Whether `pattern` describes the whole of `text`; `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let (middle, end) = tail.rsplit_once('*').map_or((None, tail), |(middle, end)| (Some(middle), end));
    for piece in middle.into_iter().flat_map(|middle| middle.split('*')) {
        // The earliest place is as good as any other: what follows can only need more room.
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(end)
}

pub(super) fn read_base(root: &mut Table<'_, '_>) -> Result<Policy, ConfigError> {
    let Some(mut table) = root.take_table("policy")? else { return Ok(Policy::default()) };
    let policy = read_keys(&mut table, Policy::default())?;
    table.finish()?;
    Ok(policy)
}

pub(super) fn read_named(root: &mut Table<'_, '_>, base: &Policy) -> Result<Vec<NamedPolicy>, ConfigError> {
    let Some(mut all) = root.take_table("policies")? else { return Ok(Vec::new()) };
    let mut named = Vec::new();
    for (name, field) in all.take_rest() {
        let mut table = field.table()?;
        let field = table.require("sites", "[\"acme\", \"tier-1-*\"]")?;
        let sites = field.texts("a list of site ids or patterns", "[\"acme\", \"tier-1-*\"]")?;
        if sites.is_empty() {
            return Err(field.error(
                format!("the policy matches no site: key=`{}`", field.key),
                "name at least one, for example `sites = [\"acme\", \"tier-1-*\"]`",
            ));
        }
        let policy = read_keys(&mut table, base.clone())?;
        table.finish()?;
        named.push(NamedPolicy { name: name.to_owned(), sites, policy });
    }
    Ok(named)
}

fn read_keys(table: &mut Table<'_, '_>, base: Policy) -> Result<Policy, ConfigError> {
    let mut policy = base;
    if let Some(field) = table.take("schedule") {
        policy.schedule = Some(schedule(&field)?);
    }
    if let Some(field) = table.take("timezone") {
        policy.timezone = timezone(&field)?;
    }
    let durations: [(&'static str, &mut Duration, &str); 6] = [
        ("spread", &mut policy.spread, "2h"),
        ("rpo", &mut policy.rpo, "24h"),
        ("rto", &mut policy.rto, "15m"),
        ("window", &mut policy.keep.window, "14d"),
        ("undo", &mut policy.keep.undo, "14d"),
        ("undelete", &mut policy.undelete, "7d"),
    ];
    for (key, value, example) in durations {
        if let Some(field) = table.take(key) {
            *value = values::duration(&field, example)?;
        }
    }
    if let Some(field) = table.take("capture") {
        policy.capture = field.flag()?;
    }
    if let Some(keep) = table.take_table("keep")? {
        policy.keep = read_keep(keep, &policy.keep)?;
    }
    if let Some(field) = table.take("shrink_limit") {
        policy.shrink_limit = values::percent(&field, "30%")?;
    }
    Ok(policy)
}

fn read_keep(mut table: Table<'_, '_>, base: &KeepRules) -> Result<KeepRules, ConfigError> {
    let mut keep = KeepRules { window: base.window, undo: base.undo, ..KeepRules::default() };
    if let Some(field) = table.take("within") {
        keep.within = Some(values::duration(&field, "30d")?);
    }
    let counts: [(&'static str, &mut u32); 6] = [
        ("last", &mut keep.last),
        ("hourly", &mut keep.hourly),
        ("daily", &mut keep.daily),
        ("weekly", &mut keep.weekly),
        ("monthly", &mut keep.monthly),
        ("yearly", &mut keep.yearly),
    ];
    for (key, count) in counts {
        if let Some(field) = table.take(key) {
            *count = field.count("14")?;
        }
    }
    table.finish()?;
    Ok(keep)
}

fn schedule(field: &Field<'_, '_>) -> Result<String, ConfigError> {
    let text = field.text("a cron schedule (minute, hour, day, month, weekday)", "\"0 2 * * *\"")?;
    // What is wrong with the zone is said of the zone.
    match Schedule::new(text, "UTC", Duration::ZERO) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(field.error(
            format!("{error}, key=`{}`", field.key),
            "minute, hour, day of the month, month and weekday, for example `schedule = \"0 2 * * *\"` for every night at two",
        )),
    }
}

fn timezone(field: &Field<'_, '_>) -> Result<String, ConfigError> {
    let text = field.text("the name of a time zone", "\"Europe/Berlin\"")?;
    match Schedule::new("0 2 * * *", text, Duration::ZERO) {
        Err(ScheduleError::NoZone { .. }) => {
            let names = zone_names();
            let hint = match either(&nearest(text, names.iter().map(String::as_str))) {
                Some(names) => format!("did you mean {names}?"),
                None => "a name of the IANA database, for example `timezone = \"Europe/Berlin\"`".to_owned(),
            };
            Err(field.error(format!("no such time zone: key=`{}`, timezone=`{text}`", field.key), hint))
        }
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let check = |pattern: &str, text: &str, want: bool| {
            assert_eq!(matches(pattern, text), want, "{pattern} {text}");
        };
        check("acme", "acme", true);
        check("acme", "acme-eu", false);
        check("tier-1-*", "tier-1-", true);
        check("tier-1-*", "tier-1-a", true);
        check("tier-1-*", "xtier-1-a", false);
        check("*-eu", "acme-eu", true);
        check("*-eu", "acme-eu-2", false);
        check("a*b*c", "a1b2c", true);
        check("a*b*c", "abc", true);
        check("a*b*c", "acb", false);
        check("ab*ba", "aba", false);
        check("*", "anything", true);
        check("**", "", true);
        check("a**b", "ab", true);
    }
}
