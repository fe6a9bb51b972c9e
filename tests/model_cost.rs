//! The shipped models are small, fast and light. Alone in its process, so that the memory measured is the models'.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod model_files;

use std::time::Duration;

use model_files::{fixture, infer, load, model_file, shipped};

/// Largest model file.
const MAX_BYTES: u64 = 4_000_000;
/// Processor time that one inference may take, 99th percentile.
const MAX_INFERENCE: Duration = Duration::from_millis(1);
/// The 99th percentile's, which is promised of a release build: the test profile optimises less, and a slow processor is at the limit.
const MAX_P99: Duration = Duration::from_micros(if cfg!(debug_assertions) { 1_500 } else { 1_000 });
/// Memory that both models together may occupy, in MiB.
const MAX_RESIDENT_MIB: f64 = 40.0;
/// Inferences timed in a round.
const ROUND: usize = 200;
/// Rounds; the quietest counts.
const ROUNDS: usize = 8;

/// Processor time is measured, not wall time: the test fails for a slow model and not for a busy machine. Neighbours that
/// evict the caches cost processor time too, which shows in the slowest per cent.
#[test]
fn models_are_small_fast_and_light() {
    let before = resident_mib();
    let loaded = ["near", "far"].map(|name| {
        let bytes = std::fs::metadata(model_file(&shipped(), name)).unwrap().len();
        assert!(bytes <= MAX_BYTES, "{name}: {bytes} bytes");
        let fixture = fixture(&shipped(), name);
        let started = processor_time();
        let model = load(&shipped(), name, &fixture);
        let load_time = processor_time() - started;
        infer(&model, &fixture, &fixture.cases[0].context, &fixture.cases[0].scalars);
        (name, bytes, load_time, model, fixture)
    });
    let resident = before.zip(resident_mib()).map(|(before, after)| after - before);
    for (name, bytes, load_time, model, fixture) in &loaded {
        let case = &fixture.cases[0];
        let round = || {
            let mut times: Vec<Duration> = (0..ROUND)
                .map(|_| {
                    let started = processor_time();
                    infer(model, fixture, &case.context, &case.scalars);
                    processor_time() - started
                })
                .collect();
            times.sort_unstable();
            (times[ROUND / 2], times[ROUND * 99 / 100])
        };
        let (median, p99) = (0..ROUNDS).map(|_| round()).min_by_key(|(_, p99)| *p99).unwrap();
        println!("{name}: {bytes} bytes, loads in {load_time:.1?}, inference {median:.1?} median, {p99:.1?} p99");
        assert!(median <= MAX_INFERENCE, "{name}: an inference takes {median:?} in the median");
        if processor_to_spare() {
            assert!(p99 <= MAX_P99, "{name}: an inference takes {p99:?} at the 99th percentile");
        } else {
            println!("{name}: the 99th percentile is not judged, others keep every processor busy");
        }
    }
    if let Some(resident) = resident {
        println!("both models: {resident:.1} MiB more resident than before");
        assert!(resident <= MAX_RESIDENT_MIB, "both models occupy {resident:.1} MiB");
    }
}

/// Whether fewer tasks than processors have been running in the last minute.
fn processor_to_spare() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    load.is_none_or(|load| load < processors as f64)
}

/// Processor time that this thread has used.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

/// Resident memory of this process, where the system tells.
fn resident_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}
