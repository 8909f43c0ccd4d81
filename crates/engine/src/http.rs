//! The one client of HTTP in the program: one request, its answer's status, the beginning of its body.
//!
//!   [`HttpRequest`] ──send──▶ [`HttpAnswer`] ──beginning──▶ bytes
//!
//! Each request has a connection of its own, in HTTP/1.1. A redirection is an answer like any other: it is not followed. TLS is
//! checked against the system's authorities. No failure repeats the address: what is asked of a page may be a secret, and so
//! may the whole of a webhook's address.
//!
//! What is not here: how long anybody waits, whether it is tried again, and what an answer means (whoever asks).

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;

use crate::command::one_line;

const AGENT: &str = concat!("lifeboat/", env!("CARGO_PKG_VERSION"));

/// What is asked.
#[derive(Clone)]
pub struct HttpRequest {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// What came back.
pub struct HttpAnswer {
    pub status: u16,
    body: Incoming,
}

impl HttpRequest {
    pub fn get(url: &str) -> Self {
        Self { method: Method::GET, url: url.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    pub fn post(url: &str, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(url) }
    }

    /// With one more header; its name in lower case.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// # Errors
    /// When there is no answer: why, for a person, in one line and without the address.
    pub async fn send(self) -> Result<HttpAnswer, String> {
        let address: Uri = self.url.parse().map_err(|error| format!("this is no address: {error}"))?;
        let answer = match address.scheme_str() {
            Some("http") => self.send_by(HttpConnector::new(), address).await?,
            _ => {
                let tls = HttpsConnectorBuilder::new().with_native_roots();
                let tls = tls.map_err(|error| format!("no certificates of authorities: {error}"))?;
                self.send_by(tls.https_only().enable_http1().build(), address).await?
            }
        };
        Ok(HttpAnswer { status: answer.status().as_u16(), body: answer.into_body() })
    }

    async fn send_by(
        self,
        connector: impl Connect + Clone + Send + Sync + 'static,
        address: Uri,
    ) -> Result<Response<Incoming>, String> {
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let mut request = Request::builder().method(self.method).uri(address);
        for (name, value) in
            [("user-agent", AGENT.to_owned()), ("accept", "*/*".to_owned())].iter().chain(&self.headers)
        {
            request = request.header(*name, value);
        }
        let request =
            request.body(Full::new(self.body)).map_err(|error| format!("this cannot be asked for: {error}"))?;
        client.request(request).await.map_err(|error| words(&error))
    }
}

impl HttpAnswer {
    /// So much of its body, or all of it where it is shorter.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn beginning(mut self, bytes_max: usize) -> Result<Vec<u8>, String> {
        let mut begin = Vec::new();
        while begin.len() < bytes_max
            && let Some(frame) = self.body.frame().await
        {
            let frame = frame.map_err(|error| words(&error))?;
            if let Some(data) = frame.data_ref() {
                begin.extend_from_slice(&data[..data.len().min(bytes_max - begin.len())]);
            }
        }
        Ok(begin)
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_posted_arrives_as_it_is_and_no_failure_repeats_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook/secret?a=b", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut connection = listener.accept().unwrap().0;
            let mut seen = Vec::new();
            let mut byte = [0];
            while !seen.ends_with(b"{\"a\":1}") && connection.read(&mut byte).unwrap() > 0 {
                seen.push(byte[0]);
            }
            connection.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 4\r\n\r\nfine").unwrap();
            String::from_utf8(seen).unwrap()
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let post = HttpRequest::post(&url, "{\"a\":1}").with("authorization", "Bearer t");
            let answer = post.send().await.unwrap();
            assert_eq!(answer.status, 202);
            assert_eq!(answer.beginning(3).await.unwrap(), b"fin");
        });
        let seen = server.join().unwrap();
        assert!(seen.starts_with("POST /hook/secret?a=b HTTP/1.1\r\n"), "{seen}");
        for header in ["authorization: Bearer t\r\n", "content-length: 7\r\n", "user-agent: lifeboat/"] {
            assert!(seen.contains(header), "{seen}");
        }
        // Nobody listens there any more.
        let failure = runtime.block_on(HttpRequest::get(&url).send()).err().unwrap();
        assert!(failure.contains("refused") && !failure.contains("secret"), "{failure}");
        for bad in ["", "no address", "http://[/x", "/hook"] {
            let failure = runtime.block_on(HttpRequest::get(bad).send()).err().unwrap();
            assert!(!failure.is_empty() && failure.lines().count() == 1, "{bad}: {failure}");
        }
    }
}
