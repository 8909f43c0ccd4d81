//! What was asked for on the command line.

use std::path::{Path, PathBuf};

use lifeboat_bench::Outcome;
use lifeboat_bench::arguments;
use serde_json::{Value, json};

pub const USAGE: &str = "\
usage: cargo bench --bench night [-- OPTIONS]

  --sites N      sites of the fleet (10,000); catalog operations are compared with a tenth of them
  --changed P    sites that change before a night: 1% is the default
  --chunks N     chunks of the site that is pruned (1,000,000)
  --place PLACE  dir, s3 or both (both): where the repositories of nights and daemon are
  --rounds N     rounds of nights and of catalog operations (3); daemon and prune are measured once
  --only PART    night, daemon, catalog or prune; may be given several times
  --json FILE    where every run goes, instead of benches/results/night.json
  --quick        500 sites and 20,000 chunks, one round: does it work, and where does time go?";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Night,
    Daemon,
    Catalog,
    Prune,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub sites: usize,
    /// Percent of the sites.
    pub changed: f64,
    pub chunks: usize,
    pub rounds: usize,
    /// Nights that the daemon is left to.
    pub nights: usize,
    pub in_directory: bool,
    pub in_s3: bool,
    only: Vec<Part>,
    pub json: PathBuf,
    /// Where all of it lies.
    pub dir: PathBuf,
}

impl Options {
    pub fn read(words: &[String]) -> Outcome<Self> {
        let (is_bench, is_quick) = (words.iter().any(|word| word == "--bench"), words.iter().any(|w| w == "--quick"));
        // sites, chunks, rounds, nights of the daemon
        let (kind, [sites, chunks, rounds, nights]) = match (is_bench, is_quick) {
            (true, false) => ("night", [10_000, 1_000_000, 3, 3]),
            (true, true) => ("night-quick", [500, 20_000, 1, 2]),
            (false, _) => ("night-tiny", [30, 300, 1, 1]),
        };
        let mut options = Self {
            sites,
            changed: 1.0,
            chunks,
            rounds,
            nights,
            in_directory: true,
            in_s3: is_bench,
            only: Vec::new(),
            json: PathBuf::new(),
            dir: arguments::directory().join(kind),
        };
        let (mut is_whole, mut json) = (is_bench && !is_quick, None);
        let mut words = words.iter().map(String::as_str).filter(|word| !["--bench", "--quick"].contains(word));
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{option} wants a value\n\n{USAGE}"));
            is_whole &= matches!(option, "--only" | "--json" | "--rounds");
            match option {
                "--sites" => options.sites = number(value()?)?,
                "--changed" => options.changed = percent(value()?)?,
                "--chunks" => options.chunks = number(value()?)?,
                "--rounds" => options.rounds = number(value()?)?,
                "--place" => (options.in_directory, options.in_s3) = places(value()?)?,
                "--only" => options.only.push(part(value()?)?),
                "--json" => json = Some(PathBuf::from(value()?)),
                "--help" => return Err(USAGE.into()),
                other => return Err(format!("no such option: {other}\n\n{USAGE}").into()),
            }
        }
        if options.sites < 10 || options.chunks < 10 {
            return Err("fewer than 10 sites or chunks are nothing to measure".into());
        }
        // A part, or another size, does not replace the whole.
        let only: String = options.only.iter().map(|part| format!("-{part:?}").to_lowercase()).collect();
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        let results = if is_whole { results.join("night") } else { options.dir.clone() };
        options.json = json.unwrap_or(PathBuf::from(format!("{}{only}.json", results.display())));
        Ok(options)
    }

    pub fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The fleet that the large one is compared with.
    pub fn few(&self) -> usize {
        self.sites.div_ceil(10)
    }

    pub fn json(&self) -> Value {
        let Self { sites, changed, chunks, rounds, nights, .. } = self;
        json!({ "sites": sites, "few_sites": self.few(), "changed_percent": changed, "chunks": chunks,
                "rounds": rounds, "nights_of_the_daemon": nights })
    }
}

/// `10000`, or as people write it: `10,000`.
fn number(text: &str) -> Outcome<usize> {
    match text.replace([',', '_'], "").parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("not a number above 0: {text}\n\n{USAGE}").into()),
    }
}

fn percent(text: &str) -> Outcome<f64> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    number
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .ok_or_else(|| format!("a share is written 1%: {text}\n\n{USAGE}").into())
}

fn places(name: &str) -> Outcome<(bool, bool)> {
    match name {
        "dir" => Ok((true, false)),
        "s3" => Ok((false, true)),
        "both" => Ok((true, true)),
        other => Err(format!("no such place: {other}\n\n{USAGE}").into()),
    }
}

fn part(name: &str) -> Outcome<Part> {
    match name {
        "night" => Ok(Part::Night),
        "daemon" => Ok(Part::Daemon),
        "catalog" => Ok(Part::Catalog),
        "prune" => Ok(Part::Prune),
        other => Err(format!("no such part: {other}\n\n{USAGE}").into()),
    }
}
