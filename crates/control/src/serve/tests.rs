//! The server, asked over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream as Plain;
use std::time::Instant;

use super::*;
use crate::alarms::{Facts, Trouble};
use crate::metrics::MetricsOptions;

const TOKEN: &str = "a-token";

struct Served {
    address: SocketAddr,
    show: watch::Sender<Shown>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

async fn served(token: Option<&str>) -> Served {
    let (show, shown) = watch::channel(Shown::default());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let listener = listen("127.0.0.1:0".parse().unwrap(), token).await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = ServeOptions { token: token.map(str::to_owned), ready_within: Duration::from_secs(60) };
    let task = tokio::spawn(serve(listener, options, shown, async {
        let _ = stopped.await;
    }));
    Served { address, show, stop: Some(stop), task }
}

/// Status and whole answer.
async fn asked(address: SocketAddr, request: String) -> (u16, String) {
    let ask = move || {
        let mut connection = Plain::connect(address).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\n{headers}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_those_with_the_token_and_health_is_for_everybody() {
    let served = served(Some(TOKEN)).await;
    let facts = Facts::without_store(Timestamp::now(), Trouble { reason: "no answer".into(), hint: None });
    let metrics = Metrics::of(&facts, &[], &[], (MetricsOptions::default(), Duration::ZERO));
    served.show.send(Shown { metrics, store_answered_at: None }).unwrap();
    let check = async |request: String, want: u16, part: &str| {
        let (status, answer) = asked(served.address, request.clone()).await;
        assert!(status == want && answer.contains(part), "{request}: {answer}");
    };
    check(get("/metrics", ""), 401, "www-authenticate: Bearer").await;
    check(get("/metrics", "authorization: Bearer other\r\n"), 401, "").await;
    check(get("/metrics", "authorization: Basic a-token\r\n"), 401, "").await;
    let right = "authorization: bearer a-token\r\n";
    check(get("/metrics", right), 200, "\nlifeboat_store_up 0\n").await;
    let open = format!("{right}accept: application/openmetrics-text; version=1.0.0\r\n");
    check(get("/metrics", &open), 200, "# EOF\n").await;
    check(get("/healthz", ""), 200, "alive").await;
    check(get("/readyz", ""), 503, "has not answered yet").await;
    let now = Timestamp::now();
    let answered = |at| Shown { metrics: Metrics::default(), store_answered_at: Some(at) };
    served.show.send(answered(now)).unwrap();
    check(get("/readyz", ""), 200, "ready").await;
    served.show.send(answered(now.saturating_sub(Duration::from_secs(90)))).unwrap();
    check(get("/readyz", ""), 503, "answered last at").await;
    check(get("/", ""), 404, "").await;
    check("POST /metrics HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n".into(), 405, "allow: GET, HEAD").await;
    check("HEAD /healthz HTTP/1.1\r\nhost: h\r\n\r\n".into(), 200, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_long_or_no_request_is_refused_and_the_next_one_is_answered() {
    let served = served(None).await;
    let long = get("/healthz", &format!("x: {}\r\n", "y".repeat(HEAD_BYTES_MAX)));
    assert_eq!(asked(served.address, long).await.0, 431);
    assert_eq!(asked(served.address, "what?\r\n\r\n".into()).await.0, 400);
    // As many that say nothing as are allowed: whoever comes next waits until they are thrown out.
    let silent: Vec<Plain> = (0..CONNECTIONS_MAX).map(|_| Plain::connect(served.address).unwrap()).collect();
    let began = Instant::now();
    assert_eq!(asked(served.address, get("/healthz", "")).await.0, 200);
    assert!(began.elapsed() < CONNECTION_TIMEOUT, "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_when_it_is_told_to() {
    let mut served = served(None).await;
    let open = Plain::connect(served.address).unwrap();
    served.stop.take().unwrap().send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), &mut served.task).await.unwrap().unwrap();
    drop(open);
    assert!(Plain::connect(served.address).is_err());
}

// Explains invariant: loopback-or-token
#[tokio::test]
async fn an_address_that_others_can_reach_needs_a_token() {
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    for none in [None, Some("")] {
        let refused = listen(everywhere, none).await.unwrap_err();
        assert!(matches!(refused, Error::OpenToAll { .. }), "{refused}");
    }
    assert!(listen(everywhere, Some(TOKEN)).await.is_ok());
    assert!(listen("127.0.0.1:0".parse().unwrap(), None).await.is_ok());
    let taken = listen("127.0.0.1:0".parse().unwrap(), None).await.unwrap();
    let refused = listen(taken.local_addr().unwrap(), None).await.unwrap_err();
    assert!(matches!(refused, Error::NotListening { .. }), "{refused}");
}
