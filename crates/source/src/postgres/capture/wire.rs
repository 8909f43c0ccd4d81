//! A replication connection: the protocol's messages, queries, and `CopyData` both ways.
//!
//! Messages are made and parsed by `postgres-protocol`; the one it does not know, `CopyBothResponse`,
//! is told apart here.
//!
//! What is not here: how a connection comes to be (`startup`), when to answer the server (`pump`), what
//! `CopyData` says (`output`).

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use lifeboat_model::{Fault, Lsn};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{ErrorFields, Header, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::Error;
use crate::postgres::connect::{advice, words_of_server};

const COPY_BOTH_TAG: u8 = b'W';
/// What is asked of the operating system at once.
const READ_BYTES: usize = 64 * 1024;
/// Before it has proven who it is, a server is believed no message that is longer.
const GREETING_BYTES_MAX: usize = 64 * 1024;
/// A server that takes nothing for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(60);

/// A socket, or TLS over one.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection of its own, with nothing in between.
pub(super) struct Wire {
    stream: Box<dyn Duplex>,
    input: BytesMut,
    message_bytes_max: usize,
    /// Such as `150018`; 0 until it is asked.
    pub version: u32,
}

/// What the server sent.
pub(super) enum Incoming {
    /// `START_REPLICATION` was accepted.
    CopyBoth,
    Other(Message),
}

/// Why a conversation ended.
#[derive(Debug)]
pub(super) enum WireError {
    /// The server said no.
    Server { code: String, message: String },
    /// The connection broke.
    Io(io::Error),
    /// Nothing came for so long.
    Silent(Duration),
    /// The server is being stopped and waits for us to leave.
    Stopping,
    /// This is no PostgreSQL, or one newer than what we know.
    Protocol(String),
    /// The operator's configuration rules it out.
    Refused(Error),
}

/// A row of a simple query: text or NULL.
pub(super) type TextRow = Vec<Option<String>>;

impl Wire {
    pub fn new(stream: Box<dyn Duplex>) -> Self {
        Self { stream, input: BytesMut::new(), message_bytes_max: GREETING_BYTES_MAX, version: 0 }
    }

    /// From here on messages may be as long as the protocol lets them be: a row may.
    pub fn trust(&mut self) {
        self.message_bytes_max = usize::MAX;
    }

    /// The next message that has come whole; `None`: ask the network.
    pub fn buffered(&mut self) -> Result<Option<Incoming>, WireError> {
        let Some(header) = Header::parse(&self.input).map_err(WireError::Io)? else { return Ok(None) };
        let len = usize::try_from(header.len()).unwrap_or(0); // at least 4, says the parser
        if len > self.message_bytes_max {
            return Err(WireError::Protocol(format!(
                "a message too long before it is known who sends it: bytes=`{len}`"
            )));
        }
        if header.tag() != COPY_BOTH_TAG {
            let message = Message::parse(&mut self.input).map_err(WireError::Io)?;
            return Ok(message.map(Incoming::Other));
        }
        if self.input.len() <= len {
            return Ok(None);
        }
        self.input.advance(len + 1);
        Ok(Some(Incoming::CopyBoth))
    }

    /// Waits for a message. Nothing is lost when the future is dropped.
    pub async fn receive(&mut self) -> Result<Incoming, WireError> {
        loop {
            if let Some(incoming) = self.buffered()? {
                return Ok(incoming);
            }
            self.input.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.input).await.map_err(WireError::Io)? == 0 {
                return Err(WireError::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the server hung up")));
            }
        }
    }

    /// Waits for a message that is no notice and no parameter, but not for ever.
    pub async fn expect(&mut self, wait: Duration) -> Result<Incoming, WireError> {
        let answer = async {
            loop {
                match self.receive().await? {
                    Incoming::Other(Message::NoticeResponse(_) | Message::ParameterStatus(_)) => {}
                    Incoming::Other(Message::ErrorResponse(body)) => return Err(refusal(body.fields())),
                    other => return Ok(other),
                }
            }
        };
        timeout(wait, answer).await.unwrap_or(Err(WireError::Silent(wait)))
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(WRITE_MAX, write).await.map_err(|_| WireError::Silent(WRITE_MAX))?.map_err(WireError::Io)
    }

    /// Runs a simple query, or a command of the replication protocol, and gives the rows of the last.
    pub async fn query(&mut self, sql: &str, wait: Duration) -> Result<Vec<TextRow>, WireError> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            match self.expect(wait).await {
                Ok(Incoming::Other(Message::RowDescription(_))) => rows.clear(),
                Ok(Incoming::Other(Message::DataRow(body))) => {
                    let read = |range: Option<std::ops::Range<usize>>| {
                        Ok(range.map(|range| String::from_utf8_lossy(&body.buffer()[range]).into_owned()))
                    };
                    rows.push(body.ranges().map(read).collect().map_err(WireError::Io)?);
                }
                Ok(Incoming::Other(Message::CommandComplete(_) | Message::EmptyQueryResponse)) => {}
                Ok(Incoming::Other(Message::ReadyForQuery(_))) => return refused.map_or(Ok(rows), Err),
                Ok(_) => return Err(unexpected("to a query")),
                Err(error @ WireError::Server { .. }) => refused = Some(error),
                // An error that ends the session is followed by nothing.
                Err(error) => return Err(refused.unwrap_or(error)),
            }
        }
    }

    /// Begins to stream; from here on only `CopyData` goes back and forth.
    pub async fn start_replication(&mut self, command: &str, wait: Duration) -> Result<(), WireError> {
        self.send_query(command).await?;
        match self.expect(wait).await? {
            Incoming::CopyBoth => Ok(()),
            Incoming::Other(_) => Err(unexpected("to START_REPLICATION")),
        }
    }

    /// Tells the server up to where everything is durable here; it may drop what is before.
    pub async fn send_status(&mut self, confirmed: Lsn, wants_answer: bool) -> Result<(), WireError> {
        let mut status = BytesMut::with_capacity(40);
        status.put_u8(b'r');
        for _ in ["written", "flushed", "applied"] {
            status.put_u64(confirmed.0);
        }
        status.put_i64(0); // our clock, which is of no use to the server
        status.put_u8(u8::from(wants_answer));
        let mut message = BytesMut::with_capacity(48);
        frontend::CopyData::new(status.freeze()).map_err(WireError::Io)?.write(&mut message);
        self.send(&message).await
    }

    /// Says good-bye, if the server still listens.
    pub async fn close(mut self) {
        let mut farewell = BytesMut::new();
        frontend::terminate(&mut farewell);
        let _ = timeout(Duration::from_secs(1), self.stream.write_all(&farewell)).await;
        let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }

    async fn send_query(&mut self, sql: &str) -> Result<(), WireError> {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query).map_err(WireError::Io)?;
        self.send(&query).await
    }
}

