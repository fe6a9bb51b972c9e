//! Real time servers on loopback, honest, lying, authenticated and behind a bad network: chronyd, ntpd of ntpsec, and a relay.
//!
//! Each test says "skipped" with the reason where its peers are missing. The truth is the system's clock, which the honest
//! peers serve as it is. Errors are compared with the bound that was served at the same instant, so a busy machine makes bounds
//! wide and not tests red.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chronotick_host::Reader;
use chronotick_tests::live::{Chronyd, Daemon, Reading, against_system, exchange};
use chronotick_tests::loopback::{Folder, LOOPBACK, Running, find, free_port, within};
use chronotick_tests::relay::{Faults, Relay};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_chronotick-under-test");
/// For everything that takes a moment on an idle machine.
const PATIENCE: Duration = Duration::from_secs(40);

fn skipped(what: &str) {
    println!("skipped: {what}");
}

fn count(status: &Value, source: usize, key: &str) -> u64 {
    status["sources"][source][key].as_u64().unwrap_or(0)
}

fn is_synchronised(status: &Value) -> bool {
    status["tier"] == "filter"
}

fn reader(daemon: &Daemon) -> Reader {
    within(PATIENCE, || daemon.reader()).expect("the daemon makes a page")
}

/// Readings every tenth of a second for `span`, every one of them within its bound.
fn watch(reader: &Reader, span: Duration) -> Vec<Reading> {
    let started = Instant::now();
    let mut readings = Vec::new();
    while started.elapsed() < span {
        let reading = against_system(reader);
        assert!(reading.holds(), "outside the bound: {reading:?}");
        readings.push(reading);
        sleep(Duration::from_millis(100));
    }
    readings
}

fn worst(readings: &[Reading]) -> (i64, i64) {
    let error = readings.iter().map(|r| r.error.abs()).max().unwrap_or(0);
    (error, readings.iter().filter_map(|r| r.bound).max().unwrap_or(0))
}

/// The middle of the sorted magnitudes: single wake-ups that came late on a busy machine do not move it.
fn median_error(readings: &[Reading]) -> i64 {
    let mut errors: Vec<_> = readings.iter().map(|r| r.error.abs()).collect();
    errors.sort_unstable();
    errors.get(errors.len() / 2).copied().unwrap_or(0)
}

/// Starts two honest servers and one whose clock is `fake`; returns them and the daemon that asks all three, the liar first.
fn three_servers(folder: &Folder, fake: &str) -> Option<(Vec<Chronyd>, Daemon)> {
    let peers = vec![Chronyd::start(folder, Some(fake))?, Chronyd::start(folder, None)?, Chronyd::start(folder, None)?];
    let servers: Vec<_> = peers.iter().map(|peer| format!("\"127.0.0.1:{}\"", peer.port)).collect();
    let daemon = Daemon::start(PROGRAM, folder, "three", &servers.join(", "));
    Some((peers, daemon))
}

/// The served time stays where the two honest servers put it, and the liar is named with a reason.
fn the_liar_is_named(fake: &str) {
    let folder = Folder::new("liar");
    let Some((_peers, daemon)) = three_servers(&folder, fake) else {
        return skipped("chronyd or faketime is missing (apt-get install chrony faketime)");
    };
    let reader = reader(&daemon);
    // From the very first reading on: no lie is served, however early the liar is heard.
    let first = within(PATIENCE, || {
        let reading = against_system(&reader);
        assert!(reading.holds(), "outside the bound: {reading:?}");
        (reading.tier == "filter").then_some(reading)
    });
    println!("{fake}: first {:?}", first.expect("synchronised"));
    let status = daemon.wait_for("the liar is named", PATIENCE, |status| {
        status["sources"][0]["verdict"] == "falseticker"
            && status["sources"][1]["verdict"] == "selected"
            && status["sources"][2]["verdict"] == "selected"
    });
    println!("{fake}: the liar: {}", status["sources"][0]["reason"]);
    assert!(status["sources"][0]["reason"].as_str().is_some_and(|reason| reason.contains("contradict")), "{status:#}");
    assert!(status["sources"][1]["reason"].is_null(), "{status:#}");
    let readings = watch(&reader, Duration::from_secs(5));
    let (error, bound) = worst(&readings);
    println!("{fake}: error at most {error} ns, bound at most {bound} ns");
    assert!(readings.iter().all(|r| r.tier == "filter"), "{readings:?}");
    // Far below the lie, whatever the machine is doing.
    assert!(error < 100_000_000 && bound < 200_000_000, "error {error} ns, bound {bound} ns");
}

/// Half a second: chronyd's receive timestamps come from the kernel and are honest, so its answers contradict themselves.
#[test]
fn a_liar_of_half_a_second_is_named() {
    the_liar_is_named("+0.5s");
}

