//! Does this store keep the promises a repository stands on? Asked once, at `init`.
//!
//! Several servers accept a conditional create, answer 200 and overwrite; some keep the framing of
//! the transfer as if it were content. A repository on such a store would lose commits silently, so
//! each promise is tried with real requests below `probe/`, and a store that breaks one is refused
//! by name of what it did.
//!
//! What is not here: promises that no request can show (durability, the disks behind a server).

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::future::join_all;
use lifeboat_model::Faulty;

use crate::{Error, ObjectName, Store};

const RACERS: usize = 8;

/// Promises that were tried and held.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// A second create is refused, the first body stays, and of racing creates one wins.
    pub create_if_absent: bool,
    /// What was just created is read, ranged, and listed.
    pub read_after_write: bool,
    /// Listings of names of one length are in byte order and honour `limit` and `after`.
    pub ordered_list: bool,
}

impl Capabilities {
    /// Their names, as a repository records them.
    pub fn to_list(&self) -> Vec<String> {
        let all = [
            ("create-if-absent", self.create_if_absent),
            ("read-after-write", self.read_after_write),
            ("ordered-list", self.ordered_list),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
    }
}

/// Tries every promise, and removes what it made, also when one is broken.
///
/// # Errors
/// [`Error::Unfit`] names what the store did wrong; other errors mean that it could not be tried.
pub async fn probe(store: &dyn Store) -> Result<Capabilities, Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Error::Refused {
        detail: format!("the system gives no random numbers: {error}"),
        hint: "see why getrandom(2) fails on this host".to_owned(),
    })?;
    let probe = Probe { store, dir: format!("probe/{}/", HEXLOWER.encode(&random)) };
    let tried = probe.run().await;
    let swept = probe.sweep().await;
    tried?;
    swept?;
    Ok(Capabilities { create_if_absent: true, read_after_write: true, ordered_list: true })
}

struct Probe<'a> {
    store: &'a dyn Store,
    /// Ends with `/`; other probes use other ones.
    dir: String,
}

