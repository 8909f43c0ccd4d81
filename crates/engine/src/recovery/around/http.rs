//! A check by a page of the operator's: asked for once, its status and its beginning looked at.
//!
//! The site's id is one encoded segment of the address, whatever is in it. A redirection is an answer like any other: it is
//! not followed.
//!
//! What is not here: the client itself (`http`).

use std::time::{Duration, Instant};

use lifeboat_model::SiteId;

use super::{NotPassed, Verdict, took_for};
use crate::command::{Stop, one_line};
use crate::http::{HttpAnswer, HttpRequest};

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
        let address = address(page.url, site)?;
        let answer = HttpRequest::get(&address).send().await;
        judge(page, answer.map_err(|failure| format!("url=`{}`: {failure}", shown(&address)))?).await
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
fn address(url: &str, site: &SiteId) -> Result<String, String> {
    // As a segment these two mean another page, however they are written.
    if matches!(site.as_str(), "." | "..") {
        return Err("no address can have the site's id in it".into());
    }
    Ok(url.replace("{site}", &encoded(site.as_str())))
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

async fn judge(page: &Page<'_>, answer: HttpAnswer) -> Result<(), String> {
    let status = answer.status;
    if status != page.status {
        return Err(format!("expected=`{}`, status=`{status}`", page.status));
    }
    let Some(wanted) = page.contains else { return Ok(()) };
    let begin = answer.beginning(BODY_BYTES_MAX).await?;
    // By bytes: a page need not be UTF-8.
    if begin.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
        return Ok(());
    }
    Err(format!("the page does not contain the text: text=`{}`, looked at={} bytes", one_line(wanted), begin.len()))
}

#[cfg(test)]
mod tests;
