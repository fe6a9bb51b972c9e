//! A real chronyd is fed this clock, and another one is read from. Skipped where chronyd and faketime are not installed.
//!
//! ```text
//! chronyd, three seconds ahead  --NTP-->  daemon  --SOCK-->  chronyd -x  --NTP-->  this test
//!                                                                \--tracking-->  a second daemon
//! ```

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronotick_host::ntp::packet::{Leap, NtpTimestamp, Packet};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");
/// The chronyd that is the truth: three seconds ahead of this machine.
const UPSTREAM: u16 = 11_323;
/// The chronyd that is fed, and where it takes commands.
const FED: u16 = 11_324;
const FED_COMMANDS: u16 = 11_325;

/// A process, and what it started, that do not outlive their test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.process_group(0).spawn().expect("the program starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// `chronyd -x` with these lines, under faketime where a time is given.
fn chronyd(folder: &Path, name: &str, fake: Option<&str>, lines: &str) -> Running {
    let config = folder.join(format!("{name}.conf"));
    let pid = folder.join(format!("{name}.pid"));
    std::fs::write(&config, format!("{lines}\npidfile {}\n", pid.display())).expect("temporary file");
    let program = find("chronyd").expect("found before");
    let mut command = match (fake, find("faketime")) {
        (Some(time), Some(faketime)) => {
            let mut command = Command::new(faketime);
            command.args(["-f", time]).arg(program);
            command
        }
        _ => Command::new(program),
    };
    Running::start(command.args(["-x", "-d", "-u", "root", "-f"]).arg(config))
}

fn daemon(folder: &Path, name: &str, lines: &str) -> (Running, PathBuf) {
    let place = folder.join(name);
    std::fs::create_dir_all(&place).expect("temporary folder");
    let (page, config) = (place.join("clock"), place.join("chronotick.toml"));
    let text = format!("{lines}\n[page]\npath = \"{}\"\n[worker]\nmode = \"off\"\n", page.display());
    std::fs::write(&config, text).expect("temporary file");
    (Running::start(Command::new(PROGRAM).args(["run", "--config"]).arg(&config)), page)
}

fn status(page: &Path) -> Value {
    let output = Command::new(PROGRAM).args(["status", "--json", "--page"]).arg(page).output().expect("runs");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn system_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

/// What an NTP server says less this machine's time, and how wrong that can be, in ns; `None` without a synchronised answer.
fn asked(port: u16) -> Option<(i64, i64)> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut best: Option<(i64, i64)> = None;
    for nonce in 1..=8 {
        let sent = system_ns();
        socket.send(&Packet::request(NtpTimestamp::from_bits(nonce)).encode()).ok()?;
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).ok()?;
        let half = (system_ns() - sent) / 2;
        let packet = Packet::parse(&buffer[..length]).ok()?;
        if packet.leap == Leap::Unsynchronised {
            return None;
        }
        let pivot = chronotick_core::Timestamp::from_nanos(sent);
        let (arrived, left) = (packet.receive.to_utc(pivot).as_nanos(), packet.transmit.to_utc(pivot).as_nanos());
        if best.is_none_or(|(_, least)| half < least) {
            best = Some((arrived + (left - arrived) / 2 - sent - half, half));
        }
    }
    best
}

/// The page's time less this machine's, its bound, and how far apart the two were read, in ns.
fn page_against_system(page: &Path) -> Option<(i64, i64, i64)> {
    let reader = chronotick_host::Reader::attach(page).ok()?;
    let pairs = (0..50).map(|_| {
        let before = system_ns();
        let now = reader.now();
        let width = system_ns() - before;
        (width, now.utc().as_nanos() - before - width / 2, now.bound().half_width().as_nanos())
    });
    pairs.min().map(|(width, offset, bound)| (offset, bound, width))
}

fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            println!("{what} after {:.1} s", started.elapsed().as_secs_f64());
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(250));
    }
}