/// What a `CopyData` from the server holds.
pub(super) enum Copied {
    /// A message of the output plugin.
    Data {
        start: Lsn,
        message: Bytes,
    },
    Keepalive {
        end: Lsn,
        wants_answer: bool,
    },
}

/// Reads the frame inside a `CopyData`.
pub(super) fn read_copied(mut bytes: Bytes) -> Result<Copied, WireError> {
    match bytes.first() {
        Some(b'w') if bytes.len() >= 25 => {
            bytes.advance(1);
            let start = Lsn(bytes.get_u64());
            bytes.advance(16); // the end of the server's log and its clock
            Ok(Copied::Data { start, message: bytes })
        }
        Some(b'k') if bytes.len() >= 18 => {
            bytes.advance(1);
            let end = Lsn(bytes.get_u64());
            bytes.advance(8);
            Ok(Copied::Keepalive { end, wants_answer: bytes[0] != 0 })
        }
        _ => Err(unexpected("in the stream")),
    }
}

pub(super) fn unexpected(place: &str) -> WireError {
    WireError::Protocol(format!("the server sent a message that does not belong {place}"))
}

/// An `ErrorResponse`, without the fields that quote rows.
pub(super) fn refusal(mut fields: ErrorFields<'_>) -> WireError {
    let (mut code, mut message) = (String::new(), String::new());
    while let Ok(Some(field)) = fields.next() {
        match field.type_() {
            b'C' => code = String::from_utf8_lossy(field.value_bytes()).into_owned(),
            b'M' => message = String::from_utf8_lossy(field.value_bytes()).into_owned(),
            _ => {}
        }
    }
    WireError::Server { code, message }
}

