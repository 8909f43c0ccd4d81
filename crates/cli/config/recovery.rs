//! `[recovery]`: how many sites come back at once, and when that stops.

use lifeboat_model::{BadBystanderChoice, BystanderChoice};

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

/// So many at once are never asked for by accident.
const PARALLEL_MAX: u32 = 64;
const SITES_MAX: u32 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        let bystanders = BystanderChoice::default();
        Self { parallel: 4, canaries: 3, halt_percent: 50, sites_max: 1_000, sites_per_hour: None, bystanders }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<RecoveryConfig, ConfigError> {
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
    table.finish()?;
    Ok(recovery)
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
