//! A daemon under test and a time server for it, both on loopback, both gone when the test is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronotick_core::Timestamp;
use chronotick_host::ntp::packet::{NtpTimestamp, Packet};

/// A folder of one test's own that goes with it.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty folder whose name has `name` in it.
    pub fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("chronotick-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it.
    pub fn file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the temporary folder's to keep.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that does not outlive its test.
pub struct Running(pub Child);

impl Running {
    /// Starts `command` with its standard error in the file `log`.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already: as wished.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An NTP server that tells the system's time plus a fixed offset.
pub struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server on a free port of loopback, `ahead` of the system's clock.
    pub fn start(ahead: Duration) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (address, over) = (socket.local_addr()?, Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&over);
        let now = move || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + ahead;
            NtpTimestamp::from_utc(Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)))
        };
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 128];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let Ok(request) = Packet::parse(&buffer[..length]) else { continue };
                let (origin, receive) = (request.transmit, now());
                let answer =
                    Packet { version: 4, mode: 4, stratum: 1, precision: -20, origin, receive, ..Packet::default() };
                let _ = socket.send_to(&Packet { transmit: now(), ..answer }.encode(), client);
            }
        });
        Ok(Self { address, over, thread: Some(thread) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Looks again and again for at most `seconds`.
pub fn until<T>(seconds: u64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

/// Status code and body of `GET path`.
pub fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
    Ok((code, body.to_owned()))
}

/// A TCP port of loopback that was free a moment ago.
pub fn free_port() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The program `name` on the PATH or where the system's services are.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
