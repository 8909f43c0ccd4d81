//! The program under measurement: a configuration of its own, a command as a process, what it says as JSON.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use lifeboat_model::Fault;
use serde_json::Value;

use crate::process::{Cost, to_the_end};
use crate::setting::{Dimension, Setting};
use crate::{Error, at};

/// What a `lifeboat.toml` of a bench says.
#[derive(Debug, Clone)]
pub(crate) struct Config<'a> {
    pub url: &'a str,
    /// The file of the key, made by `init`.
    pub key: &'a Path,
    pub catalog: &'a Path,
    /// Sections `[sources.…]`.
    pub sources: &'a str,
    /// What of it is a limit of the program goes into `[limits]`.
    pub setting: &'a Setting,
}

impl Config<'_> {
    /// Writes it into a directory, and names the file.
    pub fn write(&self, dir: &Path) -> Result<PathBuf, Error> {
        fs::create_dir_all(dir).map_err(at(dir))?;
        let path = dir.join("lifeboat.toml");
        let Self { url, key, catalog, sources, setting } = self;
        let key = quoted(&format!("file:{}", key.display()));
        let catalog = quoted(&catalog.display().to_string());
        let text = format!(
            "[repository]\nurl = {}\nkey = {key}\ncatalog = {catalog}\n\n{}{sources}",
            quoted(url),
            limits(setting)
        );
        fs::write(&path, text).map_err(at(&path))?;
        Ok(path)
    }
}

/// The section of what is swept; what is not named stays as the program has it.
fn limits(setting: &Setting) -> String {
    let keys = [("workers", Dimension::Workers), ("requests", Dimension::Requests)];
    let lines = keys.into_iter().filter_map(|(key, dimension)| Some(format!("{key} = {}\n", setting.get(dimension)?)));
    match lines.collect::<String>() {
        lines if lines.is_empty() => lines,
        lines => format!("[limits]\n{lines}\n"),
    }
}

/// A string of TOML: it and one of JSON agree on everything that an address or a path can hold.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// One configured program.
#[derive(Debug, Clone)]
pub(crate) struct Program<'a> {
    pub file: &'a Path,
    pub config: PathBuf,
    /// Where its streams are kept; one process at a time.
    pub scratch: PathBuf,
    pub stop: &'a AtomicBool,
}

/// What a command took and said.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub cost: Cost,
    pub lines: Vec<Value>,
}

impl Answer {
    /// A number of the last line.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.lines.last()?.get(key)?.as_u64()
    }

    pub fn events<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["event"] == name)
    }
}

impl Program<'_> {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.file);
        command.arg("--config").arg(&self.config).arg("--json").args(arguments).env_remove("LIFEBOAT_CONFIG");
        command
    }

    /// Runs a command alone: what others left to be written is written before.
    pub fn run(&self, arguments: &[&str]) -> Result<Answer, Error> {
        rustix::fs::sync();
        self.run_among_others(arguments)
    }

    /// Runs a command to its end; one that fails is an error in the words that it used itself.
    pub fn run_among_others(&self, arguments: &[&str]) -> Result<Answer, Error> {
        let (said, complained) = (self.scratch.join("stdout"), self.scratch.join("stderr"));
        fs::create_dir_all(&self.scratch).map_err(at(&self.scratch))?;
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        command.stdout(File::create(&said).map_err(at(&said))?);
        command.stderr(File::create(&complained).map_err(at(&complained))?);
        let (cost, status) = to_the_end(&mut command, self.stop).map_err(at(self.file))?;
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let lines = read_lines(&said)?;
        match status.success() {
            true => Ok(Answer { cost, lines }),
            false => Err(failure(arguments, &lines, status.code())),
        }
    }
}

