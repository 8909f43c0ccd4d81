//! `[capture]`: how changes are followed, for every source whose policy asks for it.

use std::time::Duration;

use super::ConfigError;
use super::reader::{Field, Table};
use super::values;

/// How changes are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureConfig {
    /// A segment is sealed when it is so old, or so large.
    pub flush: Duration,
    pub flush_bytes: u64,
    /// Log that a server may keep for us; beyond it the slot is given up.
    pub slot_limit_bytes: u64,
    /// How often sources of files are scanned; `None`: never.
    pub scan: Option<Duration>,
    /// Let the kernel hint at which sites changed.
    pub watch: bool,
    /// Changes that may be kept on this host while the store does not answer; 0: none.
    pub spill_limit_bytes: u64,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            flush: Duration::from_secs(5),
            flush_bytes: 8 << 20,
            slot_limit_bytes: 16 << 30,
            scan: Some(Duration::from_secs(300)),
            watch: true,
            spill_limit_bytes: 4 << 30,
        }
    }
}

/// A segment is held in memory until it is sealed.
const FLUSH_BYTES_MAX: u64 = 256 << 20;
const FLUSH_MAX: Duration = Duration::from_secs(3_600);
/// Beyond it the nightly backup says as much.
const SCAN_MAX: Duration = Duration::from_secs(86_400);

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<CaptureConfig, ConfigError> {
    let mut capture = CaptureConfig::default();
    let Some(mut table) = root.take_table("capture")? else { return Ok(capture) };
    if let Some(field) = table.take("flush") {
        capture.flush = values::duration(&field, "5s")?;
        if capture.flush > FLUSH_MAX {
            return Err(field.error(
                format!("what is not in the bucket for so long is lost with its server: key=`{}`", field.key),
                "at most 1h, for example `flush = \"5s\"`",
            ));
        }
    }
    if let Some(field) = table.take("flush_bytes") {
        capture.flush_bytes = values::size(&field, "8MiB")?;
        if capture.flush_bytes > FLUSH_BYTES_MAX {
            return Err(field.error(
                format!("a segment is held in memory until it is sealed: key=`{}`", field.key),
                "at most 256MiB, for example `flush_bytes = \"8MiB\"`",
            ));
        }
    }
    if let Some(field) = table.take("slot_limit") {
        capture.slot_limit_bytes = values::size(&field, "16GiB")?;
    }
    if let Some(field) = table.take("scan") {
        capture.scan = scan(&field)?;
    }
    if let Some(field) = table.take("watch") {
        capture.watch = field.flag()?;
    }
    if let Some(field) = table.take("spill_limit") {
        capture.spill_limit_bytes = values::size_or_none(&field, "4GiB")?;
    }
    table.finish()?;
    Ok(capture)
}

fn scan(field: &Field<'_, '_>) -> Result<Option<Duration>, ConfigError> {
    if matches!(field.text("a duration, or \"off\"", "\"5m\"")?, "off" | "0") {
        return Ok(None);
    }
    let every = values::duration(field, "5m")?;
    if every > SCAN_MAX {
        return Err(field.error(
            format!("files are scanned between two nights, or not at all: key=`{}`", field.key),
            "at most 1d, for example `scan = \"5m\"`; \"off\" for never",
        ));
    }
    Ok(Some(every))
}
