//! What is asked for: arguments as requests, settings, and the space that they need.

use std::time::Duration;

use lifeboat_bench::fleet::{Data, SITE_BYTES_MIN, Shape, Skew};
use lifeboat_bench::setting::{Dimension, Setting, combine};
use lifeboat_bench::{BackupRequest, CaptureRequest, RecoverRequest, RestoreRequest, SITES_MAX, Shown, Source};
use serde_json::Value;

use super::taken;
use crate::args::{
    BenchArgs, BenchBackupArgs, BenchCaptureArgs, BenchCommand, BenchRecoverArgs, BenchRestoreArgs, DataArg, FleetArgs,
    SkewArg, SweepArgs,
};
use crate::{CliError, Context};

/// One bench, as it is to be run.
pub enum Bench {
    Restore(RestoreRequest),
    Backup(BackupRequest),
    Recover(RecoverRequest),
    Capture(CaptureRequest),
}

impl Bench {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Restore(_) => "restore",
            Self::Backup(_) => "backup",
            Self::Recover(_) => "recover",
            Self::Capture(_) => "capture",
        }
    }

    pub fn settings(&self) -> &[Setting] {
        match self {
            Self::Restore(request) => &request.settings,
            Self::Backup(request) => &request.settings,
            Self::Recover(request) => &request.settings,
            Self::Capture(request) => &request.settings,
        }
    }

    pub fn source(&self) -> &Source {
        match self {
            Self::Restore(request) => &request.source,
            Self::Backup(request) => &request.source,
            Self::Recover(request) => &request.source,
            Self::Capture(request) => &request.source,
        }
    }

    /// What the plot shows.
    pub fn shown(&self) -> Shown {
        match self {
            Self::Restore(_) | Self::Backup(_) => Shown::MegabytesPerSecond,
            Self::Recover(_) => Shown::SitesPerHour,
            Self::Capture(_) => Shown::CorePercent,
        }
    }

    pub fn proof(&self) -> &'static str {
        match (self, self.source()) {
            (Self::Backup(_), _) => "none: each snapshot was read back by the program itself",
            (Self::Capture(_), _) => {
                "three sites were restored from the log after each turn and compared with the live ones, byte for byte"
            }
            (_, Source::Made(_)) => "each restored tree was compared with the original, byte for byte",
            (_, Source::Taken(_)) => "each export passed the checks of its own receipt",
        }
    }
}

/// All that the arguments say.
pub struct Asked {
    pub bench: Bench,
    pub common: BenchArgs,
    /// Below which address; `None`: below the bench's own directory.
    pub repository: Option<String>,
    /// Null where the fleet is taken.
    pub shape: Value,
}

impl Asked {
    pub fn of(command: &BenchCommand, context: &Context) -> Result<Self, CliError> {
        let (bench, common, takes) = match command {
            BenchCommand::Restore(args) => (Bench::Restore(restore(args, context)?), &args.common, args.take),
            BenchCommand::Backup(args) => (Bench::Backup(backup(args, context)?), &args.common, args.take),
            BenchCommand::Recover(args) => (Bench::Recover(recover(args)?), &args.common, false),
            BenchCommand::Capture(args) => (Bench::Capture(capture(args)?), &args.common, false),
        };
        let repository = match (&common.repository, takes || context.global.config.is_some()) {
            (Some(url), _) => Some(url.clone()),
            (None, true) => Some(context.config()?.repository.url),
            (None, false) => None,
        };
        let shape = match bench.source() {
            Source::Made(shape) => shape.json(),
            Source::Taken(_) => Value::Null,
        };
        Ok(Self { bench, common: common.clone(), repository, shape })
    }

    pub fn rounds(&self) -> usize {
        self.common.rounds as usize
    }

