//! `[policy]` and `[policies.NAME]`: what each site is promised.
//!
//! Precedence: the named policies are asked in the order of the file, and the first with a pattern
//! that matches the site's whole id is its policy. A key it does not set comes from `[policy]`, and
//! one that `[policy]` does not set has the default. `keep` is taken as a whole.

use std::time::Duration;

use lifeboat_control::retention::KeepRules;
use lifeboat_model::SiteId;

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

/// What holds for a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Cron, five fields; kept for the daemon of a later version.
    pub schedule: Option<String>,
    /// The zone of `schedule`.
    pub timezone: String,
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
    let durations: [(&'static str, &mut Duration, &str); 5] = [
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

/// Five fields; what is in them is read by the daemon of a later version.
fn schedule(field: &Field<'_, '_>) -> Result<String, ConfigError> {
    let wanted = "a cron schedule (minute, hour, day, month, weekday)";
    let text = field.text(wanted, "\"0 2 * * *\"")?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "*/,- ".contains(character);
    if text.split_whitespace().count() != 5 || !text.chars().all(plain) {
        return Err(field.mistyped(wanted, "\"0 2 * * *\""));
    }
    Ok(text.to_owned())
}

fn timezone(field: &Field<'_, '_>) -> Result<String, ConfigError> {
    let wanted = "the name of a time zone";
    let text = field.text(wanted, "\"Europe/Berlin\"")?;
    let plain = |character: char| character.is_ascii_alphanumeric() || "/_+-".contains(character);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(field.mistyped(wanted, "\"Europe/Berlin\""));
    }
    Ok(text.to_owned())
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
