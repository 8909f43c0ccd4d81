//! Telling somebody who listens, who does so the third time, and who does not.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use super::*;

/// A page that answers each request with the next of these, and hands over what it was sent.
fn page(answers: &'static [&'static str]) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let mut connection = listener.accept().unwrap().0;
            let mut request = String::new();
            let mut byte = [0];
            while !request.ends_with("\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
                request.push(char::from(byte[0]));
            }
            let length = request.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            connection.read_exact(&mut body).unwrap();
            request.push_str(&String::from_utf8(body).unwrap());
            connection.write_all(answer.as_bytes()).unwrap();
            tell.send(request).unwrap();
        }
    });
    (url, told)
}

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const BUSY: &str = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";
const REFUSED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nno\r\nthing";

fn message() -> Message {
    Message { text: "text".into(), json: "{\"a\":1}".into() }
}

fn webhook(url: String, key: Option<&[u8]>) -> Notifier {
    let way = Way::Webhook(Webhook { url, token: Some("t0ken".into()), signing_key: key.map(<[u8]>::to_vec) });
    Notifier { name: "ops".into(), min_severity: Severity::Warning, way, timeout: Duration::from_secs(20) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_fails_twice_is_told_the_third_time_with_the_same_signature() {
    let (url, told) = page(&[BUSY, BUSY, OK]);
    let began = Instant::now();
    webhook(url, Some(b"key")).tell(&message(), Timestamp(0)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(3), "it was let alone in between");
    let requests: Vec<String> = told.iter().take(3).collect();
    assert_eq!(requests[0], requests[2], "whoever got it twice can tell");
    for part in [
        "POST /hook HTTP/1.1\r\n",
        "authorization: Bearer t0ken\r\n",
        "content-type: application/json\r\n",
        "x-lifeboat-timestamp: 1970-01-01T00:00:00Z\r\n",
        "x-lifeboat-signature: sha256=",
        "\r\n\r\n{\"a\":1}",
    ] {
        assert!(requests[0].contains(part), "{part}: {}", requests[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_stays_is_not_asked_for_again() {
    let (url, told) = page(&[REFUSED, OK]);
    let failure = webhook(url, None).tell(&message(), Timestamp(0)).await.unwrap_err();
    assert_eq!(failure, "status=`403`, answer=`no  thing`");
    assert!(!told.recv().unwrap().contains("signature"));
    assert!(told.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_at_all_is_given_up_and_nothing_secret_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = webhook(format!("http://{free}/s3cret"), None).tell(&message(), Timestamp(0)).await.unwrap_err();
    assert!(failure.contains("refused") && !failure.contains("s3cret"), "{failure}");
    let unusable = Notifier { way: Way::Unusable("not there".into()), ..webhook(String::new(), None) };
    assert_eq!(unusable.tell(&message(), Timestamp(0)).await, Err("not there".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_reads_the_message_and_its_failure_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("told").display().to_string();
    let command = |script: String| Notifier {
        way: Way::Command(["sh".to_owned(), "-c".to_owned(), script].to_vec()),
        ..webhook(String::new(), None)
    };
    command(format!("cat >'{file}'")).tell(&message(), Timestamp(0)).await.unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), message().json);
    let failure = command("echo nobody is there >&2; exit 7".into()).tell(&message(), Timestamp(0)).await.unwrap_err();
    assert!(failure.contains('7') && failure.contains("nobody is there"), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ping_says_whether_it_is_well_as_it_was_asked_to() {
    let check = async |is_healthy: bool, is_post: bool, on_breach: PingOnBreach, want: Option<&str>| {
        let (url, told) = page(&[OK]);
        let ping = Ping { url: Ok(url), is_post, on_breach, timeout: Duration::from_secs(20) };
        let sent = ping.send(is_healthy).await;
        assert_eq!(sent, want.map(|_| Ok(())));
        if let Some(want) = want {
            assert!(told.recv().unwrap().starts_with(want), "{want}");
        }
    };
    check(true, false, PingOnBreach::Silence, Some("GET /hook HTTP")).await;
    check(true, true, PingOnBreach::Fail, Some("POST /hook HTTP")).await;
    check(false, false, PingOnBreach::Silence, None).await;
    check(false, false, PingOnBreach::Fail, Some("GET /hook/fail HTTP")).await;
    let nowhere = Err("not there".to_owned());
    let ping = Ping { url: nowhere, is_post: false, on_breach: PingOnBreach::Silence, timeout: Duration::ZERO };
    assert_eq!(ping.send(true).await, Some(Err("not there".to_owned())));
}
