//! A TCP proxy that reads the PostgreSQL protocol and stops the traffic at a chosen statement.
//!
//! ```text
//! lifeboat ──▶ proxy ──▶ PostgreSQL     before statement n is handed on, or before its answer is
//! ```
//!
//! The held connection waits until the test has done its deed (killed somebody, restarted the server)
//! and says whether the traffic goes on or both ends are cut.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Statements of the copy protocol, which have no text of their own.
pub const COPY_DATA: &str = "-- first data of a COPY";
pub const COPY_DONE: &str = "-- end of a COPY";

/// On which side of a statement the traffic is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server has not seen it.
    Before,
    /// The server has done it; its answer is held.
    Answer,
}

/// Where the traffic is stopped: at the `nth` statement (from 0) that has this in its text.
#[derive(Debug, Clone)]
pub struct Trap {
    pub text: String,
    pub nth: usize,
    pub side: Side,
}

impl Trap {
    /// Before the first such statement.
    pub fn before(text: &str) -> Self {
        Self { text: text.to_owned(), nth: 0, side: Side::Before }
    }
}

/// What becomes of the held connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    /// Both ends see the connection closed; what was held is lost.
    Cut,
}

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The text of every statement so far, of all connections.
    statements: Vec<String>,
    trap: Option<Trap>,
    /// The backend whose connection is held.
    sprung: Option<i32>,
    verdict: Option<Verdict>,
    /// New connections are closed at once.
    is_down: bool,
}

impl Proxy {
    /// In front of a server on this port of the loopback.
    pub fn start(server_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let for_threads = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = for_threads.clone();
                if shared.lock().is_down {
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) else { continue };
                std::thread::spawn(move || relay(&client, &server, &shared));
            }
        });
        Self { port, shared }
    }

    /// The same database, through here.
    pub fn url(&self, url: &str) -> String {
        let (front, rest) = url.split_once("@127.0.0.1:").expect("a URL of the testkit");
        let (_, database) = rest.split_once('/').expect("a database");
        format!("{front}@127.0.0.1:{}/{database}", self.port)
    }

    /// Forgets what was seen, and waits for a statement.
    pub fn set(&self, trap: Option<Trap>) {
        *self.shared.lock() = State { trap, ..State::default() };
    }

    /// Closes whoever connects from now on, or lets them through again.
    pub fn set_down(&self, is_down: bool) {
        self.shared.lock().is_down = is_down;
    }

    pub fn statements(&self) -> Vec<String> {
        self.shared.lock().statements.clone()
    }

    /// Waits until the trap holds a connection, and gives its backend; `None` when `is_over` first.
    pub fn wait(&self, mut is_over: impl FnMut() -> bool) -> Option<i32> {
        let began = Instant::now();
        let mut state = self.shared.lock();
        loop {
            if let Some(backend) = state.sprung {
                return Some(backend);
            }
            assert!(began.elapsed() < Duration::from_secs(60), "neither sprung nor over");
            state = self
                .shared
                .changed
                .wait_timeout(state, Duration::from_millis(10))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if state.sprung.is_none() && is_over() {
                return None;
            }
        }
    }

    /// Ends the hold.
    pub fn release(&self, verdict: Verdict) {
        self.shared.lock().verdict = Some(verdict);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a statement; `Some`: it is the one, on this side.
    fn note(&self, text: String) -> Option<Side> {
        let mut state = self.lock();
        let mut side = None;
        if let Some(trap) = state.trap.as_mut().filter(|trap| text.contains(&trap.text)) {
            side = (trap.nth == 0).then_some(trap.side);
            trap.nth = trap.nth.wrapping_sub(1);
        }
        state.statements.push(text);
        side
    }

    /// Holds a connection until the test says how it goes on.
    fn hold(&self, backend: i32) -> Verdict {
        let mut state = self.lock();
        state.sprung = Some(backend);
        self.changed.notify_all();
        loop {
            if let Some(verdict) = state.verdict {
                return verdict;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What both directions of one connection know.
#[derive(Default)]
struct Connection {
    backend: Mutex<i32>,
    /// The next answer is held.
    holds_answer: Mutex<bool>,
}

fn relay(client: &TcpStream, server: &TcpStream, shared: &Shared) {
    // Many small messages: each would wait for the acknowledgement of the one before.
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let connection = Connection::default();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = answers(server, client, shared, &connection);
            close(client, server);
        });
        let _ = questions(client, server, shared, &connection);
        close(client, server);
    });
}

fn close(one: &TcpStream, other: &TcpStream) {
    let _ = one.shutdown(Shutdown::Both);
    let _ = other.shutdown(Shutdown::Both);
}

/// From the client to the server: counts statements.
fn questions(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, connection: &Connection) -> io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut startup = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
    from.read_exact(&mut startup)?;
    to.write_all(&[&length[..], &startup[..]].concat())?;
    let (mut prepared, mut copying) = (HashMap::new(), false);
    loop {
        let (kind, body) = message(&mut from)?;
        let text = match kind {
            b'Q' => Some(first_text(&body)),
            b'P' => {
                let name = first_text(&body);
                prepared.insert(name.clone(), first_text(&body[name.len() + 1..]));
                None
            }
            b'B' => {
                let portal = first_text(&body);
                Some(prepared.get(&first_text(&body[portal.len() + 1..])).cloned().unwrap_or_default())
            }
            b'd' if !copying => Some(COPY_DATA.to_owned()),
            b'c' => Some(COPY_DONE.to_owned()),
            _ => None,
        };
        copying = if kind == b'd' { true } else { copying && kind != b'c' };
        match text.and_then(|text| shared.note(text)) {
            Some(Side::Before) if shared.hold(*lock(&connection.backend)) == Verdict::Cut => return Ok(()),
            Some(Side::Answer) => *lock(&connection.holds_answer) = true,
            _ => {}
        }
        send(&mut to, kind, &body)?;
    }
}

/// From the server to the client: holds one answer, whole.
fn answers(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, connection: &Connection) -> io::Result<()> {
    loop {
        let (kind, body) = message(&mut from)?;
        if kind == b'K' {
            *lock(&connection.backend) = body.first_chunk().map_or(0, |bytes| i32::from_be_bytes(*bytes));
        }
        // Done, or ready for data: what comes before is notices and rows of the same answer.
        if matches!(kind, b'C' | b'Z' | b'G' | b'H' | b'E') && std::mem::take(&mut *lock(&connection.holds_answer)) {
            let backend = *lock(&connection.backend);
            if shared.hold(backend) == Verdict::Cut {
                return Ok(());
            }
        }
        send(&mut to, kind, &body)?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A byte for the kind, four for the length, which counts itself.
fn message(from: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
    from.read_exact(&mut body)?;
    Ok((kind, body))
}

fn send(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    to.write_all(&[&[kind][..], &length, body].concat())
}

fn first_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}