/// Two seconds: too far for chronyd to believe the kernel, so its answers are a lie in one piece, with a tiny claimed error.
#[test]
fn a_liar_of_two_seconds_is_named() {
    the_liar_is_named("+2s");
}

#[test]
fn two_liars_that_disagree_are_not_believed() {
    let folder = Folder::new("liars");
    let peers: Option<Vec<_>> =
        [Some("+3s"), Some("-4s"), None].into_iter().map(|fake| Chronyd::start(&folder, fake)).collect();
    let Some(peers) = peers else {
        return skipped("chronyd or faketime is missing (apt-get install chrony faketime)");
    };
    let servers: Vec<_> = peers.iter().map(|peer| format!("\"127.0.0.1:{}\"", peer.port)).collect();
    let daemon = Daemon::start(PROGRAM, &folder, "liars", &servers.join(", "));
    let reader = reader(&daemon);
    let readings = watch(&reader, Duration::from_secs(10));
    let status = daemon
        .wait_for("all three are heard", PATIENCE, |status| (0..3).all(|source| count(status, source, "accepted") > 0));
    println!("two liars: {} ({})", status["tier"], status["reason"]);
    assert!(readings.iter().all(|r| r.tier == "raw" && r.bound.is_none()), "{readings:?}");
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("no majority")), "{status:#}");
    for source in 0..3 {
        assert_eq!(status["sources"][source]["verdict"], "undecided", "{status:#}");
        assert!(status["sources"][source]["reason"].is_string(), "{status:#}");
    }
}

#[test]
fn a_bad_network_costs_little_accuracy_and_no_bound() {
    const SEED: u64 = 7;
    let folder = Folder::new("relay");
    let Some(peer) = Chronyd::start(&folder, None) else {
        return skipped("chronyd is missing (apt-get install chrony)");
    };
    let server = SocketAddr::new(LOOPBACK, peer.port);
    // Longer out than back, so that a changed timestamp has room to cut the truth off.
    let good = Faults {
        out: Duration::from_millis(2),
        back: Duration::from_millis(1),
        jitter: Duration::from_micros(500),
        ..Faults::default()
    };
    let bad =
        Faults { loss: 0.3, corruption: 0.1, duplication: 0.1, reordering: 0.05, replay: 0.2, stray: 0.2, ..good };
    let anywhere = SocketAddr::new(LOOPBACK, 0);
    let relays = [good, bad].map(|faults| Relay::start(anywhere, server, faults, SEED).expect("a relay"));
    let daemons = [("good", &relays[0]), ("bad", &relays[1])]
        .map(|(name, relay)| Daemon::start(PROGRAM, &folder, name, &format!("\"{}\"", relay.address)));
    let readers = [reader(&daemons[0]), reader(&daemons[1])];
    for daemon in &daemons {
        daemon.wait_for("some exchanges", PATIENCE, |status| count(status, 0, "accepted") >= 6);
    }
    let started = Instant::now();
    let mut readings = [Vec::new(), Vec::new()];
    while started.elapsed() < Duration::from_secs(45) {
        for (reader, readings) in readers.iter().zip(&mut readings) {
            let reading = against_system(reader);
            assert!(reading.holds(), "outside the bound, seed {SEED}: {reading:?}");
            // Accuracy is compared once both have settled; the bound has to hold always.
            if started.elapsed() > Duration::from_secs(20) {
                readings.push(reading);
            }
        }
        sleep(Duration::from_millis(100));
    }
    let [good, bad] = [0, 1].map(|i| median_error(&readings[i]));
    let status = daemons[1].status().expect("a status");
    let done = &relays[1].done;
    let counted = |key: &str| count(&status, 0, key);
    println!(
        "relay: {good} ns without faults, {bad} ns with; {} packets, {} lost, {} answers corrupted, {} replayed, {} stray; \
         the client took {} and ignored {} unsolicited, {} replayed, {} malformed",
        done.packets.load(Ordering::Relaxed),
        done.lost.load(Ordering::Relaxed),
        done.corrupted_answers.load(Ordering::Relaxed),
        done.replayed.load(Ordering::Relaxed),
        done.stray.load(Ordering::Relaxed),
        counted("accepted"),
        counted("unsolicited"),
        counted("replayed"),
        counted("malformed"),
    );
    // The relay's asymmetry alone is an error of half a millisecond that no client can see; either may have less of it by the luck
    // of the jitter, so it is the floor.
    assert!(bad < 2 * good.max(500_000), "{bad} ns with faults, {good} ns without, seed {SEED}");
    assert!(counted("lost") > 0 && counted("unsolicited") > 0 && counted("replayed") > 0, "{status:#}");
    let silent = &daemons[0].status().expect("a status")["sources"][0];
    assert_eq!((silent["unsolicited"].as_u64(), silent["replayed"].as_u64()), (Some(0), Some(0)), "{silent:#}");
}

