//! The operator's own commands around a cut or a switch: argv as written, never a shell.

use std::time::Duration;

use lifeboat_model::SiteId;

use crate::Error;
use crate::command::{self, CommandFailure};

/// Commands that stop and resume writes to one site. `{site}` in an argument stands for the site id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    pub freeze: Vec<String>,
    pub thaw: Vec<String>,
    /// How long a command may take.
    pub timeout: Option<Duration>,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A frozen site: thawed by [`Frozen::thaw`], or when it is dropped on any way out.
pub struct Frozen<'a> {
    hooks: &'a Hooks,
    site: SiteId,
    thawed: bool,
}

impl Hooks {
    pub fn can_freeze(&self) -> bool {
        !self.freeze.is_empty()
    }

    /// Stops writes to the site. A freeze that fails or times out is followed by a thaw, because it
    /// may have half happened.
    pub(crate) fn freeze(&self, site: &SiteId) -> Result<Frozen<'_>, Error> {
        let frozen = Frozen { hooks: self, site: site.clone(), thawed: false };
        run("freeze", &self.freeze, site, self.timeout)?;
        Ok(frozen)
    }
}

impl Frozen<'_> {
    /// Leaves the site frozen, for what comes next to thaw.
    pub(crate) fn stay(mut self) {
        self.thawed = true;
    }

    pub(crate) fn thaw(mut self) -> Result<(), Error> {
        self.thawed = true;
        run("thaw", &self.hooks.thaw, &self.site, self.hooks.timeout)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if !self.thawed
            && let Err(error) = run("thaw", &self.hooks.thaw, &self.site, self.hooks.timeout)
        {
            tracing::error!(site = %self.site, %error, "the site could not be thawed");
        }
    }
}

fn run(hook: &'static str, argv: &[String], site: &SiteId, timeout: Option<Duration>) -> Result<(), Error> {
    match command::run(argv, site, timeout.unwrap_or(DEFAULT_TIMEOUT), &|| false) {
        Ok(_) => Ok(()),
        Err(CommandFailure::Failed(detail)) => Err(Error::Hook { hook, detail }),
        Err(CommandFailure::Stopped) => Err(Error::Cancelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(freeze: &[&str], thaw: &[&str]) -> Hooks {
        let argv = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Hooks { freeze: argv(freeze), thaw: argv(thaw), timeout: Some(Duration::from_millis(300)) }
    }

    fn site() -> SiteId {
        SiteId::new("a $(b) c").unwrap()
    }

    #[test]
    fn the_site_is_one_argument_and_no_shell_sees_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("{site}");
        let hooks = hooks(&["touch", path.to_str().unwrap()], &["true"]);
        hooks.freeze(&site()).unwrap().thaw().unwrap();
        assert!(dir.path().join("a $(b) c").exists());
    }

    #[test]
    fn a_failing_or_endless_command_is_named_and_the_site_is_thawed() {
        let dir = tempfile::tempdir().unwrap();
        let thawed = dir.path().join("thawed");
        let thaw = ["touch", thawed.to_str().unwrap()];
        for (freeze, want) in
            [(&["false"][..], "exit status"), (&["sleep", "9"][..], "longer"), (&["/no/such"][..], "started")]
        {
            let error = hooks(freeze, &thaw).freeze(&site()).err().unwrap().to_string();
            assert!(error.contains(want), "{error}");
            assert!(std::fs::remove_file(&thawed).is_ok(), "{freeze:?} was not followed by a thaw");
        }
    }
}