impl WireError {
    pub fn code(&self) -> Option<SqlState> {
        match self {
            WireError::Server { code, .. } => Some(SqlState::from_code(code)),
            _ => None,
        }
    }

    /// The error in a person's words, while doing `action`.
    pub fn failed(self, source_name: &str, action: &str) -> Error {
        let code = self.code();
        let (detail, hint, fault) = match self {
            WireError::Refused(error) => return error,
            WireError::Server { code: text, message } => {
                let (hint, fault) = advice(code.as_ref(), &message);
                (words_of_server(&text, &message), hint, fault)
            }
            WireError::Io(error) => {
                let (hint, fault) = advice(None, "");
                (error.to_string(), hint, fault)
            }
            WireError::Silent(wait) => {
                let detail = format!("nothing was heard of the server: seconds=`{}`", wait.as_secs());
                (detail, "is the server up, and the network between? then run the same command again", Fault::Retry)
            }
            WireError::Stopping => {
                ("the server is being stopped".into(), "run the same command again when it is back", Fault::Retry)
            }
            WireError::Protocol(detail) => (detail, "does the source's `url` lead to a PostgreSQL?", Fault::Operator),
        };
        let (source_name, action, hint) = (source_name.to_owned(), action.to_owned(), hint.to_owned());
        Error::Database { source_name, action, detail, hint, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wire with these bytes to read, and nothing after them.
    fn wire(bytes: &[u8]) -> Wire {
        let mut wire = Wire::new(Box::new(tokio::io::empty()));
        wire.input.extend_from_slice(bytes);
        wire
    }

    #[test]
    fn a_message_is_taken_when_it_is_whole() {
        let whole = [b'W', 0, 0, 0, 7, 0, 0, 0];
        for len in 0..whole.len() {
            assert!(wire(&whole[..len]).buffered().unwrap().is_none(), "{len}");
        }
        let mut wire = wire(&[&whole[..], b"Z\0\0\0\x05I"].concat());
        assert!(matches!(wire.buffered(), Ok(Some(Incoming::CopyBoth))));
        assert!(matches!(wire.buffered(), Ok(Some(Incoming::Other(Message::ReadyForQuery(_))))));
        assert!(wire.input.is_empty());
    }

    #[test]
    fn whoever_is_not_known_yet_is_given_no_memory() {
        let mut wire = wire(&[b'R', 0x7F, 0xFF, 0xFF, 0xFF, 0]);
        assert!(matches!(wire.buffered(), Err(WireError::Protocol(_))));
        wire.trust();
        wire.input = BytesMut::from(&[b'd', 0x00, 0x10, 0xFF, 0xFF, 0][..]);
        assert!(matches!(wire.buffered(), Ok(None)));
    }

    #[test]
    fn a_frame_of_the_stream_that_is_cut_short_is_an_error() {
        let data = [b"w".as_slice(), &[0; 24], b"B"].concat();
        let keepalive = [b"k".as_slice(), &7_u64.to_be_bytes(), &[0; 8], &[1]].concat();
        for whole in [&data[..25], &keepalive] {
            for len in 0..whole.len() {
                assert!(read_copied(Bytes::copy_from_slice(&whole[..len])).is_err(), "{len}");
            }
        }
        assert!(
            matches!(read_copied(data.into()), Ok(Copied::Data { start: Lsn(0), message }) if &message[..] == b"B")
        );
        let read = read_copied(keepalive.into());
        assert!(matches!(read, Ok(Copied::Keepalive { end: Lsn(7), wants_answer: true })));
    }

    #[test]
    fn an_error_that_quotes_rows_is_told_by_its_code_alone() {
        let server = |code: &str| WireError::Server { code: code.into(), message: "value \"secret\"".into() };
        let text = |code: &str| server(code).failed("app", "cannot follow it").to_string();
        assert!(!text("22001").contains("secret") && !text("23505").contains("secret"));
        assert!(text("55000").contains("secret"), "others are words of the server");
    }
}
