//! Where the repositories of a bench are: below an address, under a new prefix of their own.
//!
//!   file:///backups           ─▶ file:///backups/bench-20261127-142500-1/…
//!   s3://bucket/live?region=… ─▶ s3://bucket/live/bench-20261127-142500-1/…?region=…
//!
//! So no repository that is there is ever written or removed. Far away is what is reached through a link.

use std::path::PathBuf;

use futures_util::{StreamExt, TryStreamExt, stream};
use lifeboat_store::{Address, OpenOptions, S3Address};

use crate::{Error, Link, LinkOptions, at};

/// Objects listed, and removed at once.
const LISTED: usize = 1_000;
const REMOVED_AT_ONCE: usize = 16;

/// An address below which the bench's repositories are.
#[derive(Debug, Clone)]
pub struct Place {
    url: String,
}

impl Place {
    /// Below `url`, under `name`, which nobody else has.
    ///
    /// # Errors
    /// When `url` is no address of a repository, or its directory has that name already.
    pub fn below(url: &str, name: &str) -> Result<Self, Error> {
        let place = Self { url: join(url, name) };
        match place.address()? {
            Address::Directory { path } if path.exists() => {
                Err(Error::Disk { path, reason: std::io::Error::from(std::io::ErrorKind::AlreadyExists) })
            }
            _ => Ok(place),
        }
    }

    /// Refuses a place in which something is: what is there is not ours to remove. Asks the server, so that one that
    /// cannot be reached is told before any data is made.
    ///
    /// # Errors
    /// When something is there, or the server does not answer.
    pub async fn expect_empty(&self) -> Result<(), Error> {
        if let Address::Directory { .. } = self.address()? {
            return Ok(()); // looked at when it was named
        }
        let store = lifeboat_store::open(&self.url, &OpenOptions::default()).await?.store;
        match store.list("", None, 1).await?.first() {
            None => Ok(()),
            Some(_) => Err(Error::Asked {
                detail: format!("something is there already: place=`{}`", store.describe()),
                hint: "run the same command again: it takes another prefix".into(),
            }),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of one repository.
    pub(crate) fn repository(&self, name: &str) -> String {
        join(&self.url, name)
    }

    fn address(&self) -> Result<Address, Error> {
        Ok(Address::parse(&self.url)?)
    }

    /// The same place through a link, which is up as long as it is held.
    ///
    /// # Errors
    /// When it is no server that speaks plain HTTP, or its name leads nowhere.
    pub async fn through(&self, options: LinkOptions) -> Result<(Link, Self), Error> {
        let Address::S3(address) = self.address()? else { return Err(no_link("the repository is a directory")) };
        let server = address.endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix("http://"));
        let Some(server) = server.map(|server| server.trim_end_matches('/')) else {
            return Err(no_link("the repository's endpoint is not http://HOST:PORT"));
        };
        let server = if server.contains(':') { server.to_owned() } else { format!("{server}:80") };
        let refused =
            |io: std::io::Error| no_link(&format!("the server cannot be reached: server=`{server}`, reason=`{io}`"));
        let mut found = tokio::net::lookup_host(&server).await.map_err(refused)?;
        let socket = found.next().ok_or_else(|| no_link(&format!("the server has no address: server=`{server}`")))?;
        let link = Link::to(socket, options).await.map_err(refused)?;
        let endpoint = format!("http://{}", link.address());
        Ok((link, Self { url: url_of(&S3Address { endpoint: Some(endpoint), ..address }) }))
    }

    /// Removes everything below it; nothing there is no error.
    ///
    /// # Errors
    /// When the store does not let it go.
    pub async fn remove(&self) -> Result<(), Error> {
        if let Address::Directory { path } = self.address()? {
            return remove_directory(path);
        }
        let store = lifeboat_store::open(&self.url, &OpenOptions::default()).await?.store;
        loop {
            let listed = store.list("", None, LISTED).await?;
            let removed = stream::iter(&listed).map(|object| store.delete(&object.name));
            removed.buffer_unordered(REMOVED_AT_ONCE).try_collect::<()>().await?;
            if listed.len() < LISTED {
                return Ok(());
            }
        }
    }
}

/// Only a directory that [`Place::below`] found missing comes here.
fn remove_directory(path: PathBuf) -> Result<(), Error> {
    match std::fs::remove_dir_all(&path) {
        Err(io) if io.kind() != std::io::ErrorKind::NotFound => Err(at(&path)(io)),
        _ => Ok(()),
    }
}

fn no_link(why: &str) -> Error {
    Error::Asked {
        detail: format!("--delay and --rate need a server to stand in front of: {why}"),
        hint: "name a server of S3 over plain HTTP: --repository 's3://BUCKET/PREFIX?endpoint=http://HOST:PORT'".into(),
    }
}

/// One more segment at the end of the path of an address.
fn join(url: &str, name: &str) -> String {
    let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", path.trim_end_matches('/'))
}

/// An address of a server behind a link: by number, so that the bucket cannot stand before it.
fn url_of(address: &S3Address) -> String {
    let S3Address { bucket, prefix, endpoint, region, .. } = address;
    let endpoint = endpoint.as_deref().unwrap_or_default();
    let region = region.as_ref().map(|region| format!("&region={region}")).unwrap_or_default();
    format!("s3://{bucket}/{}?endpoint={endpoint}{region}&path_style=true", prefix.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FAR: LinkOptions = LinkOptions { round_trip: Duration::from_millis(20), bytes_per_second: None };

    #[test]
    fn a_repository_of_a_bench_is_below_the_address_and_never_at_it() {
        let check = |url: &str, want: &str| {
            assert_eq!(Place::below(url, "bench-1").unwrap().repository("r0"), want);
        };
        check("file:///no/such/place/", "file:///no/such/place/bench-1/r0");
        check("s3://bucket?region=eu", "s3://bucket/bench-1/r0?region=eu");
        check("s3://bucket/live/?path_style=true", "s3://bucket/live/bench-1/r0?path_style=true");
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bench-1")).unwrap();
        let refused = Place::below(&format!("file://{}", dir.path().display()), "bench-1");
        assert!(matches!(refused, Err(Error::Disk { .. })), "{refused:?}");
        assert!(matches!(Place::below("nonsense", "bench-1"), Err(Error::Store(_))));
    }

    #[tokio::test]
    async fn a_link_stands_in_front_of_plain_http_only() {
        let near = Place::below("s3://bucket/live?endpoint=http://127.0.0.1:9000&region=eu", "bench-1").unwrap();
        let (link, far) = near.through(FAR).await.unwrap();
        let want = format!("s3://bucket/live/bench-1?endpoint=http://{}&region=eu&path_style=true", link.address());
        assert_eq!(far.url(), want);
        for other in ["file:///no/such/place", "s3://bucket/live", "s3://bucket?endpoint=https://localhost:9000"] {
            let refused = Place::below(other, "bench-1").unwrap().through(FAR).await.unwrap_err();
            assert!(matches!(refused, Error::Asked { .. }), "{other}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn what_is_removed_is_what_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::below(&format!("file://{}", dir.path().display()), "bench-1").unwrap();
        std::fs::create_dir_all(dir.path().join("bench-1/r0")).unwrap();
        std::fs::create_dir(dir.path().join("theirs")).unwrap();
        place.remove().await.unwrap();
        place.remove().await.unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["theirs"]);
    }
}
