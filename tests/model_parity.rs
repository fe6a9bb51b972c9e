//! The shipped models say in tract what they said in PyTorch.
//!
//! `models/fixtures` holds inputs and PyTorch's outputs (written by `models/train/fixtures.py`): constant, step, huge,
//! missing-value and ordinary series. With `CHRONOTICK_PARITY=DIR`, an absolute path, the two parity tests read model files and `fixtures/`
//! in DIR instead, and load each as the daemon would: `models/export_pretrained.py` writes such a folder.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod model_files;

use std::path::PathBuf;

use chronotick_core::forecast::Model;
use chronotick_host::worker::files::ModelFile;
use model_files::{fixture, infer, load, model_file, shipped};

/// Largest difference allowed, relative to the largest quantile of the row.
const TOLERANCE: f32 = 1e-4;

fn parity(model: Model, name: &str) {
    let models = std::env::var_os("CHRONOTICK_PARITY").map_or_else(shipped, PathBuf::from);
    let there = |model| model_file(&models, model).exists();
    if models != shipped() && !there(name) {
        assert!(there("near") || there("far"), "{} holds no model: name it by an absolute path", models.display());
        println!("{name}: skipped, {} holds none", models.display());
        return;
    }
    if let Err(error) = ModelFile::read(model, Some(&models)) {
        panic!("{error}");
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
    parity(Model::Near, "near");
}

#[test]
fn the_far_model_answers_as_in_pytorch() {
    parity(Model::Far, "far");
}
