//! A large body in parts, sent side by side; it exists only from the conditional completion on.
//!
//! Not every server decides that condition in one step with the completion. SeaweedFS 4.48 refuses
//! one that comes after the object was created, but told both of a PUT and a completion at the same
//! moment that they won (2 of 40 tries; the last one stays). So whatever a race is decided by must
//! be small enough for one PUT; large objects have names that nobody else chooses.
//!
//! A failure or a caller that stops waiting aborts the upload, so that no unseen parts are paid for.

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::S3Store;
use super::faults::Asked;
use crate::{Error, ObjectName};

/// S3 takes no more parts than this.
const PARTS_MAX: u64 = 10_000;

/// Bytes of each part but the last, for a body of `len`.
fn part_len(len: u64, wanted: u64) -> u64 {
    wanted.max(len.div_ceil(PARTS_MAX)).max(1)
}

impl S3Store {
    pub(super) async fn create_in_parts(&self, name: &ObjectName, body: Bytes) -> Result<(), Error> {
        let asked = self.asked("create", name.as_str());
        // Seen before the bytes are sent; what decides is the condition on the completion.
        if self.len_of(name).await.is_ok() {
            return Err(Error::AlreadyExists { name: name.to_string() });
        }
        let upload = self.begin(name, &asked).await?;
        let parts = self.send_parts(&upload, &body, &asked).await?;
        let request = self
            .client()
            .complete_multipart_upload()
            .bucket(&upload.bucket)
            .key(&upload.key)
            .upload_id(&upload.id)
            .if_none_match("*")
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send();
        // Servers put large parts together before they answer.
        self.in_time(&asked, body.len() as u64, request).await?;
        upload.done();
        Ok(())
    }

    async fn begin(&self, name: &ObjectName, asked: &Asked<'_>) -> Result<Upload, Error> {
        let (bucket, key) = (self.address().bucket.clone(), self.address().key(name));
        let request = self.client().create_multipart_upload().bucket(&bucket).key(&key).send();
        let begun = self.in_time(asked, 0, request).await?;
        let id = begun.upload_id.ok_or_else(|| asked.broken("the server began an upload without an id"))?;
        Ok(Upload { client: self.client().clone(), bucket, key, id, is_open: true })
    }

    async fn send_parts(&self, upload: &Upload, body: &Bytes, asked: &Asked<'_>) -> Result<Vec<CompletedPart>, Error> {
        let step = part_len(body.len() as u64, self.options().part_bytes) as usize;
        let starts = (0..body.len().max(1)).step_by(step).zip(1..);
        let sends = starts.map(|(start, number)| async move {
            let part = body.slice(start..(start + step).min(body.len()));
            let len = part.len() as u64;
            let request = self
                .client()
                .upload_part()
                .bucket(&upload.bucket)
                .key(&upload.key)
                .upload_id(&upload.id)
                .part_number(number)
                .body(ByteStream::from(part))
                .send();
            let sent = self.in_time(asked, len, request).await?;
            Ok::<_, Error>(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
        });
        let parallel = self.options().parts_parallel.max(1);
        let mut parts: Vec<CompletedPart> = stream::iter(sends).buffer_unordered(parallel).try_collect().await?;
        parts.sort_by_key(|part| part.part_number);
        Ok(parts)
    }
}

/// A multipart upload; aborted when dropped before [`Upload::done`].
struct Upload {
    client: Client,
    bucket: String,
    key: String,
    id: String,
    is_open: bool,
}

impl Upload {
    fn done(mut self) {
        self.is_open = false;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        // Best effort: outside a runtime, or when it goes down, the bucket's own rule for unfinished
        // uploads collects the parts.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        runtime.spawn(async move {
            if let Err(error) = abort.send().await {
                tracing::debug!(error = %super::faults::chain(&error), "an unfinished upload was not aborted");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_never_needs_more_parts_than_s3_takes() {
        let check = |len: u64, wanted: u64, want: u64| assert_eq!(part_len(len, wanted), want, "{len} {wanted}");
        check(0, 16 << 20, 16 << 20);
        check(100 << 20, 16 << 20, 16 << 20);
        check(10_000 * (16 << 20), 16 << 20, 16 << 20);
        check(10_000 * (16 << 20) + 1, 16 << 20, (16 << 20) + 1);
        check(5, 0, 1);
    }
}
