//! Streams that remember, for tests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use crate::output::Streams;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was written.
pub struct Captured {
    stdout: Buffer,
    stderr: Buffer,
}

impl Captured {
    pub fn stdout(&self) -> String {
        String::from_utf8(self.stdout.0.lock().unwrap().clone()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8(self.stderr.0.lock().unwrap().clone()).unwrap()
    }
}

/// Streams without a terminal, with this input.
pub fn captured(stdin: &str) -> (Streams, Captured) {
    let captured = Captured { stdout: Buffer::default(), stderr: Buffer::default() };
    let streams = Streams {
        stdin: Box::new(io::Cursor::new(stdin.to_owned().into_bytes())),
        stdout: Box::new(captured.stdout.clone()),
        stderr: Box::new(captured.stderr.clone()),
        stdin_is_terminal: false,
        stderr_is_terminal: false,
    };
    (streams, captured)
}

/// The same, pretending to be a terminal. Bars stay hidden: they draw on the real one.
pub fn captured_terminal(stdin: &str) -> (Streams, Captured) {
    let (streams, captured) = captured(stdin);
    (Streams { stdin_is_terminal: true, stderr_is_terminal: true, ..streams }, captured)
}
