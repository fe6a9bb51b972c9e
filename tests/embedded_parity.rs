//! The same answers on a host and on an emulated microcontroller.
//!
//! The firmware's program `parity` runs a trace through the pipeline on a Cortex-M4F without a double-precision unit and
//! prints what it publishes after each sample; this runs the same on the host. The published words must be the same bits and
//! the rate must agree within 1e-9 relative.
//!
//! Needs the emulator and a bare-metal toolchain (see `chronotick-embedded/firmware/build`); says so and skips otherwise.

use std::path::Path;
use std::process::{Command, Stdio};

use chronotick_core::{Config, Estimate, Pipeline};
use chronotick_embedded::EdgePipeline;

#[allow(unreachable_pub, reason = "the firmware has it in its library")]
#[path = "../chronotick-embedded/firmware/src/parity.rs"]
mod parity;

const TARGET: &str = "thumbv7em-none-eabihf";
/// What the firmware's scripts exit with when this machine cannot build or emulate.
const SKIPPED: i32 = 77;

#[test]
fn a_microcontroller_publishes_what_a_host_publishes() {
    let mut host = Vec::new();
    parity::replay(&mut parity::pipeline(), |row| host.push(*row));
    assert_eq!(host.len(), parity::ROWS as usize);
    assert!(host.iter().filter(|row| row.page[2] != 0).count() > 400, "the trace leads to published records");
    let Some(node) = emulate() else { return };
    assert_eq!(node.len(), host.len(), "rows printed by the firmware");
    for (node, host) in node.iter().zip(&host) {
        assert_eq!(node.index, host.index);
        assert_eq!(node.page, host.page, "published words after sample {}", host.index);
        let (ours, theirs) = (host.rate, node.rate);
        assert!((ours - theirs).abs() <= 1e-9 * ours.abs(), "rate after sample {}: {ours} and {theirs}", host.index);
    }
}

/// The microcontroller's capacities cost accuracy: how much, on this trace, whose truth is its offsets without the tails.
#[test]
fn the_small_pipeline_is_not_much_further_off_than_the_large_one() {
    let mut host: Pipeline = Pipeline::new(Config::default());
    let mut edge = EdgePipeline::new(Config::default());
    let samples: Vec<_> = parity::trace().take(1_000).collect();
    let truth = |index: usize| samples[index].offset.as_nanos() - (samples[index].delay.as_nanos() - 300_000) / 2;
    // Rows ahead, and the squares of both errors there.
    let mut errors = [(0, 0.0, 0.0), (4, 0.0, 0.0), (16, 0.0, 0.0), (64, 0.0, 0.0)];
    let mut count = 0;
    for (index, sample) in samples.iter().enumerate() {
        let _ = host.handle_sample(sample.local, sample);
        let _ = edge.handle_sample(sample.local, sample);
        // From here on there is no silence ahead.
        if (400..900).contains(&index) {
            count += 1;
            for (rows, large, small) in &mut errors {
                let at = samples[index + *rows].local;
                let error = |estimate: Option<Estimate>| {
                    (estimate.expect("synchronised").offset.as_nanos() - truth(index + *rows)) as f64
                };
                *large += error(host.estimate(at)).powi(2);
                *small += error(edge.estimate(at)).powi(2);
            }
        }
    }
    for (rows, large, small) in errors {
        let rms = |square: f64| (square / f64::from(count)).sqrt() * 1e-3;
        println!("{:5} s ahead: host {:8.2} us, microcontroller {:8.2} us", rows * 16, rms(large), rms(small));
        // Three assumptions of the wander instead of ten: 74 us for 26 us a quarter of an hour ahead, and about the same before.
        assert!(small < 10.0 * large, "{rows} rows ahead, the small pipeline is more than 3.2 times as far off");
    }
}

#[test]
fn the_memory_of_one_pipeline_is_bounded() {
    assert!(size_of::<Pipeline>() <= 256 * 1024, "{} bytes", size_of::<Pipeline>());
    // Some more than on the microcontroller, where addresses and alignments are smaller and the limit is 8,192.
    assert!(size_of::<EdgePipeline>() <= 8 * 1024 + 512, "{} bytes", size_of::<EdgePipeline>());
}

#[test]
fn the_trace_holds_what_it_says() {
    let trace: Vec<_> = parity::trace().take(parity::ROWS as usize).collect();
    let delays = |from: usize| trace.iter().skip(from).step_by(37).map(|sample| sample.delay.as_nanos());
    assert!(delays(36).all(|delay| delay > 8_000_000), "spikes");
    assert!(trace.iter().any(|sample| sample.temperature.is_none()), "missing temperatures");
    let silences = trace.windows(2).filter(|pair| pair[1].local.since(pair[0].local).as_secs_f64() > 3_000.0);
    assert_eq!(silences.count(), 2, "silences");
}

/// The firmware's rows; `None`, with a word on the terminal, when this machine cannot run it.
fn emulate() -> Option<Vec<parity::Row>> {
    let firmware = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chronotick-embedded/firmware");
    let output = Command::new(firmware.join("run"))
        .args([TARGET, "parity"])
        // Cargo's settings for this build are not the firmware's.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .output()
        .expect("the script is part of the repository");
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        eprintln!("skipped: the comparison with a microcontroller: {} {}", printed.trim(), complaints.trim());
        return None;
    }
    assert!(output.status.success(), "the firmware failed: {complaints}{printed}");
    Some(printed.lines().map(row).collect())
}

fn row(line: &str) -> parity::Row {
    let mut fields = line.split(' ');
    let index = fields.next().and_then(|field| field.parse().ok());
    let mut words = fields.map(|field| u64::from_str_radix(field, 16).unwrap_or_else(|_| panic!("{line}")));
    let mut next = || words.next().unwrap_or_else(|| panic!("too few words: {line}"));
    let page = core::array::from_fn(|_| next());
    parity::Row { index: index.unwrap_or_else(|| panic!("{line}")), page, rate: f64::from_bits(next()) }
}
