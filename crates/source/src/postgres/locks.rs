//! Waiting for others, boundedly, and saying for whom.
//!
//! The server ends a wait at `lock_timeout` and does not say who held the lock. A second session
//! therefore looks on while the first one waits, and remembers whom it saw last.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lifeboat_model::Fault;

use super::{Server, Session};
use crate::Error;

/// A transaction that is over by then needs no second session.
const FIRST_LOOK: Duration = Duration::from_millis(300);
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Names, without statements: those hold tenants' values.
const BLOCKERS: &str = "
    SELECT b.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
        coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int8, -1)
    FROM (SELECT DISTINCT unnest(pg_blocking_pids($1)) AS pid) b
    LEFT JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY b.pid";

const OWN_HINT: &str = "that is Lifeboat itself, a backup, a restore or a capture that lets new tables join: nobody need be ended, \
    run the same command again when it is through";
const OTHERS_TOO_HINT: &str = "Lifeboat itself is among them, and through by itself; wait for the others, or end their sessions with \
    SELECT pg_terminate_backend(process), then run the same command again";

/// Who waits for a lock that this program holds, and is not this program.
const WAITING_FOR_US: &str = "
    SELECT a.pid, coalesce(a.usename::text, ''), coalesce(a.application_name, ''), coalesce(a.state, ''),
        coalesce(extract(epoch FROM clock_timestamp() - a.xact_start)::int8, -1),
        to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
    FROM pg_stat_activity a
    WHERE a.wait_event_type = 'Lock' AND a.datname = current_database() AND a.application_name IS DISTINCT FROM $1
        AND EXISTS (SELECT FROM pg_stat_activity o
            WHERE o.pid = ANY (pg_blocking_pids(a.pid)) AND o.application_name = $1)
    ORDER BY a.query_start LIMIT 1";

/// Names the first statement that waits for locks of our own; `None`: there is none, or nobody can tell.
pub(super) fn waiting_for_us(server: &Server) -> Option<String> {
    let mut session = server.connect().ok()?;
    let rows = session.query(WAITING_FOR_US, &[&server.application_name()]).ok()?;
    let row = rows.first()?;
    let since: Option<String> = row.get(5);
    Some(format!("{}, its statement began at {}", Blocker::of(row).named(), since.unwrap_or_default()))
}

/// Looks on until it is dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<Vec<Blocker>>>,
    /// Under which name this program is connected.
    own_name: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches what a session waits for from now on.
    pub fn over(server: &Server, session: &mut Session) -> Self {
        // Best effort, as all of it: without it only the name is missing.
        let pid = session.query_one("SELECT pg_backend_pid()", &[]).map_or(0, |row| row.get(0));
        Self::start(server, pid)
    }

    fn start(server: &Server, pid: i32) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = mpsc::channel();
        let (others, notes) = (server.clone(), seen.clone());
        let thread = std::thread::spawn(move || {
            let mut session: Option<Session> = None;
            let mut pause = FIRST_LOOK;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = BETWEEN_LOOKS;
                session = session.or_else(|| others.connect().ok());
                let Some(open) = &mut session else { continue };
                match open.query(BLOCKERS, &[&pid]) {
                    Ok(rows) if rows.is_empty() => {}
                    Ok(rows) => {
                        *notes.lock().unwrap_or_else(PoisonError::into_inner) = rows.iter().map(Blocker::of).collect()
                    }
                    Err(_) => session = None,
                }
            }
        });
        Self { seen, own_name: server.application_name().to_owned(), stop: Some(stop), thread: Some(thread) }
    }

    /// The error of a wait that took too long, with whom it waited for.
    pub fn tell(&self, source_name: &str, action: &str, patience: Duration) -> Error {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = seen.iter().filter(|blocker| blocker.application == self.own_name).count();
        let named: Vec<String> = seen.iter().map(Blocker::named).collect();
        let who = if seen.is_empty() { "somebody who is gone by now".into() } else { named.join("; ") };
        let hint = match own {
            0 => {
                "wait for them, or end their session with SELECT pg_terminate_backend(process), then run the same command again"
            }
            _ if own == seen.len() => OWN_HINT,
            _ => OTHERS_TOO_HINT,
        };
        Error::Database {
            source_name: source_name.to_owned(),
            action: action.to_owned(),
            detail: format!("waited {} s for {who}", patience.as_secs_f32()),
            hint: hint.into(),
            fault: Fault::Retry,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Who holds a lock, or waits for one before us.
#[derive(Debug, Clone)]
struct Blocker {
    /// 0: a prepared transaction.
    pid: i32,
    role: String,
    application: String,
    state: String,
    /// Of its transaction; negative: it has none.
    seconds: i64,
}

impl Blocker {
    fn of(row: &postgres::Row) -> Self {
        let (pid, role, application) = (row.get(0), row.get(1), row.get(2));
        Self { pid, role, application, state: row.get(3), seconds: row.get(4) }
    }

    fn named(&self) -> String {
        let Self { pid, role, application, state, seconds } = self;
        if *pid == 0 {
            return "a prepared transaction (see pg_prepared_xacts)".into();
        }
        let mut text = format!("process=`{pid}`, role=`{role}`, application=`{application}`");
        if !state.is_empty() {
            text.push_str(&format!(", state=`{state}`"));
        }
        if *seconds >= 0 {
            text.push_str(&format!(", its transaction is {seconds} s old"));
        }
        text
    }
}
