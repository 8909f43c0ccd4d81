//! What systemd is told (`sd_notify`): ready, alive, reloading, stopping.
//!
//! A datagram to the socket that `NOTIFY_SOCKET` names; where there is none, nothing is told. A watchdog is told twice as
//! often as it asks for, by the one task that owns the state: when that stands still, systemd starts the daemon anew.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Context;

pub(super) struct Notify {
    socket: Option<UnixDatagram>,
    /// How often the watchdog is told, and when it was last.
    watchdog: Option<(Duration, Instant)>,
}

impl Notify {
    pub fn of(context: &Context) -> Self {
        let socket = context.env("NOTIFY_SOCKET").and_then(|path| connect(path.as_bytes()));
        let text = |name: &str| context.env(name).and_then(|value| value.into_string().ok());
        let is_ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let asked = text("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|_| is_ours);
        Self { socket, watchdog: asked.map(|micros: u64| (Duration::from_micros(micros / 2), Instant::now())) }
    }

    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1_000));
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says that the daemon lives, if it is time to.
    pub fn alive(&mut self) {
        let Some((every, last)) = &mut self.watchdog else { return };
        if last.elapsed() >= *every {
            *last = Instant::now();
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, text: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(text.as_bytes())
        {
            tracing::debug!(%error, "systemd was not told");
        }
    }
}

/// A path, or with `@` a name that is in no file system.
fn connect(path: &[u8]) -> Option<UnixDatagram> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
    };
    let socket = UnixDatagram::unbound().ok()?;
    // A systemd that does not read must not keep the daemon from working.
    socket.set_nonblocking(true).ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_with_a_path_and_one_without_are_both_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("lifeboat-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(abstract_name.as_bytes()).unwrap();
        let ears = [UnixDatagram::bind(&path).unwrap(), UnixDatagram::bind_addr(&named).unwrap()];
        let names = [path.as_os_str().as_bytes().to_vec(), format!("@{abstract_name}").into_bytes()];
        for (ear, name) in ears.iter().zip(names) {
            let watchdog = Some((Duration::ZERO, Instant::now()));
            let mut notify = Notify { socket: connect(&name), watchdog };
            notify.ready("it runs");
            notify.alive();
            notify.reloading();
            let heard = |ear: &UnixDatagram| {
                let mut bytes = [0; 200];
                let len = ear.recv(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..len]).into_owned()
            };
            assert_eq!(heard(ear), "READY=1\nSTATUS=it runs");
            assert_eq!(heard(ear), "WATCHDOG=1");
            assert!(heard(ear).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        }
        assert!(connect(b"/nowhere/at/all").is_none());
    }
}
