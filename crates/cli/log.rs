//! Logging and panics: what is told on stderr besides the verb's own words.

use std::io;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::{GlobalArgs, LogFormat};
use crate::output::Output;

/// Overrides what `-v` and `--quiet` choose, in the syntax of tracing's filters.
const FILTER_VARIABLE: &str = "LIFEBOAT_LOG";

/// Starts logging to stderr, above the bars; `is_all_talk`: the log is all that is said, as of a daemon. A second call in one
/// process changes nothing.
pub fn start(global: &GlobalArgs, is_all_talk: bool, output: &Output) {
    // A directive holds for every target that begins with its name: `lifeboat` is all our crates,
    // `aws` all of Amazon's. What those warn of comes back as an error if it matters, in our words.
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) if !is_all_talk => "warn,aws=error",
        (false, 0 | 1) => "warn,aws=error,lifeboat=info",
        (false, _) => "info,lifeboat=debug",
    };
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Stderr(output.clone()))
        .with_ansi(false)
        .with_target(global.verbose > 1);
    let _ = match global.log_format {
        LogFormat::Text => builder.compact().try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Log lines go where everything else on stderr goes, so that bars and lines never mix.
struct Stderr(Output);

struct Line<'a> {
    output: &'a Output,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { output: &self.0, bytes: Vec::new() }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.output.write_stderr(&String::from_utf8_lossy(&self.bytes));
    }
}

/// Where the last panic was, for the last line of the output.
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Takes the default report of a panic away; the verb's last line tells where it was.
///
/// The text of a panic may hold data (an `unwrap` prints the error), so it is told only when
/// RUST_BACKTRACE asks for everything. The hook itself writes nothing: the panic may have happened
/// in the middle of writing.
pub fn catch_panics() {
    let before = std::panic::take_hook();
    let everything = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        let place = place_of(panic);
        *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        if everything {
            before(panic);
        }
    }));
}

fn place_of(panic: &PanicHookInfo<'_>) -> String {
    panic.location().map_or_else(|| "unknown".to_owned(), |place| format!("{}:{}", place.file(), place.line()))
}

/// Where the last panic of any thread was.
pub fn last_panic() -> Option<String> {
    LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
