//! A way to a real S3 server on which requests are refused, delayed, cut and lost, and what passes is counted.
//!
//! ```text
//! lifeboat ──▶ proxy ──▶ S3     the request is read whole ─ struck? ─ handed on ─ the answer lost or cut?
//! ```
//!
//! What is not here: what befalls which request of a storm (`storm`), and any bucket: only requests and answers are seen.

mod storm;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use storm::{Blow, Storm};

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
    storm: Mutex<Option<Storm>>,
    weather: Mutex<Weather>,
    /// Of answers to GET.
    bytes: AtomicU64,
    /// What was asked for, where it is noted.
    noted: Mutex<Option<Vec<String>>>,
}

/// What a storm has done so far.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    pub requests: u64,
    pub struck: BTreeMap<Blow, u64>,
}

impl Weather {
    pub fn blows(&self) -> u64 {
        self.struck.values().sum()
    }
}

/// A request as it came, without what it says of its connection.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Proxy {
    pub fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let upstream = endpoint.trim_start_matches("http://").to_owned();
        let way = Arc::new(Way { upstream, ..Way::default() });
        let proxy = Self { port: listener.local_addr().expect("an address").port(), way: Arc::clone(&way) };
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
        *lock(&self.way.refused) = part.map(str::to_owned);
    }

    pub fn refuse_every(&self, so_manieth: u64) {
        self.way.every.store(so_manieth, Ordering::Relaxed);
    }

    pub fn refusals(&self) -> u64 {
        self.way.refusals.load(Ordering::Relaxed)
    }

    /// From now on requests meet this; what was counted of a storm before is forgotten.
    pub fn blow(&self, storm: Storm) {
        *lock(&self.way.weather) = Weather::default();
        *lock(&self.way.storm) = Some(storm);
    }

    /// What the storm has done so far.
    pub fn weather(&self) -> Weather {
        lock(&self.way.weather).clone()
    }

    /// Notes what is asked for from now on.
    pub fn note(&self) {
        *lock(&self.way.noted) = Some(Vec::new());
    }

    pub fn noted(&self) -> Vec<String> {
        lock(&self.way.noted).take().unwrap_or_default()
    }

    /// Read since it was asked last.
    pub fn bytes_read(&self) -> u64 {
        self.way.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Way {
    /// One request a connection: both sides are told that it is closed then. An end that breaks off is the other's matter.
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        let Some(request) = Request::read(&client)? else { return Ok(()) };
        if self.refuses(request.line()) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return (&client).write_all(&refusal("503 Slow Down", "SlowDown"));
        }
        match self.next_blow() {
            None => self.pass(&request, &client),
            Some((Blow::Delay, wait)) => {
                std::thread::sleep(wait);
                self.pass(&request, &client)
            }
            Some((Blow::SlowDown, _)) => (&client).write_all(&refusal("503 Slow Down", "SlowDown")),
            Some((Blow::InternalError, _)) => {
                (&client).write_all(&refusal("500 Internal Server Error", "InternalError"))
            }
            Some((Blow::ResetBefore, _)) => reset(&client),
            Some((Blow::AnswerLost, _)) => {
                self.ask(&request)?.read_to_end(&mut Vec::new())?;
                reset(&client)
            }
            Some((Blow::AnswerCut, _)) => {
                let mut answer = Vec::new();
                self.ask(&request)?.read_to_end(&mut answer)?;
                (&client).write_all(&answer[..cut(&answer)])?;
                client.shutdown(Shutdown::Both)
            }
        }
    }

    /// Sends the request to the server; its answer ends with the connection.
    fn ask(&self, request: &Request) -> io::Result<TcpStream> {
        let mut upstream = TcpStream::connect(&self.upstream)?;
        upstream.write_all(format!("{}Connection: close\r\n\r\n", request.head).as_bytes())?;
        upstream.write_all(&request.body)?;
        Ok(upstream)
    }

    /// Hands request and answer on, as they are.
    fn pass(&self, request: &Request, mut client: &TcpStream) -> io::Result<()> {
        let mut upstream = self.ask(request)?;
        let mut some = [0; 64 << 10];
        loop {
            let read = upstream.read(&mut some)?;
            if read == 0 {
                return client.shutdown(Shutdown::Both);
            }
            if request.head.starts_with("GET") {
                self.bytes.fetch_add(read as u64, Ordering::Relaxed);
            }
            client.write_all(&some[..read])?;
        }
    }

    fn refuses(&self, request: &str) -> bool {
        if let Some(noted) = lock(&self.noted).as_mut() {
            noted.push(request.to_owned());
        }
        let every = self.every.load(Ordering::Relaxed);
        let is_turn = every > 0 && self.seen.fetch_add(1, Ordering::Relaxed) % every == every - 1;
        is_turn || lock(&self.refused).as_ref().is_some_and(|part| request.contains(part.as_str()))
    }

    /// What befalls the next request of the storm, if one blows.
    fn next_blow(&self) -> Option<(Blow, Duration)> {
        let storm = (*lock(&self.storm))?;
        let mut weather = lock(&self.weather);
        let struck = storm.strikes(weather.requests);
        weather.requests += 1;
        if let Some((blow, _)) = struck {
            *weather.struck.entry(blow).or_default() += 1;
        }
        struck
    }
}

impl Request {
    /// `None`: whoever connected has nothing to ask.
    fn read(client: &TcpStream) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(client);
        let (mut head, mut len) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
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
        Ok(Some(Self { head, body }))
    }

    fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }
}

/// An error as S3 words it.
fn refusal(status: &str, code: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>not now</Message>\
         <RequestId>storm</RequestId></Error>"
    );
    let len = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

/// So much of an answer is sent: half of its body, or of its head where it has none.
fn cut(answer: &[u8]) -> usize {
    let end = b"\r\n\r\n";
    let head = answer.windows(end.len()).position(|bytes| bytes == end).map_or(answer.len(), |at| at + end.len());
    match answer.len() - head {
        0 => head / 2,
        body => head + body / 2,
    }
}

/// Closes a connection the hard way: whoever waits for an answer hears of a reset.
fn reset(client: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
