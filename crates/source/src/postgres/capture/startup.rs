//! How a replication connection comes to be: a socket, TLS, who we are, and the session's settings.
//!
//! It behaves as the ordinary sessions do: the same hosts in the same order, the same `sslmode`, the same
//! time-outs. One thing is missing: TLS is not tied to the password exchange (channel binding), because the
//! library keeps what it would take to itself; whoever demands it in `url` is refused.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use postgres::config::{ChannelBinding, Config, Host, SslMode, SslNegotiation, TargetSessionAttrs};
use postgres::error::SqlState;
use postgres::fallible_iterator::FallibleIterator;
use postgres::tls::{MakeTlsConnect, TlsConnect};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::wire::{Duplex, Incoming, Wire, WireError, unexpected};
use crate::Error;
use crate::postgres::Server;
use crate::postgres::connect::{SETTINGS, SETTINGS_17, connect_advice, words_of_server};

/// The server asks for a sign of life at half of it, and we answer at once. What the administrator has set
/// may be shorter than a network's hiccup, or for ever.
const SENDER_SETTINGS: &str = "SET wal_sender_timeout = '60s'";
/// Each step of making a connection.
const STEP_MAX: Duration = Duration::from_secs(30);

/// A session of the walsender, ready for commands.
pub(super) async fn connect(server: &Server) -> Result<Wire, Error> {
    let config = server.config()?;
    let name = server.source_name();
    let bad = |detail: &str, hint: &str| {
        let (source_name, detail, hint) = (name.to_owned(), detail.to_owned(), hint.to_owned());
        Error::BadConfig { source_name, detail, hint }
    };
    if config.get_channel_binding() == ChannelBinding::Require {
        return Err(bad(
            "following changes cannot bind TLS to the password",
            "say channel_binding=prefer in the source's `url`",
        ));
    }
    let mut last = None;
    for place in places(config) {
        match connect_to(server, config, &place).await {
            Ok(wire) => return Ok(wire),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => Err(cannot_connect(server, config, error)),
        None => Err(bad("`url` names no host", "such as postgres://lifeboat@db.example:5432/app")),
    }
}

/// One of the places that the configuration names.
struct Place {
    host: Host,
    /// Instead of what the host's name resolves to.
    address: Option<std::net::IpAddr>,
    port: u16,
}

fn places(config: &Config) -> Vec<Place> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    let at = |place: usize| {
        let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
        let address = addresses.get(place).copied();
        let host = hosts.get(place).cloned().or_else(|| address.map(|address| Host::Tcp(address.to_string())))?;
        Some(Place { host, address, port })
    };
    (0..count).filter_map(at).collect()
}

async fn connect_to(server: &Server, config: &Config, place: &Place) -> Result<Wire, WireError> {
    let wait = config.get_connect_timeout().copied().unwrap_or(STEP_MAX);
    let socket = timeout(wait, open_socket(place)).await.map_err(|_| WireError::Silent(wait))?;
    let hostname = match &place.host {
        Host::Tcp(name) => Some(name.as_str()),
        Host::Unix(_) => None,
    };
    let secured = secure(server, config, socket.map_err(WireError::Io)?, hostname);
    let stream = timeout(STEP_MAX, secured).await.map_err(|_| WireError::Silent(STEP_MAX))??;
    let mut wire = Wire::new(stream);
    introduce(&mut wire, config).await?;
    settle(&mut wire).await?;
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite {
        let rows = wire.query("SELECT pg_catalog.pg_is_in_recovery()", STEP_MAX).await?;
        if rows.first().and_then(|row| row.first()).is_some_and(|is_standby| is_standby.as_deref() == Some("t")) {
            return Err(WireError::Protocol("it is a standby, and the `url` asks for a primary".into()));
        }
    }
    Ok(wire)
}

async fn open_socket(place: &Place) -> io::Result<Box<dyn Duplex>> {
    let name = match &place.host {
        Host::Unix(dir) => {
            let path = dir.join(format!(".s.PGSQL.{}", place.port));
            return Ok(Box::new(UnixStream::connect(path).await?));
        }
        Host::Tcp(name) => name,
    };
    let stream = match place.address {
        Some(address) => TcpStream::connect(SocketAddr::new(address, place.port)).await?,
        None => TcpStream::connect((name.as_str(), place.port)).await?,
    };
    stream.set_nodelay(true)?;
    // Besides the protocol's own signs of life: it also ends a connection whose host has vanished.
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    Ok(Box::new(stream))
}

/// TLS, as `sslmode` has it.
async fn secure(
    server: &Server,
    config: &Config,
    mut stream: Box<dyn Duplex>,
    hostname: Option<&str>,
) -> Result<Box<dyn Duplex>, WireError> {
    let refused = |text: &str| WireError::Io(io::Error::new(io::ErrorKind::ConnectionRefused, text));
    let mode = config.get_ssl_mode();
    let is_direct = config.get_ssl_negotiation() == SslNegotiation::Direct;
    if mode == SslMode::Disable {
        return Ok(stream);
    }
    if is_direct && mode == SslMode::Prefer {
        return Err(refused("sslnegotiation=direct needs sslmode=require"));
    }
    if !is_direct {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request).await.map_err(WireError::Io)?;
        // One byte and not more: whatever came behind it in the clear would be taken for the server's.
        match stream.read_u8().await.map_err(WireError::Io)? {
            b'S' => {}
            _ if mode == SslMode::Prefer => return Ok(stream),
            _ => return Err(refused("the server does not do TLS, and the `url` says sslmode=require")),
        }
    }
    let hostname = hostname.ok_or_else(|| refused("no host name to check the server's certificate against"))?;
    let mut make = server.tls().map_err(WireError::Refused)?;
    let tls = MakeTlsConnect::<Box<dyn Duplex>>::make_tls_connect(&mut make, hostname);
    let secured = tls.map_err(|error| WireError::Io(io::Error::other(error)))?.connect(stream).await;
    secured.map(|stream| Box::new(stream) as Box<dyn Duplex>).map_err(WireError::Io)
}

