//! A bucket in S3, or in a server that speaks it.
//!
//! The create-if-absent is `If-None-Match: *` on the PUT, and on the completion of a multipart
//! upload. 412 says that the object exists; 409, that another create was under way: try again.
//!
//! What is not here: retries (`crate::Retry`), and whether the server honours the condition
//! (`crate::probe` asks at `init`).

mod client;
mod faults;
mod multipart;

use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::{Bytes, BytesMut};
use lifeboat_model::Timestamp;

pub use client::{S3Credentials, S3Options};

use crate::object::is_prefix;
use crate::{Error, Listed, ObjectName, S3Address, Store};
use faults::{Asked, chain};

/// The slowest link that is still worth waiting for, in bytes a second.
const SPEED_MIN: u64 = 64 << 10;
/// Names in one answer of a listing, at most.
const PAGE_LEN: usize = 1000;
/// Memory set aside on the word of a server; more is taken as bytes come in.
const RESERVE_MAX: u64 = 64 << 20;

/// A store below a prefix of one bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    address: S3Address,
    options: S3Options,
}

impl S3Store {
    /// Finds the credentials; makes no request to the bucket.
    pub async fn open(address: S3Address, options: S3Options) -> Result<Self, Error> {
        let client = client::build(&address, &options).await?;
        Ok(Self { client, address, options })
    }

    /// Makes the bucket; one that is there and ours is no error. For demos and tests: an operator's
    /// bucket has rules that only the operator knows.
    pub async fn create_bucket(&self) -> Result<(), Error> {
        let request = self.client.create_bucket().bucket(&self.address.bucket).send();
        let asked = self.asked("create bucket", "");
        match tokio::time::timeout(self.patience(0), request).await {
            Ok(Err(error)) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Ok(answer) => answer.map(|_| ()).map_err(|error| asked.fault(&error)),
            Err(_) => Err(asked.broken("no answer in time")),
        }
    }

    fn client(&self) -> &Client {
        &self.client
    }

    fn address(&self) -> &S3Address {
        &self.address
    }

    fn options(&self) -> &S3Options {
        &self.options
    }

