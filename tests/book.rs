//! The book: every page is in it, every link leads somewhere, every configuration is a good one, and every command line of the program
//! in it is run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chronotick_host::Config;
use chronotick_tests::loopback::{Folder, Running, Server, find, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");
/// What begins the other command lines: what they need is another machine's, or is run by another check.
const NOT_RUN: [(&str, &str); 20] = [
    ("cargo", "run by .ci/run"),
    ("packaging/debian/build", "run by .ci/run"),
    ("packaging/systemd/check", "run by .ci/run"),
    ("tests/", "campaigns, run by hand"),
    ("fuzz/run", "run by .ci/run"),
    ("chronotick-embedded/firmware/", "run by .ci/run"),
    ("bash .ci/run", "runs this"),
    ("prometheus ", "run by the test of Prometheus, with other ports"),
    ("curl ", "run by the test of the service, with another port"),
    ("chromium ", "makes the picture in docs/img"),
    ("sudo install ", "changes the system"),
    ("sudo apt-get ", "changes the system"),
    ("sudo groupadd ", "changes the system"),
    ("sudo udevadm ", "changes the system"),
    ("sudo systemd-sysusers ", "changes the system"),
    ("sudo systemctl ", "needs a service manager"),
    ("systemctl ", "needs a service manager"),
    ("journalctl ", "needs a service manager"),
    ("podman ", "needs a container engine"),
    ("kubectl ", "needs a cluster"),
];
/// The pages that are read from beginning to end; other pages' commands are looked at where they are of the program.
const GUIDES: [&str; 10] = [
    "INTRODUCTION.md",
    "TUTORIAL.md",
    "HOWTO_SERVICE.md",
    "HOWTO_CONTAINERS.md",
    "HOWTO_EDGE.md",
    "WATCH.md",
    "MONITORING.md",
    "FLEET.md",
    "SOURCES.md",
    "TROUBLESHOOTING.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The targets of a page's links to files, without anchors.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let local = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    local.map(|target| target.split('#').next().unwrap_or(target).to_owned()).collect()
}

#[test]
fn every_page_is_in_the_summary_and_every_link_leads_somewhere() {
    let docs = root().join("docs");
    assert!(read(&root().join("book.toml")).contains("src = \"docs\""));
    let listed: BTreeSet<_> = links(&read(&docs.join("SUMMARY.md"))).into_iter().collect();
    let mut pages = 0;
    for entry in std::fs::read_dir(&docs).expect("docs") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        pages += 1;
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        assert!(name == "SUMMARY.md" || listed.contains(&name), "docs/{name} is not in docs/SUMMARY.md");
        for link in links(&read(&path)) {
            assert!(docs.join(&link).exists(), "docs/{name} links to {link}, which is not there");
        }
    }
    assert!(pages > 15, "{pages}");
    for link in links(&read(&root().join("README.md"))) {
        assert!(root().join(&link).exists(), "README.md links to {link}, which is not there");
    }
}

/// The configurations in a page: its TOML blocks, each behind as many empty lines as there are lines before it, so that an error names
/// the line of the page. What is for cargo is left out.
fn configurations(text: &str) -> Vec<String> {
    let (mut found, mut block) = (Vec::new(), None::<String>);
    for (number, line) in text.lines().enumerate() {
        block = match block {
            None => (line == "```toml").then(|| "\n".repeat(number + 1)),
            Some(whole) if line == "```" => {
                found.push(whole);
                None
            }
            Some(part) => Some(part + line + "\n"),
        };
    }
    found.retain(|block| !block.trim_start().starts_with("[dependencies]"));
    found
}

#[test]
fn every_configuration_in_the_book_is_good() {
    let pages = std::fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("entry").path());
    let mut count = 0;
    for page in pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        for text in configurations(&read(&page)) {
            // Every key has a default, so that a part of a configuration is one as well.
            if let Err(error) = Config::parse(&text, &page) {
                panic!("{error}");
            }
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn a_wrong_configuration_would_be_noticed() {
    let page = "Text.\n\n```toml\n[dependencies]\nx = 1\n```\n```toml\n[ntp]\npol_min = \"16 s\"\n```\n";
    let found = configurations(page);
    assert_eq!(found.len(), 1, "{found:?}");
    let error = Config::parse(&found[0], Path::new("page.md")).expect_err("there is no such key").to_string();
    assert!(error.starts_with("page.md:9:1:"), "{error}");
}

/// The lines of the shell blocks: continued ones joined, a text given with `<<END` with its command, without comments.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for block in text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        let mut given = false;
        for line in block.replace("\\\n", " ").lines() {
            if given {
                given = line != "END";
                let command = lines.last_mut().expect("the one before");
                command.push('\n');
                command.push_str(line);
                continue;
            }
            let line = line.split(" # ").next().unwrap_or(line).trim().to_owned();
            if !line.is_empty() && !line.starts_with('#') {
                given = line.ends_with("<<END");
                lines.push(line);
            }
        }
    }
    lines
}

