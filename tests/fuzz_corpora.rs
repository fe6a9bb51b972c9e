//! The fuzz targets (fuzz/targets.rs) on what is committed, on mutations of it, and on arbitrary bytes.
//!
//! The committed corpora are what the encoders of this repository make ([`seeds`]), by
//! `CHRONOTICK_WRITE_CORPORA=1 cargo test -p chronotick-tests --test fuzz_corpora`, and inputs that once found something.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use chronotick_core::forecast::{Forecast, ForecastRequest, Model, Outlook};
use chronotick_core::units::{Offset, Rate, Span, Temperature, Timestamp};
use chronotick_core::window::Window;
use chronotick_core::{Sample, SourceId};
use chronotick_embedded::frame;
use chronotick_embedded::gateway::{ToGateway, ToNode};
use chronotick_host::link::{Boot, Order, Ready, Reply};
use chronotick_host::local::candm;
use chronotick_host::ntp::packet::{Leap, NtpShort, NtpTimestamp, Packet, mode};
use chronotick_host::nts::{extension, record};
use chronotick_host::trace::TraceWriter;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpora").join(target)
}

/// What the encoders make: target, file, content.
fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target, name, bytes: Vec<u8>| seeds.push((target, name, bytes));

    let answer = Packet {
        leap: Leap::Insert,
        version: 4,
        mode: mode::SERVER,
        stratum: 2,
        poll: 6,
        precision: -23,
        root_delay: NtpShort(1_000),
        root_dispersion: NtpShort(2_000),
        reference_id: [127, 0, 0, 1],
        reference: NtpTimestamp::from_bits(0xDC06_0000_0000_0000),
        origin: NtpTimestamp::from_bits(0x0123_4567_89AB_CDEF),
        receive: NtpTimestamp::from_bits(0xDC06_0001_8000_0000),
        transmit: NtpTimestamp::from_bits(0xDC06_0001_8001_0000),
    };
    add("packet", "request", Packet::request(NtpTimestamp::from_bits(0x0123_4567_89AB_CDEF)).encode().to_vec());
    add("packet", "answer", answer.encode().to_vec());
    add("packet", "kiss", Packet { stratum: 0, reference_id: *b"RATE", ..answer }.encode().to_vec());
    add("packet", "chronyd-request", candm::request(7).to_vec());
    let mut tracking = candm::request(7).to_vec();
    tracking[..2].copy_from_slice(&[6, 2]);
    tracking[4..8].copy_from_slice(&[0, 33, 0, 5]);
    tracking[16..20].copy_from_slice(&[0, 0, 0, 7]);
    tracking[28..32].copy_from_slice(&[192, 0, 2, 1]);
    tracking[92..96].copy_from_slice(&[0xF2, 0x40, 0, 0]);
    add("packet", "chronyd-tracking", tracking);
    let mut fields = Vec::new();
    extension::push(&mut fields, 0x0104, &[7; 32]);
    extension::push(&mut fields, 0x0204, &[9; 104]);
    extension::push_authenticator(&mut fields, &[3; 16], &[5; 32]);
    add("packet", "authenticated", [&answer.encode()[..], &fields].concat());

    add("nts", "request", record::request());
    add("nts", "fields", fields);
    let record = |kind: u16, body: &[u8]| {
        let length = u16::try_from(body.len()).expect("short");
        [&kind.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
    };
    let start = [record(0x8001, &[0, 0]), record(0x8004, &[0, 15])].concat();
    let end = record(0x8000, &[]);
    let cookies = [record(5, &[1; 100]), record(5, &[2; 100])].concat();
    let elsewhere = [record(6, b"time.example"), record(7, &[0, 124])].concat();
    add("nts", "response", [&start[..], &cookies, &end].concat());
    add("nts", "elsewhere", [&start[..], &elsewhere, &cookies, &end].concat());
    add("nts", "refused", [record(0x8002, &[0, 1]), end].concat());

    add("config", "empty.toml", Vec::new());
    add(
        "config",
        "everything.toml",
        b"[ntp]\nservers = [\"a\", { host = \"b:4461\", nts = true }, \"[::1]:5\"]\npoll_min = \"2 s\"\n[local]\nsources = [\"ptp:/dev/ptp0\", \
          \"pps:/dev/pps0\", \"chronyd\"]\n[serve]\nleap = \"smear\"\n[worker]\ncpu_affinity = [1, 2]\n"
            .to_vec(),
    );
    add(
        "config",
        "some.yaml",
        b"ntp:\n  servers: [a, b]\n  poll_min: 16 s\nworker: {mode: thread, nice: 3}\n".to_vec(),
    );
    add("config", "wrong.toml", b"[ntp]\npol_min = 16\nburst = \"many\"\n".to_vec());

    for (name, order) in [
        ("boot", Order::Boot(Boot { models: Some("/m".to_owned()), nice: 10, ..Boot::default() })),
        ("ping", Order::Ping(7)),
        ("ask", Order::Forecast(Box::new(request()))),
    ] {
        add("frames", name, postcard::to_stdvec(&order).expect("memory"));
    }
    for (name, reply) in [
        ("ready", Reply::Ready(Box::<Ready>::default())),
        ("forecast", Reply::Forecast { forecast: Box::new(forecast()), inference_ns: 9 }),
        ("refused", Reply::Refused { id: 3, reason: "no".to_owned() }),
    ] {
        add("frames", name, postcard::to_stdvec(&reply).expect("memory"));
    }
    let mut buffer = vec![0; 32 * 1024];
    let node = frame::encode(&ToNode::Forecast(forecast()), &mut buffer).expect("room").to_vec();
    add("frames", "to-node", node);
    let gateway = frame::encode(&ToGateway::Forecast(request()), &mut buffer).expect("room").to_vec();
    add("frames", "to-gateway", gateway);

    let mut trace = TraceWriter::new(Vec::new(), &["a trace"]).expect("memory");
    for i in 0..4i64 {
        let sample = Sample {
            local: Timestamp::from_nanos(1_201_899_100 + i * 16_000_000_000),
            offset: Offset::from_nanos(-446_397 * i),
            delay: Span::from_nanos(1_336_200),
            root_distance: Span::from_nanos(1_000),
            temperature: (i > 1).then(|| Temperature::new(31.25)),
            source: SourceId(0),
        };
        trace.write(&sample, if i == 3 { "b" } else { "" }).expect("memory");
    }
    add("trace", "short.csv", trace.finish().expect("memory"));
    add("trace", "header.csv", b"local_ns,offset_ns,delay_ns,root_distance_ns,temperature_c,source\n".to_vec());
    seeds
}

