//! A real peer: Debian's chronyd on loopback, three seconds ahead and 100 ppm fast. Skipped where it is not installed.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chronotick_host::ntp::packet::{NtpTimestamp, Packet};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");
const PORT: u16 = 11_123;

/// A process, and what it started, that do not outlive their test.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        // faketime may start chronyd as its child, so the whole group goes.
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

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

fn chronyd(folder: &Path, faketime: &Path, chronyd: &Path) -> Running {
    let config = folder.join("chrony.conf");
    let lines = format!(
        "port {PORT}\nbindaddress 127.0.0.1\ncmdport 0\nlocal stratum 1\nallow 127.0.0.1\npidfile {}\n",
        folder.join("chronyd.pid").display()
    );
    std::fs::write(&config, lines).expect("temporary file");
    let child = Command::new(faketime)
        .args(["-f", "+3s x1.0001"])
        .arg(chronyd)
        .args(["-x", "-d", "-u", "root", "-f"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    Running(child.expect("faketime starts"))
}

fn system_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_nanos()).expect("before 2262")
}

/// A direct exchange: the system's time at its middle, the server's time then, and half the round trip, in ns.
fn exchange() -> Option<(i64, i64, i64)> {
    let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
    socket.connect(("127.0.0.1", PORT)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let mut best: Option<(i64, i64, i64)> = None;
    for nonce in 1..=8 {
        let sent = system_ns();
        socket.send(&Packet::request(NtpTimestamp::from_bits(nonce)).encode()).ok()?;
        let mut buffer = [0; 128];
        let length = socket.recv(&mut buffer).ok()?;
        let received = system_ns();
        let packet = Packet::parse(&buffer[..length]).ok()?;
        let pivot = chronotick_core::Timestamp::from_nanos(sent);
        let (arrived, left) = (packet.receive.to_utc(pivot).as_nanos(), packet.transmit.to_utc(pivot).as_nanos());
        let half = (received - sent) / 2;
        if best.is_none_or(|(_, _, least)| half < least) {
            best = Some((sent + half, arrived + (left - arrived) / 2, half));
        }
    }
    best
}

struct Daemon {
    _process: Running,
    page: PathBuf,
}

impl Daemon {
    fn start(folder: &Path) -> Self {
        let page = folder.join("clock");
        let config = folder.join("chronotick.toml");
        let lines = format!(
            "[ntp]\nservers = [\"127.0.0.1:{PORT}\"]\npoll_min = \"1 s\"\npoll_max = \"2 s\"\nburst = 8\n\
             burst_interval = \"250 ms\"\n[serve]\nholdover_after = \"4 s\"\n[page]\npath = \"{}\"\n",
            page.display()
        );
        std::fs::write(&config, lines).expect("temporary file");
        let child =
            Command::new(PROGRAM).args(["run", "--config"]).arg(&config).stderr(Stdio::null()).process_group(0).spawn();
        Self { _process: Running(child.expect("the daemon starts")), page }
    }

    fn ask(&self, command: &str) -> Option<Value> {
        let output = Command::new(PROGRAM).args([command, "--json", "--page"]).arg(&self.page).output().ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The page's time less `truth` at one instant of the system's clock, and the bound either side, in ns.
    fn against(&self, truth: impl Fn(i64) -> i64) -> Option<(i64, i64, Value)> {
        let reader = chronotick_host::Reader::attach(&self.page).ok()?;
        // The tightest of several pairs.
        let pair = (0..50).map(|_| {
            let before = system_ns();
            let now = reader.now();
            let after = system_ns();
            (after - before, before + (after - before) / 2, now)
        });
        let (_, at, now) = pair.min_by_key(|pair| pair.0)?;
        let bound = now.bound().half_width().as_nanos();
        Some((now.utc().as_nanos() - truth(at), bound, Value::from(now.tier().as_str())))
    }
}

#[test]
fn a_daemon_follows_a_real_chronyd_and_holds_over_when_it_dies() {
    let (Some(faketime), Some(chronyd_program)) = (find("faketime"), find("chronyd")) else {
        println!("skipped: chronyd or faketime is missing (apt-get install chrony faketime)");
        return;
    };
    let folder = std::env::temp_dir().join(format!("chronotick-live-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary folder");
    let mut server = chronyd(&folder, &faketime, &chronyd_program);
    let started = Instant::now();
    while exchange().is_none() {
        assert!(started.elapsed() < Duration::from_secs(20), "chronyd does not answer on port {PORT}");
        sleep(Duration::from_millis(200));
    }
    let daemon = Daemon::start(&folder);
    let first = exchange().expect("chronyd answers");

    // Within a minute: the rate within 2 ppm of 100 ppm.
    let started = Instant::now();
    let status = loop {
        let status = daemon.ask("status").unwrap_or_default();
        let rate = status["rate_ppm"].as_f64().unwrap_or(0.0);
        if started.elapsed() > Duration::from_secs(20) && (rate - 100.0).abs() < 2.0 {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no rate of 100 ppm within a minute: {status}");
        sleep(Duration::from_secs(1));
    };
    println!("rate {} ppm, tier {}", status["rate_ppm"], status["tier"]);
    assert!(status["sources"][0]["kernel_timestamps"].as_u64().is_some_and(|count| count > 0), "{status}");

    // The offset agrees with a direct exchange within the hard bound (and what the exchange itself leaves open).
    let second = exchange().expect("chronyd answers");
    let (error, bound, tier) =
        daemon.against(|at| second.1 + (at - second.0) + (at - second.0) / 10_000).expect("a page");
    println!("agrees within {error} ns, bound {bound} ns, tier {tier}");
    assert!(error.abs() <= bound + second.2, "{error} ns against a bound of {bound} ns");

    // The truth goes on at its known rate after the server's death: a line through two exchanges far apart.
    let rate = (second.1 - first.1) as f64 / (second.0 - first.0) as f64;
    let blur = (first.2 + second.2) as f64 / (second.0 - first.0) as f64;
    assert!((rate - 1.0001).abs() < 5e-6 + blur, "the server runs at {rate}, known to {blur}");
    server.kill();
    let truth = |at: i64| {
        let since = at - second.0;
        second.1 + since + since / 10_000
    };
    let killed = Instant::now();
    let mut widths = Vec::new();
    let mut fell = false;
    while killed.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_secs(3));
        let (error, bound, tier) = daemon.against(truth).expect("a page");
        // The two exchanges' own uncertainty is not the clock's.
        assert!(
            error.abs() <= bound + second.2 + first.2,
            "{error} ns against {bound} ns after {:?}",
            killed.elapsed()
        );
        fell |= tier == "holdover";
        widths.push(bound);
    }
    println!("bounds while the server was dead: {widths:?} ns");
    assert!(fell, "the tier never fell to holdover");
    let (early, late) = (widths[2], widths[widths.len() - 1]);
    assert!(late > early, "the bound does not grow: {widths:?}");
    let status = daemon.ask("status").expect("the daemon lives");
    assert_eq!(status["tier"], "holdover");
    drop(daemon);
    let _ = std::fs::remove_dir_all(&folder);
}