/// Says who we are, and proves it.
async fn introduce(wire: &mut Wire, config: &Config) -> Result<(), WireError> {
    let from_environment = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let user = config.get_user().map_or_else(from_environment, str::to_owned);
    let mut parameters = vec![("client_encoding", "UTF8"), ("user", &user), ("replication", "database")];
    parameters.push(("database", config.get_dbname().unwrap_or(&user)));
    parameters.extend(config.get_options().map(|options| ("options", options)));
    parameters.extend(config.get_application_name().map(|name| ("application_name", name)));
    let mut greeting = BytesMut::new();
    frontend::startup_message(parameters, &mut greeting).map_err(WireError::Io)?;
    wire.send(&greeting).await?;
    authenticate(wire, config, &user).await?;
    wire.trust();
    loop {
        match wire.expect(STEP_MAX).await? {
            Incoming::Other(Message::BackendKeyData(_)) => {}
            Incoming::Other(Message::ReadyForQuery(_)) => return Ok(()),
            _ => return Err(unexpected("in a greeting")),
        }
    }
}

async fn authenticate(wire: &mut Wire, config: &Config, user: &str) -> Result<(), WireError> {
    let password = || {
        let missing = "the server asks for a password, and the source's `url` has none";
        config.get_password().ok_or_else(|| WireError::Server { code: "28P01".into(), message: missing.into() })
    };
    match wire.expect(STEP_MAX).await? {
        Incoming::Other(Message::AuthenticationOk) => return Ok(()),
        Incoming::Other(Message::AuthenticationCleartextPassword) => send_password(wire, password()?).await?,
        Incoming::Other(Message::AuthenticationMd5Password(body)) => {
            let hash = md5_hash(user.as_bytes(), password()?, body.salt());
            send_password(wire, hash.as_bytes()).await?;
        }
        Incoming::Other(Message::AuthenticationSasl(body)) => scram(wire, &body, password()?).await?,
        _ => {
            return Err(WireError::Protocol(
                "the server asks for a way of authentication that is not known here".into(),
            ));
        }
    }
    match wire.expect(STEP_MAX).await? {
        Incoming::Other(Message::AuthenticationOk) => Ok(()),
        _ => Err(unexpected("in an authentication")),
    }
}

async fn send_password(wire: &mut Wire, password: &[u8]) -> Result<(), WireError> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message).map_err(WireError::Io)?;
    wire.send(&message).await
}

async fn scram(wire: &mut Wire, body: &AuthenticationSaslBody, password: &[u8]) -> Result<(), WireError> {
    let has_scram = body.mechanisms().any(|mechanism| Ok(mechanism == sasl::SCRAM_SHA_256)).map_err(WireError::Io)?;
    if !has_scram {
        return Err(WireError::Protocol("the server knows no SCRAM-SHA-256".into()));
    }
    let mut scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut message).map_err(WireError::Io)?;
    wire.send(&message).await?;
    let Incoming::Other(Message::AuthenticationSaslContinue(body)) = wire.expect(STEP_MAX).await? else {
        return Err(unexpected("in an authentication"));
    };
    scram.update(body.data()).map_err(WireError::Io)?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message).map_err(WireError::Io)?;
    wire.send(&message).await?;
    let Incoming::Other(Message::AuthenticationSaslFinal(body)) = wire.expect(STEP_MAX).await? else {
        return Err(unexpected("in an authentication"));
    };
    scram.finish(body.data()).map_err(WireError::Io)
}

/// The settings of every session: text must come out the same here as where a snapshot is read.
async fn settle(wire: &mut Wire) -> Result<(), WireError> {
    wire.query(SETTINGS, STEP_MAX).await?;
    wire.query(SENDER_SETTINGS, STEP_MAX).await?;
    let rows = wire.query("SHOW server_version_num", STEP_MAX).await?;
    let version = rows.first().and_then(|row| row.first()).and_then(|text| text.as_deref()?.parse().ok());
    wire.version = version.ok_or_else(|| unexpected("to a query"))?;
    if wire.version >= 170_000 {
        wire.query(SETTINGS_17, STEP_MAX).await?;
    }
    Ok(())
}

fn cannot_connect(server: &Server, config: &Config, error: WireError) -> Error {
    const ACTION: &str = "cannot connect to follow the database";
    let code = error.code();
    let WireError::Server { code: text, message } = error else { return error.failed(server.source_name(), ACTION) };
    let (hint, fault) = match code.as_ref() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let role = config.get_user().unwrap_or("lifeboat").replace('"', "\"\"");
            let hint = format!("following changes takes the attribute REPLICATION: ALTER ROLE \"{role}\" REPLICATION");
            (hint, lifeboat_model::Fault::Operator)
        }
        Some(&SqlState::TOO_MANY_CONNECTIONS) => {
            let hint = "the server takes no more connections that follow it: try again, or raise max_wal_senders";
            (hint.to_owned(), lifeboat_model::Fault::Retry)
        }
        code => {
            let (hint, fault) = connect_advice(code);
            (hint.to_owned(), fault)
        }
    };
    let detail = words_of_server(&text, &message);
    Error::Database { source_name: server.source_name().to_owned(), action: ACTION.into(), detail, hint, fault }
}
