//! Real peers on loopback, and a daemon that asks them. Every process ends with its test.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use chronotick_core::Timestamp;
use chronotick_host::Reader;
use chronotick_host::ntp::packet::{Leap, NtpTimestamp, Packet};
use serde_json::Value;

use crate::loopback::{Folder, LOOPBACK, Running, find, free_port, system_ns, within};

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
    ///
    /// # Panics
    /// When it does not answer.
    pub fn start(folder: &Folder, fake: Option<&str>) -> Option<Self> {
        Self::answering(folder, fake, free_port, "")
    }

    /// The same on `port`, with more lines of configuration.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn configured(folder: &Folder, fake: Option<&str>, port: u16, more: &str) -> Option<Self> {
        Self::answering(folder, fake, || port, more)
    }

    /// One that has answered. It is tried three times: another process may have taken its port by then, and faketime does not
    /// start where a killed one of the same process number has left its shared memory.
    fn answering(folder: &Folder, fake: Option<&str>, port: impl Fn() -> u16, more: &str) -> Option<Self> {
        let lines = format!("cmdport 0\nbindcmdaddress /\nlocal stratum 1\n{more}");
        let mut said = String::new();
        for _ in 0..3 {
            let mut started = Self::unheard(folder, fake, port(), &lines)?;
            let over = within(Duration::from_secs(30), || {
                exchange(started.port).map(|_| true).or_else(|| started.process.is_over().then_some(false))
            });
            if over == Some(true) {
                return Some(started);
            }
            let log = folder.path().join(format!("chronyd-{}.log", started.port));
            said += &std::fs::read_to_string(log).unwrap_or_default();
        }
        panic!("chronyd does not answer, it says:\n{said}");
    }

    /// One on `port` that is nobody's server yet: `lines` say where its time comes from.
    pub fn unheard(folder: &Folder, fake: Option<&str>, port: u16, lines: &str) -> Option<Self> {
        let program = find("chronyd")?;
        let pid = folder.path().join(format!("chronyd-{port}.pid"));
        let lines =
            format!("port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\npidfile {}\n{lines}\n", pid.display());
        let file = folder.file(&format!("chronyd-{port}.conf"), &lines);
        let mut command = match fake {
            None => Command::new(program),
            Some(offset) => {
                let mut command = Command::new(find("faketime")?);
                command.args(["-f", offset]).arg(program);
                command
            }
        };
        // Who is not root cannot become anybody else, and need not.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &["-u", "root"] } else { &["-U"] };
        command.args(["-x", "-d"]).args(user).arg("-f").arg(file);
        let log = folder.path().join(format!("chronyd-{port}.log"));
        Some(Self { port, process: Running::logged(&mut command, &log) })
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
        let lines = format!(
            "[ntp]\nservers = [{servers}]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst = 8\nburst_interval = \"200 ms\"\n\
             timeout = \"900 ms\"\n[serve]\nholdover_after = \"8 s\"\n[worker]\nmode = \"off\""
        );
        Self::configured(program, folder, name, &lines)
    }

    /// The same with these `lines` of configuration and a page of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn configured(program: &str, folder: &Folder, name: &str, lines: &str) -> Self {
        let page = folder.path().join(format!("{name}-page/clock"));
        std::fs::create_dir_all(page.parent().unwrap_or(folder.path())).expect("temporary folder");
        let lines = format!("{lines}\n[page]\npath = {:?}\n", page.display().to_string());
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

/// What `reader` serves against the system's clock, which is the truth for honest peers here.
pub fn against_system(reader: &Reader) -> Reading {
    against(reader, |at| at)
}

/// What `reader` serves against the truth, given for an instant of the system's clock, both in ns. The tightest of several
/// pairs.
pub fn against(reader: &Reader, truth: impl Fn(i64) -> i64) -> Reading {
    let pairs = (0..20).map(|_| {
        let before = system_ns();
        let now = reader.now();
        let after = system_ns();
        (after - before, before + (after - before) / 2, now)
    });
    let (width, at, now) = pairs.min_by_key(|pair| pair.0).expect("twenty");
    let bounded = now.bound().is_bounded();
    Reading {
        error: now.utc().as_nanos() - truth(at),
        blur: width / 2 + 1,
        bound: bounded.then(|| now.bound().half_width().as_nanos()),
        tier: now.tier().as_str(),
    }
}

/// An exchange with an NTP server, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The system's time at its middle.
    pub at: i64,
    /// The server's time then.
    pub theirs: i64,
    /// Half the round trip: as far as the two can be apart.
    pub half: i64,
}

impl Exchange {
    /// How far the server is ahead of the system.
    pub fn ahead(&self) -> i64 {
        self.theirs - self.at
    }
}

/// The shortest of eight exchanges with the server at `port`; `None` without answers, or where it is not synchronised.
pub fn exchange(port: u16) -> Option<Exchange> {
    let socket = UdpSocket::bind((LOOPBACK, 0)).ok()?;
    socket.connect((LOOPBACK, port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut best: Option<Exchange> = None;
    for nonce in 1..=8 {
        let sent = system_ns();
        socket.send(&Packet::request(NtpTimestamp::from_bits(nonce)).encode()).ok()?;
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).ok()?;
        let half = (system_ns() - sent) / 2;
        let packet = Packet::parse(&buffer[..length]).ok()?;
        if packet.leap == Leap::Unsynchronised || packet.stratum == 0 {
            return None;
        }
        let pivot = Timestamp::from_nanos(sent);
        let (arrived, left) = (packet.receive.to_utc(pivot).as_nanos(), packet.transmit.to_utc(pivot).as_nanos());
        if best.is_none_or(|best| half < best.half) {
            best = Some(Exchange { at: sent + half, theirs: arrived + (left - arrived) / 2, half });
        }
    }
    best
}
