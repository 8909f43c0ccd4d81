//! What the operator wants done and asked around the restore of one site: commands before and after, and checks.
//!
//! ```text
//! before ─ all did their work ─▶ restore ─▶ after, one by one, until one fails ─▶ every check ─▶ the receipt
//!    └── one did not: the case has failed, and nothing was written
//! ```
//!
//! All of it may be done again, for a case may: what is done twice must be as good as once. Nothing of the site's name is
//! ever part of a program's text: it is one argument, one parameter, one segment of an address.
//!
//! Invariant (before-or-nothing): a case whose `before` does not do its work writes nothing.
//!
//! What is not here: the site's being frozen during the switch (`hooks`), who runs cases (`lifeboat-control`).

mod http;
mod sql;

use std::time::Duration;

use lifeboat_model::{Check, SiteId, SourceName};

use crate::command::{self, CommandFailure, Stop};
use crate::{Engine, Error};

/// What is the operator's own around the restore of one site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// Programs and their arguments, in order; `{site}` stands for the site id.
    pub before: Vec<Vec<String>>,
    pub after: Vec<Vec<String>>,
    /// How long each command may take.
    pub timeout: Duration,
    pub checks: Vec<OwnCheck>,
}

/// A check of the operator's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnCheck {
    pub name: String,
    pub ask: Ask,
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// A statement that gives true, or this number. `$1` is the site id.
    Sql { source: SourceName, sql: String, expect: Option<i64> },
    /// A program that ends with 0; `{site}` stands for the site id.
    Command(Vec<String>),
    /// A page that answers with this status, and with a text somewhere in it; `{site}` stands for the site id, encoded.
    Http { url: String, status: u16, contains: Option<String> },
}

/// Whether a check passed, and how or why not.
type Verdict = Result<String, NotPassed>;

enum NotPassed {
    Because(String),
    Stopped,
}

impl From<CommandFailure> for NotPassed {
    fn from(failure: CommandFailure) -> Self {
        match failure {
            CommandFailure::Failed(why) => Self::Because(why),
            CommandFailure::Stopped => Self::Stopped,
        }
    }
}

impl Default for Around {
    /// Nothing.
    fn default() -> Self {
        Self { before: Vec::new(), after: Vec::new(), timeout: Duration::from_secs(60), checks: Vec::new() }
    }
}

impl Around {
    /// Runs what comes before the restore; each leaves a passed check.
    ///
    /// # Errors
    /// The first that does not do its work, and [`Error::Cancelled`] when told to stop.
    pub fn before(&self, site: &SiteId, stop: &dyn Fn() -> bool) -> Result<Vec<Check>, Error> {
        let run = |argv: &Vec<String>| match command::run(argv, site, self.timeout, stop) {
            Ok(took) => Ok(passed(named("before", argv), took_for(took))),
            Err(CommandFailure::Failed(detail)) => Err(Error::Hook { hook: "before", detail }),
            Err(CommandFailure::Stopped) => Err(Error::Cancelled),
        };
        self.before.iter().map(run).collect()
    }

    /// Runs what comes after the restore, and then every check. Blocks, and must not be called on a thread of `runtime`.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when told to stop. What fails is a failed check: the site is back nevertheless.
    pub fn prove(
        &self,
        engine: &Engine,
        runtime: &tokio::runtime::Handle,
        site: &SiteId,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<Check>, Error> {
        let mut checks = self.after(site, stop)?;
        for own in &self.checks {
            let verdict = match &own.ask {
                Ask::Sql { source, sql, expect } => {
                    sql::ask(engine, site, source, &sql::Sql { sql, expect: *expect, timeout: own.timeout }, stop)
                }
                Ask::Command(argv) => {
                    command::run(argv, site, own.timeout, stop).map(took_for).map_err(NotPassed::from)
                }
                Ask::Http { url, status, contains } => {
                    let page = http::Page { url, status: *status, contains: contains.as_deref() };
                    runtime.block_on(http::ask(&page, site, own.timeout, stop))
                }
            };
            checks.push(check(format!("check: {}", own.name), verdict)?);
        }
        Ok(checks)
    }

    /// What the checks of its commands are called in a receipt, in their order: of those before, and of those after.
    pub fn names(&self) -> [Vec<String>; 2] {
        [("before", &self.before), ("after", &self.after)]
            .map(|(when, commands)| commands.iter().map(|argv| named(when, argv)).collect())
    }

    /// They build on each other: what follows one that failed is not run.
    fn after(&self, site: &SiteId, stop: Stop<'_>) -> Result<Vec<Check>, Error> {
        let mut checks: Vec<Check> = Vec::new();
        for argv in &self.after {
            let verdict = match checks.last().filter(|last| !last.passed) {
                Some(_) => Err(NotPassed::Because(NOT_RUN.to_owned())),
                None => command::run(argv, site, self.timeout, stop).map(took_for).map_err(NotPassed::from),
            };
            checks.push(check(named("after", argv), verdict)?);
        }
        Ok(checks)
    }
}

const NAME_CHARS_MAX: usize = 60;
const NOT_RUN: &str = "not run: the command before it failed";

fn check(name: String, verdict: Verdict) -> Result<Check, Error> {
    match verdict {
        Ok(detail) => Ok(passed(name, detail)),
        Err(NotPassed::Because(detail)) => Ok(Check { name, passed: false, detail }),
        Err(NotPassed::Stopped) => Err(Error::Cancelled),
    }
}

fn passed(name: String, detail: String) -> Check {
    Check { name, passed: true, detail }
}

/// What a check of a command is called: the words that are the same for every site, as far as they tell it from others.
fn named(when: &str, argv: &[String]) -> String {
    let words = argv.iter().filter(|word| !word.contains(command::SITE)).map(String::as_str);
    let words = command::one_line(&words.collect::<Vec<_>>().join(" "));
    let name: String = words.chars().take(NAME_CHARS_MAX).collect();
    format!("{when}: {name}")
}

fn took_for(took: Duration) -> String {
    format!("it took {:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests;
