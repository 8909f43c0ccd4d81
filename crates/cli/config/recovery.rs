//! `[recovery]`: how many sites come back at once and how fast, when that stops, and what the operator wants done around
//! each of them. The operator's checks are in `checks`.

mod checks;

use std::time::Duration;

use lifeboat_engine::Around;

use lifeboat_model::{BadBystanderChoice, BystanderChoice};

use super::ConfigError;
use super::reader::{Field, Table};
use super::sources::{SourceConfig, SourceSettings};
use super::values::{self, SITE};

/// So many at once are never asked for by accident.
const PARALLEL_MAX: u32 = 64;
const SITES_MAX: u32 = 1_000_000;
/// With less, a restore takes longer than whoever waits for it.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;
/// Longer than that nothing of a recovery may stand still.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// Sites at once.
    pub parallel: u32,
    /// Sites that run first, and alone.
    pub canaries: u32,
    /// No other site begins when more of those that ended have failed.
    pub halt_percent: u32,
    /// Sites that one recovery may bring back.
    pub sites_max: u32,
    /// Sites that all recoveries of one hour may bring back; `None`: as many as there are.
    pub sites_per_hour: Option<u32>,
    /// Sites beside it that are looked at before and after.
    pub bystanders: BystanderChoice,
    /// Read from the store by all cases together; `None`: as fast as it gives.
    pub bytes_per_second: Option<u64>,
    /// No case begins while more other clients are active on a database server; `None`: nobody asks.
    pub database_load: Option<u32>,
    /// Commands and checks of the operator's own.
    pub around: Around,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            parallel: 4,
            canaries: 3,
            halt_percent: 50,
            sites_max: 1_000,
            sites_per_hour: None,
            bystanders: BystanderChoice::default(),
            bytes_per_second: None,
            database_load: None,
            around: Around::default(),
        }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>, sources: &[SourceConfig]) -> Result<RecoveryConfig, ConfigError> {
    let mut recovery = RecoveryConfig::default();
    let Some(mut table) = root.take_table("recovery")? else { return Ok(recovery) };
    if let Some(field) = table.take("parallel") {
        recovery.parallel = count(&field, 1..=PARALLEL_MAX, "4")?;
    }
    if let Some(field) = table.take("canaries") {
        recovery.canaries = count(&field, 0..=SITES_MAX, "3")?;
    }
    if let Some(field) = table.take("halt") {
        recovery.halt_percent = values::percent(&field, "50%")?.into();
    }
    if let Some(field) = table.take("sites_max") {
        recovery.sites_max = count(&field, 1..=SITES_MAX, "1000")?;
    }
    if let Some(field) = table.take("sites_per_hour") {
        recovery.sites_per_hour = Some(count(&field, 1..=SITES_MAX, "1000")?);
    }
    if let Some(field) = table.take("bystanders") {
        let text = field.text("none, all, or sample:N", "bystanders = \"sample:20\"")?;
        recovery.bystanders = text.parse().map_err(|error: BadBystanderChoice| {
            field.error(error.to_string(), "for example `bystanders = \"sample:20\"`")
        })?;
    }
    if let Some(field) = table.take("bytes_per_second") {
        recovery.bytes_per_second = Some(bytes_per_second(&field)?);
    }
    if let Some(field) = table.take("database_load") {
        recovery.database_load = Some(database_load(&field, sources)?);
    }
    recovery.around = around(&mut table, sources)?;
    table.finish()?;
    Ok(recovery)
}

fn bytes_per_second(field: &Field<'_, '_>) -> Result<u64, ConfigError> {
    match values::size(field, "50MiB")? {
        bytes if bytes >= BYTES_PER_SECOND_MIN => Ok(bytes),
        _ => Err(field.error(
            format!("at this rate no site comes back: key=`{}`", field.key),
            "at least 64KiB, for example `bytes_per_second = \"50MiB\"`",
        )),
    }
}

fn database_load(field: &Field<'_, '_>, sources: &[SourceConfig]) -> Result<u32, ConfigError> {
    if !sources.iter().any(|source| matches!(source.settings, SourceSettings::Postgres(_))) {
        return Err(field.error(
            format!("there is no database server to ask: key=`{}`", field.key),
            "leave it out: only sources of kind \"postgres\" have one",
        ));
    }
    count(field, 0..=SITES_MAX, "20")
}

fn around(table: &mut Table<'_, '_>, sources: &[SourceConfig]) -> Result<Around, ConfigError> {
    let usual = Around::default();
    let before = commands(table, "before", "on")?;
    let after = commands(table, "after", "off")?;
    let timeout = timeout(table, usual.timeout)?;
    let checks = checks::read(table, sources, timeout)?;
    Ok(Around { before, after, timeout, checks })
}

fn timeout(table: &mut Table<'_, '_>, usual: Duration) -> Result<Duration, ConfigError> {
    let Some(field) = table.take("timeout") else { return Ok(usual) };
    match values::duration(&field, "60s")? {
        timeout if timeout <= TIMEOUT_MAX => Ok(timeout),
        _ => Err(field.error(
            format!("a recovery would stand still for so long: key=`{}`", field.key),
            "at most 1d, for example `timeout = \"60s\"`",
        )),
    }
}

/// A list of commands, each of which says which site.
fn commands(table: &mut Table<'_, '_>, key: &'static str, word: &str) -> Result<Vec<Vec<String>>, ConfigError> {
    let Some(field) = table.take(key) else { return Ok(Vec::new()) };
    let example = format!("[[\"/usr/local/bin/maintenance\", \"{word}\", \"{SITE}\"]]");
    let wanted = "a list of commands, each a list of a program and its arguments (no shell)";
    let commands = field.lists(wanted, &example)?;
    if commands.iter().any(Vec::is_empty) {
        return Err(field.mistyped(wanted, &example));
    }
    match commands.iter().find(|argv| !says_which(argv)) {
        None => Ok(commands),
        Some(silent) => Err(field.error(
            format!("a command does not say which site: key=`{}`, command=`{}`", field.key, silent[0]),
            format!("put {SITE} where the site id goes, for example `{key} = {example}`"),
        )),
    }
}

fn says_which(argv: &[String]) -> bool {
    argv.iter().any(|argument| argument.contains(SITE))
}

fn count(field: &Field<'_, '_>, allowed: std::ops::RangeInclusive<u32>, example: &str) -> Result<u32, ConfigError> {
    match field.count(example)? {
        count if allowed.contains(&count) => Ok(count),
        count => Err(field.error(
            format!("so many are not possible: key=`{}`, count=`{count}`", field.key),
            format!(
                "from {} to {}, for example `{} = {example}`",
                allowed.start(),
                allowed.end(),
                field.key.rsplit('.').next().unwrap_or_default()
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
