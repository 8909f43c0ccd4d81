//! What was asked for on the command line, and the legs that come of it.

use std::path::PathBuf;
use std::time::Duration;

use lifeboat_bench::Outcome;

use crate::data::{Site, Size};
use crate::place::Distance;

const ROUNDS: usize = 5;
const ROUNDS_QUICK: usize = 2;

pub const USAGE: &str = "\
usage: cargo bench --bench peers [-- OPTIONS]

  --rounds N     so many rounds (5; 2 with --quick)
  --only TASK    backup, unchanged, restore or large; may be given several times
  --s3           repositories in SeaweedFS on loopback, not in a directory
  --delay TIME   with --s3: so far away, as a round trip: 50ms
  --rate BYTES   with --s3: so much a second on each connection: 85MB
  --quick        little data: shows that everything works, measures nothing
  --full         the large objects are 10 GB, not 2 GB
  --without NAME leaves a program out";

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Backup,
    Unchanged,
    Restore,
    Large,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub size: Size,
    pub rounds: usize,
    pub is_s3: bool,
    pub distance: Option<Distance>,
    only: Vec<Group>,
    pub without: Vec<String>,
    /// Where the data lies.
    pub data: PathBuf,
}

/// What is measured on one site, in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    pub site: Site,
    pub first: bool,
    pub unchanged: bool,
    pub restore: bool,
    /// Ours and the floors, not the other programs.
    pub ours_alone: bool,
}

impl Options {
    pub fn read(arguments: &[String]) -> Outcome<Self> {
        let is_bench = arguments.iter().any(|argument| argument == "--bench");
        let data = lifeboat_bench::arguments::directory();
        let size = if is_bench { Size::Normal } else { Size::Test };
        let mut options =
            Self { size, rounds: 0, is_s3: false, distance: None, only: Vec::new(), without: Vec::new(), data };
        let mut arguments = arguments.iter().map(String::as_str).filter(|argument| *argument != "--bench");
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{option} wants a value\n\n{USAGE}"));
            match option {
                "--rounds" => options.rounds = value()?.parse()?,
                "--only" => options.only.push(group(value()?)?),
                "--s3" => options.is_s3 = true,
                "--delay" => options.distance().round_trip = time(value()?)?,
                "--rate" => options.distance().bytes_per_second = Some(bytes(value()?)?),
                "--quick" => options.size = if is_bench { Size::Quick } else { Size::Test },
                "--full" => options.size = Size::Full,
                "--without" => options.without.push(value()?.to_owned()),
                "--help" => return Err(USAGE.into()),
                other => return Err(format!("no such option: {other}\n\n{USAGE}").into()),
            }
        }
        if options.distance.is_some() && !options.is_s3 {
            return Err("--delay and --rate are of a server: they want --s3".into());
        }
        if options.rounds == 0 {
            options.rounds = match options.size {
                Size::Test => 1,
                Size::Quick => ROUNDS_QUICK,
                Size::Normal | Size::Full => ROUNDS,
            };
        }
        options.data = options.data.join(format!("peers-{}", options.size.name()));
        Ok(options)
    }

    fn distance(&mut self) -> &mut Distance {
        self.distance.get_or_insert(Distance { round_trip: Duration::ZERO, bytes_per_second: None })
    }

    /// A test shows only that the bench works.
    pub fn has_peers(&self) -> bool {
        self.size != Size::Test
    }

    /// Whether numbers are worth keeping.
    pub fn is_measured(&self) -> bool {
        matches!(self.size, Size::Normal | Size::Full)
    }

    /// The file of the results: a part of the tasks does not replace those of all.
    pub fn file_name(&self) -> String {
        let only = |group: &Group| format!("-{group:?}").to_lowercase();
        format!("peers-{}{}.json", self.place(), self.only.iter().map(only).collect::<String>())
    }

    /// `directory`, `s3` or `far`.
    pub fn place(&self) -> &'static str {
        match (self.is_s3, self.distance) {
            (false, _) => "directory",
            (true, None) => "s3",
            (true, Some(_)) => "far",
        }
    }

    /// The legs of each round.
    pub fn legs(&self) -> Vec<Leg> {
        let has = |group: Group| self.only.is_empty() || self.only.contains(&group);
        let (backup, restore, large) = (has(Group::Backup), has(Group::Restore), has(Group::Large));
        let leg = |site, first, restore, ours_alone| Leg { site, first, unchanged: false, restore, ours_alone };
        let far = restore && self.distance.is_some();
        let legs = [
            leg(Site::Mix, backup, restore, false),
            leg(Site::Text, backup, false, false),
            Leg { unchanged: has(Group::Unchanged), ..leg(Site::Small, backup, false, false) },
            leg(Site::One, large, large, true),
            leg(Site::Many, large, large, true),
            leg(Site::Five, false, far, false),
        ];
        legs.into_iter().filter(|leg| leg.first || leg.unchanged || leg.restore).collect()
    }
}

fn group(name: &str) -> Outcome<Group> {
    Ok(match name {
        "backup" => Group::Backup,
        "unchanged" => Group::Unchanged,
        "restore" => Group::Restore,
        "large" => Group::Large,
        "postgres" => {
            return Err("a tenant of a PostgreSQL is measured by `cargo bench --bench pooled_tenant`".into());
        }
        other => return Err(format!("no such task: {other}\n\n{USAGE}").into()),
    })
}

fn time(text: &str) -> Outcome<Duration> {
    let number = text.strip_suffix("ms").ok_or_else(|| format!("a time is written 50ms: {text}"))?;
    Ok(Duration::from_millis(number.parse()?))
}

fn bytes(text: &str) -> Outcome<u64> {
    let number = text.strip_suffix("MB").ok_or_else(|| format!("a rate is written 85MB: {text}"))?;
    Ok(number.parse::<u64>()? * 1_000_000)
}