impl Probe<'_> {
    async fn run(&self) -> Result<(), Error> {
        self.second_create_is_refused().await?;
        self.one_racer_wins("pair", 2).await?;
        self.one_racer_wins("many", RACERS).await?;
        self.bytes_come_back().await?;
        self.lists_are_ordered().await?;
        self.deletes_delete().await
    }

    async fn second_create_is_refused(&self) -> Result<(), Error> {
        let name = self.name("second");
        self.store.create(&name, body(b"first")).await?;
        match self.store.create(&name, body(b"second, and longer")).await {
            Err(Error::AlreadyExists { .. }) => {}
            Ok(()) => return Err(self.unfit("it accepted a second create of an object that exists")),
            Err(error) if error.fault() == lifeboat_model::Fault::Retry => return Err(error),
            Err(error) => {
                return Err(self.unfit(&format!(
                    "it did not say that an object exists already when it was created again, but: {error}"
                )));
            }
        }
        if self.read(&name).await? != body(b"first") {
            return Err(self.unfit("it refused a second create of an object, and changed the object all the same"));
        }
        Ok(())
    }

    async fn one_racer_wins(&self, segment: &str, racers: usize) -> Result<(), Error> {
        let name = self.name(segment);
        let bodies: Vec<Bytes> =
            (0..racers).map(|racer| Bytes::from(format!("racer {racer}").repeat(racer + 1))).collect();
        let outcomes = join_all(bodies.iter().map(|body| self.store.create(&name, body.clone()))).await;
        let mut winners = Vec::new();
        for (racer, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(()) => winners.push(racer),
                Err(Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let [winner] = winners[..] else {
            let count = winners.len();
            return Err(self.unfit(&format!(
                "of {racers} creates of one object at the same time, it let {count} succeed instead of one"
            )));
        };
        if self.read(&name).await? != bodies[winner] {
            return Err(self.unfit("it told one racing create that it won, and kept the bytes of another"));
        }
        Ok(())
    }

    async fn bytes_come_back(&self) -> Result<(), Error> {
        let name = self.name("bytes");
        // Every byte value, line ends and what looks like transfer framing; longer than one frame.
        let pattern = (0..=255u8).chain(*b"\r\n10000;chunk-signature=\r\n");
        let wanted: Bytes = pattern.cycle().take(150_000).collect();
        self.store.create(&name, wanted.clone()).await?;
        let there = self.read(&name).await?;
        if there != wanted {
            return Err(self.unfit(&format!(
                "it did not give back the bytes that were created: {} bytes written, {} bytes read",
                wanted.len(),
                there.len()
            )));
        }
        for range in [0..1, 1..256, 65_530..65_550, 149_999..150_000, 0..150_000] {
            let part = self.store.get_range(&name, range.start as u64..range.end as u64).await?;
            if part != wanted.slice(range.clone()) {
                return Err(
                    self.unfit(&format!("it gave other bytes than those of the range that was asked for: {range:?}"))
                );
            }
        }
        match self.store.get_range(&name, 149_000..151_000).await {
            Err(Error::Truncated { .. }) => Ok(()),
            _ => Err(self.unfit("it did not say that an object is shorter than the range that was asked for")),
        }
    }

    async fn lists_are_ordered(&self) -> Result<(), Error> {
        let dir = format!("{}list/", self.dir);
        let wanted =
            ["00000001", "0000000a", "0000000f", "00000010", "fffffffe"].map(|segment| format!("{dir}{segment}"));
        for name in wanted.iter().rev() {
            self.store.create(&object(name), body(b"listed")).await?;
        }
        let all: Vec<String> = self.names(&dir, None, 100).await?;
        if all != wanted {
            return Err(self.unfit(&format!(
                "it listed new objects incompletely or out of order: wanted=`{wanted:?}`, listed=`{all:?}`"
            )));
        }
        let mut after = None;
        for name in &wanted {
            let one = self.names(&dir, after.as_ref(), 1).await?;
            if one != [name.clone()] {
                return Err(self.unfit("it did not list exactly the next one object when asked for one after another"));
            }
            after = Some(object(name));
        }
        if !self.names(&dir, after.as_ref(), 1).await?.is_empty() {
            return Err(self.unfit("it listed objects again that come before the one it was told to begin after"));
        }
        Ok(())
    }

    async fn deletes_delete(&self) -> Result<(), Error> {
        let name = self.name("second");
        self.store.delete(&name).await?;
        match self.store.get(&name).await {
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(self.unfit("it still gives an object that was deleted")),
        }
        // Gone already is no error.
        self.store.delete(&name).await
    }

    /// Removes what the probe made. Which names exist is asked for twice over: from the list, which
    /// may be what is broken, and from what was certainly made.
    async fn sweep(&self) -> Result<(), Error> {
        for segment in ["second", "pair", "many", "bytes"] {
            self.store.delete(&self.name(segment)).await?;
        }
        for found in self.store.list(&self.dir, None, 100).await? {
            self.store.delete(&found.name).await?;
        }
        Ok(())
    }

    async fn read(&self, name: &ObjectName) -> Result<Bytes, Error> {
        match self.store.get(name).await {
            Err(Error::NotFound { .. }) => {
                Err(self.unfit("it does not give an object that was just created (no read-after-write)"))
            }
            other => other,
        }
    }

    async fn names(&self, dir: &str, after: Option<&ObjectName>, limit: usize) -> Result<Vec<String>, Error> {
        let found = self.store.list(dir, after, limit).await?;
        Ok(found.into_iter().map(|listed| listed.name.to_string()).collect())
    }

    fn name(&self, segment: &str) -> ObjectName {
        object(&format!("{}{segment}", self.dir))
    }

    fn unfit(&self, what: &str) -> Error {
        Error::Unfit {
            detail: format!("{what}: store=`{}`", self.store.describe()),
            hint: "use S3 itself, a server that honours `If-None-Match: *` (SeaweedFS, MinIO and Ceph of recent releases do), or a local directory".to_owned(),
        }
    }
}

fn body(bytes: &'static [u8]) -> Bytes {
    Bytes::from_static(bytes)
}

fn object(name: &str) -> ObjectName {
    ObjectName::new(name).expect("this file only puts together letters, digits and slashes")
}

#[cfg(test)]
mod tests;