    /// Free bytes without which it is not begun: for the fleet, the copy it is compared with, repositories, and all
    /// that is restored, which is removed only when all is measured.
    pub fn bytes_needed(&self) -> u64 {
        let Source::Made(shape) = self.bench.source() else { return 0 };
        let rounds = u64::from(self.common.rounds);
        let of = |setting: &Setting| {
            let sites = setting.sites().max(1) as u64;
            let bytes = shape.bytes.max(sites * SITE_BYTES_MIN);
            let of_sites = |count: u64| (bytes / sites).saturating_mul(count.min(sites));
            match &self.bench {
                Bench::Restore(request) => {
                    let sample = of_sites(request.sample.map_or(sites, |sample| sample as u64));
                    (bytes * 3, sample * rounds, if request.has_floor { sample * rounds } else { 0 })
                }
                Bench::Backup(_) => (bytes, bytes * rounds, 0),
                Bench::Capture(_) => (bytes * 4, bytes * rounds, 0),
                Bench::Recover(request) => (bytes * 3, of_sites(request.lost as u64) * rounds * 2, 0),
            }
        };
        let settings = self.bench.settings();
        let mut fleets: Vec<usize> = settings.iter().map(Setting::sites).collect();
        fleets.sort_unstable();
        fleets.dedup();
        let first_of = |sites: &usize| settings.iter().find(|setting| setting.sites() == *sites);
        let once: u64 = fleets.iter().filter_map(first_of).map(of).map(|(fleet, _, floor)| fleet + floor).sum();
        let each: u64 = settings.iter().map(of).map(|(_, measured, _)| measured).sum();
        // Blocks are never quite full, and a file system never quite.
        once.saturating_add(each).saturating_mul(11) / 10
    }
}

fn restore(args: &BenchRestoreArgs, context: &Context) -> Result<RestoreRequest, CliError> {
    let sample = args.sample.map(|sample| sample as usize);
    let source = source(args.take, &args.fleet, &args.common, context)?;
    let settings = settings(if args.take { &[] } else { &args.sites }, &args.sweep);
    Ok(RestoreRequest { source, settings, sample, has_floor: !args.no_floor && !args.take })
}

fn backup(args: &BenchBackupArgs, context: &Context) -> Result<BackupRequest, CliError> {
    let source = source(args.take, &args.fleet, &args.common, context)?;
    Ok(BackupRequest { source, settings: settings(if args.take { &[] } else { &args.sites }, &args.sweep) })
}

fn recover(args: &BenchRecoverArgs) -> Result<RecoverRequest, CliError> {
    if let Some(few) = args.sites.iter().find(|sites| **sites < u64::from(args.lost)) {
        return Err(CliError::usage(format!(
            "more sites are lost than there are: --lost=`{}`, --sites=`{few}`",
            args.lost
        ))
        .with_hint("raise --sites, or lower --lost"));
    }
    Ok(RecoverRequest {
        source: Source::Made(shape(&args.fleet, &args.common)),
        settings: settings(&args.sites, &args.sweep),
        lost: args.lost as usize,
        parallel: args.parallel as usize,
    })
}

fn capture(args: &BenchCaptureArgs) -> Result<CaptureRequest, CliError> {
    if let Some(many) = args.sites.iter().find(|sites| **sites > SITES_MAX) {
        return Err(CliError::usage(format!("more databases than the bench can have open: --sites=`{many}`"))
            .with_hint(format!("ask for at most {SITES_MAX}")));
    }
    let fleet = FleetArgs { bytes: args.bytes, data: DataArg::Sqlite, skew: SkewArg::Equal };
    let settings =
        combine(&[(Dimension::Sites, args.sites.clone()), (Dimension::Transactions, args.transactions.clone())]);
    Ok(CaptureRequest { source: Source::Made(shape(&fleet, &args.common)), settings, seconds: args.seconds })
}

fn source(takes: bool, fleet: &FleetArgs, common: &BenchArgs, context: &Context) -> Result<Source, CliError> {
    match takes {
        true => Ok(Source::Taken(taken::sources(context)?)),
        false => Ok(Source::Made(shape(fleet, common))),
    }
}

fn shape(fleet: &FleetArgs, common: &BenchArgs) -> Shape {
    let data = match fleet.data {
        DataArg::Mix => Data::Mix,
        DataArg::Text => Data::Text,
        DataArg::Random => Data::Random,
        DataArg::Small => Data::Small,
        DataArg::One => Data::One,
        DataArg::Sqlite => Data::Sqlite,
    };
    let skew = match fleet.skew {
        SkewArg::Equal => Skew::Equal,
        SkewArg::Zipf => Skew::Zipf,
    };
    // How many sites is said by each setting.
    Shape { sites: 0, bytes: fleet.bytes, data, skew, seed: common.seed }
}

fn settings(sites: &[u64], sweep: &SweepArgs) -> Vec<Setting> {
    let micros = |delay: &Duration| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
    combine(&[
        (Dimension::Sites, sites.to_vec()),
        (Dimension::Workers, sweep.workers.clone()),
        (Dimension::Requests, sweep.requests.clone()),
        (Dimension::Delay, sweep.delay.iter().map(micros).collect()),
        (Dimension::Rate, sweep.rate.clone()),
    ])
}
