//! Processes of their own: the test binary started again with a task.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use rusqlite::Connection;

use crate::support::{grow, set_mode};

const TASK: &str = "LIFEBOAT_TEST_TASK";

/// A started task. Killed, not asked, when it goes out of scope.
pub struct Task {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Task {
    pub fn start(task: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child::a_started_process_does_its_task", "--exact", "--nocapture", "--test-threads=1"])
            .env(TASK, [&[task], arguments].concat().join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Sends one line and gives the answer to it.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.answer()
    }

    /// The next line that the task says; the test harness' own lines are skipped.
    pub fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the task ended");
            if let Some((_, said)) = line.trim_end().split_once("says:") {
                return said.to_owned();
            }
        }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "says:{line}").unwrap();
    out.flush().unwrap();
}

/// Not a claim by itself: the entry of every process that the other tests start.
#[test]
fn a_started_process_does_its_task() {
    let Ok(task) = std::env::var(TASK) else { return };
    let arguments: Vec<&str> = task.split('\n').collect();
    match arguments[..] {
        ["write", path, mode] => write(path, mode),
        ["serve", path] => serve(path),
        ["crash", path] => crash(path),
        ["restore", image, path] => crate::crash::restore_task(Path::new(image), Path::new(path)),
        _ => panic!("unknown task {task:?}"),
    }
}

/// What a writer does between two transactions: without a pause one would starve the other, because
/// SQLite's waiting is a sleep and not a queue.
pub fn rest() {
    std::thread::sleep(std::time::Duration::from_millis(4));
}

/// Writes until it is killed, and never closes its connection.
fn write(path: &str, mode: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    set_mode(&connection, mode);
    connection.execute_batch("PRAGMA synchronous = OFF").unwrap();
    say("ready");
    loop {
        grow(&connection, 20);
        rest();
    }
}

/// An application that keeps its connection open and does what it is told.
fn serve(path: &str) {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "count" => {
                let count: i64 = connection.query_row("SELECT count(*) FROM a", [], |row| row.get(0)).unwrap();
                say(&count.to_string());
            }
            "add" => {
                grow(&connection, 1);
                say("acknowledged");
            }
            other => panic!("unknown request {other}"),
        }
    }
}

/// Leaves a half-written database with its journal, and waits to be killed.
fn crash(path: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA cache_size = 5; BEGIN IMMEDIATE; UPDATE a SET t = hex(randomblob(100));").unwrap();
    say("torn");
    std::thread::sleep(std::time::Duration::from_secs(60));
}
