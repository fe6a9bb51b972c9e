//! The shipped models say in tract what they said in PyTorch, fast enough and in little memory.
//!
//! `models/fixtures` holds inputs and PyTorch's outputs (written by `models/train/fixtures.py`): constant, step, huge,
//! missing-value and ordinary series. With `CHRONOTICK_PARITY=DIR` the two parity tests read model files and `fixtures/` in DIR
//! instead: `models/export_pretrained.py` writes such a folder.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use tract_onnx::prelude::*;

/// Largest difference allowed, relative to the largest quantile of the row.
const TOLERANCE: f32 = 1e-4;
/// Largest model file.
const MAX_BYTES: u64 = 4_000_000;
/// Processor time that one inference may take, 99th percentile.
const MAX_INFERENCE: Duration = Duration::from_millis(1);
/// Memory that both models together may occupy, in MiB.
const MAX_RESIDENT_MIB: f64 = 40.0;

/// Inferences timed in a round.
const ROUND: usize = 200;

type Runnable = Arc<TypedRunnableModel>;

struct Case {
    name: String,
    context: Vec<f32>,
    scalars: Vec<f32>,
    expected: Vec<f32>,
}

struct Fixture {
    context: [usize; 2],
    scalars: usize,
    quantiles: [usize; 2],
    cases: Vec<Case>,
}

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("models")
}

fn model_file(models: &Path, name: &str) -> PathBuf {
    models.join(format!("chronotick-{name}.onnx"))
}

fn fixture(models: &Path, name: &str) -> Fixture {
    let header: serde_json::Value =
        serde_json::from_slice(&std::fs::read(models.join(format!("fixtures/{name}.json"))).unwrap()).unwrap();
    let size = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let pair = |key: &str| [size(&header[key][0]), size(&header[key][1])];
    let (context, scalars, quantiles) = (pair("context"), size(&header["scalars"]), pair("quantiles"));
    let bytes = std::fs::read(models.join(format!("fixtures/{name}.f32"))).unwrap();
    let mut values = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let mut take = |count: usize| values.by_ref().take(count).collect::<Vec<f32>>();
    let cases: Vec<Case> = header["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| Case {
            name: name.as_str().unwrap().to_owned(),
            context: take(context[0] * context[1]),
            scalars: take(scalars),
            expected: take(quantiles[0] * quantiles[1]),
        })
        .collect();
    assert!(cases.iter().all(|case| case.expected.len() == quantiles[0] * quantiles[1]), "the fixture is cut short");
    Fixture { context, scalars, quantiles, cases }
}

fn load(models: &Path, name: &str, fixture: &Fixture) -> Runnable {
    let [channels, cells] = fixture.context;
    tract_onnx::onnx()
        .model_for_path(model_file(models, name))
        .unwrap()
        .with_input_fact(0, f32::fact([1, channels, cells]).into())
        .unwrap()
        .with_input_fact(1, f32::fact([1, fixture.scalars]).into())
        .unwrap()
        .into_optimized()
        .unwrap()
        .into_runnable()
        .unwrap()
}

fn infer(model: &Runnable, fixture: &Fixture, context: &[f32], scalars: &[f32]) -> Vec<f32> {
    let [channels, cells] = fixture.context;
    let inputs = tvec!(
        Tensor::from_shape(&[1, channels, cells], context).unwrap().into(),
        Tensor::from_shape(&[1, fixture.scalars], scalars).unwrap().into()
    );
    let output = model.run(inputs).unwrap();
    let [rows, levels] = fixture.quantiles;
    assert_eq!(output[0].shape(), [1, rows, levels]);
    output[0].to_plain_array_view::<f32>().unwrap().iter().copied().collect()
}

fn parity(name: &str) {
    let models = std::env::var_os("CHRONOTICK_PARITY").map_or_else(shipped, PathBuf::from);
    if !model_file(&models, name).exists() && models != shipped() {
        println!("{name}: skipped, {} holds none", models.display());
        return;
    }
    let fixture = fixture(&models, name);
    let model = load(&models, name, &fixture);
    let levels = fixture.quantiles[1];
    let mut worst = 0.0f32;
    for case in &fixture.cases {
        let answer = infer(&model, &fixture, &case.context, &case.scalars);
        for (row, (got, expected)) in answer.chunks(levels).zip(case.expected.chunks(levels)).enumerate() {
            let unit = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
            for (a, b) in got.iter().zip(expected) {
                let difference = (a - b).abs() / unit;
                assert!(difference <= TOLERANCE, "{name}, {}, row {row}: tract {a}, PyTorch {b}", case.name);
                worst = worst.max(difference);
            }
            assert!(got.is_sorted(), "{name}, {}, row {row}: quantiles out of order: {got:?}", case.name);
        }
    }
    println!("{name}: {} cases, largest relative difference {worst:.1e}", fixture.cases.len());
}

#[test]
fn the_near_model_answers_as_in_pytorch() {
    parity("near");
}

#[test]
fn the_far_model_answers_as_in_pytorch() {
    parity("far");
}

/// A clock that runs fast is no different from one that runs slow.
#[test]
fn a_forecast_of_the_mirrored_series_is_the_mirrored_forecast() {
    for (name, rate_channels) in [("near", &[0usize][..]), ("far", &[0, 3, 6])] {
        let fixture = fixture(&shipped(), name);
        let model = load(&shipped(), name, &fixture);
        let cells = fixture.context[1];
        for case in &fixture.cases {
            let mut mirrored = case.context.clone();
            for &channel in rate_channels {
                mirrored[channel * cells..(channel + 1) * cells].iter_mut().for_each(|value| *value = -*value);
            }
            let answer = infer(&model, &fixture, &mirrored, &case.scalars);
            for (got, expected) in answer.chunks(fixture.quantiles[1]).zip(case.expected.chunks(fixture.quantiles[1])) {
                let unit = expected.iter().fold(0.0f32, |most, value| most.max(value.abs()));
                for (a, b) in got.iter().rev().zip(expected) {
                    assert!((a + b).abs() <= TOLERANCE * unit, "{name}, {}: {got:?} against {expected:?}", case.name);
                }
            }
        }
    }
}

/// Processor time is measured, not wall time, and the best of a few rounds is held against the limit: the test fails for a
/// slow model and not for a busy machine.
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
        let (median, p99) = (0..5).map(|_| round()).min_by_key(|(_, p99)| *p99).unwrap();
        println!("{name}: {bytes} bytes, loads in {load_time:.1?}, inference {median:.1?} median, {p99:.1?} p99");
        assert!(
            p99 <= MAX_INFERENCE,
            "{name}: an inference takes {median:?} in the median, {p99:?} at the 99th percentile"
        );
    }
    if let Some(resident) = resident {
        println!("both models: {resident:.1} MiB more resident than before");
        assert!(resident <= MAX_RESIDENT_MIB, "both models occupy {resident:.1} MiB");
    }
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
