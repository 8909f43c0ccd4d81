//! What the program says: data on stdout, talk on stderr, or one JSON object a line.
//!
//! Every verb speaks through [`Output`], and `run` ends with exactly one of [`Output::done`] and
//! [`Output::error`]. A reader that went away (`| head`) is no error: the work goes on, unheard.
//! Any other failure to write data is told, because a result that nobody got is no result.

mod human;
mod table;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::MultiProgress;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{CliError, exit};

pub use human::{ago, and_more, bytes, count, duration, plural, rate, share};
pub use table::{Align, Table};

/// Where a process reads and writes, and which of it is a terminal.
pub struct Streams {
    pub stdin: Box<dyn io::BufRead + Send>,
    pub stdout: Box<dyn Write + Send>,
    pub stderr: Box<dyn Write + Send>,
    pub stdin_is_terminal: bool,
    pub stderr_is_terminal: bool,
}

impl Streams {
    /// The process's own.
    pub fn of_process() -> Self {
        use io::IsTerminal;
        Self {
            stdin_is_terminal: io::stdin().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
            stdin: Box::new(io::BufReader::new(io::stdin())),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        }
    }
}

/// How the program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Manner {
    pub json: bool,
    pub quiet: bool,
    /// Nobody watches: what would be said to a person is a line of the log.
    pub logs: bool,
}

/// The one way to say something; cheap to clone.
#[derive(Clone)]
pub struct Output {
    inner: Arc<Inner>,
}

struct Inner {
    manner: Manner,
    stdin: Mutex<Box<dyn io::BufRead + Send>>,
    stdout: Mutex<Stdout>,
    stderr: Mutex<Box<dyn Write + Send>>,
    stdin_is_terminal: bool,
    stderr_is_terminal: bool,
    /// Somebody is being asked: nothing is under way that would have to be stopped.
    is_asking: AtomicBool,
    /// Bars live below everything that is printed: printing hides them for a moment.
    bars: MultiProgress,
}

struct Stdout {
    stream: Box<dyn Write + Send>,
    /// Why nothing more can be written.
    failure: Option<io::ErrorKind>,
}

/// How a verb ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub exit_code: u8,
    pub failed: Vec<Failed>,
    /// People were told of the failures already, in a form of the verb's own.
    pub is_told: bool,
    /// What the `done` line carries besides.
    pub fields: Map<String, Value>,
}

/// One thing of several that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub exit_code: u8,
}

impl Outcome {
    pub fn ok() -> Self {
        Self::default()
    }

    pub fn with(mut self, key: &str, value: impl Serialize) -> Self {
        self.fields.insert(key.to_owned(), json(&value));
        self
    }
}

impl Failed {
    pub fn of_site(site: impl ToString, error: &CliError) -> Self {
        Self {
            site: Some(site.to_string()),
            message: error.message.clone(),
            hint: error.hint.clone(),
            exit_code: error.exit_code(),
        }
    }
}

/// A value as JSON; what cannot be (it never happens with our own types) is null.
pub fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

impl Output {
    pub fn new(streams: Streams, manner: Manner) -> Self {
        let Streams { stdin, stdout, stderr, stdin_is_terminal, stderr_is_terminal } = streams;
        let bars = MultiProgress::new();
        if !stderr_is_terminal || manner.quiet || manner.json || manner.logs {
            bars.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        }
        Self {
            inner: Arc::new(Inner {
                is_asking: AtomicBool::new(false),
                manner,
                stdin: Mutex::new(stdin),
                stdout: Mutex::new(Stdout { stream: stdout, failure: None }),
                stderr: Mutex::new(stderr),
                stdin_is_terminal,
                stderr_is_terminal,
                bars,
            }),
        }
    }

    pub fn is_json(&self) -> bool {
        self.inner.manner.json
    }

    /// Whether errors are told in words: a log has them beside the objects, too.
    fn is_talking(&self) -> bool {
        self.inner.manner.logs || !self.is_json()
    }

    /// Whether a person can be asked.
    pub fn is_interactive(&self) -> bool {
        self.inner.stdin_is_terminal && self.inner.stderr_is_terminal && !self.inner.manner.json
    }

    /// Whether lines become those of a log, where a table helps nobody.
    pub fn is_log(&self) -> bool {
        self.inner.manner.logs
    }

    pub fn bars(&self) -> &MultiProgress {
        &self.inner.bars
    }

    /// A line of the result, for people.
    pub fn line(&self, text: impl AsRef<str>) {
        if self.inner.manner.logs {
            tracing::info!("{}", text.as_ref());
        } else if !self.is_json() {
            self.write_stdout(format!("{}\n", text.as_ref()).as_bytes());
        }
    }

    /// An object of the result, for programs: `{"event": name, …body}`; `name` is plain letters.
    pub fn event(&self, name: &str, body: impl Serialize) {
        if self.is_json() {
            // Written by hand, so that `event` comes first and the fields keep their order.
            let fields = serde_json::to_string(&body).unwrap_or_default();
            let fields = fields.strip_prefix('{').filter(|rest| *rest != "}").map(|rest| format!(",{rest}"));
            let line = format!("{{\"event\":\"{name}\"{}\n", fields.as_deref().unwrap_or("}"));
            self.write_stdout(line.as_bytes());
        }
    }

    /// Whether a bar would be seen.
    pub fn shows_bars(&self) -> bool {
        let Manner { json, quiet, logs } = self.inner.manner;
        self.inner.stderr_is_terminal && !quiet && !json && !logs
    }

    /// Bytes of the result as they are. False when nobody reads any more.
    pub fn raw(&self, bytes: &[u8]) -> bool {
        self.write_stdout(bytes);
        self.stdout().failure.is_none()
    }

