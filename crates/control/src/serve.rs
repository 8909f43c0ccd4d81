//! The signals over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts or balances.
//!
//! ```text
//! cycle ──Sender<Shown>──▶ (newest only) ──Receiver<Shown>──▶ GET /metrics    200, or 401 without the token
//!                                                            GET /healthz    200: the process is alive
//!                                                            GET /readyz     200, or 503: the store has not answered for so long
//! ```
//!
//! Nothing is gathered because somebody asks: a request costs one text. It only answers, and changes nothing. Requests are bounded in
//! size, time and number, so that whoever can reach it cannot take the host with it.
//!
//! Invariant (loopback-or-token): it listens on an address that other hosts can reach only where a token is asked for.
//!
//! What is not here: TLS (put a proxy before it), and anything that acts.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use lifeboat_model::Timestamp;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::Error;
use crate::metrics::{Exposition, Metrics};

/// Connections at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte to the last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// What is shown, as of the newest cycle.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    pub metrics: Metrics,
    /// When the store answered last.
    pub store_answered_at: Option<Timestamp>,
}

/// Who may ask, and what is said of the store.
#[derive(Clone)]
pub struct ServeOptions {
    /// Asked for by `/metrics`; the other two tell nothing that is worth one.
    pub token: Option<String>,
    /// `/readyz` says so until the store has not answered for longer.
    pub ready_within: Duration,
}

/// Listens where it may.
///
/// # Errors
/// When the address cannot be had, or can be reached from elsewhere and there is no token.
pub async fn listen(address: SocketAddr, token: Option<&str>) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() && token.is_none_or(str::is_empty) {
        return Err(Error::OpenToAll { address: address.to_string() });
    }
    let not_listening =
        |io: std::io::Error| Error::NotListening { address: address.to_string(), reason: io.to_string() };
    TcpListener::bind(address).await.map_err(not_listening)
}

/// Answers until `stop` does; then nobody new is accepted, and those who are being answered have a moment.
pub async fn serve(
    listener: TcpListener,
    options: ServeOptions,
    shown: watch::Receiver<Shown>,
    stop: impl Future<Output = ()>,
) {
    let (options, room) = (Arc::new(options), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let mut connections = tokio::task::JoinSet::new();
    let accept = async {
        loop {
            // Only then accepted when there is room: others wait in the kernel's queue.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (options, shown) = (Arc::clone(&options), shown.clone());
                    connections.spawn(async move {
                        talk(stream, &options, &shown).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of file handles, for one: it passes, and must not become a busy loop.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), ended).await;
}

async fn talk(stream: TcpStream, options: &ServeOptions, shown: &watch::Receiver<Shown>) {
    let service = service_fn(async |request: Request<Incoming>| {
        Ok::<_, Infallible>(answer(&request, options, &shown.borrow(), Timestamp::now()))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for signals came to nothing"),
        Err(_) => tracing::debug!("a request for signals took too long"),
    }
}

/// Never reads the request's body.
fn answer<B>(request: &Request<B>, options: &ServeOptions, shown: &Shown, now: Timestamp) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = told(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/healthz" => told(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => match shown.store_answered_at {
            Some(at) if now.since(at) <= options.ready_within => told(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Some(at) => told(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("the store answered last at {at}\n")),
            None => told(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the store has not answered yet\n".to_owned()),
        },
        "/metrics" if !is_allowed(header(AUTHORIZATION), options.token.as_deref()) => {
            let mut refused = told(StatusCode::UNAUTHORIZED, TEXT, "a bearer token is asked for\n".to_owned());
            refused.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
            refused
        }
        "/metrics" => {
            let exposition = Exposition::accepted_by(header(ACCEPT).unwrap_or_default());
            told(StatusCode::OK, exposition.content_type(), shown.metrics.text(exposition))
        }
        _ => told(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz\n".to_owned()),
    }
}

/// Compared by hashes, so that the time it takes tells nothing of the token.
fn is_allowed(authorization: Option<&str>, token: Option<&str>) -> bool {
    let Some(token) = token else { return true };
    let given = authorization.and_then(|value| {
        let (scheme, given) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
    });
    given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token))
}

fn told(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
