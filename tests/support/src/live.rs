//! Real peers on loopback, and a daemon that asks them. Every process ends with its test.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronotick_host::Reader;
use chronotick_host::ntp::packet::{Leap, NtpTimestamp, Packet};
use serde_json::Value;

/// Where the peers are.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A process, and what it started, that do not outlive their test.
pub struct Running(Child);

impl Running {
    /// Starts `command` as the leader of a group, its output thrown away.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
        Self(child.unwrap_or_else(|cause| panic!("cannot start {command:?}: {cause}")))
    }

    /// Ends it at once. A program such as faketime may run its peer as a child, so the whole group goes.
    pub fn kill(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
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
        std::fs::create_dir_all(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
        Self(path)
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
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The program `name`, where this machine has it.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let peers = std::env::var_os("CHRONOTICK_PEERS").map(PathBuf::from);
    let unpacked = peers.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"));
    let own = [unpacked.join("usr/sbin"), unpacked.join("usr/bin")];
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]).chain(own);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A port that nobody uses, neither over UDP nor over TCP.
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

/// The system's clock, ns since 1970.
///
/// # Panics
/// Before 1970 and after 2262.
pub fn system_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

/// Whether the NTP server at `port` answers, and is synchronised.
pub fn answers(port: u16) -> bool {
    let ask = || -> io::Result<bool> {
        let socket = UdpSocket::bind((LOOPBACK, 0))?;
        socket.connect((LOOPBACK, port))?;
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        socket.send(&Packet::request(NtpTimestamp::from_bits(1)).encode())?;
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer)?;
        let packet = Packet::parse(&buffer[..length]).map_err(io::Error::other)?;
        Ok(packet.leap != Leap::Unsynchronised && packet.stratum > 0)
    };
    ask().unwrap_or(false)
}

/// Waits until `condition` gives something, at most for `patience`.
pub fn within<T>(patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() > patience {
            return None;
        }
        sleep(Duration::from_millis(100));
    }
}

/// chronyd as a server that claims to be a primary one, on loopback, steering nothing.
pub struct Chronyd {
    /// Its UDP port.
    pub port: u16,
    /// Its process.
    pub process: Running,
}

impl Chronyd {
    /// Starts one on a free port, `fake` being what faketime makes of its clock ("+0.5s"). `None` where chronyd or faketime is
    /// missing.
    pub fn start(folder: &Folder, fake: Option<&str>) -> Option<Self> {
        Self::configured(folder, fake, free_port(), "")
    }

    /// The same on `port`, with more lines of configuration.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn configured(folder: &Folder, fake: Option<&str>, port: u16, more: &str) -> Option<Self> {
        let program = find("chronyd")?;
        let lines = format!(
            "port {port}\nbindaddress 127.0.0.1\ncmdport 0\nbindcmdaddress /\nlocal stratum 1\nallow 127.0.0.1\n\
             pidfile {}\n{more}\n",
            folder.path().join(format!("chronyd-{port}.pid")).display()
        );
        let file = folder.file(&format!("chronyd-{port}.conf"), &lines);
        let mut command = match fake {
            None => Command::new(program),
            Some(offset) => {
                let mut command = Command::new(find("faketime")?);
                command.args(["-f", offset]).arg(program);
                command
            }
        };
        command.args(["-x", "-d", "-u", "root", "-f"]).arg(file);
        let process = Running::start(&mut command);
        let answered = within(Duration::from_secs(30), || answers(port).then_some(()));
        assert!(answered.is_some(), "chronyd does not answer on port {port}");
        Some(Self { port, process })
    }
}

/// A daemon under test.
pub struct Daemon {
    _process: Running,
    program: PathBuf,
    page: PathBuf,
}

/// A reading against the truth, in ns.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Served time less the truth.
    pub error: i64,
    /// How far the two can be apart because they were not read at the same instant.
    pub blur: i64,
    /// Half-width of the hard bound, `None` where there is none.
    pub bound: Option<i64>,
    /// Who answered.
    pub tier: &'static str,
}

impl Reading {
    /// Whether the truth is where the bound says.
    pub fn holds(&self) -> bool {
        self.bound.is_none_or(|bound| self.error.abs() <= bound + self.blur)
    }
}

impl Daemon {
    /// Starts `program` with these servers, as they are written in the list of the configuration, asked every second. No model
    /// runs.
    pub fn start(program: &str, folder: &Folder, name: &str, servers: &str) -> Self {
        let page = folder.path().join(format!("{name}-page/clock"));
        let lines = format!(
            "[ntp]\nservers = [{servers}]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst = 8\nburst_interval = \"200 ms\"\n\
             timeout = \"900 ms\"\n[serve]\nholdover_after = \"8 s\"\n[worker]\nmode = \"off\"\n[page]\npath = {:?}\n",
            page.display().to_string()
        );
        std::fs::create_dir_all(page.parent().unwrap_or(folder.path())).expect("temporary folder");
        let config = folder.file(&format!("{name}.toml"), &lines);
        let process = Running::start(Command::new(program).args(["run", "--config"]).arg(&config));
        Self { _process: process, program: program.into(), page }
    }

    /// What `chronotick status` says.
    pub fn status(&self) -> Option<Value> {
        let output = Command::new(&self.program).args(["status", "--json", "--page"]).arg(&self.page).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Waits for a status that satisfies `condition`.
    ///
    /// # Panics
    /// When none does within `patience`; the last one is shown.
    pub fn wait_for(&self, what: &str, patience: Duration, condition: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = within(patience, || {
            last = self.status().unwrap_or_default();
            condition(&last).then(|| last.clone())
        });
        found.unwrap_or_else(|| panic!("not within {patience:?}: {what}; the status is {last:#}"))
    }

    /// A reader of its page.
    pub fn reader(&self) -> Option<Reader> {
        Reader::attach(&self.page).ok()
    }
}

/// What `reader` serves against the system's clock, which is the truth for honest peers here. The tightest of several pairs.
pub fn against_system(reader: &Reader) -> Reading {
    let mut best = (i64::MAX, 0, reader.now());
    for _ in 0..20 {
        let before = system_ns();
        let now = reader.now();
        let after = system_ns();
        if after - before < best.0 {
            best = (after - before, before + (after - before) / 2, now);
        }
    }
    let (width, at, now) = best;
    let bounded = now.bound().is_bounded();
    Reading {
        error: now.utc().as_nanos() - at,
        blur: width / 2 + 1,
        bound: bounded.then(|| now.bound().half_width().as_nanos()),
        tier: now.tier().as_str(),
    }
}