/// A command line as it is run here, or `None` where it is not of the program: endless commands end, reports do without
/// the models, which take minutes, and what would be written outside is written into the folder.
fn adapted(line: &str) -> Option<String> {
    let line = line.replace("cargo run --release -- ", "chronotick ");
    let line = line.strip_prefix("sudo ").unwrap_or(&line).to_owned();
    let mut words = line.split_whitespace().skip_while(|word| word.contains('='));
    let (program, command) = (words.next()?, words.next().unwrap_or_default());
    if !["chronotick", "promtool"].contains(&program) && !line.starts_with("cat >") {
        return None;
    }
    let outside = [
        ("/tmp/clock/", "clock/"),
        ("/etc/chronotick/chronotick.toml", "configs/production.toml"),
        ("/etc/bash_completion.d/", "./"),
        ("/usr/local/share/man/", "./man/"),
    ];
    let mut line = outside.iter().fold(line.clone(), |line, (from, to)| line.replace(from, to));
    let also = match command {
        _ if line.contains("--help") => "",
        "demo" => " --seconds 3",
        "watch" if !line.contains("--lines") => " --lines 25",
        "record" => " --seconds 1",
        "report" | "replay" => " --forecasters none",
        _ => "",
    };
    line = line.replacen(&format!("chronotick {command}"), &format!("chronotick {command}{also}"), 1);
    if program == "chronotick" && command == "run" {
        // Beside the daemon that the other commands look at; ended once it answers.
        line = format!(
            "rm -rf again; mkdir again; export CHRONOTICK_DIR=$PWD/again; {} & daemon=$!\n\
             until [ -S again/status.sock ]; do kill -0 $daemon; sleep 0.1; done; kill $daemon; wait $daemon",
            line.replace("clock/", "again/")
        );
    }
    Some(line)
}

/// A folder in which the commands of the book find what they name, and a daemon.
struct Desk {
    folder: Folder,
    server: Server,
    _daemon: Running,
}

impl Desk {
    fn set() -> Self {
        let folder = Folder::new("book");
        let path = folder.path().to_owned();
        let root = std::fs::canonicalize(root()).expect("the source tree");
        let link = |from: PathBuf, to: &str| std::os::unix::fs::symlink(from, path.join(to)).expect("a link");
        for name in ["configs", "packaging", "tests"] {
            link(root.join(name), name);
        }
        for name in ["bin", "clock", "traces"] {
            std::fs::create_dir(path.join(name)).expect("a folder");
        }
        link(PROGRAM.into(), "bin/chronotick");
        // `--page clock/page` and no argument at all are the same daemon.
        link("page".into(), "clock/clock");
        let server = Server::start(Duration::from_secs(2));
        let config = "[ntp]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst = 16\nburst_interval = \"100 ms\"\n[worker]\nmode = \"off\"\n";
        let config = folder.file("c.toml", config);
        let mut desk = Self { _daemon: Running(Command::new("true").spawn().expect("true")), folder, server };
        let mut command = desk.command("exec chronotick run --config \"$0\" --page clock/page");
        desk._daemon = Running::logged(command.arg(config), &path.join("log"));
        let heard = within(Duration::from_secs(120), || {
            let status = chronotick_host::runner::Status::ask(&path.join("clock/page")).ok()?;
            (status.samples_accepted >= 26).then_some(())
        });
        assert!(heard.is_some(), "{}", std::fs::read_to_string(path.join("log")).unwrap_or_default());
        let made = desk.run("chronotick simulate --kind room-lan --hours 2 --out TRACE");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        link(path.join("TRACE"), "traces/trace-20240229T123457Z.csv");
        desk
    }

    fn command(&self, line: &str) -> Command {
        let path = self.folder.path();
        let mut command = Command::new("bash");
        let programs = std::env::var("PATH").unwrap_or_default();
        command.args(["-euc", line]).current_dir(path).stdin(Stdio::null());
        command.env("PATH", format!("{}/bin:{programs}", path.display()));
        command.env("CHRONOTICK_DIR", path.join("clock"));
        command.env("CHRONOTICK_NTP__SERVERS", self.server.address().to_string());
        command
    }

    fn run(&self, line: &str) -> std::process::Output {
        self.command(line).output().expect("a shell")
    }
}

#[test]
fn every_command_line_of_the_program_is_run() {
    let desk = Desk::set();
    let (mut ran, mut left) = (0, 0);
    let mut pages: Vec<_> = GUIDES.iter().map(|name| root().join("docs").join(name)).collect();
    pages.push(root().join("README.md"));
    for page in pages {
        let name = page.file_name().expect("a name").to_string_lossy().into_owned();
        for line in command_lines(&read(&page)) {
            let missing = line.starts_with("promtool") && find("promtool").is_none();
            match adapted(&line).filter(|_| !missing) {
                Some(command) => {
                    let output = desk.run(&command);
                    let told = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{name}: `{line}`, run as `{command}`: {}\n{told}", output.status);
                    println!("{name}: {line}");
                    ran += 1;
                }
                None => {
                    let known = NOT_RUN.iter().find(|(start, _)| line.starts_with(start));
                    let plain = ["export ", "mkdir "].iter().any(|start| line.starts_with(start)) || missing;
                    assert!(known.is_some() || plain, "{name}: `{line}` is run by nobody");
                    for word in line.split_whitespace().filter(|word| {
                        ["packaging/", "configs/", "tests/"].iter().any(|folder| word.starts_with(folder))
                    }) {
                        assert!(root().join(word).exists(), "{name}: `{line}` names {word}, which is not there");
                    }
                    left += 1;
                }
            }
        }
    }
    println!("{ran} command lines run, {left} left to other checks");
    assert!(ran >= 25, "{ran}");
}

#[test]
fn a_wrong_command_line_would_be_noticed() {
    assert_eq!(adapted("sudo chronotick now --json | jq ."), Some("chronotick now --json | jq .".to_owned()));
    assert_eq!(adapted("A=b chronotick watch"), Some("A=b chronotick watch --lines 25".to_owned()));
    assert_eq!(adapted("cargo test --workspace"), None);
    let parsed = Command::new(PROGRAM).args(["run", "--konfig", "x", "--help"]).output().expect("the program starts");
    assert_eq!(parsed.status.code(), Some(2));
}