/// The lines that are JSON.
pub(crate) fn read_lines(path: &Path) -> Result<Vec<Value>, Error> {
    let text = fs::read_to_string(path).map_err(at(path))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The program's own message and hint, and what its exit code asks for.
pub(crate) fn failure(arguments: &[&str], lines: &[Value], code: Option<i32>) -> Error {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let last = lines.last().cloned().unwrap_or_default();
    let first_failed = last.get("failed").and_then(|failed| failed.get(0)).cloned().unwrap_or_default();
    let said = [last, first_failed].into_iter().find(|value| value.get("message").is_some()).unwrap_or_default();
    let why = code.map_or_else(|| "it was killed".to_owned(), |code| format!("it ended with exit code {code}"));
    Error::Program {
        command: arguments
            .iter()
            .copied()
            .take_while(|argument| !argument.starts_with('-'))
            .collect::<Vec<_>>()
            .join(" "),
        message: text(&said, "message").unwrap_or(why),
        hint: text(&said, "hint"),
        fault: fault(code),
    }
}

/// What an exit code says that the caller must do.
fn fault(code: Option<i32>) -> Fault {
    let all = [Fault::Usage, Fault::Retry, Fault::Operator, Fault::Fenced, Fault::Damage, Fault::Cancelled];
    // Partly done, or killed: a person must look.
    let operator = if code == Some(1) { Fault::Bug } else { Fault::Operator };
    all.into_iter().find(|fault| Some(i32::from(fault.exit_code())) == code).unwrap_or(operator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program<'a>(file: &'a Path, dir: &Path, stop: &'a AtomicBool) -> Program<'a> {
        Program { file, config: dir.join("lifeboat.toml"), scratch: dir.join("scratch"), stop }
    }

    /// A program that says what is told to it.
    fn fake(dir: &Path, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = dir.join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_program_that_fails_is_told_in_its_own_words() {
        let check = |script: &str, want: &str, hint: Option<&str>, fault: Fault| {
            let dir = tempfile::tempdir().unwrap();
            let (file, stop) = (fake(dir.path(), script), AtomicBool::new(false));
            let error = program(&file, dir.path(), &stop).run_among_others(&["restore", "acme", "--yes"]).unwrap_err();
            use lifeboat_model::Faulty;
            assert_eq!((error.to_string().as_str(), error.hint().as_deref(), error.fault()), (want, hint, fault));
        };
        let said = r#"{"event":"error","message":"no server: url=`x`","hint":"start it","exit_code":11}"#;
        check(
            &format!("echo '{said}'; exit 11"),
            "`lifeboat restore acme` failed: no server: url=`x`",
            Some("start it"),
            Fault::Retry,
        );
        let said = r#"{"event":"done","failed":[{"message":"it is damaged","exit_code":20}]}"#;
        check(&format!("echo '{said}'; exit 20"), "`lifeboat restore acme` failed: it is damaged", None, Fault::Damage);
        check("exit 3", "`lifeboat restore acme` failed: it ended with exit code 3", None, Fault::Operator);
        check("kill -9 $$", "`lifeboat restore acme` failed: it was killed", None, Fault::Operator);
    }

    #[test]
    fn a_program_is_asked_to_end_when_the_bench_is() {
        let dir = tempfile::tempdir().unwrap();
        let (file, stop) = (fake(dir.path(), "exec sleep 600"), AtomicBool::new(true));
        let ended = program(&file, dir.path(), &stop).run_among_others(&[]);
        assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
    }

    #[test]
    fn limits_are_written_only_where_they_are_asked_for() {
        let check = |values: &[(Dimension, u64)], want: &str| {
            assert_eq!(limits(&Setting::of(values.iter().copied())), want);
        };
        check(&[(Dimension::Sites, 3)], "");
        check(&[(Dimension::Workers, 2)], "[limits]\nworkers = 2\n\n");
        check(&[(Dimension::Workers, 2), (Dimension::Requests, 16)], "[limits]\nworkers = 2\nrequests = 16\n\n");
        assert_eq!(quoted("/a \"b\\c\""), r#""/a \"b\\c\"""#);
    }
}
