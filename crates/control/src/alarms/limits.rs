//! From when on something is an alarm.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Room that is to stay free on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFree {
    Percent(u8),
    Bytes(u64),
}

impl DiskFree {
    /// What has to be free of a disk of this size.
    pub fn of(self, size_bytes: u64) -> u64 {
        match self {
            Self::Percent(percent) => u64::try_from(u128::from(size_bytes) * u128::from(percent) / 100).unwrap_or(0),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// What is not said by a site's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlarmLimits {
    /// A change log that is further behind is not being followed.
    pub capture_lag: Duration,
    pub disk_free: DiskFree,
    /// A restore that is open for longer was left.
    pub restore_open: Duration,
    /// So often a point of each site is to be verified.
    pub verified_within: Duration,
    /// Runs that failed at a site one after another.
    pub backup_failures: u64,
    /// So often each site is to be rehearsed; `None`: nobody has promised that.
    pub proven_within: Option<Duration>,
}

impl Default for AlarmLimits {
    fn default() -> Self {
        Self {
            capture_lag: 5 * MINUTE,
            disk_free: DiskFree::Percent(5),
            restore_open: DAY / 4,
            verified_within: 30 * DAY,
            backup_failures: 2,
            proven_within: None,
        }
    }
}
