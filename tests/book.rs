//! The book: every page is in it, every link leads somewhere, and every command line in its guides is one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");
/// Pages whose command lines are checked.
const GUIDES: [&str; 6] =
    ["TUTORIAL.md", "HOWTO_SERVICE.md", "HOWTO_CONTAINERS.md", "HOWTO_EDGE.md", "MONITORING.md", "FLEET.md"];

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

/// The lines of the shell blocks, continued ones joined, without prompts and comments.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for block in text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.replace("\\\n", " ").lines() {
            let line = line.split(" # ").next().unwrap_or(line).trim().to_owned();
            if !line.is_empty() && !line.starts_with('#') {
                lines.push(line);
            }
        }
    }
    lines
}

/// The arguments of the program in a line, if it runs it: `[VARIABLE=value] [sudo] chronotick ARGUMENTS`, or through cargo.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.replace("cargo run --release -- ", "chronotick ");
    let line = line.split(['|', '>', '&']).next().unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| word.contains('=') || *word == "sudo");
    let program = words.next()?;
    (program == "chronotick" || program.ends_with("/chronotick"))
        .then(|| words.map(|word| word.trim_matches(['"', '\'']).to_owned()).collect())
}

#[test]
fn every_command_line_of_the_guides_is_understood() {
    let mut checked = 0;
    for page in GUIDES {
        for line in command_lines(&read(&root().join("docs").join(page))) {
            let Some(arguments) = arguments(&line) else { continue };
            checked += 1;
            // The parser stops at the request for help, after everything before it was understood.
            let parsed = Command::new(PROGRAM).args(&arguments).arg("--help").output().expect("the program starts");
            let told = String::from_utf8_lossy(&parsed.stderr).into_owned();
            assert!(parsed.status.success(), "docs/{page}: `{line}` is not understood: {told}");
            // What is quick and needs neither network nor daemon is run as well.
            let quick = ["doctor", "check-config", "simulate"];
            if arguments.first().is_some_and(|command| quick.contains(&command.as_str())) {
                let folder = std::env::temp_dir().join(format!("chronotick-book-{}", std::process::id()));
                std::fs::create_dir_all(&folder).expect("temporary folder");
                let configs = std::fs::canonicalize(root().join("configs")).expect("configs");
                let placed = arguments.iter().map(|word| match word.strip_prefix("configs/") {
                    Some(name) => configs.join(name).into_os_string(),
                    None => word.into(),
                });
                let ran = Command::new(PROGRAM).args(placed).current_dir(&folder).output().expect("the program starts");
                let told = String::from_utf8_lossy(&ran.stderr).into_owned();
                assert!(ran.status.success(), "docs/{page}: `{line}` fails: {told}");
                std::fs::remove_dir_all(&folder).expect("temporary folder");
            }
        }
    }
    println!("{checked} command lines");
    assert!(checked >= 15, "{checked}");
}

#[test]
fn a_wrong_command_line_would_be_noticed() {
    let parsed = Command::new(PROGRAM).args(["run", "--konfig", "x", "--help"]).output().expect("the program starts");
    assert_eq!(parsed.status.code(), Some(2));
    assert_eq!(arguments("sudo chronotick now --json | jq .").expect("ours"), ["now", "--json"]);
    assert_eq!(arguments("cargo test --workspace"), None);
}
