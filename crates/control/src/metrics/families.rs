//! Every family of metrics: its name, what it is, and whether it only grows.
//!
//! `docs/operations/metrics.md` shows the same list, and `config/prometheus` and `config/grafana` use no other name; a test
//! of the house rules compares them. A name is a promise to whoever has built an alert on it: families are added, not renamed.

/// How a family behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    Gauge,
    Counter,
}

impl FamilyKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// One family of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: FamilyKind,
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident $kind:ident $name:literal $help:literal,)*) => {
        $(pub(super) const $constant: Family = Family { name: $name, kind: FamilyKind::$kind, help: $help };)*

        /// All of them, in the order of the exposition.
        pub const FAMILIES: &[Family] = &[$($constant,)*];
    };
}

families! {
    BUILD Gauge "lifeboat_build_info" "The version that runs, as a label.",
    CYCLE_AT Gauge "lifeboat_cycle_timestamp_seconds" "When facts were gathered last.",
    CYCLE_TOOK Gauge "lifeboat_cycle_duration_seconds" "How long the last cycle took.",
    STORE_UP Gauge "lifeboat_store_up" "Whether the store answered in the last cycle.",
    RECOVERY_KEY Gauge "lifeboat_recovery_key_verified" "Whether a recovery key was ever read back.",
    ALARMS Gauge "lifeboat_alarms" "Alarms that fire.",
    SITES Gauge "lifeboat_sites" "Sites: ok, breached (not as promised), or gone with the loss accepted.",
    NEVER_PROVEN Gauge "lifeboat_sites_never_proven" "Sites that no drill ever proved.",
    POINTS Gauge "lifeboat_points" "Snapshots of all sites.",
    HOLDS Gauge "lifeboat_holds" "Holds of all sites.",
    LOGICAL_BYTES Gauge "lifeboat_logical_bytes" "Plain bytes of all sites' newest good points.",
    RPO Gauge "lifeboat_rpo_seconds" "The oldest that a site's newest point may be.",
    RTO Gauge "lifeboat_rto_seconds" "The longest that a restore may take.",
    OLDEST_RESTORABLE Gauge "lifeboat_oldest_restorable_timestamp_seconds" "Till when the site that is worst off can be put back.",
    OLDEST_VERIFIED Gauge "lifeboat_oldest_verified_timestamp_seconds" "When a point of the site that is worst off was last verified.",
    OLDEST_PROVEN Gauge "lifeboat_oldest_proven_timestamp_seconds" "Since when the site that is worst off is owed a drill.",
    SLOWEST_DRILL Gauge "lifeboat_slowest_drill_duration_seconds" "The slowest of all sites' last proven drills.",
    SITE_RESTORABLE Gauge "lifeboat_site_restorable_timestamp_seconds" "Till when a site can be put back.",
    SITE_VERIFIED Gauge "lifeboat_site_verified_timestamp_seconds" "When a point of a site was last verified.",
    SITE_PROVEN Gauge "lifeboat_site_proven_timestamp_seconds" "When a drill last proved a site.",
    SITE_DRILL Gauge "lifeboat_site_drill_duration_seconds" "How long a site's last proven drill took.",
    SITE_BYTES Gauge "lifeboat_site_logical_bytes" "Plain bytes of a site's newest good point.",
    SITE_ALARMS Gauge "lifeboat_site_alarms" "Alarms of a site, notices left out.",
    SOURCE_UP Gauge "lifeboat_source_up" "Whether a source can be backed up from.",
    CAPTURED_TILL Gauge "lifeboat_source_captured_timestamp_seconds" "Till when a source's change log is complete.",
    SLOT_KEPT Gauge "lifeboat_source_slot_kept_bytes" "Log that a server keeps for the capture.",
    SLOT_LIMIT Gauge "lifeboat_source_slot_limit_bytes" "Log that a server may keep before the slot is given up.",
    SLOT_LOST Gauge "lifeboat_source_slot_lost" "Whether the slot can be followed no further.",
    UNROUTED Gauge "lifeboat_source_unrouted_changes" "Changes of the epoch whose site nobody could tell.",
    SPILL Gauge "lifeboat_source_spill_bytes" "Changes that are on this host only.",
    SCANNED_AT Gauge "lifeboat_source_scanned_timestamp_seconds" "When a source's files were scanned last.",
    SCAN_FAILED Gauge "lifeboat_source_scan_failed_sites" "Sites that the last scan could not look at.",
    DISK_FREE Gauge "lifeboat_disk_free_bytes" "Room on a disk that Lifeboat writes to.",
    DISK_SIZE Gauge "lifeboat_disk_size_bytes" "Size of a disk that Lifeboat writes to.",
    NOTIFICATIONS Counter "lifeboat_notifications_total" "Messages and pings, by who was to get them and whether they did.",
    NOTIFIER_UP Gauge "lifeboat_notifier_up" "Whether the last message or ping arrived.",
}
