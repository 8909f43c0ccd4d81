//! `[daemon]` and `[check]`: what `lifeboat run` does at once, how often it looks, and how soon all is read back.

use std::time::Duration;

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

const PARALLEL_MAX: u32 = 16;
const BATCH_MAX: u32 = 100_000;
const POLL_MAX: Duration = Duration::from_secs(3_600);
const GRACE_MAX: Duration = Duration::from_secs(3_600);
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// How the daemon goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Jobs at once, beside the capture.
    pub parallel: usize,
    /// Sites of one run at most.
    pub batch: usize,
    /// How often the bucket is asked what others have done.
    pub poll: Duration,
    /// How often the sources are asked for sites that are new.
    pub discover: Duration,
    /// What is under way may take so long when it is told to stop.
    pub grace: Duration,
    /// What all jobs together may read from the store and write to it; `None`: as much as there is.
    pub bytes_per_second: Option<u64>,
}

/// How soon every byte is read back; `None`: never by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckConfig {
    pub every: Option<Duration>,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            parallel: 2,
            batch: 5_000,
            poll: Duration::from_secs(60),
            discover: Duration::from_secs(15 * 60),
            grace: Duration::from_secs(60),
            bytes_per_second: None,
        }
    }
}

impl Default for CheckConfig {
    fn default() -> Self {
        Self { every: Some(Duration::from_secs(30 * 86_400)) }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<DaemonConfig, ConfigError> {
    let mut daemon = DaemonConfig::default();
    let Some(mut table) = root.take_table("daemon")? else { return Ok(daemon) };
    if let Some(field) = table.take("parallel") {
        daemon.parallel = values::count(&field, PARALLEL_MAX, "2")? as usize;
    }
    if let Some(field) = table.take("batch") {
        daemon.batch = values::count(&field, BATCH_MAX, "5000")? as usize;
    }
    if let Some(field) = table.take("poll") {
        daemon.poll = at_most(&field, POLL_MAX, "1m")?;
    }
    if let Some(field) = table.take("discover") {
        daemon.discover = values::duration(&field, "15m")?;
    }
    if let Some(field) = table.take("grace") {
        daemon.grace = at_most(&field, GRACE_MAX, "1m")?;
    }
    if let Some(field) = table.take("bytes_per_second") {
        let bytes = values::size(&field, "50MiB")?;
        if bytes < BYTES_PER_SECOND_MIN {
            return Err(field.error(
                format!("with so little nothing comes to its end: key=`{}`", field.key),
                "at least 64KiB, for example `bytes_per_second = \"50MiB\"`",
            ));
        }
        daemon.bytes_per_second = Some(bytes);
    }
    table.finish()?;
    Ok(daemon)
}

pub(super) fn read_check(root: &mut Table<'_, '_>) -> Result<CheckConfig, ConfigError> {
    let mut check = CheckConfig::default();
    let Some(mut table) = root.take_table("check")? else { return Ok(check) };
    if let Some(field) = table.take("every") {
        check.every = duration_or_off(&field, "30d")?;
    }
    table.finish()?;
    Ok(check)
}

/// A duration, or `"off"`.
pub(super) fn duration_or_off(field: &Field<'_, '_>, example: &str) -> Result<Option<Duration>, ConfigError> {
    match field.text("a duration, or \"off\"", &format!("\"{example}\""))? {
        "off" => Ok(None),
        _ => values::duration(field, example).map(Some),
    }
}

fn at_most(field: &Field<'_, '_>, most: Duration, example: &str) -> Result<Duration, ConfigError> {
    let duration = values::duration(field, example)?;
    match duration > most {
        false => Ok(duration),
        true => Err(field.error(
            format!("that is too long: key=`{}`", field.key),
            format!("at most 1h, for example `{} = \"{example}\"`", field.key.rsplit('.').next().unwrap_or_default()),
        )),
    }
}