#[test]
fn a_real_chronyd_selects_this_clock_and_serves_it_and_another_daemon_reads_it() {
    if find("chronyd").is_none() || find("chronyc").is_none() || find("faketime").is_none() {
        println!("skipped: chronyd or faketime is missing (apt-get install chrony faketime)");
        return;
    }
    let folder = std::env::temp_dir().join(format!("chronotick-feed-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary folder");
    let socket = folder.join("chronotick.sock");
    let limit = Duration::from_secs(40);

    let upstream = format!("port {UPSTREAM}\nbindaddress 127.0.0.1\ncmdport 0\nlocal stratum 1\nallow 127.0.0.1");
    let _upstream = chronyd(&folder, "upstream", Some("+3s"), &upstream);
    until("the upstream server answers", limit, || asked(UPSTREAM));
    // What docs/SOURCES.md says, but for the ports.
    let fed = format!(
        "refclock SOCK {} refid CTK poll 0 filter 4 delay 0.001 precision 1e-6\nport {FED}\nbindaddress 127.0.0.1\n\
         allow 127.0.0.1\ncmdport {FED_COMMANDS}\nbindcmdaddress 127.0.0.1\nbindcmdaddress /",
        socket.display()
    );
    let _fed = chronyd(&folder, "fed", None, &fed);
    let ntp = format!(
        "[ntp]\nservers = [\"127.0.0.1:{UPSTREAM}\"]\npoll_min = \"1 s\"\npoll_max = \"2 s\"\nburst_interval = \"250 ms\"\n\
         [feed]\nchrony_sock = \"{}\"\ninterval = \"500 ms\"",
        socket.display()
    );
    let (_daemon, page) = daemon(&folder, "feeding", &ntp);

    // chronyd selects it.
    let line = until("the reference clock is selected", limit, || {
        let port = FED_COMMANDS.to_string();
        let output = Command::new("chronyc").args(["-n", "-h", "127.0.0.1", "-p", &port, "sources"]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.starts_with("#* CTK")).map(str::to_owned)
    });
    println!("{line}");

    // chronyd serves it: three seconds ahead of this machine, as upstream, the page and the fed chronyd all say.
    let (fed, fed_half) = until("the fed chronyd serves the time", limit, || {
        let answer = asked(FED)?;
        // The first corrections are still being made.
        ((answer.0 - 3_000_000_000).abs() < 2_000_000).then_some(answer)
    });
    let (truth, truth_half) = asked(UPSTREAM).expect("still there");
    let (offset, bound, width) = page_against_system(&page).expect("a page");
    println!("upstream {truth} +- {truth_half}, page {offset} +- {bound}, fed chronyd {fed} +- {fed_half} ns");
    assert!((offset - truth).abs() <= bound + truth_half + width, "the page");
    // chronyd filters what it is sent; a millisecond is ten times what it needs.
    assert!((fed - offset).abs() <= bound + fed_half + width + 1_000_000, "the fed chronyd");
    let state = status(&page);
    assert!(state["feed"]["sent"].as_u64().is_some_and(|sent| sent > 3), "{}", state["feed"]);
    assert!(state["feed"]["reason"].is_null(), "{}", state["feed"]);

    // And it can be asked how it tracks, as a source.
    let local = format!(
        "[ntp]\nservers = []\n[local]\npoll = \"1 s\"\nsources = [\"chronyd:127.0.0.1:{FED_COMMANDS}\", \"ptp:/dev/ptp-missing\"]"
    );
    let (_second, second_page) = daemon(&folder, "reading", &local);
    let state = until("a daemon follows the fed chronyd", limit, || {
        let state = status(&second_page);
        (state["sources"][0]["accepted"].as_u64() >= Some(3)).then_some(state)
    });
    let (offset, bound, width) = page_against_system(&second_page).expect("a page");
    let (fed, fed_half) = asked(FED).expect("still there");
    println!("read from chronyd {offset} +- {bound}, fed chronyd {fed} +- {fed_half} ns, {}", state["sources"][0]);
    assert!((offset - fed).abs() <= bound + fed_half + width + 1_000_000, "what chronyd tracks");
    assert!((offset - truth).abs() <= bound + 1_000_000, "the truth");
    assert_eq!(state["sources"][0]["kind"], "chronyd");
    // The other one does not exist, is named, and disturbs nobody.
    assert_eq!(state["sources"][1]["state"], "unavailable");
    let reason = state["sources"][1]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("cannot read /dev/ptp-missing: "), "{reason}");
    let _ = std::fs::remove_dir_all(&folder);
}
