//! The daemon as a service: reloaded, supervised, scraped.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chronotick_host::runner::Status;
use chronotick_host::{ChronoTick, Reader};
use chronotick_tests::loopback::{Folder, LOOPBACK, Running, Server, find, free_address, get, system_ns, within};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");
const AHEAD: Duration = Duration::from_secs(2);

/// A daemon in a folder of its own.
struct Daemon {
    process: Running,
    folder: Folder,
}

impl Daemon {
    fn start(name: &str, config: &str, environment: &[(&str, &Path)]) -> Self {
        let folder = Folder::new(name);
        let file = folder.file("c.toml", config);
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--config"]).arg(file).arg("--page").arg(folder.path().join("clock"));
        command.envs(environment.iter().copied());
        let process = Running::logged(&mut command, &folder.path().join("log"));
        Self { process, folder }
    }
    fn page(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
    fn status(&self) -> Option<Status> {
        Status::ask(&self.page()).ok()
    }
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).expect("it lives");
    }
    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
    fn told(&self, text: &str) {
        let found = within(Duration::from_secs(20), || self.log().contains(text).then_some(()));
        assert!(found.is_some(), "`{text}` is not in the log:\n{}", self.log());
    }
}

fn config(server: &Server, rest: &str) -> String {
    format!(
        "[ntp]\nservers = [\"{}\"]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst_interval = \"100 ms\"\n\
         [worker]\nmode = \"off\"\n{rest}",
        server.address()
    )
}

fn metrics(listen: SocketAddr) -> String {
    format!("[metrics]\nlisten = \"{listen}\"\n")
}

/// What is served is true within its bound, and of the same epoch as before.
fn unbroken(reader: &Reader, epoch: u16) {
    let ahead = i64::try_from(AHEAD.as_nanos()).expect("small");
    let before = system_ns() + ahead;
    let now = reader.now();
    let after = system_ns() + ahead;
    let (utc, bound) = (now.utc().as_nanos(), now.bound().half_width().as_nanos());
    assert!(before - bound <= utc && utc <= after + bound, "{utc} is not within {bound} of {before} to {after}");
    assert_eq!(now.epoch(), epoch, "the served time was stepped");
}

