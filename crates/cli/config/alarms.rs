//! `[alarms]`: from when on something that no policy speaks of is an alarm, and how often it is told.

use std::time::Duration;

use lifeboat_control::alarms::{AlarmLimits, DiskFree};

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

const FAILURES_MAX: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmsConfig {
    pub limits: AlarmLimits,
    /// What goes on is told again after so long.
    pub repeat: Duration,
    /// How often the daemon looks.
    pub every: Duration,
}

impl Default for AlarmsConfig {
    fn default() -> Self {
        Self { limits: AlarmLimits::default(), repeat: Duration::from_secs(86_400), every: Duration::from_secs(60) }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<AlarmsConfig, ConfigError> {
    let mut alarms = AlarmsConfig::default();
    let Some(mut table) = root.take_table("alarms")? else { return Ok(alarms) };
    let limits = &mut alarms.limits;
    let durations: [(&'static str, &mut Duration, &str); 5] = [
        ("capture_lag", &mut limits.capture_lag, "5m"),
        ("restore_open", &mut limits.restore_open, "6h"),
        ("verified_within", &mut limits.verified_within, "30d"),
        ("repeat", &mut alarms.repeat, "24h"),
        ("every", &mut alarms.every, "1m"),
    ];
    for (key, value, example) in durations {
        if let Some(field) = table.take(key) {
            *value = values::duration(&field, example)?;
        }
    }
    if let Some(field) = table.take("proven_within") {
        limits.proven_within = Some(values::duration(&field, "90d")?);
    }
    if let Some(field) = table.take("disk_free") {
        limits.disk_free = disk_free(&field)?;
    }
    if let Some(field) = table.take("backup_failures") {
        limits.backup_failures = values::count(&field, FAILURES_MAX, "2")?.into();
    }
    table.finish()?;
    Ok(alarms)
}

fn disk_free(field: &Field<'_, '_>) -> Result<DiskFree, ConfigError> {
    let text = field.text("a share such as \"5%\", or a size such as \"20GiB\"", "\"5%\"")?;
    match text.ends_with('%') {
        true => Ok(DiskFree::Percent(values::percent(field, "5%")?)),
        false => Ok(DiskFree::Bytes(values::size(field, "20GiB")?)),
    }
}
