//! Arguments of `bench`: what is made, what is swept, what is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// Below which the help lists what is made and where.
const FLEET: &str = "The fleet";
const SWEEP: &str = "Sweeps (lists, of which each value is measured with each)";
const PLACE: &str = "Where";

pub(super) const ABOUT: &str = "\
The program runs itself as a process for each measured run, after a `sync`; processor time and memory are the \
kernel's own account of it. What comes back is compared with what was lost, outside of the measured time. The table goes to \
stdout; every run, with the machine it ran on, goes to a JSON file, and a plot beside it.

Nothing of yours is touched: the fleet is made from the seed below --dir, the repository is a new one below \
the address, and both are removed at the end, also after Ctrl-C. After a second Ctrl-C, or a kill, they stay: a \
directory with a file .lifeboat-bench in it may be deleted, and the prefix bench-… of an S3 address.";

const SEE: &str = "How it is measured, and what it leaves: `lifeboat bench --help`.";

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Lose sites and restore them one at a time, beside `cp -a` of the same files
    #[command(after_help = SEE)]
    Restore(BenchRestoreArgs),
    /// Back a fleet up for the first time, and once more, unchanged
    #[command(after_help = SEE)]
    Backup(BenchBackupArgs),
    /// Lose many sites of a fleet and restore them all: one `lifeboat restore` after another, then several at once
    #[command(after_help = SEE)]
    Recover(BenchRecoverArgs),
    /// Follow SQLite files while applications write to them; for PostgreSQL see `cargo bench --bench pg_capture`
    #[command(after_help = SEE)]
    Capture(BenchCaptureArgs),
}

#[derive(Debug, Args)]
pub struct BenchRestoreArgs {
    /// Sites of the fleet: a number, or a list to sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "4", help_heading = FLEET, value_parser = sites)]
    pub sites: Vec<u64>,
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// Take the configured fleet instead of making one: it is only read, and its sites are exported below --dir
    #[arg(long, help_heading = FLEET, conflicts_with_all = ["sites", "bytes", "data", "skew"])]
    pub take: bool,
    /// Restore only so many sites of each fleet, evenly chosen [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: Option<u32>,
    /// Leave out `cp -a` and `sync -f` of the same files, the floor of a restore
    #[arg(long)]
    pub no_floor: bool,
    #[command(flatten)]
    pub sweep: SweepArgs,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Args)]
pub struct BenchBackupArgs {
    /// Sites of the fleet: a number, or a list to sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "4", help_heading = FLEET, value_parser = sites)]
    pub sites: Vec<u64>,
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// Take the configured fleet instead of making one: it is only read
    #[arg(long, help_heading = FLEET, conflicts_with_all = ["sites", "bytes", "data", "skew"])]
    pub take: bool,
    #[command(flatten)]
    pub sweep: SweepArgs,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Args)]
pub struct BenchRecoverArgs {
    /// Sites of the fleet: a number, or a list to sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "40", help_heading = FLEET, value_parser = sites)]
    pub sites: Vec<u64>,
    #[command(flatten)]
    pub fleet: FleetArgs,
    /// Sites that are lost
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub lost: u32,
    /// Restores at once, after one another was measured
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub parallel: u32,
    #[command(flatten)]
    pub sweep: SweepArgs,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Args)]
pub struct BenchCaptureArgs {
    /// Sites of the fleet, each with one database: a number, or a list to sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "40", help_heading = FLEET, value_parser = sites)]
    pub sites: Vec<u64>,
    /// Bytes of all sites together
    #[arg(long, value_name = "SIZE", default_value = "40MB", help_heading = FLEET, value_parser = size)]
    pub bytes: u64,
    /// Transactions a second, over all sites: a number, or a list to sweep
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "200", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub transactions: Vec<u64>,
    /// How long each run is measured, after a fifth of it to warm up
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub common: BenchArgs,
}

#[derive(Debug, Clone, Args)]
pub struct FleetArgs {
    /// Bytes of all sites together: 400MB, 64MiB, 2GB
    #[arg(long, value_name = "SIZE", default_value = "400MB", help_heading = FLEET, value_parser = size)]
    pub bytes: u64,
    /// What sites are made of
    #[arg(long, value_name = "KIND", default_value = "mix", help_heading = FLEET)]
    pub data: DataArg,
    /// How the bytes are spread over the sites
    #[arg(long, value_name = "HOW", default_value = "equal", help_heading = FLEET)]
    pub skew: SkewArg,
}

