//! A real peer: Debian's chronyd on loopback, three seconds ahead and 100 ppm fast. Skipped where it is not installed.

use std::thread::sleep;
use std::time::{Duration, Instant};

use chronotick_tests::live::{Chronyd, Daemon, against, exchange};
use chronotick_tests::loopback::Folder;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");

#[test]
fn a_daemon_follows_a_real_chronyd_and_holds_over_when_it_dies() {
    let folder = Folder::new("live");
    let Some(mut server) = Chronyd::start(&folder, Some("+3s x1.0001")) else {
        println!("skipped: chronyd or faketime is missing (apt-get install chrony faketime)");
        return;
    };
    let lines = format!(
        "[ntp]\nservers = [\"127.0.0.1:{}\"]\npoll_min = \"1 s\"\npoll_max = \"2 s\"\nburst = 8\n\
         burst_interval = \"250 ms\"\n[serve]\nholdover_after = \"4 s\"",
        server.port
    );
    let daemon = Daemon::configured(PROGRAM, &folder, "following", &lines);
    let first = exchange(server.port).expect("chronyd answers");

    // Within a minute: the rate within 2 ppm of 100 ppm, and what the roads leave open. Where an idle machine takes a millisecond to
    // wake the server up, and more or less of it as it goes on, that is a millisecond over the time since the first exchange.
    let started = Instant::now();
    let mut delays = Vec::new();
    let (status, rate, open) = loop {
        let status = daemon.status().unwrap_or_default();
        let elapsed = started.elapsed().as_secs_f64();
        delays.extend(status["sources"][0]["delay_ns"].as_f64());
        delays.sort_by(f64::total_cmp);
        let open = 2.0 + delays.get(delays.len() / 2).map_or(0.0, |delay| 1e-3 * delay / elapsed);
        let rate = status["rate_ppm"].as_f64().unwrap_or(0.0);
        if elapsed > 60.0 || elapsed > 20.0 && (rate - 100.0).abs() < 2.0 {
            break (status, rate, open);
        }
        sleep(Duration::from_secs(1));
    };
    assert!((rate - 100.0).abs() < open, "no rate of 100 ppm to {open:.1} within a minute: {status}");
    println!("rate {rate:.1} ppm, known to {open:.1}, tier {}", status["tier"]);
    assert!(status["sources"][0]["kernel_timestamps"].as_u64().is_some_and(|count| count > 0), "{status}");

    // The offset agrees with a direct exchange within the hard bound (and what the exchange itself leaves open).
    let second = exchange(server.port).expect("chronyd answers");
    let truth = |at: i64| second.theirs + (at - second.at) + (at - second.at) / 10_000;
    let reader = daemon.reader().expect("a page");
    let agreed = against(&reader, truth);
    println!("agrees: {agreed:?}");
    assert!(agreed.bound.is_some_and(|bound| agreed.error.abs() <= bound + second.half), "{agreed:?}");

    // The truth goes on at its known rate after the server's death: a line through two exchanges far apart.
    let rate = (second.theirs - first.theirs) as f64 / (second.at - first.at) as f64;
    let blur = (first.half + second.half) as f64 / (second.at - first.at) as f64;
    assert!((rate - 1.0001).abs() < 5e-6 + blur, "the server runs at {rate}, known to {blur}");
    server.process.kill();
    let killed = Instant::now();
    let mut widths = Vec::new();
    let mut fell = false;
    while killed.elapsed() < Duration::from_secs(60) {
        sleep(Duration::from_secs(3));
        let reading = against(&reader, truth);
        let bound = reading.bound.expect("it was synchronised");
        // The two exchanges' own uncertainty is not the clock's.
        let most = bound + second.half + first.half;
        assert!(reading.error.abs() <= most, "{reading:?} after {:?}", killed.elapsed());
        fell |= reading.tier == "holdover";
        widths.push(bound);
    }
    println!("bounds while the server was dead: {widths:?} ns");
    assert!(fell, "the tier never fell to holdover");
    let (early, late) = (widths[2], widths[widths.len() - 1]);
    assert!(late > early, "the bound does not grow: {widths:?}");
    assert_eq!(daemon.status().expect("the daemon lives")["tier"], "holdover");
}
