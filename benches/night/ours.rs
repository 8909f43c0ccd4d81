//! Lifeboat, as a person or a timer runs it, with a repository in a directory or in SeaweedFS on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_bench::process::{Cost, run};
use lifeboat_bench::{Outcome, quoted};
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
use serde_json::Value;

const BUCKET: &str = "night";

/// Where repositories are.
pub enum Place {
    Directory,
    S3(S3Server),
}

impl Place {
    pub fn server() -> Outcome<Self> {
        let server = S3Server::start()?;
        server.create_bucket(BUCKET)?;
        Ok(Self::S3(server))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::S3(_) => "S3",
        }
    }
}

/// A configuration with a repository of its own.
pub struct Lifeboat {
    dir: PathBuf,
}

/// What a command took and said.
pub struct Said {
    pub cost: Cost,
    text: String,
}

impl Said {
    /// The last line, which sums up.
    pub fn done(&self) -> Outcome<Value> {
        Ok(serde_json::from_str(self.text.lines().last().unwrap_or_default())?)
    }

    /// A number of the last line.
    pub fn number(&self, key: &str) -> Outcome<usize> {
        let done = self.done()?;
        let number = done[key].as_u64().ok_or_else(|| format!("no `{key}` was said: {done}"))?;
        Ok(number as usize)
    }

    /// How many lines of this event are so. One line at a time: what this process holds would count as the next one's memory.
    pub fn count(&self, event: &str, is_so: impl Fn(&Value) -> bool) -> Outcome<usize> {
        let mut count = 0;
        for line in self.text.lines() {
            let line: Value = serde_json::from_str(line)?;
            count += usize::from(line["event"] == event && is_so(&line));
        }
        Ok(count)
    }

    /// Fails unless the last line has this number.
    pub fn expect(&self, what: &str, key: &str, wanted: usize) -> Outcome<()> {
        match self.number(key)? {
            number if number == wanted => Ok(()),
            number => Err(format!("{what}: {key}=`{number}`, expected=`{wanted}`").into()),
        }
    }
}

impl Lifeboat {
    /// A new repository under a name that nobody else has, for a source, with more sections behind it.
    pub fn init(at: (&Place, &Path), name: &str, sections: &str) -> Outcome<Self> {
        let (place, dir) = (at.0, at.1.join(name));
        fs::create_dir_all(&dir)?;
        let url = match place {
            Place::Directory => format!("file://{}", dir.join("repository").display()),
            Place::S3(server) => server.url(&format!("{BUCKET}/{name}")),
        };
        let config = format!("[repository]\nurl = {}\nkey = \"file:lifeboat.key\"\n\n{sections}", quoted(&url));
        fs::write(dir.join("lifeboat.toml"), config)?;
        let lifeboat = Self { dir };
        lifeboat.run(&["init"])?;
        Ok(lifeboat)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.current_dir(&self.dir).arg("--json").args(arguments).env_remove("LIFEBOAT_CONFIG");
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command
    }

    /// Fails unless it ends with 0.
    pub fn run(&self, arguments: &[&str]) -> Outcome<Said> {
        let (cost, text) = run(&mut self.command(arguments), &self.dir)?;
        Ok(Said { cost, text })
    }

    /// One backup of the whole fleet, of which so many sites have something new.
    pub fn night(&self, sites: usize, published: usize) -> Outcome<Said> {
        let said = self.run(&["backup", "--all"])?;
        said.expect("a night", "published", published)?;
        said.expect("a night", "unchanged", sites - published)?;
        Ok(said)
    }

    /// Fails unless each site of the fleet is listed with a point that can be restored.
    pub fn expect_all(&self, sites: usize) -> Outcome<Said> {
        let said = self.run(&["sites"])?;
        let found = said.count("site", |site| site["snapshot_id"].is_string() && site["within_rpo"] == true)?;
        match found == sites {
            true => Ok(said),
            false => Err(format!("sites are missing: with a point=`{found}`, expected=`{sites}`").into()),
        }
    }
}
