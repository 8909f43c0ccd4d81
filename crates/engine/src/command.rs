//! One command of the operator's: argv as written, never a shell, for a bounded time; what it says is cut.
//!
//! It runs in a process group of its own, so that what it started ends with it when its time is over, and a Ctrl-C on
//! the terminal does not end it half way. Who waits for its end may be told to stop.
//!
//! What is not here: which commands there are, and what their failure means (`hooks`, `recovery`, who
//! notifies).

use std::io::{PipeReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_model::SiteId;
use rustix::process::{Pid, Signal, kill_process_group};

/// Of what a command said this much is told: the end of it, where the reason stands.
const SAID_BYTES_MAX: usize = 1024;
/// What a command started and left behind may hold its output open: that is not waited for longer.
const SAID_WAIT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(10);

/// Where the site's id goes in an argument.
pub(crate) const SITE: &str = "{site}";

/// Why a command did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandFailure {
    Failed(String),
    /// As asked by whoever waited for it.
    Stopped,
}

/// Whether whoever waits is to stop.
pub(crate) type Stop<'a> = &'a dyn Fn() -> bool;

/// Runs a command with the site in place of `{site}`; gives how long it took.
pub(crate) fn run(
    argv: &[String],
    site: &SiteId,
    timeout: Duration,
    stop: Stop<'_>,
) -> Result<Duration, CommandFailure> {
    let fill = |text: &String| text.replace(SITE, site.as_str());
    let filled: Vec<String> = argv.iter().map(fill).collect();
    let named = argv.first().map(|program| format!("command=`{program}`, site=`{site}`")).unwrap_or_default();
    run_filled(&filled, None, timeout, stop).map_err(|failure| match failure {
        CommandFailure::Failed(detail) => CommandFailure::Failed(format!("{named}, {detail}")),
        CommandFailure::Stopped => CommandFailure::Stopped,
    })
}

/// Runs a command that reads `input`; gives how long it took. Blocks.
///
/// # Errors
/// When it does not end well, or not in time: why, in one line.
pub fn tell_command(argv: &[String], input: Vec<u8>, timeout: Duration) -> Result<Duration, String> {
    match run_filled(argv, Some(input), timeout, &|| false) {
        Ok(took) => Ok(took),
        Err(CommandFailure::Failed(detail)) => Err(detail),
        Err(CommandFailure::Stopped) => Err("it was stopped".to_owned()),
    }
}

fn run_filled(
    argv: &[String],
    input: Option<Vec<u8>>,
    timeout: Duration,
    stop: Stop<'_>,
) -> Result<Duration, CommandFailure> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(Duration::ZERO) };
    let failed = |detail: String| CommandFailure::Failed(one_line(&detail));
    let began = Instant::now();
    let (mut child, output) =
        start(program, arguments, input.is_some()).map_err(|io| failed(format!("it could not be started: {io}")))?;
    let said = Said::read(output);
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // One that does not read is killed when its time is over, and this ends with it.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    match wait(&mut child, began + timeout, stop) {
        Ok(Ended::Itself(status)) if status.success() => Ok(began.elapsed()),
        Ok(Ended::Itself(status)) => Err(failed(format!("{status}{}", said.told()))),
        Ok(Ended::TooLate) => Err(failed(format!("it took longer than {} s{}", timeout.as_secs(), said.told()))),
        Ok(Ended::Stopped) => Err(CommandFailure::Stopped),
        Err(io) => Err(failed(io.to_string())),
    }
}

fn start(program: &str, arguments: &[String], reads: bool) -> std::io::Result<(Child, PipeReader)> {
    let (output, input) = std::io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    let stdin = if reads { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(input.try_clone()?).stderr(input);
    Ok((command.spawn()?, output))
}

enum Ended {
    Itself(ExitStatus),
    TooLate,
    Stopped,
}

fn wait(child: &mut Child, deadline: Instant, stop: Stop<'_>) -> std::io::Result<Ended> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Itself(status));
        }
        let ended = match () {
            () if Instant::now() >= deadline => Ended::TooLate,
            () if stop() => Ended::Stopped,
            () => {
                std::thread::sleep(POLL);
                continue;
            }
        };
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
        child.wait()?;
        return Ok(ended);
    }
}

