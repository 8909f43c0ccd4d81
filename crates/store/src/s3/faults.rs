//! What an answer of S3, or none, means for whoever runs Lifeboat.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::{Error, S3Address};

/// Waits longer than this are not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What was asked, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub address: &'a S3Address,
    /// `create`, `get` …
    pub action: &'static str,
    /// The object's name, or the prefix of a listing.
    pub name: &'a str,
}

impl Asked<'_> {
    /// The meaning of an SDK error.
    pub fn fault<E>(&self, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        match error {
            SdkError::ServiceError(service) => {
                let answer = Answer {
                    status: service.raw().status().as_u16(),
                    code: service.err().code().unwrap_or(""),
                    message: service.err().message().unwrap_or(""),
                    retry_after: service.raw().headers().get("retry-after").and_then(retry_after),
                };
                self.fault_of(&answer)
            }
            SdkError::ResponseError(response) => {
                let retry_after = response.raw().headers().get("retry-after").and_then(retry_after);
                let status = response.raw().status().as_u16();
                // The body was not what S3 answers: something on the way (a proxy), or a cut connection.
                self.fault_of(&Answer { status, code: "", message: &chain(error), retry_after })
            }
            _ => self.unanswered(error),
        }
    }

    /// The meaning of an answer that is an error.
    pub fn fault_of(&self, answer: &Answer<'_>) -> Error {
        let detail = self.detail(answer);
        let refused = |hint: String| Error::Refused { detail: detail.clone(), hint };
        let credentials = "check the access key and its policy: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else the profile AWS_PROFILE in ~/.aws, else the role of the container or instance";
        match (answer.status, answer.code) {
            (_, "NoSuchBucket") => refused(format!(
                "create the bucket `{}`, or correct the repository's `url` (and its endpoint)",
                self.address.bucket
            )),
            (_, "RequestTimeTooSkewed") => refused("set this host's clock: it differs from the server's".into()),
            (301 | 307 | 308, _)
            | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") => {
                refused("the bucket is in another region: correct `region=` in the repository's `url`".into())
            }
            (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401 | 403, _) => {
                refused(credentials.into())
            }
            (507, _) | (_, "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "NoSpaceLeft") => {
                Error::Full { detail }
            }
            (501, _) | (_, "NotImplemented") => Error::Unfit {
                detail: format!("the server does not know a request that a repository needs: {detail}"),
                hint: "use S3 itself or a server that honours `If-None-Match: *`".into(),
            },
            (404, "NoSuchUpload") | (408 | 409 | 429 | 500.., _) => self.unavailable(detail, answer.retry_after),
            (_, "RequestTimeout" | "SlowDown" | "OperationAborted" | "InternalError") => {
                self.unavailable(detail, answer.retry_after)
            }
            (404, _) if matches!(self.action, "get" | "head" | "delete") => {
                Error::NotFound { name: self.name.to_owned() }
            }
            (412, _) if self.action == "create" => Error::AlreadyExists { name: self.name.to_owned() },
            (200..=299, _) => self.unavailable(format!("the answer was cut short or garbled: {detail}"), None),
            _ => refused("the server does not take this request: check that the endpoint speaks S3".into()),
        }
    }

    /// No answer came, or the request was not even made.
    fn unanswered<E: StdError + 'static>(&self, error: &SdkError<E, HttpResponse>) -> Error {
        let causes = chain(error);
        if has_source::<CredentialsError>(error) {
            return no_credentials(&causes);
        }
        if causes.contains("certificate") {
            return Error::Refused {
                detail: format!("the server's certificate is not trusted: {causes}"),
                hint: "name the certificate authority's PEM file in SSL_CERT_FILE or AWS_CA_BUNDLE".into(),
            };
        }
        let detail = format!("{causes}: action=`{}`, object=`{}`, store=`{}`", self.action, self.name, self.address);
        match error {
            SdkError::ConstructionFailure(_) => {
                Error::Refused { detail, hint: "check the repository's `url`: bucket, endpoint and region".into() }
            }
            _ => self.unavailable(detail, None),
        }
    }

    /// A request or a body that took too long, or broke off.
    pub fn broken(&self, what: &str) -> Error {
        let detail = format!("{what}: action=`{}`, object=`{}`, store=`{}`", self.action, self.name, self.address);
        self.unavailable(detail, None)
    }

    fn unavailable(&self, detail: String, after: Option<Duration>) -> Error {
        Error::Unavailable { detail, after }
    }

    fn detail(&self, answer: &Answer<'_>) -> String {
        let message = if answer.message.is_empty() { "no message" } else { answer.message };
        format!(
            "{message}: status=`{}`, code=`{}`, action=`{}`, object=`{}`, store=`{}`",
            answer.status, answer.code, self.action, self.name, self.address
        )
    }
}

/// What matters of an answer that is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    pub status: u16,
    /// S3's own word for it; empty when there was none.
    pub code: &'a str,
    pub message: &'a str,
    pub retry_after: Option<Duration>,
}

/// Credentials that are missing or cannot be had.
pub fn no_credentials(causes: &str) -> Error {
    Error::Refused {
        detail: format!("no credentials for S3: {causes}"),
        hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws, or give the container or instance a role".into(),
    }
}

/// Whole seconds; the form with a date is seldom and ignored.
fn retry_after(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// An error with all its causes on one line, none said twice.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = cause.source();
    }
    text
}

fn has_source<T: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(cause) = at {
        if cause.is::<T>() {
            return true;
        }
        at = cause.source();
    }
    false
}

#[cfg(test)]
mod tests;
