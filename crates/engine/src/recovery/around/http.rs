//! A check by a page of the operator's: asked for once, its status and its beginning looked at.
//!
//! The site's id is one encoded segment of the address, whatever is in it. A redirection is an answer like any other: it is
//! not followed. TLS is checked against the system's authorities.
//!
//! What is not here: any other way to use HTTP.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use lifeboat_model::SiteId;

use super::{NotPassed, Verdict, took_for};
use crate::command::{Stop, one_line};

/// A text is looked for in so much of a page.
const BODY_BYTES_MAX: usize = 1 << 20;
const POLL: Duration = Duration::from_millis(50);

pub(super) struct Page<'a> {
    /// With `{site}` in it.
    pub url: &'a str,
    pub status: u16,
    pub contains: Option<&'a str>,
}

pub(super) async fn ask(page: &Page<'_>, site: &SiteId, timeout: Duration, stop: Stop<'_>) -> Verdict {
    let began = Instant::now();
    let stopped = async {
        while !stop() {
            tokio::time::sleep(POLL).await;
        }
    };
    let answered = async {
        let response = get(&address(page.url, site)?).await?;
        judge(page, response).await
    };
    tokio::select! {
        answer = tokio::time::timeout(timeout, answered) => match answer {
            Ok(Ok(())) => Ok(took_for(began.elapsed())),
            Ok(Err(why)) => Err(NotPassed::Because(why)),
            Err(_) => Err(NotPassed::Because(format!("no whole answer within {} s", timeout.as_secs()))),
        },
        () = stopped => Err(NotPassed::Stopped),
    }
}

/// The address with the site in it.
fn address(url: &str, site: &SiteId) -> Result<Uri, String> {
    // As a segment these two mean another page, however they are written.
    if matches!(site.as_str(), "." | "..") {
        return Err("no address can have the site's id in it".into());
    }
    let address = url.replace("{site}", &encoded(site.as_str()));
    address.parse().map_err(|error| format!("this is no address: url=`{}`, {error}", shown(&address)))
}

/// An address for people: what is asked of the page may be a secret, and receipts are given to others.
fn shown(address: &str) -> &str {
    address.split(['?', '#']).next().unwrap_or_default()
}

/// All but letters, digits and `-._~` as `%XX` of their UTF-8 (RFC 3986, 2.1 and 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

async fn get(address: &Uri) -> Result<Response<Incoming>, String> {
    if address.scheme_str() == Some("http") {
        return send(HttpConnector::new(), address).await;
    }
    let tls = HttpsConnectorBuilder::new().with_native_roots();
    let tls = tls.map_err(|error| format!("no certificates of authorities: {error}"))?;
    send(tls.https_only().enable_http1().build(), address).await
}

async fn send(
    connector: impl Connect + Clone + Send + Sync + 'static,
    address: &Uri,
) -> Result<Response<Incoming>, String> {
    let client: Client<_, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let agent = concat!("lifeboat/", env!("CARGO_PKG_VERSION"));
    let request = Request::get(address).header("user-agent", agent).header("accept", "*/*").body(Empty::new());
    let request =
        request.map_err(|error| format!("this cannot be asked for: url=`{}`, {error}", shown(&address.to_string())))?;
    client.request(request).await.map_err(|error| format!("url=`{}`: {}", shown(&address.to_string()), words(&error)))
}

/// An error with what is behind it: the first of them says only that there was one.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    one_line(&text)
}

async fn judge(page: &Page<'_>, response: Response<Incoming>) -> Result<(), String> {
    let status = response.status().as_u16();
    if status != page.status {
        return Err(format!("expected=`{}`, status=`{status}`", page.status));
    }
    let Some(wanted) = page.contains else { return Ok(()) };
    let begin = beginning(response.into_body()).await?;
    // By bytes: a page need not be UTF-8.
    if begin.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
        return Ok(());
    }
    Err(format!("the page does not contain the text: text=`{}`, looked at={} bytes", one_line(wanted), begin.len()))
}

async fn beginning(mut body: Incoming) -> Result<Vec<u8>, String> {
    let mut begin = Vec::new();
    while begin.len() < BODY_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| words(&error))?;
        if let Some(data) = frame.data_ref() {
            begin.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - begin.len())]);
        }
    }
    Ok(begin)
}

#[cfg(test)]
mod tests;
