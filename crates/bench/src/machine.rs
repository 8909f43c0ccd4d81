//! What the measurements were made on, as the results must say it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Processor, kernel, file system of `place`, and how busy the machine is now.
pub fn facts(place: &Path) -> Value {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    let flags = field("flags");
    let has = |flag: &str| flags.split(' ').any(|known| known == flag);
    json!({
        "processor": field("model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "sha_ni": has("sha_ni"),
        "avx2": has("avx2"),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "file_system": file_system(place),
        "load_average": load_average(),
    })
}

pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The largest resident set that this process had until now.
pub fn own_peak_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Type and device of the mount that holds `place`: the longest mount point that is a prefix of it.
fn file_system(place: &Path) -> String {
    let place = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|fields| fields.len() > 2);
    let best = fields.filter(|fields| place.starts_with(fields[1])).max_by_key(|fields| fields[1].len());
    best.map_or_else(String::new, |fields| format!("{} on {}", fields[2], fields[0]))
}
