//! `[limits]`: how much of this host one command takes.

use lifeboat_repo::{FetchLimits, IngestOptions};
use lifeboat_store::Limits;

use super::ConfigError;
use super::reader::Table;
use super::values;

const WORKERS_MAX: u32 = 256;
const REQUESTS_MAX: u32 = 1_024;
const MEMORY_MIN: u64 = 8 << 20;
const MEMORY_MAX: u64 = 64 << 30;

/// What differs from the defaults of the parts that do the work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Threads that compress and encrypt, or decrypt, decompress and write.
    pub workers: Option<usize>,
    /// Requests to the store at once.
    pub requests: Option<usize>,
    /// Bytes of a restore that are read and not yet decoded.
    pub memory_bytes: Option<u64>,
}

impl LimitsConfig {
    pub fn fetch(&self) -> FetchLimits {
        let usual = FetchLimits::default();
        FetchLimits {
            requests_max: self.requests.unwrap_or(usual.requests_max),
            bytes_in_flight_max: self
                .memory_bytes
                .map_or(usual.bytes_in_flight_max, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
            workers: self.workers.unwrap_or(usual.workers),
        }
    }

    pub fn ingest(&self) -> IngestOptions {
        let usual = IngestOptions::default();
        IngestOptions { workers: self.workers.unwrap_or(usual.workers), ..usual }
    }

    pub fn store(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            connections_max: self.requests.unwrap_or(usual.connections_max),
            bytes_max: self.memory_bytes.map_or(usual.bytes_max, |bytes| bytes.max(usual.bytes_max)),
            ..usual
        }
    }
}

pub(super) fn read(root: &mut Table<'_, '_>) -> Result<LimitsConfig, ConfigError> {
    let mut limits = LimitsConfig::default();
    let Some(mut table) = root.take_table("limits")? else { return Ok(limits) };
    if let Some(field) = table.take("workers") {
        limits.workers = Some(values::count(&field, WORKERS_MAX, "4")? as usize);
    }
    if let Some(field) = table.take("requests") {
        limits.requests = Some(values::count(&field, REQUESTS_MAX, "64")? as usize);
    }
    if let Some(field) = table.take("memory") {
        let bytes = values::size(&field, "48MiB")?;
        if !(MEMORY_MIN..=MEMORY_MAX).contains(&bytes) {
            return Err(field.error(
                format!("with less a restore cannot read ahead, and with more it gains nothing: key=`{}`", field.key),
                "from 8MiB to 64GiB, for example `memory = \"48MiB\"`",
            ));
        }
        limits.memory_bytes = Some(bytes);
    }
    table.finish()?;
    Ok(limits)
}
