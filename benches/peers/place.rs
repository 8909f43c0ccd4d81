//! Where repositories lie: in a directory, in SeaweedFS on loopback, or in the same behind a link.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use lifeboat_bench::Outcome;
use lifeboat_testkit::s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};

use crate::errands::{self, Errand};

pub const REGION: &str = "us-east-1";
pub const BUCKET: &str = "peers";

/// How far away the server is, for every contender.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    pub round_trip: Duration,
    /// Of each connection, each way.
    pub bytes_per_second: Option<u64>,
}

pub enum Place {
    Directory,
    S3(Bucketed),
}

impl Place {
    /// A server of its own for each round, with one bucket, in which each repository has a prefix: SeaweedFS gives
    /// each bucket volumes, until none are left.
    pub fn start(is_s3: bool, distance: Option<Distance>) -> Outcome<Self> {
        if !is_s3 {
            return Ok(Self::Directory);
        }
        let server = S3Server::start()?;
        server.create_bucket(BUCKET)?;
        let link = distance.map(|distance| LinkProcess::start(&server, distance)).transpose()?;
        Ok(Self::S3(Bucketed { server, link }))
    }
}

/// The server, and what leads to it.
pub struct Bucketed {
    server: S3Server,
    link: Option<LinkProcess>,
}

impl Bucketed {
    /// What a contender connects to.
    pub fn endpoint(&self) -> String {
        self.link.as_ref().map_or_else(|| self.server.endpoint(), |link| format!("http://{}", link.address))
    }

    /// A repository of ours.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint={}&region={REGION}&path_style=true", self.endpoint())
    }
}

/// The credentials, as every program takes them.
pub fn credentials() -> [(&'static str, String); 2] {
    [("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned())]
}

/// The link, in a process of its own: what it holds must not count as a contender's memory.
struct LinkProcess {
    /// It ends when its stdin does.
    process: Child,
    address: String,
}

impl LinkProcess {
    fn start(server: &S3Server, distance: Distance) -> Outcome<Self> {
        let address = server.endpoint().trim_start_matches("http://").to_owned();
        let milliseconds = distance.round_trip.as_millis().to_string();
        let rate = distance.bytes_per_second.unwrap_or(0).to_string();
        let mut command = errands::command(Errand::Link, &[&address, &milliseconds, &rate])?;
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut address)?;
        Ok(Self { process, address: address.trim().to_owned() })
    }
}

impl Drop for LinkProcess {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
