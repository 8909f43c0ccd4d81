use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A server that answers each connection as `answer` does, and what it was asked for.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(&mut TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) > 0 {
                    request.push(byte[0]);
                }
                seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                answer(&mut connection);
            }
        });
        Self { port, asked }
    }

    fn saying(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(move |connection| {
            let _ = connection.write_all(text.as_bytes());
        })
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The first line of each request.
    fn lines(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|request| request.lines().next().unwrap().to_owned()).collect()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn ask_about(site: &str, page: &Page<'_>, timeout: Duration) -> Result<String, String> {
    let site = SiteId::new(site).unwrap();
    match runtime().block_on(ask(page, &site, timeout, &|| false)) {
        Ok(how) => Ok(how),
        Err(NotPassed::Because(why)) => Err(why),
        Err(NotPassed::Stopped) => Err("stopped".into()),
    }
}

fn page(url: &str) -> Page<'_> {
    Page { url, status: 200, contains: None }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nall is well\n";

#[test]
fn any_site_is_one_encoded_segment() {
    let server = Server::saying(OK);
    let url = server.url("/sites/{site}/health?of={site}");
    for (site, encoded) in [
        ("acme-1.x_~", "acme-1.x_~"),
        ("a b", "a%20b"),
        ("o'brien\"; --", "o%27brien%22%3B%20--"),
        ("$(touch x)", "%24%28touch%20x%29"),
        ("/../..", "%2F..%2F.."),
        ("a?b#c&d=%20\\", "a%3Fb%23c%26d%3D%2520%5C"),
        ("Zürich", "Z%C3%BCrich"),
        ("a@b:80", "a%40b%3A80"),
    ] {
        ask_about(site, &page(&url), LONG).unwrap();
        let line = server.lines().pop().unwrap();
        assert_eq!(line, format!("GET /sites/{encoded}/health?of={encoded} HTTP/1.1"));
    }
    for site in [".", ".."] {
        assert!(ask_about(site, &page(&url), LONG).unwrap_err().contains("no address"), "{site}");
    }
    assert_eq!(server.lines().len(), 8);
    // A site in the place of a host leads nowhere else.
    let elsewhere = format!("http://{{site}}.localhost:{}/", server.port);
    assert!(ask_about("127.0.0.1/", &page(&elsewhere), LONG).is_err());
    assert!(ask_about("x@127.0.0.1", &page(&elsewhere), LONG).is_err());
    assert_eq!(server.lines().len(), 8);
}

#[test]
fn status_and_text_decide() {
    let well = Server::saying(OK);
    let (url, contains) = (well.url("/{site}"), Some("is well"));
    assert!(ask_about("a", &Page { contains, ..page(&url) }, LONG).unwrap().contains("it took"));
    let why = ask_about("a", &Page { contains: Some("is not well"), ..page(&url) }, LONG).unwrap_err();
    assert!(why.contains("does not contain") && why.contains("looked at=12 bytes"), "{why}");
    assert!(ask_about("a", &Page { status: 204, ..page(&url) }, LONG).unwrap_err().contains("status=`200`"));
    let ill = Server::saying("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n");
    let url = ill.url("/{site}");
    assert_eq!(ask_about("a", &page(&url), LONG).unwrap_err(), "expected=`200`, status=`500`");
    ask_about("a", &Page { status: 500, ..page(&url) }, LONG).unwrap();
    // It is not followed.
    let moved = Server::saying(format!("HTTP/1.1 302 F\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", well.url("/b")));
    let before = well.lines().len();
    assert!(ask_about("a", &page(&moved.url("/{site}")), LONG).unwrap_err().contains("status=`302`"));
    assert_eq!(well.lines().len(), before);
}

#[test]
fn an_answer_that_is_slow_endless_or_none_ends_in_time() {
    let short = Duration::from_secs(1);
    let mute = Server::new(|_| std::thread::sleep(LONG));
    let slow = Server::new(|connection| {
        for byte in OK.bytes() {
            let _ = connection.write_all(&[byte]);
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let contains = Some("well");
    for server in [&mute, &slow] {
        let url = server.url("/{site}");
        let why = ask_about("a", &Page { contains, ..page(&url) }, short).unwrap_err();
        assert!(why.contains("within 1 s"), "{why}");
    }
    // Of an endless page the beginning is looked at.
    let endless = Server::new(|connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while connection.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let url = endless.url("/{site}");
    let why = ask_about("a", &Page { contains, ..page(&url) }, LONG).unwrap_err();
    assert!(why.contains("looked at=1048576 bytes"), "{why}");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{gone}/{{site}}?token=secret");
    let why = ask_about("a", &page(&url), LONG).unwrap_err();
    assert!(why.contains("refused") && why.contains("/a`") && !why.contains("secret"), "{why}");
    let nonsense = Server::saying("no HTTP at all\r\n\r\n");
    assert!(ask_about("a", &page(&nonsense.url("/{site}")), LONG).is_err());
}

#[test]
fn who_waits_for_a_page_can_be_stopped() {
    let mute = Server::new(|_| std::thread::sleep(LONG));
    let site = SiteId::new("a").unwrap();
    let url = mute.url("/{site}");
    let began = Instant::now();
    let stopped = runtime().block_on(ask(&page(&url), &site, LONG, &|| began.elapsed() > POLL));
    assert!(matches!(stopped, Err(NotPassed::Stopped)));
}
