//! The program around the pipeline and nothing else: what `size-with` is compared to.
#![no_std]
#![no_main]

use core::hint::black_box;

use chronotick_core::Sample;
use chronotick_firmware::program;

program!(without);

fn without() -> bool {
    let mut held = true;
    for index in 0..black_box(8_u32) {
        let sample: Option<Sample> = black_box(None);
        held &= sample.is_none() || index == black_box(0);
    }
    held
}