#[test]
fn replayed_and_invented_packets_are_ignored_and_counted() {
    let folder = Folder::new("replay");
    let Some(peer) = Chronyd::start(&folder, None) else {
        return skipped("chronyd is missing (apt-get install chrony)");
    };
    let faults = Faults { duplication: 1.0, replay: 1.0, stray: 1.0, ..Faults::default() };
    let server = SocketAddr::new(LOOPBACK, peer.port);
    let relay = Relay::start(SocketAddr::new(LOOPBACK, 0), server, faults, 11).expect("a relay");
    let daemon = Daemon::start(PROGRAM, &folder, "replay", &format!("\"{}\"", relay.address));
    let reader = reader(&daemon);
    let status = daemon.wait_for("ignored packets of both kinds", PATIENCE, |status| {
        count(status, 0, "accepted") >= 8 && count(status, 0, "replayed") >= 8 && count(status, 0, "unsolicited") >= 8
    });
    let (error, bound) = worst(&watch(&reader, Duration::from_secs(2)));
    println!(
        "ignored: {} replayed, {} unsolicited; error at most {error} ns, bound {bound} ns",
        count(&status, 0, "replayed"),
        count(&status, 0, "unsolicited"),
    );
    assert!(count(&status, 0, "accepted") <= count(&status, 0, "requests"), "{status:#}");
}

/// A certificate authority and a server certificate for loopback, as files: (authority, certificate, key).
fn certificates(folder: &Folder, name: &str) -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let file = |kind: &str, text: &str| folder.file(&format!("{name}-{kind}.pem"), text).display().to_string();
    (file("ca", &authority.pem()), file("cert", &certificate.pem()), file("key", &key.serialize_pem()))
}

#[test]
fn authenticated_answers_are_used_and_tampered_ones_refused() {
    let folder = Folder::new("nts");
    let (ca, certificate, key) = certificates(&folder, "good");
    let (stranger, ..) = certificates(&folder, "stranger");
    let (port, agreement) = (free_port(), free_port());
    // The key exchange sends clients to the same port of another address of this machine, where the relay is.
    let lines = format!(
        "ntsport {agreement}\nntsserverkey {key}\nntsservercert {certificate}\nntsntpserver 127.0.0.2\nntsprocesses 0"
    );
    let Some(mut peer) = Chronyd::configured(&folder, None, port, &lines) else {
        return skipped("chronyd is missing (apt-get install chrony)");
    };
    if std::net::TcpStream::connect((LOOPBACK, agreement)).is_err() {
        return skipped("this chronyd was built without NTS");
    }
    let server = SocketAddr::new(LOOPBACK, port);
    let relay = Relay::start(SocketAddr::from(([127, 0, 0, 2], port)), server, Faults::default(), 5).expect("a relay");
    let servers = format!(
        "{{ host = \"localhost:{agreement}\", nts = true, ca = {ca:?} }}, \
         {{ host = \"127.0.0.1:{agreement}\", nts = true, ca = {stranger:?} }}"
    );
    let daemon = Daemon::start(PROGRAM, &folder, "nts", &servers);
    let reader = reader(&daemon);

    // More exchanges than there were cookies at first, so they are replaced.
    let status =
        daemon.wait_for("a dozen authenticated exchanges", PATIENCE, |status| count(status, 0, "accepted") >= 12);
    println!("nts: {} via {}", status["sources"][0]["authentication"], status["sources"][0]["address"]);
    assert_eq!(status["sources"][0]["authentication"], "nts", "{status:#}");
    assert_eq!(status["sources"][0]["address"], format!("127.0.0.2:{port}"), "{status:#}");
    assert_eq!(count(&status, 0, "unauthenticated"), 0, "{status:#}");
    assert!(is_synchronised(&status), "{status:#}");
    // The same server with an authority that did not sign it is not used.
    let reason = status["sources"][1]["reason"].as_str().unwrap_or_default();
    println!("nts, another authority: {reason}");
    assert!(reason.contains("certificate") && count(&status, 1, "requests") == 0, "{status:#}");

    relay.set(Faults { corruption: 1.0, ..Faults::default() });
    let status = daemon.wait_for("tampered answers", PATIENCE, |status| {
        count(status, 0, "unauthenticated") + count(status, 0, "unsolicited") >= 4
    });
    println!(
        "nts, tampered: {} not authentic, {} unsolicited, {} accepted",
        count(&status, 0, "unauthenticated"),
        count(&status, 0, "unsolicited"),
        count(&status, 0, "accepted")
    );
    watch(&reader, Duration::from_secs(1));
    daemon.wait_for("an answer that is not authentic", PATIENCE, |status| count(status, 0, "unauthenticated") > 0);
    let accepted = count(&daemon.status().expect("a status"), 0, "accepted");
    sleep(Duration::from_secs(3));
    assert_eq!(count(&daemon.status().expect("a status"), 0, "accepted"), accepted, "a tampered answer was taken");

    // A restarted server has new keys and cannot read the cookies: it says so, and keys are agreed on again.
    peer.process.kill();
    let _peer = Chronyd::configured(&folder, None, port, &lines);
    relay.set(Faults::default());
    let status =
        daemon.wait_for("exchanges with new keys", 2 * PATIENCE, |status| count(status, 0, "accepted") >= accepted + 3);
    println!("nts, after the server's restart: {} accepted", count(&status, 0, "accepted"));
    watch(&reader, Duration::from_secs(1));
}

