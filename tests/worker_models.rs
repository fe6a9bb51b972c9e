//! Everything that can be wrong with a model file or with what a model says, while a service keeps time beside its worker.
//! As in `worker_faults`, the service of `chronotick_tests::supervised` checks the laws at every step.

use std::path::Path;
use std::time::Duration;

use chronotick_core::fallback::{Reason, Tier};
use chronotick_host::link::ModelState;
use chronotick_tests::supervised::{
    DOWN, PATIENCE, RECOVERY, Service, WARMING_UP, Workshop, alone, repetitions, signal,
};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_faulty-worker");

/// With broken models of `kind` the worker lives, says which file and why, and no forecast enters.
fn is_not_usable(kind: &str, spoil: impl Fn(&Path), part: &str) {
    let _alone = alone();
    let workshop = Workshop::new("models", PROGRAM, kind);
    spoil(&workshop.models());
    let mut service = Service::start(workshop.config());
    service.run_until("questions to be refused", PATIENCE, |service| service.health().refused >= 2);
    let health = service.health();
    assert!(health.alive && health.restarts == 0, "{health:?}");
    let near = &health.models[0];
    assert!(
        matches!(near, ModelState::Failed(line)
            if line.contains("chronotick-near.onnx: ") && line.contains(part) && !line.contains('\n')),
        "{near:?}"
    );
    assert!(health.last_refusal.is_some_and(|line| line.contains(".onnx: ")), "a question is told why");
    assert_eq!(service.pipeline.counts().forecasts_accepted, 0);
    // Where its other model works the worker answers, and its answers are judged.
    let others = health.models.iter().any(|model| matches!(model, ModelState::Loaded { .. }));
    assert_eq!(service.verdict(), if others { WARMING_UP } else { DOWN });
    // A restored file is taken up by the next worker.
    workshop.set_models("honest");
    let _ = std::fs::remove_file(workshop.models().join("SHA256SUMS"));
    signal(health.pid.expect("the worker runs"), Signal::KILL);
    service.run_until("the death to be noticed", PATIENCE, |service| service.health().restarts == 1);
    assert!(service.run_until_forecast(PATIENCE) < RECOVERY);
    service.is_over();
}

fn rewrite(file: &Path, change: impl Fn(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).expect("the model is there");
    change(&mut bytes);
    std::fs::write(file, bytes).expect("the folder can be written to");
}

#[test]
fn model_that_takes_the_history_alone() {
    let _alone = alone();
    let workshop = Workshop::new("models", PROGRAM, "history-only");
    let mut service = Service::start(workshop.config());
    service.run_until_forecast(PATIENCE);
    service.is_over();
}

#[test]
fn model_missing() {
    let spoil = |models: &Path| {
        for name in ["chronotick-near.onnx", "chronotick-far.onnx"] {
            std::fs::remove_file(models.join(name)).expect("it was there");
        }
    };
    is_not_usable("honest", spoil, "cannot be opened: No such file");
}

#[test]
fn model_truncated() {
    let spoil = |models: &Path| {
        rewrite(&models.join("chronotick-near.onnx"), |bytes| bytes.truncate(bytes.len() / 2));
        rewrite(&models.join("chronotick-far.onnx"), Vec::clear);
    };
    is_not_usable("honest", spoil, "not a usable ONNX file");
}

#[test]
fn model_bit_flipped_beside_its_checksums() {
    let spoil = |models: &Path| {
        let sums = std::process::Command::new("sha256sum")
            .args(["chronotick-near.onnx", "chronotick-far.onnx"])
            .current_dir(models)
            .output()
            .expect("sha256sum is part of coreutils");
        std::fs::write(models.join("SHA256SUMS"), sums.stdout).expect("the folder can be written to");
        for name in ["chronotick-near.onnx", "chronotick-far.onnx"] {
            rewrite(&models.join(name), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            });
        }
    };
    is_not_usable("honest", spoil, "damaged");
}

/// Without checksums a flipped bit may be noticed by the parser or change what the model says. Whatever it does, the laws
/// hold and the worker does not get into a loop of crashes.
#[test]
fn model_bit_flipped_unnoticed() {
    let _alone = alone();
    let workshop = Workshop::new("flipped", PROGRAM, "honest");
    for n in 0..8 * repetitions() {
        workshop.set_models("honest");
        rewrite(&workshop.models().join("chronotick-near.onnx"), |bytes| {
            // Odd steps visit every part of the file; the bits differ from round to round.
            let at = usize::try_from(n * 7919).unwrap_or(0) % bytes.len();
            bytes[at] ^= 1 << (n % 8);
        });
        let mut service = Service::start(workshop.config());
        service.run_until("an outcome", PATIENCE, |service| {
            let health = service.health();
            health.answered + health.refused > 0
        });
        assert_eq!(service.health().restarts, 0, "byte of round {n}: {:?}", service.health());
        assert_eq!(service.verdict().0, Tier::Filter);
    }
}

#[test]
fn model_of_the_wrong_shape() {
    is_not_usable("wrong-output", |_| {}, "its output has shape [1, 64, 5], not [1, 64, 9]");
    is_not_usable("wrong-input", |_| {}, "its input context has shape [1, 2, 128], not [1, 2, 256]");
}

/// A model whose answers the pipeline must refuse.
fn is_muted(kind: &str) {
    let _alone = alone();
    let workshop = Workshop::new(kind, PROGRAM, kind);
    let mut service = Service::start(workshop.config());
    service.run_until("several answers", PATIENCE, |service| service.forecasts >= 3);
    let counts = service.pipeline.counts();
    assert_eq!((counts.forecasts_accepted, counts.forecasts_muted), (0, service.forecasts), "{counts:?}");
    assert_eq!(service.verdict(), (Tier::Filter, Reason::ForecastsMuted), "the worker is not to blame");
}

#[test]
fn model_returns_nan() {
    is_muted("nan");
}

#[test]
fn model_returns_swapped_quantiles() {
    is_muted("swapped");
}

#[test]
fn model_returns_the_impossible() {
    is_muted("wild");
}

/// A constant is well formed: it is for the pipeline's scores to find out that it is worth nothing. The laws hold meanwhile.
#[test]
fn model_returns_a_constant() {
    let _alone = alone();
    let workshop = Workshop::new("constant", PROGRAM, "constant");
    let mut service = Service::start(workshop.config());
    service.run_until("several answers", PATIENCE, |service| service.forecasts >= 10);
    service.run_for(Duration::from_secs(1));
    assert_eq!(service.health().restarts, 0);
    // It has a share of trust at first, and loses it in the time that `poisoned_forecasters` shows.
    let verdict = service.verdict();
    let possible = [(Tier::Fused, Reason::Nominal), (Tier::Filter, Reason::ForecastsMuted)];
    assert!(possible.contains(&verdict), "{verdict:?}: well formed, and worth nothing sooner or later");
}
