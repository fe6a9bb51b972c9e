//! A collector on loopback that is sent the metrics, and reads their protobuf by itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::config::Config;
use crate::metrics::catalogue;
use crate::metrics::look::PageView;
use crate::runner::{Runner, Stop, World};

/// One metric as it arrived: its unit, whether it is a counter, and the values of its series.
#[derive(Debug, Default)]
struct Arrived {
    unit: String,
    counter: bool,
    series: Vec<(BTreeMap<String, String>, f64)>,
}

/// Listens, and hands on the body of every request together with its first line.
fn collector() -> (CollectorAddress, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = CollectorAddress::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("good");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            let body = loop {
                let count = stream.read(&mut chunk).expect("a request");
                bytes.extend_from_slice(&chunk[..count]);
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
                if bytes.len() >= end + 4 + length.parse::<usize>().expect("a number") {
                    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
                    break (head.lines().next().unwrap_or_default().to_owned(), bytes[end + 4..].to_vec());
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it reads");
            if sender.send(body).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

/// The fields of a protobuf message: number, and either bytes or the bits of a number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>, u64)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, kind) = (key >> 3, key & 7);
        match kind {
            0 => fields.push((number, Vec::new(), varint(&mut bytes))),
            1 => {
                let (eight, rest) = bytes.split_at(8);
                fields.push((number, Vec::new(), u64::from_le_bytes(eight.try_into().expect("eight"))));
                bytes = rest;
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                let (own, rest) = bytes.split_at(length);
                fields.push((number, own.to_vec(), 0));
                bytes = rest;
            }
            other => panic!("wire type {other}"),
        }
    }
    fields
}

fn inner(bytes: &[u8], wanted: u64) -> Vec<Vec<u8>> {
    fields(bytes).into_iter().filter(|field| field.0 == wanted).map(|field| field.1).collect()
}

fn text(bytes: &[u8], wanted: u64) -> String {
    inner(bytes, wanted).first().map(|text| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
}

/// KeyValue: key = 1, value = 2; AnyValue: string_value = 1.
fn attributes(message: &[u8], number: u64) -> BTreeMap<String, String> {
    let pairs = inner(message, number);
    pairs.iter().map(|pair| (text(pair, 1), inner(pair, 2).first().map(|v| text(v, 1)).unwrap_or_default())).collect()
}

/// ExportMetricsServiceRequest.resource_metrics = 1, its resource = 1 and scope_metrics = 2, their metrics = 2.
fn understand(body: &[u8]) -> (BTreeMap<String, String>, BTreeMap<String, Arrived>) {
    let mut metrics = BTreeMap::new();
    let mut resource = BTreeMap::new();
    for part in inner(body, 1) {
        resource.extend(inner(&part, 1).iter().flat_map(|resource| attributes(resource, 1)));
        for metric in inner(&part, 2).iter().flat_map(|scope| inner(scope, 2)) {
            let mut arrived = Arrived { unit: text(&metric, 3), ..Arrived::default() };
            // Metric: gauge = 5, sum = 7; both have data_points = 1: as_double = 4, as_int = 6, attributes = 7.
            for (number, data, _) in fields(&metric).into_iter().filter(|field| [5, 7].contains(&field.0)) {
                arrived.counter = number == 7;
                for point in inner(&data, 1) {
                    let value = fields(&point).into_iter().find_map(|(number, _, bits)| match number {
                        4 => Some(f64::from_bits(bits)),
                        6 => Some(bits as f64),
                        _ => None,
                    });
                    arrived.series.push((attributes(&point, 7), value.expect("a value")));
                }
            }
            metrics.insert(text(&metric, 1), arrived);
        }
    }
    (resource, metrics)
}

/// A daemon of which everything is known.
fn look() -> Look {
    let source = serde_json::json!({
        "name": "a.example:123", "kind": "ntp", "state": "reachable", "verdict": "selected", "reason": null,
        "address": "192.0.2.1:123", "stratum": 2, "leap": "none", "offset_ns": 1_500, "delay_ns": 20_000,
        "root_distance_ns": 30_000, "reach": 255, "age_s": 3.5, "poll_s": 16.0, "requests": 9, "accepted": 8, "refused": 0,
        "lost": 1, "unsolicited": 0, "replayed": 0, "malformed": 0, "unauthenticated": 0, "authentication": null,
        "interleaved": 0, "kernel_timestamps": 8
    });
    let status = serde_json::json!({
        "tier": "fused", "reason": "all is well", "sources": [source],
        "experts": { "horizons_s": [0.0, 16.0], "families": [
            { "name": "filter", "experts": 3, "weights": [0.75, 0.5], "rms_error_ns": [1_000.0, null] }] },
        "worker": { "alive": true, "rss_mb": 30.0, "cpu_s": 1.5, "restarts": 2, "inference_ms_p50": 1.0, "inference_ms_p99": 2.0 },
        "forecasts": { "issued": 5, "accepted": 4, "muted": 1 }, "success_rate": 0.9, "uptime_s": 100.0, "rate_ppm": -12.5,
        "offset_ns": -2_000, "interval95_ns": 3_000, "bound_ns": 40_000, "temperature_c": 41.5,
        "coverage": { "exchanges": 100, "inside": 95 }, "samples_accepted": 8, "samples_rejected": 1, "bound_conflicts": 0,
        "disruptions": 0, "counter": "Virtual", "page": "/nowhere", "pid": std::process::id(), "version": "0.0.0"
    });
    let page = PageView { age: Duration::from_millis(250), heartbeat_age: Duration::from_millis(125) };
    Look { status: serde_json::from_value(status).expect("a status"), page: Some(page) }
}

#[test]
fn a_collector_receives_every_metric_of_the_catalogue() {
    let (address, bodies) = collector();
    let sender = Sender::of(&address, Duration::from_millis(100), Box::new(|| Some(look()))).expect("it starts");
    let (request, body) = bodies.recv_timeout(Duration::from_secs(30)).expect("metrics within half a minute");
    assert_eq!(request, "post /v1/metrics http/1.1");
    let (resource, metrics) = understand(&body);
    assert_eq!(resource.get("service.name").map(String::as_str), Some("chronotick"));
    for (name, _) in catalogue() {
        let metric = metrics.get(name).unwrap_or_else(|| panic!("{name} did not arrive: {:?}", metrics.keys()));
        assert!(!metric.series.is_empty(), "{name}");
        assert_eq!(metric.counter, name.ends_with("_total"), "{name}");
    }
    assert_eq!(metrics.len(), catalogue().count());
    println!("{} metrics in {} bytes", metrics.len(), body.len());
    let only = |name: &str| metrics[name].series[0].1;
    assert_eq!(only("chronotick_offset_seconds"), -2e-6);
    assert_eq!(only("chronotick_bound_half_width_seconds"), 4e-5);
    assert_eq!(only("chronotick_page_age_seconds"), 0.25);
    assert_eq!(only("chronotick_worker_restarts_total"), 2.0);
    assert_eq!(metrics["chronotick_worker_resident_memory_bytes"].unit, "By");
    let fused = metrics["chronotick_tier"].series.iter().find(|(labels, _)| labels["tier"] == "fused");
    assert_eq!(fused.map(|series| series.1), Some(1.0));
    let answers = &metrics["chronotick_source_answers_total"].series;
    let lost = answers.iter().find(|(labels, _)| labels["result"] == "lost").expect("one kind of them");
    assert_eq!((lost.0["source"].as_str(), lost.1), ("a.example:123", 1.0));
    drop(sender);
}

#[test]
fn a_daemon_sends_what_it_is_configured_to() {
    let (address, bodies) = collector();
    let folder = std::env::temp_dir().join(format!("chronotick-otlp-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary folder");
    let text = format!(
        "[ntp]\nservers = []\n[worker]\nmode = \"off\"\n[metrics]\notlp = \"{address}\"\notlp_interval = \"1 s\"\n\
         [page]\npath = \"{}\"\n",
        folder.join("clock").display()
    );
    let config = Config::parse(&text, Path::new("c.toml")).expect("good");
    let stop = Stop::new().expect("a channel");
    let world = World::of_this_machine(&config);
    let runner = Runner::open(config, world, stop.clone()).expect("the page is free");
    let daemon = thread::spawn(move || runner.run());
    let (_, body) = bodies.recv_timeout(Duration::from_secs(60)).expect("metrics within a minute");
    let (_, metrics) = understand(&body);
    let raw = metrics["chronotick_tier"].series.iter().find(|(labels, _)| labels["tier"] == "raw");
    assert_eq!(raw.map(|series| series.1), Some(1.0));
    assert_eq!(metrics["chronotick_page_readable"].series[0].1, 1.0);
    stop.stop();
    daemon.join().expect("it ends").expect("without a failure");
    std::fs::remove_dir_all(&folder).expect("temporary folder");
}