fn request() -> ForecastRequest {
    ForecastRequest {
        id: 5,
        model: Model::Near,
        origin: Timestamp::from_nanos(1_000_000_000),
        step: Span::from_secs(64),
        rate: Rate::from_ppm(3.0),
        offset_deviation: 1e-5,
        rate_deviation: 1e-8,
        outlook: Outlook::default(),
        history: Window::new(Span::from_secs(64)).history(Rate::from_ppm(3.0)),
    }
}

fn forecast() -> Forecast {
    Forecast { id: 5, model: Model::Far, hash: [7; 8], quantiles: [[0.5; 9], [-0.25; 9]].into_iter().collect() }
}

/// Everything committed for a target, and for `config` the shipped files too.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let folders = [Some(folder(target)), (target == "config").then_some(shipped)];
    let mut files: Vec<_> = folders
        .into_iter()
        .flatten()
        .flat_map(|folder| fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())))
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), fs::read(&path).expect("readable")))
        .collect();
    files.sort();
    if target == "page" {
        let daemon = chronotick_host::doc::daemon();
        files.push(("a page made now".into(), fs::read(daemon.path()).expect("just made")));
    }
    files
}

#[test]
fn the_committed_seeds_are_what_the_encoders_make() {
    let write = std::env::var_os("CHRONOTICK_WRITE_CORPORA").is_some();
    for (target, name, bytes) in seeds() {
        let path = folder(target).join(name);
        if write {
            fs::create_dir_all(folder(target)).expect("the repository can be written");
            fs::write(&path, &bytes).expect("the repository can be written");
        }
        let committed = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            committed == bytes,
            "{} is stale: CHRONOTICK_WRITE_CORPORA=1 cargo test --test fuzz_corpora",
            path.display()
        );
    }
}

#[test]
fn every_target_takes_its_corpus_mutated_and_not() {
    for (name, target) in targets::ALL {
        let corpus = corpus(name);
        assert!(corpus.len() >= 2, "{name} has no corpus");
        for (path, bytes) in &corpus {
            println!("{name}: {}", path.display());
            target(bytes);
        }
        let originals: Vec<_> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
        let edit = (any::<prop::sample::Index>(), any::<u8>(), 0u8..6);
        let mutated =
            (prop::sample::select(originals), prop::collection::vec(edit, 1..12)).prop_map(|(mut bytes, edits)| {
                edits.into_iter().for_each(|(at, value, how)| mutate(&mut bytes, at, value, how));
                bytes
            });
        let arbitrary = prop::collection::vec(any::<u8>(), 0..600);
        let mut runner = TestRunner::new(Config { cases: 4_000, failure_persistence: None, ..Config::default() });
        let inputs = prop_oneof![3 => mutated, 1 => arbitrary];
        runner
            .run(&inputs, |bytes| {
                target(&bytes);
                Ok(())
            })
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        targets::tidy();
    }
}

/// One edit, of the kinds that fuzzers make.
fn mutate(bytes: &mut Vec<u8>, at: prop::sample::Index, value: u8, how: u8) {
    let at = at.index(bytes.len().max(1));
    match how {
        0 => bytes.insert(at.min(bytes.len()), value),
        1 => bytes.truncate(at),
        2 if !bytes.is_empty() => bytes[at] ^= 1 << (value % 8),
        3 if !bytes.is_empty() => bytes[at] = value,
        4 if !bytes.is_empty() => {
            let end = (at + usize::from(value) % 16 + 1).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        _ if !bytes.is_empty() => {
            let end = (at + 8).min(bytes.len());
            bytes[at..end].fill(if value < 128 { 0 } else { 0xFF });
        }
        _ => {}
    }
}