/// The end of what a command says, read in a thread of its own: one that fills the pipe would otherwise never end.
struct Said {
    text: Arc<Mutex<Vec<u8>>>,
    done: Receiver<()>,
}

impl Said {
    fn read(mut output: PipeReader) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let (tell, done) = channel();
        let kept = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len) = output.read(&mut buffer)
                && len > 0
            {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..len]);
                let excess = kept.len().saturating_sub(SAID_BYTES_MAX);
                kept.drain(..excess);
            }
            drop(tell);
        });
        Self { text, done }
    }

    fn told(&self) -> String {
        let _ = self.done.recv_timeout(SAID_WAIT);
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        match String::from_utf8_lossy(&text).trim() {
            "" => String::new(),
            said => format!(", it said: {said}"),
        }
    }
}

/// A text of somebody else's as one line that a terminal may show.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" / ").chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> SiteId {
        SiteId::new("a b'\"; $(touch x) /../ ü").unwrap()
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script, "sh", "{site}"].map(str::to_owned).to_vec()
    }

    fn ran(argv: &[String], timeout: Duration) -> Result<Duration, CommandFailure> {
        run(argv, &site(), timeout, &|| false)
    }

    #[track_caller]
    fn failure(argv: &[String]) -> String {
        match ran(argv, Duration::from_secs(1)) {
            Err(CommandFailure::Failed(detail)) => detail,
            other => panic!("{other:?}"),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn any_site_reaches_a_command_as_one_argument() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("said").display().to_string();
        ran(&shell(&format!("printf '%s|%s' \"$#\" \"$1\" >'{file}'")), LONG).unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), format!("1|{}", site()));
    }

    #[test]
    fn what_a_command_says_is_cut_to_its_end_and_to_one_line() {
        let said = failure(&shell("yes | head -c 9000000; printf 'the\\n\\033[2Jreason\\n' >&2; exit 3"));
        assert!(said.contains("exit status: 3, it said: ") && said.ends_with("the /  [2Jreason"), "{said}");
        assert!(said.len() < 3 * SAID_BYTES_MAX && !said.chars().any(char::is_control), "{}", said.len());
    }

    #[test]
    fn a_command_that_does_not_end_is_ended_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("child");
        let script = format!("echo working; sleep 300 & echo $! >'{}'; wait", file.display());
        let said = failure(&shell(&script));
        assert!(said.contains("longer than 1 s, it said: working"), "{said}");
        let child = std::fs::read_to_string(&file).unwrap();
        let until = Instant::now() + LONG;
        // It is gone, or dead and not yet waited for by whoever adopted it.
        let is_alive = |pid: &str| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
        };
        while is_alive(child.trim()) {
            assert!(Instant::now() < until, "the child lives");
            std::thread::sleep(POLL);
        }
    }

    #[test]
    fn what_a_command_leaves_behind_is_not_waited_for() {
        // It holds the pipe open for a minute.
        let began = Instant::now();
        assert!(failure(&shell("sleep 60 & echo left; exit 1")).ends_with("it said: left"));
        assert!(began.elapsed() < LONG / 2);
    }

    #[test]
    fn a_command_is_told_all_of_it_and_one_that_does_not_listen_ends_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("heard").display().to_string();
        let long = vec![b'x'; 300_000];
        tell_command(&["sh", "-c", &format!("cat >'{file}'")].map(str::to_owned), long.clone(), LONG).unwrap();
        assert_eq!(std::fs::read(file).unwrap(), long);
        tell_command(&["true".to_owned()], long.clone(), LONG).unwrap();
        let deaf = tell_command(&["sleep", "300"].map(str::to_owned), long, Duration::from_secs(1)).unwrap_err();
        assert!(deaf.contains("longer than 1 s"), "{deaf}");
    }

    #[test]
    fn who_waits_for_a_command_can_be_stopped() {
        let began = Instant::now();
        let stopped = run(&shell("sleep 300"), &site(), Duration::from_secs(300), &|| began.elapsed() > POLL);
        assert_eq!(stopped, Err(CommandFailure::Stopped));
    }
}
