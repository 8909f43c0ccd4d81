//! Holds cases back while the databases that they write to are busy with others.
//!
//! A thread asks each server once a second, and whoever gives out cases reads its last answer. A server that does not say
//! how busy it is holds cases back too: it may have no connection left.
//!
//! What is not here: how a server is asked (`lifeboat-source`); what a case under way does, which goes on.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lifeboat_engine::{Error, ServerLoad};
use lifeboat_model::{Fault, Faulty};

use super::seam::Governor;

/// How often a server is asked.
const EVERY: Duration = Duration::from_secs(1);
/// An older answer says nothing any more.
const AGE_MAX: Duration = Duration::from_secs(10);

/// So many others may be active on a server when a case begins.
pub struct DatabaseLoad {
    limit: u64,
    servers: Vec<Arc<Server>>,
    /// Dropped with the governor: its threads end then.
    _ends: Vec<Sender<()>>,
}

/// What is known of one server.
struct Server {
    name: String,
    last: Mutex<Option<(Instant, Result<u64, String>)>>,
}

impl DatabaseLoad {
    /// Asks every server once, and then goes on asking.
    ///
    /// # Errors
    /// When one cannot be asked until somebody acts: whoever runs a recovery hears so before it begins.
    pub fn begin(limit: u64, servers: Vec<ServerLoad>) -> Result<Self, Error> {
        let (mut known, mut ends) = (Vec::new(), Vec::new());
        for mut load in servers {
            let server = Arc::new(Server { name: load.source_name().to_owned(), last: Mutex::default() });
            server.note(match load.active() {
                // Such as a server without a free connection: it is waited for.
                Err(error) if error.fault() == Fault::Retry => Err(error.to_string()),
                answer => Ok(answer?),
            });
            let (end, ended) = channel();
            let asked = Arc::clone(&server);
            // Not waited for: a server that hangs would hold up the end of the program.
            std::thread::spawn(move || ask(&mut load, &asked, &ended));
            known.push(server);
            ends.push(end);
        }
        Ok(Self { limit, servers: known, _ends: ends })
    }
}

fn ask(load: &mut ServerLoad, server: &Server, ended: &Receiver<()>) {
    while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
        server.note(load.active().map_err(|error| error.to_string()));
    }
}

impl Server {
    fn note(&self, answer: Result<u64, String>) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), answer));
    }
}

impl Governor for DatabaseLoad {
    fn holds(&self) -> Option<String> {
        self.servers.iter().find_map(|server| {
            let last = server.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
            too_busy(&server.name, last.map(|(at, answer)| (at.elapsed(), answer)), self.limit)
        })
    }
}

/// Why a server takes no other case, by its last answer and how old that is.
fn too_busy(server: &str, last: Option<(Duration, Result<u64, String>)>, limit: u64) -> Option<String> {
    match last {
        Some((age, Ok(active))) if age <= AGE_MAX => (active > limit)
            .then(|| format!("the database is busy: source=`{server}`, active=`{active}`, allowed=`{limit}`")),
        Some((age, Err(why))) if age <= AGE_MAX => Some(format!("the database does not say how busy it is: {why}")),
        _ => Some(format!("the database does not say how busy it is: source=`{server}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_begins_only_beside_few_others_and_with_a_fresh_answer() {
        let second = Duration::from_secs(1);
        for (last, held) in [
            (Some((second, Ok(0))), None),
            (Some((second, Ok(20))), None),
            (Some((second, Ok(21))), Some("busy: source=`app`, active=`21`, allowed=`20`")),
            (Some((second, Err("too many clients".to_owned()))), Some("too many clients")),
            (Some((60 * second, Ok(0))), Some("does not say")),
            (Some((60 * second, Err("lost".to_owned()))), Some("does not say")),
            (None, Some("does not say")),
        ] {
            let why = too_busy("app", last.clone(), 20);
            assert_eq!(why.is_some(), held.is_some(), "{last:?}");
            assert!(why.unwrap_or_default().contains(held.unwrap_or_default()), "{last:?}");
        }
    }
}
