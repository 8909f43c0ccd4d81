//! What goes wrong with S3 in practice, each with the words the operator reads.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lifeboat_model::{Fault, Faulty};
use lifeboat_store::{Error, OpenOptions, RetryPolicy, S3Credentials, S3Options, Store, open};
use lifeboat_testkit::conformance::{name, pattern};
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

fn credentials(secret: &str) -> S3Credentials {
    S3Credentials { access_key_id: "testak".into(), secret_access_key: secret.into(), session_token: None }
}

fn options(secret: &str) -> OpenOptions {
    OpenOptions {
        retry: RetryPolicy { attempts_max: 2, delay_first: Duration::from_millis(1), ..RetryPolicy::default() },
        s3: S3Options { credentials: Some(credentials(secret)), ..S3Options::default() },
        ..OpenOptions::default()
    }
}

/// Every kind of request ends in this fault, with these words in the hint.
async fn check(url: &str, options: &OpenOptions, want: Fault, detail: &str, hint: &str) {
    let store = open(url, options).await.unwrap().store;
    let errors = [
        store.create(&name("a"), Bytes::from_static(b"a")).await.unwrap_err(),
        store.list("", None, 1).await.unwrap_err(),
        store.get(&name("a")).await.unwrap_err(),
        store.get_range(&name("a"), 0..1).await.unwrap_err(),
        store.delete(&name("a")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.fault(), want, "{error}");
        assert!(error.to_string().contains(detail), "{error}");
        assert!(error.hint().unwrap().contains(hint), "{:?}", error.hint());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_named_with_where_they_come_from() {
    let Some(server) = S3Server::shared_or_skip("wrong_credentials_are_named") else { return };
    let url = server.fresh_url().unwrap();
    check(&url, &options("wrong"), Fault::Operator, "status=`403`", "AWS_SECRET_ACCESS_KEY").await;
    let mut unknown = options("testsk");
    unknown.s3.credentials = Some(S3Credentials { access_key_id: "nobody".into(), ..credentials("testsk") });
    check(&url, &unknown, Fault::Operator, "status=`403`", "AWS_PROFILE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_named() {
    let Some(server) = S3Server::shared_or_skip("a_missing_bucket_is_named") else { return };
    let store = open(&server.url("no-such-bucket/p"), &options("testsk")).await.unwrap().store;
    let errors = [
        store.create(&name("a"), Bytes::from_static(b"a")).await.unwrap_err(),
        store.get(&name("a")).await.unwrap_err(),
        store.get_range(&name("a"), 0..1).await.unwrap_err(),
        store.list("", None, 1).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("create the bucket `no-such-bucket`"), "{:?}", error.hint());
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_unavailable_at_once() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("s3://bucket/p?endpoint=http://127.0.0.1:{port}");
    let began = Instant::now();
    check(&url, &options("testsk"), Fault::Retry, "127.0.0.1", "endpoint").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_endpoint_without_an_address_is_unavailable() {
    let url = "s3://bucket/p?endpoint=http://no-such-host.invalid:9000";
    check(url, &options("testsk"), Fault::Retry, "no-such-host.invalid", "endpoint").await;
}

/// A server that gives every request the same answer, and counts them.
fn answering(answer: &'static str, delay: Duration) -> (String, Arc<AtomicUsize>) {
    serving(answer, delay, Duration::ZERO)
}

/// A server that answers and then neither sends more nor hangs up.
fn answering_then_waiting(answer: &'static str) -> (String, Arc<AtomicUsize>) {
    serving(answer, Duration::ZERO, Duration::from_secs(3600))
}

fn serving(answer: &'static str, delay: Duration, linger: Duration) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://bucket/p?endpoint=http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counter) = (stream.unwrap(), Arc::clone(&counter));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                counter.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(delay);
                let _ = stream.write_all(answer.as_bytes());
                std::thread::sleep(linger);
            });
        }
    });
    (url, count)
}

// Explains invariant: one-retry
#[tokio::test]
async fn a_server_that_asks_to_slow_down_is_given_time_and_tried_again_in_one_place() {
    let (url, count) = answering(
        "HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        Duration::ZERO,
    );
    let opened = open(&url, &options("testsk")).await.unwrap();
    let began = Instant::now();
    let error = opened.store.get(&name("a")).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Retry, "{error}");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    // Two attempts of ours, none of the SDK's own.
    assert_eq!((count.load(Ordering::SeqCst), opened.meters.snapshot().gets), (2, 2));
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let (url, _) = answering("", Duration::from_secs(3600));
    let mut options = options("testsk");
    options.s3.request_timeout = Duration::from_millis(200);
    check(&url, &options, Fault::Retry, "no answer in time", "endpoint").await;
}

#[tokio::test]
async fn a_server_that_is_not_s3_is_refused() {
    let page =
        "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<p/>";
    let (url, _) = answering(page, Duration::ZERO);
    let store = open(&url, &options("testsk")).await.unwrap().store;
    for error in [
        store.create(&name("a"), Bytes::from_static(b"a")).await.unwrap_err(),
        store.list("", None, 1).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_object_cut_off_on_its_way_is_never_taken_for_whole() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nonly so much";
    let (url, _) = answering(cut, Duration::ZERO);
    let store = open(&url, &options("testsk")).await.unwrap().store;
    let error = store.get(&name("a")).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Retry, "{error}");
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_right() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n0123456789";
    let (url, _) = answering(whole, Duration::ZERO);
    let store = open(&url, &options("testsk")).await.unwrap().store;
    assert_eq!(store.get_range(&name("a"), 2..5).await.unwrap(), &b"234"[..]);
    assert!(matches!(store.get_range(&name("a"), 8..11).await, Err(Error::Truncated { len: 10, .. })));
}