    fn asked<'a>(&'a self, action: &'static str, name: &'a str) -> Asked<'a> {
        Asked { address: &self.address, action, name }
    }

    /// The answer to a request that moves `bytes`, or what its absence means.
    async fn in_time<T, E>(
        &self,
        asked: &Asked<'_>,
        bytes: u64,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Error>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        match tokio::time::timeout(self.patience(bytes), request).await {
            Ok(answer) => answer.map_err(|error| asked.fault(&error)),
            Err(_) => Err(asked.broken("no answer in time")),
        }
    }

    fn patience(&self, bytes: u64) -> Duration {
        self.options.request_timeout + Duration::from_secs(bytes / SPEED_MIN)
    }

    /// The bytes of an answer's body, which are `len` if that is known.
    async fn receive(&self, asked: &Asked<'_>, mut body: ByteStream, len: Option<u64>) -> Result<Bytes, Error> {
        let mut bytes = BytesMut::with_capacity(len.unwrap_or(0).min(RESERVE_MAX) as usize);
        let receiving = async {
            while let Some(part) = body.next().await {
                bytes.extend_from_slice(&part.map_err(|error| asked.broken(&chain(&error)))?);
                if len.is_some_and(|len| bytes.len() as u64 > len) {
                    return Err(asked.broken("the server sent more bytes than it announced"));
                }
            }
            Ok(())
        };
        let patience = self.patience(len.unwrap_or(RESERVE_MAX));
        tokio::time::timeout(patience, receiving).await.map_err(|_| asked.broken("the body did not end in time"))??;
        if len.is_some_and(|len| bytes.len() as u64 != len) {
            return Err(asked.broken("the body ended early"));
        }
        Ok(bytes.freeze())
    }

    /// `None` for what is not an object name: somebody else put it there.
    fn listed(&self, object: aws_sdk_s3::types::Object) -> Option<Listed> {
        let name = object.key.as_deref()?.strip_prefix(&self.address.prefix)?;
        let len = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
        let micros = |at: &DateTime| i64::try_from(at.as_nanos() / 1_000).unwrap_or(i64::MAX);
        let modified = object.last_modified.as_ref().map(|at| Timestamp(micros(at)));
        Some(Listed { name: ObjectName::new(name).ok()?, len, modified })
    }

    /// Bytes of an object.
    async fn len_of(&self, name: &ObjectName) -> Result<u64, Error> {
        let asked = self.asked("head", name.as_str());
        let request = self.client.head_object().bucket(&self.address.bucket).key(self.address.key(name)).send();
        let head = self.in_time(&asked, 0, request).await?;
        let len = head.content_length.and_then(|len| u64::try_from(len).ok());
        len.ok_or_else(|| asked.broken("the server does not say how long the object is"))
    }

    /// What a range beyond the object's end means.
    async fn truncated(&self, name: &ObjectName, wanted: u64) -> Error {
        match self.len_of(name).await {
            Ok(len) if len < wanted => Error::Truncated { name: name.to_string(), wanted, len },
            Ok(_) => self.asked("get", name.as_str()).broken("the server refused a range that the object has"),
            Err(error) => error,
        }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let len = body.len() as u64;
        if len > self.options.multipart_from_bytes {
            return self.create_in_parts(name, body).await;
        }
        let request = self
            .client
            .put_object()
            .bucket(&self.address.bucket)
            .key(self.address.key(name))
            .if_none_match("*")
            .body(ByteStream::from(body))
            .send();
        self.in_time(&self.asked("create", name.as_str()), len, request).await?;
        Ok(())
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, Error> {
        let asked = self.asked("get", name.as_str());
        let request = self.client.get_object().bucket(&self.address.bucket).key(self.address.key(name)).send();
        let answer = self.in_time(&asked, 0, request).await?;
        let len = answer.content_length.and_then(|len| u64::try_from(len).ok());
        self.receive(&asked, answer.body, len).await
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, Error> {
        let asked = self.asked("get", name.as_str());
        let wanted_len = range.end.saturating_sub(range.start);
        if wanted_len == 0 {
            // HTTP has no empty range; the promise that it lies within the object is kept all the same.
            let len = self.len_of(name).await?;
            let is_within = range.end <= len;
            let truncated = || Error::Truncated { name: name.to_string(), wanted: range.end, len };
            return if is_within { Ok(Bytes::new()) } else { Err(truncated()) };
        }
        let request = self.client.get_object().bucket(&self.address.bucket).key(self.address.key(name)).range(format!(
            "bytes={}-{}",
            range.start,
            range.end - 1
        ));
        let sent = tokio::time::timeout(self.patience(0), request.send()).await;
        let answer = match sent.map_err(|_| asked.broken("no answer in time"))? {
            Ok(answer) => answer,
            Err(SdkError::ServiceError(error)) if error.raw().status().as_u16() == 416 => {
                return Err(self.truncated(name, range.end).await);
            }
            Err(error) => return Err(asked.fault(&error)),
        };
        let announced = answer.content_length.and_then(|len| u64::try_from(len).ok());
        if answer.content_range.is_none() {
            // The server ignored the range and sends the whole object: right, if wasteful.
            let whole = self.receive(&asked, answer.body, announced).await?;
            return slice(name, &whole, range);
        }
        match announced {
            Some(len) if len < wanted_len => Err(self.truncated(name, range.end).await),
            _ => self.receive(&asked, answer.body, Some(wanted_len)).await,
        }
    }

    async fn list(&self, prefix: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<Listed>, Error> {
        let mut found: Vec<Listed> = Vec::new();
        if !is_prefix(prefix) {
            return Ok(found);
        }
        let asked = self.asked("list", prefix);
        let after = after.map(|after| self.address.key(after));
        let mut token: Option<String> = None;
        while found.len() < limit {
            let page_len = (limit - found.len()).min(PAGE_LEN);
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.address.bucket)
                .prefix(format!("{}{prefix}", self.address.prefix))
                .max_keys(i32::try_from(page_len).unwrap_or(i32::MAX))
                .set_start_after(after.clone())
                .set_continuation_token(token.clone())
                .send();
            let page = self.in_time(&asked, 0, request).await?;
            found.extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| self.listed(object)));
            if page.is_truncated != Some(true) {
                break;
            }
            // A listing that stood still must not pass for one that ended.
            if page.next_continuation_token.is_none() || page.next_continuation_token == token {
                return Err(asked.broken("the listing does not advance"));
            }
            token = page.next_continuation_token;
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), Error> {
        let request = self.client.delete_object().bucket(&self.address.bucket).key(self.address.key(name)).send();
        match self.in_time(&self.asked("delete", name.as_str()), 0, request).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn describe(&self) -> String {
        self.address.to_string()
    }
}

fn slice(name: &ObjectName, whole: &Bytes, range: Range<u64>) -> Result<Bytes, Error> {
    let len = whole.len() as u64;
    if range.end > len {
        return Err(Error::Truncated { name: name.to_string(), wanted: range.end, len });
    }
    Ok(whole.slice(range.start as usize..range.end as usize))
}
