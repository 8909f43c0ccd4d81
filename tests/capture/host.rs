//! `lifeboat` itself, as an operator runs it: a directory with a configuration, a repository, and a capture that goes on.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// A directory with a configuration and a repository.
pub struct Host {
    dir: tempfile::TempDir,
    env: Vec<(String, String)>,
}

impl Host {
    /// `source`: how its sites are kept apart, as the configuration says it.
    pub fn new(url: &str, source: &str) -> Self {
        Self::initialised(url, source, (&["init"], &[]))
    }

    /// With a repository elsewhere, and what its server asks for in the environment.
    pub fn over(url: &str, source: &str, repository: &str, env: &[(&str, &str)]) -> Self {
        Self::initialised(url, source, (&["init", "--repo", repository], env))
    }

    fn initialised(url: &str, source: &str, (init, env): (&[&str], &[(&str, &str)])) -> Self {
        let mut env: Vec<(String, String)> =
            env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        env.push(("APP_URL".into(), url.into()));
        let host = Self { dir: tempfile::tempdir().unwrap(), env };
        let init = host.run(init);
        assert!(init.status.success(), "{init:?}");
        let mut config = std::fs::OpenOptions::new().append(true).open(host.path("lifeboat.toml")).unwrap();
        let sources = format!(
            "\n[sources.app]\nkind = \"postgres\"\nurl = \"env:APP_URL\"\n{source}\n[capture]\nflush = \"1s\"\n\
             flush_bytes = \"64KiB\"\n[policies.all]\nsites = [\"*\"]\ncapture = true\n"
        );
        config.write_all(sources.as_bytes()).unwrap();
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lifeboat"));
        command.args(args).current_dir(self.dir.path()).env_remove("LIFEBOAT_CONFIG").envs(self.env.iter().cloned());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The last line of a command with `--json`, and its exit code.
    pub fn told(&self, args: &[&str]) -> (Value, i32) {
        let output = self.run(&[args, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let last = text.lines().last().unwrap_or_default();
        (serde_json::from_str(last).unwrap_or_else(|_| panic!("{args:?}: {text}")), output.status.code().unwrap_or(-1))
    }

    /// A capture that goes on.
    pub fn start(&self) -> Capture {
        let log = std::fs::File::create(self.path("capture.log")).unwrap();
        let child = self.command(&["capture", "--json"]).stdout(log).stderr(Stdio::null()).spawn().unwrap();
        Capture(child)
    }

    pub fn wait_for(&self, what: &str) {
        self.wait_for_times(what, 1);
    }

    /// Until it has been said so often.
    pub fn wait_for_times(&self, what: &str, times: usize) {
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(self.path("capture.log")).unwrap();
            if text.matches(what).count() >= times {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what} not {times} times: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn is_whole(&self) -> bool {
        let (done, code) = self.told(&["status"]);
        assert!(code == 0 || code == 4, "{done}");
        code == 0
    }
}

pub struct Capture(Child);

impl Capture {
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// By SIGTERM.
    pub fn stop(mut self) -> i32 {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
