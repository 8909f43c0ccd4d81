//! A way to a real S3 server that can be shut, as if the server were stopped, and opened again.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Listens on loopback for as long as the test runs.
pub struct Gate {
    port: u16,
    upstream: String,
    is_shut: Arc<AtomicBool>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    pub fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let gate = Self {
            port: listener.local_addr().expect("an address").port(),
            upstream: endpoint.trim_start_matches("http://").to_owned(),
            is_shut: Arc::default(),
            through: Arc::default(),
        };
        let (upstream, is_shut) = (gate.upstream.clone(), Arc::clone(&gate.is_shut));
        let through = Arc::clone(&gate.through);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_shut.load(Ordering::SeqCst) {
                    continue; // dropped: the connection is reset
                }
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let mut open = through.lock().expect("a lock");
                open.extend([client.try_clone().expect("a socket"), server.try_clone().expect("a socket")]);
                join(client, server);
            }
        });
        gate
    }

    /// The URL of a repository, this way.
    pub fn url(&self, direct: &str) -> String {
        direct.replace(&self.upstream, &format!("127.0.0.1:{}", self.port))
    }

    /// Ends every connection, and takes no other.
    pub fn shut(&self) {
        self.is_shut.store(true, Ordering::SeqCst);
        for stream in self.through.lock().expect("a lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub fn open(&self) {
        self.is_shut.store(false, Ordering::SeqCst);
    }
}

fn join(client: TcpStream, server: TcpStream) {
    let ways = [(client.try_clone().expect("a socket"), server.try_clone().expect("a socket")), (server, client)];
    for (mut from, mut to) in ways {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
