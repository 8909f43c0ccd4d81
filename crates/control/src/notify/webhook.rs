//! Webhooks and pings: what is sent over HTTP, how often it is tried, and what proves who sent it.
//!
//! The signature is `sha256=` and the hexadecimal HMAC-SHA-256, under the key, of the time in the header beside it, a dot, and
//! the body: whoever checks both knows who sent it, and that it is not an old one sent again.

use std::time::Duration;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use lifeboat_engine::{HttpAnswer, HttpRequest};
use lifeboat_model::Timestamp;
use sha2::Sha256;

use crate::alarms::Message;

/// The first attempt, and others after so long each.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// Of a refusal's body this much is told.
const TOLD_BYTES_MAX: usize = 200;

/// A page that takes messages.
#[derive(Clone)]
pub struct Webhook {
    pub url: String,
    /// Sent as `authorization: Bearer …`.
    pub token: Option<String>,
    pub signing_key: Option<Vec<u8>>,
}

impl Webhook {
    pub(super) async fn post(&self, message: &Message, now: Timestamp, timeout: Duration) -> Result<(), String> {
        let mut request = HttpRequest::post(&self.url, message.json.clone()).with("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.with("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = &self.signing_key {
            let at = now.to_string();
            let signature = sign(key, &at, &message.json);
            request = request.with("x-lifeboat-timestamp", at).with("x-lifeboat-signature", signature);
        }
        ask(&request, timeout).await
    }
}

/// `sha256=` and 64 hexadecimal digits.
fn sign(key: &[u8], at: &str, body: &str) -> String {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(at.as_bytes());
    mac.update(b".");
    mac.update(body.as_bytes());
    format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

/// A page that misses us when we are silent: somebody else's alarm for the case that ours cannot be given.
#[derive(Clone)]
pub struct Ping {
    /// Or why it cannot be had.
    pub url: Result<String, String>,
    pub is_post: bool,
    pub on_breach: PingOnBreach,
    pub timeout: Duration,
}

/// What is sent after a cycle in which something is not as promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingOnBreach {
    /// Nothing: whoever waits for the ping misses it.
    Silence,
    /// `/fail` behind the address, as healthchecks.io has it.
    Fail,
}

impl Ping {
    /// `None`: nothing is to be sent.
    ///
    /// # Errors
    /// Why it did not arrive, in one line.
    pub async fn send(&self, is_healthy: bool) -> Option<Result<(), String>> {
        let url = match (&self.url, is_healthy, self.on_breach) {
            (Err(reason), _, _) => return Some(Err(reason.clone())),
            (Ok(url), true, _) => url.clone(),
            (Ok(url), false, PingOnBreach::Fail) => failing(url),
            (Ok(_), false, PingOnBreach::Silence) => return None,
        };
        let request = if self.is_post { HttpRequest::post(&url, "") } else { HttpRequest::get(&url) };
        Some(ask(&request, self.timeout).await)
    }
}

/// The same address with `/fail` at the end of its path.
fn failing(url: &str) -> String {
    let (path, query) = match url.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (url, String::new()),
    };
    format!("{}/fail{query}", path.trim_end_matches('/'))
}

/// Asks until there is an answer that will not change.
async fn ask(request: &HttpRequest, timeout: Duration) -> Result<(), String> {
    let mut pauses = PAUSES.iter();
    loop {
        let (why, is_final) = match tokio::time::timeout(timeout, once(request)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(refused)) => refused,
            Err(_) => (format!("no whole answer within {} s", timeout.as_secs()), false),
        };
        match pauses.next().filter(|_| !is_final) {
            Some(pause) => tokio::time::sleep(*pause).await,
            None => return Err(why),
        }
    }
}

/// Why not, and whether that will stay so.
async fn once(request: &HttpRequest) -> Result<(), (String, bool)> {
    let answer: HttpAnswer = request.clone().send().await.map_err(|why| (why, false))?;
    let status = answer.status;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let told = answer.beginning(TOLD_BYTES_MAX).await.unwrap_or_default();
    let told: String =
        String::from_utf8_lossy(&told).chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let is_passing = status >= 500 || matches!(status, 408 | 429);
    Err((format!("status=`{status}`, answer=`{}`", told.trim()), !is_passing))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, with the dot of our form inside its data.
    #[test]
    fn a_signature_is_the_hmac_of_time_dot_and_body() {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let vector = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(HEXLOWER.encode(&mac.finalize().into_bytes()), vector);
        // python3 -c "import hmac; print(hmac.new(b'key', b'2026-01-01T00:00:00Z.{}', 'sha256').hexdigest())"
        let want = "sha256=11b9c48aed40d7ad35ef6eef0fe1540b9e6f4b713aa7d4debd647c51fd6fc1e3";
        assert_eq!(sign(b"key", "2026-01-01T00:00:00Z", "{}"), want);
    }

    #[test]
    fn the_failing_address_is_the_path_with_fail_behind_it() {
        let check = |url: &str, want: &str| assert_eq!(failing(url), want);
        check("https://hc.example/uuid", "https://hc.example/uuid/fail");
        check("https://hc.example/uuid/", "https://hc.example/uuid/fail");
        check("https://hc.example/uuid?rid=1", "https://hc.example/uuid/fail?rid=1");
    }
}
