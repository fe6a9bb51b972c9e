//! Prints what the pipeline publishes for the shared trace, one line a sample, for comparison with the host's.
#![no_std]
#![no_main]

use chronotick_firmware::{parity, program};
use semihosting::println;

program!(parity_rows);

fn parity_rows() -> bool {
    let mut pipeline = parity::pipeline();
    parity::replay(&mut pipeline, |row| {
        let [a, b, c, d, e, f, g, h] = row.page;
        println!(
            "{} {:x} {:x} {:x} {:x} {:x} {:x} {:x} {:x} {:x}",
            row.index,
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            row.rate.to_bits()
        );
    });
    true
}
