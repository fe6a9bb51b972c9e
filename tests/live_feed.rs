//! A real chronyd is fed this clock, and another one is read from. Skipped where chronyd and faketime are not installed.
//!
//! ```text
//! chronyd, three seconds ahead  --NTP-->  daemon  --SOCK-->  chronyd -x  --NTP-->  this test
//!                                                                \--tracking-->  a second daemon
//! ```

use std::process::Command;
use std::time::Duration;

use chronotick_tests::live::{Chronyd, Daemon, against_system, exchange};
use chronotick_tests::loopback::{Folder, find, free_port, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");

#[test]
fn a_real_chronyd_selects_this_clock_and_serves_it_and_another_daemon_reads_it() {
    if find("chronyd").is_none() || find("chronyc").is_none() || find("faketime").is_none() {
        println!("skipped: chronyd or faketime is missing (apt-get install chrony faketime)");
        return;
    }
    let folder = Folder::new("feed");
    let socket = folder.path().join("chronotick.sock");
    let (upstream, fed, fed_commands) = (free_port(), free_port(), free_port());

    let _upstream = Chronyd::configured(&folder, Some("+3s"), upstream, "").expect("found before");
    // What docs/SOURCES.md says, but for the ports.
    let lines = format!(
        "refclock SOCK {} refid CTK poll 0 filter 4 delay 0.001 precision 1e-6\ncmdport {fed_commands}\n\
         bindcmdaddress 127.0.0.1\nbindcmdaddress /",
        socket.display()
    );
    let _fed = Chronyd::unheard(&folder, None, fed, &lines).expect("found before");
    let ntp = format!(
        "[ntp]\nservers = [\"127.0.0.1:{upstream}\"]\npoll_min = \"1 s\"\npoll_max = \"2 s\"\nburst_interval = \"250 ms\"\n\
         [feed]\nchrony_sock = \"{}\"\ninterval = \"500 ms\"\n[worker]\nmode = \"off\"",
        socket.display()
    );
    let feeding = Daemon::configured(PROGRAM, &folder, "feeding", &ntp);

    // chronyd selects it.
    let line = until("the reference clock is selected", || {
        let port = fed_commands.to_string();
        let output = Command::new("chronyc").args(["-n", "-h", "127.0.0.1", "-p", &port, "sources"]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().find(|line| line.starts_with("#* CTK")).map(str::to_owned)
    });
    println!("{line}");

    // chronyd serves it: three seconds ahead of this machine, as upstream, the page and the fed chronyd all say. The first
    // corrections are still being made.
    let by_fed = until("the fed chronyd serves the time", || {
        exchange(fed).filter(|answer| (answer.ahead() - 3_000_000_000).abs() < 2_000_000)
    });
    let truth = exchange(upstream).expect("still there");
    let page = against_system(&feeding.reader().expect("a page"));
    println!("upstream {truth:?}, page {page:?}, fed chronyd {by_fed:?}");
    let bound = page.bound.expect("synchronised") + page.blur;
    assert!((page.error - truth.ahead()).abs() <= bound + truth.half, "the page");
    // chronyd filters what it is sent; a millisecond is ten times what it needs.
    assert!((by_fed.ahead() - page.error).abs() <= bound + by_fed.half + 1_000_000, "the fed chronyd");
    let state = feeding.status().expect("the daemon lives");
    assert!(state["feed"]["sent"].as_u64().is_some_and(|sent| sent > 3), "{}", state["feed"]);
    assert!(state["feed"]["reason"].is_null(), "{}", state["feed"]);

    // And it can be asked how it tracks, as a source.
    let local = format!(
        "[ntp]\nservers = []\n[local]\npoll = \"1 s\"\n\
         sources = [\"chronyd:127.0.0.1:{fed_commands}\", \"ptp:/dev/ptp-missing\"]\n[worker]\nmode = \"off\""
    );
    let reading = Daemon::configured(PROGRAM, &folder, "reading", &local);
    let state = until("a daemon follows the fed chronyd", || {
        reading.status().filter(|state| state["sources"][0]["accepted"].as_u64() >= Some(3))
    });
    let page = against_system(&reading.reader().expect("a page"));
    let by_fed = exchange(fed).expect("still there");
    println!("read from chronyd {page:?}, fed chronyd {by_fed:?}, {}", state["sources"][0]);
    let bound = page.bound.expect("synchronised") + page.blur;
    assert!((page.error - by_fed.ahead()).abs() <= bound + by_fed.half + 1_000_000, "what chronyd tracks");
    assert!((page.error - truth.ahead()).abs() <= bound + 1_000_000, "the truth");
    assert_eq!(state["sources"][0]["kind"], "chronyd");
    // The other one does not exist, is named, and disturbs nobody.
    assert_eq!(state["sources"][1]["state"], "unavailable");
    let reason = state["sources"][1]["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("cannot read /dev/ptp-missing: "), "{reason}");
}

fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(40), look).unwrap_or_else(|| panic!("not within 40 s: {what}"))
}