    /// Whether the reader of stdout went away.
    pub fn is_stdout_gone(&self) -> bool {
        self.stdout().failure.is_some()
    }

    /// Talk: what is going on.
    pub fn say(&self, text: impl AsRef<str>) {
        if self.inner.manner.logs {
            tracing::info!("{}", text.as_ref());
        } else if !self.inner.manner.quiet && !self.is_json() {
            self.write_stderr(&format!("{}\n", text.as_ref()));
        }
    }

    /// Something to be known that stops nothing.
    pub fn warn(&self, message: &str, hint: Option<&str>) {
        #[derive(Serialize)]
        struct Warning<'a> {
            message: &'a str,
            hint: Option<&'a str>,
        }
        self.event("warning", Warning { message, hint });
        if self.inner.manner.logs {
            tracing::warn!(hint, "{message}");
        } else if !self.is_json() {
            let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            self.write_stderr(&format!("warning: {message}\n{hint}"));
        }
    }

    /// Asks on the terminal; the answer without the end of its line, `None` at the end of input.
    pub fn ask(&self, question: &str) -> Option<String> {
        self.write_stderr(question);
        let mut answer = String::new();
        self.inner.is_asking.store(true, Ordering::Relaxed);
        let mut stdin = self.inner.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        let read = stdin.read_line(&mut answer);
        self.inner.is_asking.store(false, Ordering::Relaxed);
        match read {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(answer.trim_end_matches(['\r', '\n']).to_owned()),
        }
    }

    /// Whether a question waits for its answer. Then nothing has been done yet: what is asked comes first.
    pub fn is_asking(&self) -> bool {
        self.inner.is_asking.load(Ordering::Relaxed)
    }

    /// Leaves a question without an answer, and the terminal as it was.
    pub fn leave_question(&self) {
        if self.is_interactive() {
            echo(true);
        }
        self.write_stderr("\nstopped; nothing was changed\n");
    }

    /// Asks for a secret: on a terminal without showing what is typed, else from stdin in silence.
    pub fn ask_secret(&self, question: &str) -> Option<String> {
        if !self.is_interactive() {
            return self.ask("");
        }
        let hidden = echo(false);
        let answer = self.ask(question);
        if hidden {
            echo(true);
            self.write_stderr("\n");
        }
        answer
    }

    /// The last word of a verb that came to its end. Returns the exit code.
    pub fn done(&self, outcome: &Outcome) -> u8 {
        if self.is_talking() && !outcome.is_told {
            for failed in &outcome.failed {
                let site = failed.site.as_ref().map(|site| format!("{site}: ")).unwrap_or_default();
                self.tell_error(&format!("{site}{}", failed.message), failed.hint.as_deref());
            }
        }
        #[derive(Serialize)]
        struct Done<'a> {
            exit_code: u8,
            failed: &'a [Failed],
            #[serde(flatten)]
            fields: &'a Map<String, Value>,
        }
        let Outcome { exit_code, failed, fields, .. } = outcome;
        self.event("done", Done { exit_code: *exit_code, failed, fields });
        self.flush(outcome.exit_code)
    }

    /// The last word of a verb that failed as a whole. Returns the exit code.
    pub fn error(&self, error: &CliError) -> u8 {
        #[derive(Serialize)]
        struct Last<'a> {
            message: &'a str,
            hint: Option<&'a str>,
            exit_code: u8,
        }
        let exit_code = error.exit_code();
        self.event("error", Last { message: &error.message, hint: error.hint.as_deref(), exit_code });
        if self.is_talking() {
            self.tell_error(&error.message, error.hint.as_deref());
        }
        self.flush(exit_code)
    }

    fn tell_error(&self, message: &str, hint: Option<&str>) {
        if self.inner.manner.logs {
            return tracing::error!(hint, "{message}");
        }
        let hint = hint.map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        self.write_stderr(&format!("error: {message}\n{hint}"));
    }

    /// The exit code, unless the data could not be written.
    fn flush(&self, exit_code: u8) -> u8 {
        let failure = {
            let mut stdout = self.stdout();
            if let Err(io) = stdout.stream.flush() {
                stdout.failure.get_or_insert(io.kind());
            }
            stdout.failure
        };
        match failure {
            None | Some(io::ErrorKind::BrokenPipe) => exit_code,
            Some(kind) => {
                self.tell_error(
                    &format!("cannot write to stdout: reason=`{kind}`"),
                    Some("the command itself did its work; free some space where its output goes"),
                );
                lifeboat_model::worst_exit_code([exit_code, exit::OPERATOR])
            }
        }
    }

    fn write_stdout(&self, bytes: &[u8]) {
        self.inner.bars.suspend(|| {
            let mut stdout = self.stdout();
            if stdout.failure.is_none()
                && let Err(io) = stdout.stream.write_all(bytes)
            {
                stdout.failure = Some(io.kind());
            }
        });
    }

    /// Writes to stderr above the bars; a stderr that is gone is nobody's loss.
    pub(crate) fn write_stderr(&self, text: &str) {
        self.inner.bars.suspend(|| {
            let mut stderr = self.inner.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        });
    }

    fn stdout(&self) -> MutexGuard<'_, Stdout> {
        self.inner.stdout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Switches the terminal's echo; false when there is no terminal to switch.
fn echo(on: bool) -> bool {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let stdin = io::stdin();
    let Ok(mut modes) = tcgetattr(&stdin) else { return false };
    modes.local_modes.set(LocalModes::ECHO, on);
    tcsetattr(&stdin, OptionalActions::Now, &modes).is_ok()
}

#[cfg(test)]
mod tests;
