//! A way to a real S3 server on which requests can be refused, and what comes back is counted.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const REFUSED: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: 37\r\nConnection: close\r\n\r\n\
                       <Error><Code>SlowDown</Code></Error>\r\n";

/// Listens on loopback for as long as the test runs.
pub struct Proxy {
    port: u16,
    way: Arc<Way>,
}

#[derive(Default)]
struct Way {
    upstream: String,
    /// Requests whose path has this in it are refused.
    refused: Mutex<Option<String>>,
    /// Each so-manieth request is refused; 0: none.
    every: AtomicU64,
    seen: AtomicU64,
    refusals: AtomicU64,
    /// Of answers to GET.
    bytes: AtomicU64,
    /// What was asked for, where it is noted.
    noted: Mutex<Option<Vec<String>>>,
}

impl Proxy {
    pub fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let way = Arc::new(Way { upstream, ..Way::default() });
        let proxy = Self { port: listener.local_addr().unwrap().port(), way: Arc::clone(&way) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let way = Arc::clone(&way);
                std::thread::spawn(move || way.serve(client));
            }
        });
        proxy
    }

    /// The URL of a repository, this way.
    pub fn url(&self, direct: &str) -> String {
        direct.replace(&format!("http://{}", self.way.upstream), &format!("http://127.0.0.1:{}", self.port))
    }

    pub fn refuse(&self, part: Option<&str>) {
        *self.way.refused.lock().unwrap() = part.map(str::to_owned);
    }

    pub fn refuse_every(&self, so_manieth: u64) {
        self.way.every.store(so_manieth, Ordering::Relaxed);
    }

    pub fn refusals(&self) -> u64 {
        self.way.refusals.load(Ordering::Relaxed)
    }

    /// Notes what is asked for from now on.
    pub fn note(&self) {
        *self.way.noted.lock().unwrap() = Some(Vec::new());
    }

    pub fn noted(&self) -> Vec<String> {
        self.way.noted.lock().unwrap().take().unwrap_or_default()
    }

    /// Read since it was asked last.
    pub fn bytes_read(&self) -> u64 {
        self.way.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Way {
    /// One request a connection: both sides are told that it is closed then. An end that breaks off is the other's matter.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let (mut head, mut len) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            match name.to_ascii_lowercase().as_str() {
                "connection" => continue,
                "content-length" => len = value.trim().parse().unwrap_or(0),
                _ => {}
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        let mut client = client;
        if self.refuses(head.lines().next().unwrap_or_default()) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return client.write_all(REFUSED.as_bytes());
        }
        let mut upstream = TcpStream::connect(&self.upstream)?;
        upstream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
        upstream.write_all(&body)?;
        let mut some = [0; 64 << 10];
        loop {
            let read = upstream.read(&mut some)?;
            if read == 0 {
                return client.shutdown(std::net::Shutdown::Both);
            }
            if head.starts_with("GET") {
                self.bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            client.write_all(&some[..read])?;
        }
    }

    fn refuses(&self, request: &str) -> bool {
        if let Some(noted) = self.noted.lock().unwrap().as_mut() {
            noted.push(request.to_owned());
        }
        let every = self.every.load(Ordering::Relaxed);
        let is_turn = every > 0 && self.seen.fetch_add(1, Ordering::Relaxed) % every == every - 1;
        is_turn || self.refused.lock().unwrap().as_ref().is_some_and(|part| request.contains(part.as_str()))
    }
}