#[test]
fn a_reload_takes_what_it_can_without_a_step_and_a_bad_one_nothing() {
    let (first, second) = (Server::start(AHEAD), Server::start(AHEAD));
    let daemon = Daemon::start("reload", &config(&first, ""), &[]);
    let synchronised = within(Duration::from_secs(20), || {
        let clock = ChronoTick::builder().page(daemon.page()).attach().ok()?;
        (clock.now().bound().is_bounded()).then_some(())
    });
    assert!(synchronised.is_some(), "{}", daemon.log());
    let reader = Reader::attach(daemon.page()).expect("a page");
    let epoch = reader.now().epoch();

    let listen = free_address();
    let changed = config(
        &second,
        &format!("[oscillator]\nmax_rate_ppm = 400\n[serve]\ntarget_accuracy = \"7 ms\"\n{}", metrics(listen)),
    );
    daemon.folder.file("c.toml", &changed);
    daemon.signal(Signal::HUP);
    let taken = within(Duration::from_secs(20), || {
        unbroken(&reader, epoch);
        let status = daemon.status()?;
        let source = status.sources.first()?;
        (source.name == second.address().to_string() && source.counts.accepted > 0).then_some(())
    });
    assert!(taken.is_some(), "{}", daemon.log());
    daemon.told("reloaded: ntp.servers, serve.target_accuracy, metrics.listen");
    daemon.told("these keys wait for a restart: oscillator.max_rate_ppm");
    assert!(get(listen, "/metrics").is_ok_and(|(code, _)| code == 200));

    daemon.folder.file("c.toml", "[ntp]\nservers = []\npol_min = \"1 s\"\n");
    daemon.signal(Signal::HUP);
    daemon.told("the configuration is not reloaded: the old one stays in force");
    daemon.told("did you mean `poll_min`?");
    for _ in 0..20 {
        unbroken(&reader, epoch);
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = daemon.status().expect("it lives");
    assert_eq!(status.sources[0].name, second.address().to_string());
}

#[test]
fn an_address_that_is_busy_at_a_reload_is_tried_again_at_the_next() {
    let server = Server::start(AHEAD);
    let (first, busy) = (free_address(), TcpListener::bind((LOOPBACK, 0)).expect("a port"));
    let second = busy.local_addr().expect("bound");
    let daemon = Daemon::start("busy", &config(&server, &metrics(first)), &[]);
    daemon.told("metrics at http://");
    daemon.folder.file("c.toml", &config(&server, &metrics(second)));
    daemon.signal(Signal::HUP);
    daemon.told("going on without; a reload tries again");
    assert!(get(first, "/healthy").is_err(), "it goes on where it was");
    drop(busy);
    daemon.signal(Signal::HUP);
    daemon.told("reloaded: nothing changed");
    daemon.told(&format!("metrics at http://{second}/metrics"));
    assert!(get(second, "/healthy").is_ok_and(|(code, _)| code == 200));
}

#[test]
fn the_service_manager_is_told_and_the_loop_gives_signs_of_life() {
    let folder = Folder::new("manager");
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_nonblocking(true).expect("nonblocking");
    let server = Server::start(AHEAD);
    let environment = [("NOTIFY_SOCKET", path.as_path()), ("WATCHDOG_USEC", Path::new("600000"))];
    let mut daemon = Daemon::start("managed", &config(&server, ""), &environment);
    let mut heard: Vec<String> = Vec::new();
    // The first message like `expected` among those from the `from`-th on, and the place after it.
    let mut hear = |expected: &str, from: usize| -> (String, usize) {
        let found = within(Duration::from_secs(30), || {
            let mut buffer = [0; 512];
            while let Ok(length) = manager.recv(&mut buffer) {
                heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
            let like = |message: &String| message.lines().any(|line| line.starts_with(expected));
            let place = from + heard.iter().skip(from).position(like)?;
            Some((heard[place].clone(), place + 1))
        });
        found.unwrap_or_else(|| panic!("no {expected} in {heard:?}"))
    };
    let (_, ready) = hear("READY=1", 0);
    assert!(Reader::attach(daemon.page()).is_ok(), "ready before there was a page");
    let (_, first) = hear("WATCHDOG=1", ready);
    let (_, second) = hear("WATCHDOG=1", first);
    hear("STATUS=tier ", 0);
    daemon.signal(Signal::HUP);
    let (reloading, after) = hear("RELOADING=1", second);
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    hear("READY=1", after);
    daemon.signal(Signal::TERM);
    hear("STOPPING=1", after);
    let ended = within(Duration::from_secs(10), || daemon.process.0.try_wait().expect("wait")).expect("it ends");
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn prometheus_is_told_with_units_and_help() {
    let server = Server::start(AHEAD);
    let listen = free_address();
    let daemon = Daemon::start("scraped", &config(&server, &metrics(listen)), &[]);
    let covered = within(Duration::from_secs(30), || {
        let (code, text) = get(listen, "/metrics").ok()?;
        (code == 200 && text.contains("\nchronotick_coverage_ratio ")).then_some(text)
    });
    let text =
        covered.unwrap_or_else(|| panic!("no coverage is told: {:?}\n{}", get(listen, "/metrics"), daemon.log()));
    for line in [
        "chronotick_tier{tier=\"filter\"} 1",
        "chronotick_tier{tier=\"raw\"} 0",
        "chronotick_page_readable 1",
        "chronotick_worker_up 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let source = format!("chronotick_source_up{{source=\"{}\",kind=\"ntp\"}} 1", server.address());
    assert!(text.lines().any(|line| line == source), "{source} is not in\n{text}");
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    let (interval, bound) =
        (value("chronotick_interval95_half_width_seconds"), value("chronotick_bound_half_width_seconds"));
    assert!(0.0 < interval && interval <= bound && bound < 1.0, "{interval} {bound}");
    assert!(value("chronotick_page_age_seconds") < 10.0 && value("chronotick_process_resident_memory_bytes") > 1e6);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not explained");
    }
    for (path, code) in [("/healthy", 200), ("/ready", 200), ("/", 200), ("/etc/passwd", 404)] {
        let (told, body) = get(listen, path).unwrap_or_else(|cause| panic!("{path}: {cause}"));
        assert!(told == code, "{path}: {told} {body}");
    }
    match find("promtool") {
        None => println!("promtool: skipped, it is missing (apt-get install prometheus)"),
        Some(promtool) => {
            let lint = Command::new(promtool)
                .args(["check", "metrics"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn();
            let mut lint = lint.expect("promtool starts");
            std::io::Write::write_all(&mut lint.stdin.take().expect("piped"), text.as_bytes()).expect("it reads");
            let output = lint.wait_with_output().expect("it ends");
            let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && told.trim().is_empty(), "{told}");
        }
    }
}

#[test]
fn any_user_may_look_and_nobody_may_tell() {
    let server = Server::start(AHEAD);
    let daemon = Daemon::start("looked-at", &config(&server, ""), &[]);
    let up = within(Duration::from_secs(60), || daemon.status().filter(|status| status.samples_accepted > 0));
    assert!(up.is_some(), "{}", daemon.log());

    // Whatever is said on the sockets is not listened to.
    for socket in ["status.sock", "journal.sock"] {
        let mut stream = UnixStream::connect(daemon.folder.path().join(socket)).expect("it listens");
        // It may have been answered and closed already.
        let _ = stream.write_all(b"reload\nstop\n[ntp]\nservers = []\n");
    }
    let still = daemon.status().expect("it lives");
    assert_eq!(still.sources.len(), 1);
    assert!(!daemon.log().contains("reloaded"), "{}", daemon.log());

    let (Some(setpriv), true) = (find("setpriv"), rustix::process::geteuid().is_root()) else {
        println!("skipped: only root can become another user, with setpriv");
        return;
    };
    // Where the other user may not enter the source tree, it still may run a copy.
    let program = daemon.folder.path().join("chronotick");
    std::fs::copy(PROGRAM, &program).expect("a copy");
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&setpriv);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(arguments);
        command.arg("--page").arg(daemon.page()).current_dir("/").output().expect("it starts")
    };
    for arguments in [&["now"][..], &["status"], &["watch", "--lines", "3"], &["status", "--json"]] {
        let output = as_nobody(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?} as another user: {told}");
    }
}