/// A server with a script: it answers the head of a request, and keeps all heads.
fn scripted(answer: fn(&str) -> &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("s3://bucket/p?endpoint=http://{}", listener.local_addr().unwrap());
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_lowercase();
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let _ = stream.read_exact(&mut vec![0; len.parse().unwrap()]);
            let _ = stream.write_all(answer(&head).as_bytes());
            kept.lock().unwrap().push(head);
        }
    });
    (url, heads)
}

/// One answer a request of an upload in parts; the object appears before the completion.
fn answer_an_upload(head: &str) -> &'static str {
    match head.lines().next().unwrap_or_default() {
        line if line.starts_with("head ") => "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n",
        line if line.starts_with("post ") && line.contains("?uploads") => {
            "HTTP/1.1 200 OK\r\nContent-Length: 93\r\nConnection: close\r\n\r\n\
             <InitiateMultipartUploadResult><UploadId>upload-1</UploadId></InitiateMultipartUploadResult>\n"
        }
        line if line.starts_with("put ") => {
            "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        line if line.starts_with("post ") && head.contains("if-none-match: *") => {
            "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        }
        line if line.starts_with("delete ") => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        // A completion without the condition replaces the object.
        _ => {
            "HTTP/1.1 200 OK\r\nContent-Length: 73\r\nConnection: close\r\n\r\n\
             <CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
        }
    }
}

#[tokio::test]
async fn an_upload_in_parts_never_replaces_an_object_created_meanwhile() {
    let (url, heads) = scripted(answer_an_upload);
    let mut options = options("testsk");
    options.s3.multipart_from_bytes = 0;
    let store = open(&url, &options).await.unwrap().store;
    let outcome = store.create(&name("a"), pattern(1, 1000)).await;
    assert!(matches!(outcome, Err(Error::AlreadyExists { .. })), "{outcome:?}");
    // The abort is sent from the background.
    for _ in 0..100 {
        if heads.lock().unwrap().last().is_some_and(|head| head.starts_with("delete ")) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let heads = heads.lock().unwrap();
    let methods: Vec<&str> = heads.iter().filter_map(|head| head.split(' ').next()).collect();
    assert_eq!(methods, ["head", "post", "put", "post", "delete"], "the unfinished upload is aborted");
}

#[tokio::test]
async fn an_object_that_stops_on_its_way_is_given_up() {
    let (url, _) = answering_then_waiting("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly so much");
    let mut options = options("testsk");
    options.s3.request_timeout = Duration::from_millis(200);
    let store = open(&url, &options).await.unwrap().store;
    let error = store.get(&name("a")).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("did not end in time"), "{error}");
}

const CHILD_URL: &str = "LIFEBOAT_TEST_CREDENTIALS_URL";

/// Opens the store with what the AWS chain finds, in a process whose environment is only `vars`.
/// Returns what that process says.
fn open_with_chain(url: &str, vars: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "s3_trouble::credentials_come_from_the_aws_chain", "--nocapture"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(CHILD_URL, url)
        .envs(vars.iter().copied())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn say_what_the_chain_finds(url: &str) {
    let retry = RetryPolicy { attempts_max: 1, ..RetryPolicy::default() };
    let said = match open(url, &OpenOptions { retry, ..OpenOptions::default() }).await {
        Ok(opened) => format!("{:?}", opened.store.list("", None, 1).await),
        Err(error) => format!("{error}; hint: {}", error.hint().unwrap_or_default()),
    };
    println!("said: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_the_aws_chain() {
    if let Ok(url) = std::env::var(CHILD_URL) {
        return say_what_the_chain_finds(&url).await;
    }
    let said = open_with_chain("s3://bucket/p?endpoint=http://127.0.0.1:1", &[]);
    assert!(said.contains("said: the store refuses: no credentials for S3"), "{said}");
    assert!(said.contains("hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{said}");
    let Some(server) = S3Server::shared_or_skip("credentials_come_from_the_aws_chain") else { return };
    let url = server.fresh_url().unwrap();
    let said = open_with_chain(&url, &[("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]);
    assert!(said.contains("said: Ok([])"), "{said}");
    let dir = tempfile::tempdir().unwrap();
    let profile = format!("[nightly]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n");
    let file = dir.path().join("credentials");
    std::fs::write(&file, profile).unwrap();
    let file = file.to_str().unwrap();
    let said = open_with_chain(&url, &[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", "nightly")]);
    assert!(said.contains("said: Ok([])"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_given_up_leaves_no_object() {
    let Some(server) = S3Server::shared_or_skip("an_upload_given_up_leaves_no_object") else { return };
    let options = S3Options { multipart_from_bytes: 0, part_bytes: 5 << 20, parts_parallel: 1, ..server.options() };
    let store = crate::s3::bare(server, options).await;
    let (object, body) = (name("a"), pattern(1, 60 << 20));
    let given_up = tokio::time::timeout(Duration::from_millis(20), store.create(&object, body));
    assert!(given_up.await.is_err(), "the upload was too fast to be given up");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(matches!(store.get(&name("a")).await, Err(Error::NotFound { .. })));
    assert!(store.list("", None, 10).await.unwrap().is_empty());
}
