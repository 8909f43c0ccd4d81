//! A link to a server that is far away: what goes through arrives later, and only so much in a second.
//!
//!   client ─▶ accept ─ a round trip ─▶ connect ─▶ server        each way: read ▸ wait ▸ pace ▸ write
//!
//! It passes bytes on between real sockets and knows nothing of what they mean. Each connection has the whole delay and
//! a rate of its own, as an object store far away gives it. A link can be cut: connections break, new ones are closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces under way each way of a connection: as much as a window of 16 MiB holds.
const PIECES_MAX: usize = 256;

/// How far away the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkOptions {
    /// Half of it each way; to connect takes one.
    pub round_trip: Duration,
    /// Of each connection, each way; `None`: as fast as it goes.
    pub bytes_per_second: Option<u64>,
}

/// A link that is up; it ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    is_cut: Arc<watch::Sender<bool>>,
    task: tokio::task::JoinHandle<()>,
}

impl Link {
    /// Listens on a port of loopback and passes on to `server`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn to(server: SocketAddr, options: LinkOptions) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let is_cut = Arc::new(watch::Sender::new(false));
        let cut = is_cut.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cut = cut.subscribe();
                tokio::spawn(async move { join(client, server, options, cut).await });
            }
        });
        Ok(Self { address, is_cut, task })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks what is connected, and closes what connects; or lets it through again.
    pub fn cut(&self, is_cut: bool) {
        self.is_cut.send_replace(is_cut);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        self.cut(true);
    }
}

async fn join(client: TcpStream, server: SocketAddr, options: LinkOptions, mut cut: watch::Receiver<bool>) {
    let both_ways = async {
        tokio::time::sleep(options.round_trip).await;
        let server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        tokio::try_join!(pass(client_read, server_write, options), pass(server_read, client_write, options))?;
        io::Result::Ok(())
    };
    tokio::select! {
        _ = both_ways => {} // how a connection ends is its two ends' affair
        _ = cut.wait_for(|is_cut| *is_cut) => {}
    }
}

/// One way, until its reader ends.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    options: LinkOptions,
) -> io::Result<()> {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let read = async move {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let len = from.read(&mut piece).await?;
            piece.truncate(len);
            if len == 0 || sender.send((Instant::now() + options.round_trip / 2, piece)).await.is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async move {
        let mut is_free_at = Instant::now();
        while let Some((arrives, piece)) = receiver.recv().await {
            let takes = options.bytes_per_second.map_or(0.0, |rate| piece.len() as f64 / rate.max(1) as f64);
            is_free_at = is_free_at.max(arrives) + Duration::from_secs_f64(takes);
            tokio::time::sleep_until(is_free_at).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each byte with so many.
    async fn server(answer: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    while client.read_u8().await.is_ok() {
                        client.write_all(&vec![7; answer]).await.unwrap();
                    }
                });
            }
        });
        address
    }

    async fn ask(client: &mut TcpStream, answer: usize) -> io::Result<Duration> {
        let began = Instant::now();
        client.write_u8(1).await?;
        let mut read = vec![0; answer];
        client.read_exact(&mut read).await?;
        assert!(read.iter().all(|byte| *byte == 7));
        Ok(began.elapsed())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_answer_takes_a_round_trip_and_its_bytes_their_time() {
        const ANSWER: usize = 1 << 20;
        let options = LinkOptions { round_trip: Duration::from_millis(100), bytes_per_second: Some(4 << 20) };
        let link = Link::to(server(ANSWER).await, options).await.unwrap();
        let mut client = TcpStream::connect(link.address()).await.unwrap();
        let took = ask(&mut client, ANSWER).await.unwrap();
        assert!(took >= Duration::from_millis(100 + 100 + 250), "with a round trip to connect: {took:?}");
        let took = ask(&mut client, ANSWER).await.unwrap();
        assert!(took >= Duration::from_millis(100 + 250), "{took:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_that_is_cut_breaks_connections_until_it_is_let_through_again() {
        let options = LinkOptions { round_trip: Duration::ZERO, bytes_per_second: None };
        let link = Link::to(server(3).await, options).await.unwrap();
        let mut client = TcpStream::connect(link.address()).await.unwrap();
        ask(&mut client, 3).await.unwrap();
        link.cut(true);
        assert!(ask(&mut client, 3).await.is_err());
        let mut other = TcpStream::connect(link.address()).await.unwrap();
        assert!(ask(&mut other, 3).await.is_err());
        link.cut(false);
        ask(&mut TcpStream::connect(link.address()).await.unwrap(), 3).await.unwrap();
    }
}