#[derive(Debug, Clone, Args)]
pub struct SweepArgs {
    /// Threads that decode and write, as limits.workers says [default: the program's own]
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = SWEEP, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub workers: Vec<u64>,
    /// Requests to the store at once, as limits.requests says [default: the program's own]
    #[arg(long, value_name = "N,…", value_delimiter = ',', help_heading = SWEEP, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub requests: Vec<u64>,
    /// A round trip to the store, by a link in front of a server of S3 that speaks plain HTTP: 0ms,20ms,50ms
    #[arg(long, value_name = "TIME,…", value_delimiter = ',', help_heading = SWEEP, value_parser = delay)]
    pub delay: Vec<Duration>,
    /// What one connection of that link carries: 85MB/s
    #[arg(long, value_name = "RATE,…", value_delimiter = ',', help_heading = SWEEP, value_parser = rate)]
    pub rate: Vec<u64>,
}

#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// From which everything is made: the same seed is the same data
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = FLEET)]
    pub seed: u64,
    /// How often each setting is measured, all in turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Where data and results lie; made if it is missing
    #[arg(long, value_name = "DIR", default_value = "lifeboat-bench", help_heading = PLACE)]
    pub dir: PathBuf,
    /// Where the JSON and the plot are written [default: --dir]
    #[arg(long, value_name = "DIR", help_heading = PLACE)]
    pub out: Option<PathBuf>,
    /// Below which address the repository is made: file:///DIR or s3://BUCKET/PREFIX?…
    /// [default: that of --config or LIFEBOAT_CONFIG, else below --dir]
    #[arg(long, value_name = "URL", help_heading = PLACE)]
    pub repository: Option<String>,
    /// Keep data and repository
    #[arg(long, help_heading = PLACE)]
    pub keep: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataArg {
    /// Half rows of JSON, 35 % large files that do not compress, the rest small ones
    Mix,
    /// Rows of JSON, which compress
    Text,
    /// Large files that do not compress
    Random,
    /// Files of 2 to 40 KB that do not compress
    Small,
    /// One file a site, which does not compress
    One,
    /// One SQLite database a site
    Sqlite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SkewArg {
    /// All sites have the same size
    Equal,
    /// The k-th site has 1/k of the first
    Zipf,
}

fn sites(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("a fleet has at least one site".into()),
        Ok(sites) if sites <= 99_999 => Ok(sites),
        _ => Err("a number of sites is wanted, at most 99999".into()),
    }
}

/// A whole number and a unit, decimal or binary; bytes without one.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let of_unit = |(unit, times): &(&str, u64)| Some((text.strip_suffix(unit)?, *times));
    let (digits, times) = UNITS.iter().find_map(of_unit).unwrap_or((text, 1));
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(times));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "a size is a whole number and a unit, such as 400MB or 2GiB".into())
}

/// A size for each second.
fn rate(text: &str) -> Result<u64, String> {
    let bytes = text.strip_suffix("/s").and_then(|text| size(text).ok());
    bytes.ok_or_else(|| "a rate is a size for each second, such as 85MB/s".into())
}

/// Milliseconds, or another unit of time.
fn delay(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1_000), ("us", 1), ("s", 1_000_000)];
    let micros =
        units.iter().find_map(|(unit, micros)| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(*micros));
    let bearable = micros.filter(|micros| *micros <= 10_000_000);
    bearable
        .map(Duration::from_micros)
        .ok_or_else(|| "a delay is a whole number and ms, us or s, such as 20ms; at most 10s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_rates_and_delays_have_their_units() {
        let check = |text: &str, want: Option<u64>| assert_eq!(size(text).ok(), want, "{text}");
        check("400MB", Some(400_000_000));
        check("2GiB", Some(2 << 30));
        check("4096", Some(4096));
        check("1B", Some(1));
        for bad in ["", "0", "0MB", "MB", "1.5GB", "-1", "4 MB", "4mb", "99999999999TB"] {
            check(bad, None);
        }
        assert_eq!(rate("85MB/s").ok(), Some(85_000_000));
        assert!(rate("85MB").is_err() && rate("0MB/s").is_err());
        let check = |text: &str, want: Option<u64>| {
            assert_eq!(delay(text).ok(), want.map(Duration::from_micros), "{text}");
        };
        check("20ms", Some(20_000));
        check("0ms", Some(0));
        check("500us", Some(500));
        check("1s", Some(1_000_000));
        for bad in ["20", "ms", "1.5ms", "-1ms", "11s", "99999999999999999999s"] {
            check(bad, None);
        }
        assert!(sites("0").is_err() && sites("x").is_err() && sites("100000").is_err());
    }
}
