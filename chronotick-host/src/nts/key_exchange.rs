//! Agreeing on keys with a server (RFC 8915, section 4): TLS 1.3, its certificate checked, then records.
//!
//! It takes round trips and may take seconds, so it belongs in a thread of its own. Certificates are checked by rustls and webpki
//! against the operating system's clock, which therefore has to be right to the day; the authorities are the operating
//! system's or those of a file.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use super::record::{self, RecordError};
use super::session::Session;
use super::{AES_SIV_CMAC_256, KEY, NTPV4};

/// Names this protocol inside TLS.
const ALPN: &[u8] = b"ntske/1";
/// Names what the exported keys are for.
const LABEL: &[u8] = b"EXPORTER-network-time-security";
/// Longer than this the server may not take to let itself be connected to.
const CONNECTING: Duration = Duration::from_secs(5);
/// Longer than this all of it may not take, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was agreed on.
#[derive(Debug)]
pub struct Agreement {
    /// Keys and cookies.
    pub session: Session,
    /// The time server, if it is another than the one that was asked.
    pub server: Option<String>,
    /// Its port, if it is not NTP's.
    pub port: Option<u16>,
}

/// Why nothing was agreed on.
#[derive(Debug)]
pub enum KeyExchangeError {
    /// The file with the authorities cannot be read, or there are none in it.
    Authorities(Option<PathBuf>, String),
    /// The server cannot be reached or stopped answering.
    Io(io::Error),
    /// The certificate is not accepted, or TLS failed otherwise.
    Tls(rustls::Error),
    /// The server speaks TLS, but not this protocol.
    Protocol,
    /// The server's records cannot be used.
    Records(RecordError),
}

impl fmt::Display for KeyExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorities(Some(file), cause) => {
                write!(f, "no certificate authorities in {}: {cause}", file.display())
            }
            Self::Authorities(None, cause) => write!(f, "the system has no certificate authorities: {cause}"),
            Self::Io(cause) => write!(f, "key exchange: {cause}"),
            Self::Tls(cause) => write!(f, "key exchange: {cause}"),
            Self::Protocol => f.write_str("key exchange: the server does not speak ntske/1"),
            Self::Records(cause) => write!(f, "key exchange: {cause}"),
        }
    }
}

impl std::error::Error for KeyExchangeError {}

impl KeyExchangeError {
    /// Whether the server, or the way to it, may have been troubled with the attempt.
    pub(crate) fn left_this_machine(&self) -> bool {
        match self {
            Self::Authorities(..) => false,
            Self::Io(cause) => cause.kind() != io::ErrorKind::NetworkUnreachable,
            _ => true,
        }
    }
}

impl From<io::Error> for KeyExchangeError {
    fn from(cause: io::Error) -> Self {
        // A failed handshake arrives wrapped in an I/O error.
        match cause.downcast::<rustls::Error>() {
            Ok(tls) => Self::Tls(tls),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Self::Io(too_long()),
            Err(cause) => Self::Io(cause),
        }
    }
}

impl From<rustls::Error> for KeyExchangeError {
    fn from(cause: rustls::Error) -> Self {
        Self::Tls(cause)
    }
}

/// Agrees on keys with the server at `address`, whose certificate has to be for `host` and signed by an authority in the file
/// `ca`, or by one that the operating system trusts.
///
/// # Errors
/// [`KeyExchangeError`], within some seconds.
pub fn agree(address: SocketAddr, host: &str, ca: Option<&Path>) -> Result<Agreement, KeyExchangeError> {
    let until = Instant::now() + PATIENCE;
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| rustls::Error::General(format!("`{host}` cannot be in a certificate")))?;
    let mut connection = ClientConnection::new(Arc::new(configuration(ca)?), name)?;
    let mut socket = Limited { stream: TcpStream::connect_timeout(&address, CONNECTING)?, until };
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(&record::request())?;
    stream.flush()?;
    if stream.conn.alpn_protocol() != Some(ALPN) {
        return Err(KeyExchangeError::Protocol);
    }

    let mut bytes = Vec::new();
    let mut part = [0; 2048];
    let response = loop {
        let length = match stream.read(&mut part) {
            Ok(length) => length,
            // Some servers close without the farewell of TLS; the records have an end of their own.
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(cause) => return Err(cause.into()),
        };
        bytes.extend_from_slice(&part[..length]);
        match record::parse(&bytes) {
            Ok(response) => break response,
            Err(RecordError::Incomplete) if length > 0 => {}
            Err(cause) => return Err(KeyExchangeError::Records(cause)),
        }
    };
    let [to_server, to_client] = [0, 1].map(|direction| export(&connection, direction));
    connection.send_close_notify();
    // The server has told everything; whether it hears the farewell does not matter.
    let _ = connection.write_tls(&mut socket);
    Ok(Agreement {
        session: Session::new(to_server?, to_client?, response.cookies),
        server: response.server,
        port: response.port,
    })
}

/// A connection that ends at an instant, however often the server makes a little progress until then: a limit on each read would
/// let one that sends a byte every few seconds hold on for hours.
struct Limited {
    stream: TcpStream,
    until: Instant,
}

impl Limited {
    /// What is left of the time.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(too_long()) } else { Ok(left) }
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the server took too long")
}

/// The key for packets to the server (0) or to the client (1), RFC 8915, section 5.1.
fn export(connection: &ClientConnection, direction: u8) -> Result<[u8; KEY], rustls::Error> {
    let [protocol, algorithm] = [NTPV4, AES_SIV_CMAC_256].map(u16::to_be_bytes);
    let context = [protocol[0], protocol[1], algorithm[0], algorithm[1], direction];
    connection.export_keying_material([0; KEY], LABEL, Some(&context))
}

fn configuration(ca: Option<&Path>) -> Result<ClientConfig, KeyExchangeError> {
    let found = match ca {
        Some(file) => rustls_native_certs::load_certs_from_paths(Some(file), None),
        None => rustls_native_certs::load_native_certs(),
    };
    let mut roots = RootCertStore::empty();
    let (good, bad) = roots.add_parsable_certificates(found.certs);
    if good == 0 {
        let cause = found.errors.first().map_or_else(|| format!("{bad} are malformed"), ToString::to_string);
        return Err(KeyExchangeError::Authorities(ca.map(Path::to_owned), cause));
    }
    // The provider is named: a default one exists only where a program has installed it.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut configuration = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    configuration.alpn_protocols = vec![ALPN.to_vec()];
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    #[test]
    fn failures_are_told_in_one_line() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let missing = agree(nobody, "localhost", Some(Path::new("/nonexistent/ca.pem"))).expect_err("no file");
        assert!(missing.to_string().starts_with("no certificate authorities in /nonexistent/ca.pem"), "{missing}");
        assert!(agree(nobody, "not a name", None).is_err());
    }

    #[test]
    fn a_server_that_goes_on_sending_is_given_up_in_time() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            // Until the client has had enough.
            while stream.write_all(&[2]).is_ok() {}
        });
        let started = Instant::now();
        let until = started + Duration::from_millis(50);
        let mut socket = Limited { stream: TcpStream::connect(address).expect("loopback"), until };
        let gone = std::iter::repeat_with(|| socket.read(&mut [0])).find_map(Result::err).expect("it ends");
        assert_eq!(gone.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(socket.write(&[1]).is_err());
        drop(socket);
        server.join().expect("no panic");
    }
}
