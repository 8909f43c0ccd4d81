//! The operator's own commands around a cut or a switch: argv as written, never a shell.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lifeboat_model::SiteId;

use crate::Error;

/// Commands that stop and resume writes to one site. `{site}` in an argument stands for the site id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    pub freeze: Vec<String>,
    pub thaw: Vec<String>,
    /// How long a command may take.
    pub timeout: Option<Duration>,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// What a failing command said is shown up to this length.
const STDERR_BYTES_MAX: u64 = 4096;

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
    let Some((program, arguments)) = argv.split_first() else { return Ok(()) };
    let fill = |text: &String| text.replace("{site}", site.as_str());
    let failed = |detail: String| Error::Hook { hook, detail: format!("command=`{program}`, site=`{site}`, {detail}") };
    let mut child = Command::new(fill(program))
        .args(arguments.iter().map(fill))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|io| failed(format!("it could not be started: {io}")))?;
    // Read in a thread of its own: a command that fills the pipe would otherwise never end.
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.by_ref().take(STDERR_BYTES_MAX).read_to_end(&mut text);
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    });
    let deadline = Instant::now() + timeout.unwrap_or(DEFAULT_TIMEOUT);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("it took longer than {} s", timeout.unwrap_or(DEFAULT_TIMEOUT).as_secs())));
            }
            Err(io) => return Err(failed(io.to_string())),
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = reader.join().unwrap_or_default();
    Err(failed(format!("{status}{}{said}", if said.is_empty() { "" } else { ", it said: " })))
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
