//! Other backup programs: where they are found, and how one of them is run.
//!
//! Each has a repository of its own for each site: they would find one site's chunks in another's.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_bench::Outcome;
use lifeboat_bench::process::{Cost, run};

use crate::contender::{At, Contender, Measured};
use crate::place::Place;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Init,
    /// As little as a process can do that opens the repository with the key.
    Start,
    Backup,
    /// The same once more.
    BackupAgain,
    Restore,
}

/// How one program is told what to do.
pub trait Dialect {
    fn name(&self) -> &'static str;

    fn left_out(&self, _place: &Place) -> Option<&'static str> {
        None
    }

    /// What it is run with, said in the report.
    fn note(&self) -> &'static str;

    fn arguments(&self, verb: Verb, at: &At<'_>) -> Vec<OsString>;

    /// Repository, password, and everything else that it would keep in the home directory.
    fn environment(&self, at: &At<'_>) -> Outcome<Vec<(&'static str, OsString)>>;

    /// Whether it works relative to the directory of the site.
    fn is_inside(&self) -> bool {
        false
    }
}

/// An installed program.
pub struct Peer {
    program: PathBuf,
    version: String,
    dialect: Box<dyn Dialect>,
}

impl Peer {
    /// Looks for it in `$LIFEBOAT_PEERS` (else `target/peers`) and on the path; `Err` is its name.
    pub fn find(dialect: Box<dyn Dialect>) -> Result<Self, &'static str> {
        let name = dialect.name();
        let own = std::env::var_os("LIFEBOAT_PEERS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"), PathBuf::from);
        let places = [own.join("bin").join(name), own.join("venv/bin").join(name), PathBuf::from(name)];
        let found = places.into_iter().find_map(|program| Some((version(&program)?, program)));
        found.map(|(version, program)| Self { program, version, dialect }).ok_or(name)
    }

    /// Its version and what it is run with.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.version, self.dialect.note())
    }

    fn run(&self, verb: Verb, at: &At<'_>) -> Outcome<Measured> {
        let (name, live) = (self.dialect.name(), at.live());
        let scratch = at.dir(name)?;
        let mut command = match verb {
            // Made durable within what is measured, as our own restore is.
            Verb::Restore => {
                let mut command = Command::new("sh");
                command.args(["-c", r#""$@" && sync -f "$0""#]).arg(&live).arg(&self.program);
                command
            }
            _ => Command::new(&self.program),
        };
        command.args(self.dialect.arguments(verb, at)).env("HOME", &scratch).envs(self.dialect.environment(at)?);
        command.current_dir(if self.dialect.is_inside() { &live } else { &scratch });
        Ok(Measured { cost: run(&mut command, &scratch)?.0, ..Measured::default() })
    }
}

impl Contender for Peer {
    fn name(&self) -> &'static str {
        self.dialect.name()
    }

    fn left_out(&self, place: &Place) -> Option<&'static str> {
        self.dialect.left_out(place)
    }

    fn prepare(&self, at: &At<'_>) -> Outcome<()> {
        self.run(Verb::Init, at).map(|_| ())
    }

    fn start(&self, at: &At<'_>) -> Outcome<Option<Cost>> {
        self.prepare(at)?;
        Ok(Some(self.run(Verb::Start, at)?.cost))
    }

    fn backup(&self, at: &At<'_>) -> Outcome<Option<Measured>> {
        self.run(Verb::Backup, at).map(Some)
    }

    fn backup_again(&self, at: &At<'_>) -> Outcome<Option<Measured>> {
        self.run(Verb::BackupAgain, at).map(Some)
    }

    /// Into the place it came from.
    fn restore(&self, at: &At<'_>) -> Outcome<Measured> {
        fs::create_dir(at.live())?;
        self.run(Verb::Restore, at)
    }
}

/// `restic 0.19.1`, from `restic 0.19.1 compiled with …`; `None`: it does not run.
fn version(program: &Path) -> Option<String> {
    let said = ["version", "--version"].iter().find_map(|ask| {
        let output = Command::new(program).arg(ask).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    })?;
    Some(said.split(' ').take(2).collect::<Vec<_>>().join(" "))
}
