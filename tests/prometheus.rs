//! What a fleet is watched with: the shipped rules, dashboard and manifests, and a real Prometheus where it is installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chronotick_host::metrics::catalogue;
use chronotick_tests::loopback::{Folder, Running, Server, find, free_address, get, within};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(packaging(path)).unwrap_or_else(|cause| panic!("{path}: {cause}"))
}

/// The documents of a YAML file.
fn yaml(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The metrics that a text names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|word| word.starts_with("chronotick_"))
}

#[test]
fn rules_and_dashboard_name_metrics_that_exist() {
    for path in ["prometheus/chronotick.rules.yml", "grafana/chronotick.json"] {
        let text = read(path);
        let mut count = 0;
        for name in named(&text) {
            count += 1;
            assert!(catalogue().any(|(known, _)| known == name), "{path} names {name}");
        }
        assert!(count > 10, "{path}: {count}");
    }
    let page = std::fs::read_to_string(packaging("../docs/MONITORING.md")).expect("the page");
    for (name, help) in catalogue() {
        assert!(page.contains(&format!("| `{name}` | {help} |")), "docs/MONITORING.md lacks | `{name}` | {help} |");
    }
}

#[test]
fn the_files_are_well_formed() {
    let dashboard: Value = serde_json::from_str(&read("grafana/chronotick.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() >= 12));
    let kinds: Vec<_> = yaml("kubernetes/daemonset.yaml").iter().map(|object| object["kind"].clone()).collect();
    assert_eq!(kinds, ["Namespace", "ConfigMap", "DaemonSet"]);
    // The configuration inside the manifest is one.
    let objects = yaml("kubernetes/daemonset.yaml");
    let config = objects[1]["data"]["chronotick.yaml"].as_str().expect("a configuration");
    let config = chronotick_host::Config::parse(config, Path::new("chronotick.yaml")).expect("good");
    assert_eq!(config.page.path.as_deref(), Some(Path::new("/run/chronotick/clock")));
    let reader = &yaml("kubernetes/reader.yaml")[0];
    assert_eq!(reader["spec"]["containers"][0]["volumeMounts"][0]["readOnly"], true);
    assert_eq!(yaml("prometheus/chronotick.rules.yml")[0]["groups"][0]["name"], "chronotick");
}

#[test]
fn what_the_debian_package_takes_is_there() {
    let host = packaging("../chronotick-host");
    let manifest = std::fs::read_to_string(host.join("Cargo.toml")).expect("the manifest");
    let (_, metadata) = manifest.split_once("[package.metadata.deb]").expect("metadata");
    let mut taken = 0;
    for path in metadata.lines().filter_map(|line| line.trim().strip_prefix("[\"../")?.split('"').next()) {
        // What the package's script makes is not in the source tree.
        if path.starts_with("target/") {
            continue;
        }
        taken += 1;
        let path = host.join("..").join(path);
        let (folder, name) = (path.parent().expect("a folder"), path.file_name().expect("a name").to_string_lossy());
        let like = |file: &std::path::Path| match name.strip_prefix('*') {
            Some(end) => file.to_string_lossy().ends_with(end),
            None => file == path,
        };
        let found = std::fs::read_dir(folder).expect("a folder").flatten().any(|entry| like(&entry.path()));
        assert!(found, "{} is not there", path.display());
    }
    assert!(taken >= 5, "{taken}");
    for script in
        ["debian/build", "debian/check", "debian/changelog", "debian/postinst", "debian/postrm", "systemd/check"]
    {
        assert!(packaging(script).is_file(), "{script}");
    }
}

#[test]
fn a_real_prometheus_scrapes_the_daemon_and_loads_the_rules() {
    let Some(prometheus) = find("prometheus") else {
        println!("skipped: prometheus is missing (apt-get install prometheus)");
        return;
    };
    let folder = Folder::new("prometheus");
    let server = Server::start(Duration::from_secs(2));
    let (listen, web) = (free_address(), free_address());
    let config = format!(
        "[ntp]\nservers = [\"{}\"]\npoll_min = \"1 s\"\npoll_max = \"1 s\"\nburst_interval = \"100 ms\"\n\
         [page]\npath = \"{}\"\n[worker]\nmode = \"off\"\n[metrics]\nlisten = \"{listen}\"\n",
        server.address(),
        folder.path().join("clock").display()
    );
    let config = folder.file("c.toml", &config);
    let mut command = Command::new(PROGRAM);
    let daemon = Running::logged(command.args(["run", "--config"]).arg(config), &folder.path().join("log"));

    // The shipped files, but for the address and the patience.
    folder.file("chronotick.rules.yml", &read("prometheus/chronotick.rules.yml"));
    let scrape = read("prometheus/scrape.yml").replace("127.0.0.1:9123", &listen.to_string()).replace("15s", "1s");
    let scrape = folder.file("prometheus.yml", &scrape);
    let mut command = Command::new(prometheus);
    command
        .arg(format!("--config.file={}", scrape.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={web}"));
    let _prometheus = Running::logged(&mut command, &folder.path().join("prometheus.log"));
    let ask = |path: &str| -> Option<Value> {
        let (code, body) = get(web, path).ok().filter(|(code, _)| *code == 200)?;
        assert_eq!(code, 200);
        // Chunked answers carry their lengths between the pieces; the object is what stands between the outer braces.
        let object = body.get(body.find('{')?..=body.rfind('}')?)?;
        serde_json::from_str(object).ok()
    };
    let query = |query: &str| ask(&format!("/api/v1/query?query={query}"));
    let tier = within(Duration::from_secs(60), || {
        let answer = query("chronotick_tier==1")?;
        let series = answer["data"]["result"].as_array()?.first()?.clone();
        (series["metric"]["tier"] != "raw").then_some(series)
    });
    let log = || std::fs::read_to_string(folder.path().join("prometheus.log")).unwrap_or_default();
    let tier = tier.unwrap_or_else(|| panic!("no tier was scraped: {}", log()));
    println!("scraped: {tier}");
    assert_eq!(tier["metric"]["job"], "chronotick");

    let rules = within(Duration::from_secs(60), || {
        let answer = ask("/api/v1/rules")?;
        let groups = answer["data"]["groups"].as_array()?.clone();
        let rules: Vec<Value> = groups.iter().filter_map(|g| g["rules"].as_array()).flatten().cloned().collect();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    });
    let rules =
        rules.unwrap_or_else(|| panic!("not every rule could be evaluated: {:?}\n{}", ask("/api/v1/rules"), log()));
    println!("{} rules evaluated", rules.len());
    assert_eq!(rules.len(), 12);
    assert!(!log().contains("level=error"), "{}", log());

    // The daemon goes, and the alert for that wakes.
    drop(daemon);
    let down = within(Duration::from_secs(90), || {
        let answer = ask("/api/v1/alerts")?;
        let alerts = answer["data"]["alerts"].as_array()?;
        alerts.iter().any(|alert| alert["labels"]["alertname"] == "ChronotickDown").then_some(())
    });
    assert!(down.is_some(), "nobody noticed that the daemon is gone: {}", log());
}
