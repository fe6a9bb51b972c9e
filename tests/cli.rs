//! The command line as its users meet it: exit codes, one-line errors, JSON fields, a pipe that closes early.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use chronotick_tests::loopback::{Folder, Running, Server, find, free_port, within};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");

fn chronotick() -> Command {
    Command::new(PROGRAM)
}

fn output(arguments: &[&str]) -> Output {
    chronotick().args(arguments).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn daemon(folder: &Folder, config: &Path) -> Running {
    Running::logged(chronotick().args(["run", "--config"]).arg(config), &folder.path().join("log"))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

#[test]
fn alone_it_prints_help_with_an_example() {
    let output = output(&[]);
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(help.contains("Examples:") && help.contains("chronotick now"), "{help}");
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for ignored in [&["training-set", "t.csv", "--out", "s", "--worlds", "9"][..], &["report", "t.csv", "--page", "p"]]
    {
        let output = output(ignored);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
    assert_eq!(output(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(output(&["demo", "--seconds", "soon"]).status.code(), Some(2));
}

#[test]
fn configurations_are_checked_with_the_place() {
    let folder = Folder::new("check");
    let good = folder.file("good.toml", "[ntp]\nservers = [\"a.example\"]\n");
    let bad = folder.file("bad.toml", "[ntp]\npol_min = \"16 s\"\n");
    let checked = chronotick().arg("check-config").arg(&good).output().expect("the program starts");
    assert_eq!(checked.status.code(), Some(0));
    let checked = chronotick().arg("check-config").arg(&bad).output().expect("the program starts");
    assert_eq!(checked.status.code(), Some(1));
    let line = text(&checked.stderr);
    assert!(line.contains("bad.toml:2:1:") && line.contains("did you mean `poll_min`"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    let missing = output(&["check-config", "/nonexistent.toml"]);
    assert_eq!((missing.status.code(), text(&missing.stderr).lines().count()), (Some(1), 1));
}

#[test]
fn shipped_configurations_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut command = chronotick();
    command.arg("check-config");
    for entry in std::fs::read_dir(folder).expect("configs") {
        command.arg(entry.expect("entry").path());
    }
    let checked = command.output().expect("the program starts");
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
}

#[test]
fn without_a_daemon_one_line_says_how_to_get_one() {
    let folder = Folder::new("absent");
    let page = folder.path().join("clock");
    for command in ["now", "status"] {
        let output = chronotick().args([command, "--page"]).arg(&page).output().expect("the program starts");
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
        assert!(line.contains("chronotick run"), "{line}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = chronotick().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

/// The whole life of a daemon that has no server at first: raw with a reason and exit code 3, then a server appears.
#[test]
fn silence_is_raw_until_a_server_appears() {
    let folder = Folder::new("silence");
    // A port that nobody listens on until later.
    let port = free_port();
    let page = folder.path().join("clock");
    let config = format!(
        "[ntp]\nservers = [\"127.0.0.1:{port}\"]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst_interval = \"100 ms\"\n\
         [page]\npath = \"{}\"\n[worker]\nmode = \"off\"\n",
        page.display()
    );
    let config = folder.file("c.toml", &config);
    let mut daemon = daemon(&folder, &config);
    let now = || chronotick().args(["now", "--json", "--page"]).arg(&page).output().expect("the program starts");
    // A daemon that has to wait for a processor may be a stale one for a moment.
    let reading = within(Duration::from_secs(10), || {
        let raw = Some(now()).filter(|output| output.status.code() == Some(3))?;
        Some(json(&raw))
            .filter(|said| said["reason"].as_str().is_some_and(|reason| reason.contains("not synchronised")))
    })
    .expect("raw time, and why");
    assert_eq!(reading["tier"], "raw");
    for key in ["low95_ns", "high95_ns", "bound_low_ns", "bound_high_ns"] {
        assert!(reading.get(key).is_some_and(Value::is_null), "{key}: {reading}");
    }
    for key in ["utc_ns", "raw_ns", "offset_ns", "confidence", "age_ms"] {
        assert!(reading[key].is_number(), "{key}: {reading}");
    }

    let second = chronotick().args(["run", "--config"]).arg(&config).output().expect("the program starts");
    let line = text(&second.stderr);
    let line = line.lines().filter(|line| line.starts_with("chronotick:")).collect::<Vec<_>>();
    assert_eq!((second.status.code(), line.len()), (Some(1), 1), "{line:?}");
    assert!(line[0].contains("another daemon"), "{line:?}");

    let told = within(Duration::from_secs(60), || {
        let log = std::fs::read_to_string(folder.path().join("log")).ok()?;
        log.lines().find(|line| line.contains("no time server has answered")).map(str::to_owned)
    });
    assert!(told.is_some_and(|line| line.contains(&format!("127.0.0.1:{port}"))));

    let server = Server::at(port, Duration::ZERO);
    let synchronised = within(Duration::from_secs(15), || Some(now()).filter(|output| output.status.code() == Some(0)));
    let reading = json(&synchronised.expect("the server was found"));
    let between = |low: &str, high: &str| {
        reading[low].as_i64() <= reading["offset_ns"].as_i64()
            && reading["offset_ns"].as_i64() <= reading[high].as_i64()
    };
    assert!(between("low95_ns", "high95_ns") && between("bound_low_ns", "bound_high_ns"), "{reading}");
    drop(server);

    let status =
        json(&chronotick().args(["status", "--json", "--page"]).arg(&page).output().expect("the program starts"));
    for key in ["tier", "reason", "sources", "worker", "forecasts", "success_rate", "uptime_s"] {
        assert!(!status[key].is_null(), "{key}: {status}");
    }
    for key in ["pid", "alive", "restarts", "cpu_affinity", "rss_mb", "inference_ms_p50", "inference_ms_p99"] {
        assert!(status["worker"].get(key).is_some(), "worker.{key}: {status}");
    }
    for key in ["issued", "accepted", "muted"] {
        assert!(status["forecasts"][key].is_u64(), "forecasts.{key}: {status}");
    }
    assert_eq!(status["sources"][0]["name"], format!("127.0.0.1:{port}"));

    // SIGTERM ends it cleanly and leaves the page to its readers.
    let pid = rustix::process::Pid::from_child(&daemon.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
    let ended = within(Duration::from_secs(5), || daemon.0.try_wait().expect("wait")).expect("it ends");
    assert_eq!(ended.code(), Some(0));
    let after = now();
    assert_eq!(after.status.code(), Some(0));
    assert!(json(&after)["reason"].as_str().is_some_and(|reason| reason.contains("stopped")));
}

/// What succeeded without a word on standard error.
fn succeeded(arguments: &[&str]) -> Output {
    let output = output(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{arguments:?} in a pipe: {}", text(&output.stderr));
    output
}

/// A daemon with a server, its page, and enough exchanges for a report.
fn followed(folder: &Folder) -> (Running, Server, String) {
    let port = free_port();
    let server = Server::at(port, Duration::ZERO);
    let page = folder.path().join("clock").display().to_string();
    let config = format!(
        "[ntp]\nservers = [\"127.0.0.1:{port}\"]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst = 16\n\
         burst_interval = \"100 ms\"\n[page]\npath = \"{page}\"\n[worker]\nmode = \"off\"\n"
    );
    let daemon = daemon(folder, &folder.file("c.toml", &config));
    let enough = within(Duration::from_secs(60), || {
        let status = output(&["status", "--json", "--page", &page]);
        (status.status.success() && json(&status)["samples_accepted"].as_u64() >= Some(26)).then_some(())
    });
    assert!(enough.is_some(), "no exchanges within a minute");
    (daemon, server, page)
}

#[test]
fn a_daemon_is_watched_recorded_and_reported() {
    let folder = Folder::new("watched");
    let (mut daemon, _server, page) = followed(&folder);
    let path = |name: &str| folder.path().join(name).display().to_string();

    // A pipe gets lines by itself.
    let lines = text(&succeeded(&["watch", "--page", &page, "--lines", "6"]).stdout);
    assert_eq!(lines.lines().count(), 6, "{lines}");
    assert!(lines.starts_with("# served") && lines.contains("raw -> filter"), "{lines}");
    assert!(!lines.contains('\u{1b}'), "{lines:?}");
    let events = text(&succeeded(&["watch", "--json", "--page", &page, "--lines", "30"]).stdout);
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events[0]["event"], "daemon");
    let exchange = events.iter().rfind(|event| event["event"] == "exchange").expect("the last of them");
    assert!(exchange["residual_ns"].is_i64() && exchange["interval95_ns"].is_i64(), "{exchange}");

    let status = json(&succeeded(&["status", "--json", "--page", &page]));
    assert!(status["sources"][0]["reach"].as_u64().is_some_and(|reach| reach & 1 == 1), "{status}");
    let shares = status["experts"]["families"].as_array().expect("kinds of experts");
    let sum: f64 = shares.iter().filter_map(|family| family["weights"][0].as_f64()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{status}");

    let recorded = json(&succeeded(&["record", "--page", &page, "--out", &path("r"), "--seconds", "2", "--json"]));
    let trace = recorded["file"].as_str().expect("a file").to_owned();
    assert!(recorded["exchanges"].as_u64() >= Some(24), "{recorded}");
    let replayed = json(&succeeded(&["replay", &trace, "--forecasters", "none", "--warmup", "4", "--json"]));
    assert_eq!(replayed["samples"], recorded["exchanges"]);
    let set = output(&["training-set", &trace, "--out", &path("set"), "--json"]);
    assert_eq!(set.status.code(), Some(1), "two seconds teach nothing");
    assert_eq!(text(&set.stderr).lines().count(), 1, "{}", text(&set.stderr));

    let page_of_html = path("live.html");
    let report = ["report", "--page", &page, "--forecasters", "none", "--out", &page_of_html, "--json"];
    let report = json(&succeeded(&report));
    assert!(report["exchanges"].as_u64() >= Some(24) && report["daemon"]["tier"].is_string(), "{report}");
    let events = report["events"].as_array().expect("a list");
    assert!(events.iter().any(|event| event["kind"] == "tier"), "{events:?}");
    let html = std::fs::read_to_string(&page_of_html).expect("the report");
    assert!(html.contains("<svg") && html.contains("The daemon"), "{html}");

    // Nobody listens to this one, neither when a file is whole nor when the daemon is gone.
    let unheard = ["record", "--page", &page, "--out", &path("unheard"), "--rotate", "1 s", "--seconds", "6"];
    let mut unheard =
        chronotick().args(unheard).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a start");
    drop((unheard.stdout.take(), unheard.stderr.take()));
    let files = || std::fs::read_dir(path("unheard")).map_or(0, Iterator::count);
    within(Duration::from_secs(10), || (files() > 2).then_some(())).expect("it goes on after the first file");
    daemon.kill();
    assert_eq!(unheard.wait().expect("it ends").code(), Some(0));
    for file in std::fs::read_dir(path("unheard")).expect("a folder") {
        let file = file.expect("a file").path();
        assert_eq!(file.extension().and_then(OsStr::to_str), Some("csv"), "{}", file.display());
    }
}

#[test]
fn what_cannot_be_written_is_told_before_the_work_and_what_is_read_is_kept() {
    let folder = Folder::new("outputs");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let refused = |arguments: &[&str], why: &str| {
        let output = output(arguments);
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{arguments:?}: {line}");
        assert!(line.contains(why) && output.stdout.is_empty(), "{arguments:?}: {line}");
    };
    let (trace, nowhere) = (path("t.csv"), path("none/x"));
    refused(&["simulate", "--out", &trace, "--truth", &nowhere], "none/x: cannot write");
    assert!(!Path::new(&trace).exists());
    succeeded(&["simulate", "--kind", "room-lan", "--hours", "2", "--out", &trace]);
    refused(&["replay", &trace, "--plot", &nowhere], "none/x: cannot write the plot");
    refused(&["replay", &trace, "--plot", &path("")], "cannot write the plot");
    refused(&["report", &trace, "--out", &nowhere], "none/x: cannot write the report");
    // Nothing to draw is no reason to keep the summary back.
    let undrawn = output(&["replay", &trace, "--forecasters", "none", "--warmup", "9999", "--plot", &path("p.svg")]);
    assert_eq!(undrawn.status.code(), Some(1));
    assert!(text(&undrawn.stdout).contains("nothing was judged"), "{}", text(&undrawn.stdout));

    let page = folder.file("clock", "");
    let config = folder.file("c.toml", &format!("[page]\npath = \"{}\"\n", page.display())).display().to_string();
    refused(&["report", "--config", &config, "--out", &config], "would be overwritten");
    refused(&["report", "--config", &config, "--out", &path("clock")], "would be overwritten");
    let model = folder.file("chronotick-near.onnx", "weights").display().to_string();
    refused(&["replay", &trace, "--models", &path(""), "--predictions", &model], "would be overwritten");
    assert_eq!(std::fs::read(model).expect("it is there"), b"weights");
}

#[test]
fn models_that_are_not_there_are_missed_aloud() {
    let folder = Folder::new("models");
    let page = folder.path().join("clock").display().to_string();
    let config = format!(
        "[ntp]\nservers = [\"127.0.0.1:{}\"]\n[page]\npath = \"{page}\"\n[models]\ndir = \"/nonexistent\"\n",
        free_port()
    );
    let config = folder.file("c.toml", &config);
    let _daemon = daemon(&folder, &config);
    let told = within(Duration::from_secs(20), || {
        let status = text(&chronotick().args(["status", "--page", &page]).output().expect("the program starts").stdout);
        status.contains("model     /nonexistent/chronotick-far.onnx").then_some(())
    });
    assert!(told.is_some(), "`status` does not say it");
    let log = std::fs::read_to_string(folder.path().join("log")).expect("a log");
    assert!(log.contains("a forecast model cannot be used: /nonexistent/chronotick-near.onnx"), "{log}");
}

#[test]
fn a_recording_is_judged_by_a_known_truth() {
    let folder = Folder::new("judged");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (trace, truth, out) = (path("t.csv"), path("truth.csv"), path("r.html"));
    let made =
        succeeded(&["simulate", "--kind", "room-lan", "--hours", "8", "--out", &trace, "--truth", &truth, "--json"]);
    assert!(json(&made)["exchanges"].as_u64() > Some(1000));
    let set = json(&succeeded(&["training-set", &trace, "--out", &path("set"), "--json"]));
    assert!(set["far"]["train"].as_u64() > Some(0), "{set}");
    let unjudged = text(&succeeded(&["replay", &trace, "--forecasters", "none", "--warmup", "100000"]).stdout);
    assert!(unjudged.contains("nothing was judged") && !unjudged.contains("NaN"), "{unjudged}");
    let figures = json(&succeeded(&[
        "report",
        &trace,
        "--truth",
        &truth,
        "--forecasters",
        "none",
        "--horizons",
        "0,64,256",
        "--out",
        &out,
        "--json",
    ]));
    assert_eq!(figures["witness"], "truth");
    for horizon in figures["horizons"].as_array().expect("three") {
        assert_eq!(horizon["contradicted"], 0, "{horizon}");
        assert!(horizon["compared"].as_u64() > Some(500), "{horizon}");
        assert_eq!(horizon["baselines"].as_array().map(Vec::len), Some(4));
    }
    let refused = output(&["report", &trace, "--truth", &trace, "--out", &out]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("t.csv:"), "{}", text(&refused.stderr));
    let short = output(&["record", "--page", &path("clock"), "--out", &path("r"), "--rotate", "often"]);
    assert_eq!(short.status.code(), Some(2));
    assert!(text(&short.stderr).contains("24 h"), "{}", text(&short.stderr));
}

#[test]
fn data_comes_as_json_everywhere() {
    let folder = Folder::new("json");
    let good = folder.file("good.toml", "[worker]\nmode = \"off\"\n").display().to_string();
    let bad = folder.file("bad.toml", "[worker]\nmood = \"off\"\n").display().to_string();
    assert_eq!(json(&succeeded(&["check-config", "--json", &good]))["good"], true);
    let refused = output(&["check-config", "--json", &bad]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(json(&refused)["error"].as_str().is_some_and(|error| error.contains("mood")));
    let kinds = text(&succeeded(&["simulate", "--list", "--json"]).stdout);
    assert!(kinds.lines().count() > 3);
    for line in kinds.lines() {
        assert!(serde_json::from_str::<Value>(line).expect("JSON")["kind"].is_string(), "{line}");
    }
    assert!(json(&succeeded(&["doctor", "--json"])).is_object());
    let script = json(&succeeded(&["completions", "zsh", "--json"]));
    assert!(script["shell"] == "zsh" && script["script"].as_str().is_some_and(|script| script.contains("#compdef")));
    assert!(json(&succeeded(&["man", "--json"]))["page"].as_str().is_some_and(|page| page.contains(".TH")));
    let pages = json(&succeeded(&["man", "--json", "--dir", &folder.path().join("man").display().to_string()]));
    assert!(
        pages["pages"].as_array().is_some_and(|pages| pages.iter().any(|page| page == "chronotick-watch.1")),
        "{pages}"
    );
    // Names are bytes, and need not be text.
    let named = folder.path().join(OsStr::from_bytes(b"\xff.toml"));
    std::fs::copy(&good, &named).expect("a copy");
    let checked = chronotick().args(["check-config", "--json"]).arg(named).output().expect("the program starts");
    assert_eq!(json(&checked)["good"], true);
    let man = folder.path().join(OsStr::from_bytes(b"man\xff"));
    let pages = chronotick().args(["man", "--json", "--dir"]).arg(man).output().expect("the program starts");
    assert!(json(&pages)["dir"].is_string());
}

#[test]
fn every_command_takes_json() {
    let help = text(&succeeded(&["--help"]).stdout);
    let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    // A description may go on in a line of its own, further to the right.
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<_> =
        names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(names.len() >= 15, "{help}");
    for name in names {
        assert!(text(&succeeded(&[name, "--help"]).stdout).contains("--json"), "chronotick {name} has no --json");
    }
}

#[test]
fn the_daemons_log_comes_as_json() {
    let folder = Folder::new("log");
    let config = "[ntp]\nservers = []\n[worker]\nmode = \"off\"\n[page]\npath = \"PAGE\"\n";
    let config = config.replace("PAGE", &folder.path().join("clock").display().to_string());
    let (config, log) = (folder.file("c.toml", &config), folder.path().join("log"));
    let _daemon = Running::logged(chronotick().args(["run", "--json", "--config"]).arg(config), &log);
    let lines = within(Duration::from_secs(60), || {
        let told = std::fs::read_to_string(&log).ok()?;
        let whole = told.rfind('\n').map(|end| told[..end].to_owned())?;
        whole.contains("no time server has answered").then_some(whole)
    });
    let lines = lines.unwrap_or_else(|| panic!("{}", std::fs::read_to_string(&log).unwrap_or_default()));
    for line in lines.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(["time", "level", "message"].iter().all(|key| object[key].is_string()), "{line}");
    }
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&succeeded(&["completions", shell]).stdout);
        for command in ["watch", "record", "report", "replay"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let folder = Folder::new("man");
    succeeded(&["man", "--dir", &folder.path().display().to_string()]);
    for page in ["chronotick.1", "chronotick-watch.1", "chronotick-record.1", "chronotick-report.1", "chronotick-man.1"]
    {
        let written = std::fs::read_to_string(folder.path().join(page)).expect(page);
        assert!(written.contains(".TH"), "{page}");
    }
    assert!(!folder.path().join("chronotick-worker.1").exists(), "the worker is started by the daemon alone");
    assert!(text(&succeeded(&["man"]).stdout).contains("chronotick"));
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    for arguments in [&[][..], &["--help"], &["help", "watch"], &["watch", "--wrong"]] {
        let output = output(arguments);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.is_empty() && !all.contains('\u{1b}'), "{arguments:?}: {all:?}");
    }
}

/// What a command prints on a terminal of 24 by 80 characters; `None`, with the reason said, where there is none to be had.
fn on_a_terminal(line: &str, no_color: Option<&str>) -> Option<String> {
    let Some(script) = find("script") else {
        println!("skipped: script is missing (apt-get install bsdutils)");
        return None;
    };
    let mut command = Command::new(script);
    command.args(["-qec", &format!("stty rows 24 cols 80; {PROGRAM} {line}"), "/dev/null"]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR").envs(no_color.map(|value| ("NO_COLOR", value)));
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let problem = text(&output.stderr);
    if problem.contains("pseudo-terminal") {
        println!("skipped: this machine gives out no terminals (mount devpts on /dev/pts): {}", problem.trim());
        return None;
    }
    Some(text(&output.stdout))
}

#[test]
fn a_terminal_gets_colours_and_progress_unless_it_wants_none() {
    // A change of colour; other escapes move the cursor.
    let coloured = |text: &str| {
        let ends =
            text.split("\u{1b}[").skip(1).map(|rest| rest.trim_start_matches(|c: char| c == ';' || c.is_ascii_digit()));
        ends.zip(text.split("\u{1b}[").skip(1))
            .any(|(end, all)| end.starts_with('m') && !all.starts_with("0m") && !all.starts_with('m'))
    };
    let Some(help) = on_a_terminal("--help", None) else { return };
    assert!(coloured(&help), "{help:?}");
    let plain = on_a_terminal("--help", Some("1")).expect("it is there");
    assert!(plain.contains("Examples:") && !coloured(&plain), "{plain:?}");

    let folder = Folder::new("terminal");
    let make = format!("simulate --kind room-lan --hours 200 --out {}", folder.path().join("t.csv").display());
    let shown = on_a_terminal(&make, None).expect("it is there");
    assert!(shown.contains('\u{1b}'), "no progress on a terminal: {shown:?}");
    let words: Vec<_> = make.split(' ').collect();
    assert!(succeeded(&words).stderr.is_empty());
}