#[test]
fn interleaved_mode_is_used_where_the_server_offers_it() {
    let folder = Folder::new("interleaved");
    let Some(peer) = Chronyd::start(&folder, None) else {
        return skipped("chronyd is missing (apt-get install chrony)");
    };
    let server = format!("{{ host = \"127.0.0.1:{}\", interleaved = true }}", peer.port);
    let daemon = Daemon::start(PROGRAM, &folder, "interleaved", &server);
    let reader = reader(&daemon);
    let status = daemon.wait_for("interleaved exchanges", PATIENCE, |status| count(status, 0, "interleaved") >= 5);
    let readings = watch(&reader, Duration::from_secs(3));
    let (error, bound) = worst(&readings);
    println!(
        "interleaved: {} of {} answers, delay {} ns; error at most {error} ns, bound at most {bound} ns",
        count(&status, 0, "interleaved"),
        count(&status, 0, "accepted"),
        status["sources"][0]["delay_ns"]
    );
    assert_eq!(count(&status, 0, "refused"), 0, "{status:#}");
    // Every pair but the first, and the one that may be under way.
    assert!(2 * count(&status, 0, "interleaved") + 4 >= count(&status, 0, "accepted"), "{status:#}");
}

/// `localhost` is a pool of two where the machine has IPv6: each association takes an address of its own.
#[test]
fn a_pool_gives_every_association_another_server() {
    let folder = Folder::new("pool");
    let Some(peer) = Chronyd::configured(&folder, None, free_port(), "bindaddress ::1\nallow ::1") else {
        return skipped("chronyd is missing (apt-get install chrony)");
    };
    let daemon =
        Daemon::start(PROGRAM, &folder, "pool", &format!("{{ host = \"localhost:{}\", pool = true }}", peer.port));
    let status = daemon.wait_for("a member of the pool", PATIENCE, |status| {
        status["sources"].as_array().is_some_and(|sources| sources.len() == 4)
            && (0..4).any(|source| count(status, source, "accepted") >= 2)
            && (0..4).filter(|&source| status["sources"][source]["reason"].is_string()).count() >= 2
    });
    let mut addresses: Vec<_> =
        (0..4).filter_map(|source| status["sources"][source]["address"].as_str().map(str::to_owned)).collect();
    println!("pool: {addresses:?}");
    let used = addresses.len();
    addresses.sort();
    addresses.dedup();
    assert!(used >= 1 && addresses.len() == used, "{status:#}");
}

#[test]
fn another_implementation_is_understood() {
    let Some(program) = find("ntpd") else {
        return skipped("ntpd of ntpsec is missing (apt-get download ntpsec; dpkg -x it to target/peers)");
    };
    // ntpd has no other port to be given; two runs of this test would meet there, and so would a server of the machine's own.
    if exchange(123).is_some() || std::net::UdpSocket::bind((LOOPBACK, 123)).is_err() {
        return skipped("port 123 of loopback is taken, or not for this user");
    }
    let folder = Folder::new("ntpsec");
    let lines = "disable ntp\ninterface ignore wildcard\ninterface listen 127.0.0.1\ntos orphan 1 orphanwait 1\nrestrict default\n\
                 limit average 1000 burst 1000\n";
    let file = folder.file("ntp.conf", lines);
    let mut command = Command::new(program);
    command.arg("-n").arg("-c").arg(file).arg("-p").arg(folder.path().join("ntpd.pid"));
    let _peer = Running::start(&mut command);
    if within(PATIENCE, || exchange(123)).is_none() {
        return skipped("ntpd does not start here, or does not become a server");
    }
    let daemon = Daemon::start(PROGRAM, &folder, "ntpsec", "\"127.0.0.1:123\"");
    let reader = reader(&daemon);
    let status = daemon.wait_for("exchanges with ntpd", PATIENCE, |status| {
        count(status, 0, "accepted") >= 6 && is_synchronised(status)
    });
    let (error, bound) = worst(&watch(&reader, Duration::from_secs(3)));
    println!("ntpsec: stratum {}, error at most {error} ns, bound at most {bound} ns", status["sources"][0]["stratum"]);
}
