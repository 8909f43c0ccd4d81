//! The run sequence: one object a backup run, naming every site it looked at.
//!
//! It is what makes an unchanged night a real point, and what tells, with the catalog gone, how far
//! each site's sequence had come.

use bytes::Bytes;
use lifeboat_format::{decode_run, encode_run, names};
use lifeboat_model::{ObjectId, Run, RunNumber};

use crate::upload::{create_and_read_back, object_name};
use crate::{Error, Repository, random_id};

impl Repository {
    /// The number of the newest run; `None` before the first.
    pub async fn newest_run(&self) -> Result<Option<RunNumber>, Error> {
        let listed = self.store().list(names::RUNS_PREFIX, None, 1).await?.into_iter().next();
        Ok(listed.and_then(|listed| names::parse_run(listed.name.as_str())))
    }

    pub async fn run(&self, number: RunNumber) -> Result<Run, Error> {
        let name = object_name(names::run(number))?;
        let body = self.store().get(&name).await?;
        decode_run(self.keys().object_keys(), number, &body).map_err(Error::of_object(&name))
    }

    /// Up to `count` newest runs, newest first. Their numbers are gapless: one that cannot be read
    /// is an error, not an end.
    pub async fn newest_runs(&self, count: usize) -> Result<Vec<Run>, Error> {
        let mut runs = Vec::new();
        for listed in self.store().list(names::RUNS_PREFIX, None, count).await? {
            let number = names::parse_run(listed.name.as_str()).ok_or_else(|| Error::Damaged {
                object: listed.name.to_string(),
                detail: "no run has such a name".into(),
            })?;
            runs.push(self.run(number).await?);
        }
        Ok(runs)
    }

    /// Records a run under its number. False: another run has it, and this one must know what that one says first.
    pub async fn record_run(&self, mut run: Run) -> Result<bool, Error> {
        run.nonce = ObjectId(random_id()?);
        let body: Bytes = encode_run(self.keys().object_keys(), &run)?.into();
        match create_and_read_back(self.store().as_ref(), &object_name(names::run(run.number))?, body).await {
            Ok(()) => Ok(true),
            Err(Error::Store(lifeboat_store::Error::AlreadyExists { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
