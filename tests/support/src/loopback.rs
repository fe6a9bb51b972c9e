//! What tests with real processes share: folders, processes, ports and time servers on loopback, all gone when the test is.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronotick_core::Timestamp;
use chronotick_host::ntp::packet::{NtpTimestamp, Packet};

/// Where the peers are.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The folder `path`, made anew even where a test that was killed has left one of that name, for anybody to enter.
///
/// # Panics
/// When it cannot be made.
pub(crate) fn emptied(path: PathBuf) -> PathBuf {
    let _ = std::fs::remove_dir_all(&path);
    let made =
        std::fs::create_dir_all(&path).and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o755)));
    made.unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    path
}

/// A folder of the test's own, gone with it.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chronotick-{name}-{}-{count}", std::process::id()));
        Self(emptied(path))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the temporary folder's to keep.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process, and what it started, that do not outlive their test.
pub struct Running(pub Child);

impl Running {
    /// Starts `command` as the leader of a group, its output thrown away.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self::spawn(command.stderr(Stdio::null()))
    }

    /// The same with its standard error in the file `log`.
    ///
    /// # Panics
    /// When it cannot be started, or `log` not be made.
    pub fn logged(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).unwrap_or_else(|cause| panic!("{}: {cause}", log.display()));
        Self::spawn(command.stderr(log))
    }

    fn spawn(command: &mut Command) -> Self {
        // Of the environment of the tests only what a test has set itself is the daemon's business.
        let set: Vec<_> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
        for (name, _) in std::env::vars_os().filter(|(name, _)| !set.contains(name)) {
            let text = name.to_string_lossy();
            if text.starts_with("CHRONOTICK_") || text == "RUST_LOG" || text == "NOTIFY_SOCKET" {
                command.env_remove(&name);
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).spawn();
        Self(child.unwrap_or_else(|cause| panic!("cannot start {command:?}: {cause}")))
    }

    /// Whether it has ended by itself.
    pub fn is_over(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Ends it at once. A program such as faketime may run its peer as a child, so the whole group goes, and so does what a
    /// killed faketime leaves behind, which would keep the next one of that process number from starting.
    pub fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        // Gone already: as wished.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.kill();
        let _ = self.0.wait();
        for left in ["sem.faketime_sem", "faketime_shm"] {
            let _ = std::fs::remove_file(format!("/dev/shm/{left}_{}", self.0.id()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
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
    ///
    /// # Panics
    /// When there is no port left.
    pub fn start(ahead: Duration) -> Self {
        Self::at(0, ahead)
    }

    /// The same on `port`.
    ///
    /// # Panics
    /// When the port is in use.
    pub fn at(port: u16, ahead: Duration) -> Self {
        let bound = UdpSocket::bind((LOOPBACK, port)).and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = bound.unwrap_or_else(|cause| panic!("port {port} of loopback: {cause}"));
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("any socket has a timeout");
        let over = Arc::new(AtomicBool::new(false));
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
        Self { address, over, thread: Some(thread) }
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

/// Looks until `condition` gives something, at most for `patience`.
pub fn within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() > patience {
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
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

/// A port of loopback that nobody uses, neither over UDP nor over TCP.
///
/// # Panics
/// When there is none left.
pub fn free_port() -> u16 {
    for _ in 0..64 {
        let Ok(udp) = UdpSocket::bind((LOOPBACK, 0)) else { continue };
        let Ok(address) = udp.local_addr() else { continue };
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
    panic!("no free port on loopback");
}

/// The same with its address.
///
/// # Panics
/// When there is none left.
pub fn free_address() -> SocketAddr {
    SocketAddr::new(LOOPBACK, free_port())
}

/// The program `name` on the PATH, where the system's services are, or unpacked for the tests.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let peers = std::env::var_os("CHRONOTICK_PEERS").map(PathBuf::from);
    let unpacked = peers.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"));
    let own = [unpacked.join("usr/sbin"), unpacked.join("usr/bin")];
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]).chain(own);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The system's clock, ns since 1970.
///
/// # Panics
/// Before 1970 and after 2262.
pub fn system_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}
