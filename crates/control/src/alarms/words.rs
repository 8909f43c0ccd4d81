//! Times and sizes in an alarm's text.

use std::time::Duration;

use lifeboat_model::Timestamp;

/// `40 s`, `15 min`, `27 h`, `3 d`: the largest unit of which there are two, for a limit and an age side by side.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// `512 MiB`, `3.2 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const GIB: f64 = (1u64 << 30) as f64;
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / GIB),
    }
}

pub(super) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(time.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
}
