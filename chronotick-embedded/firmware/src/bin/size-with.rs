#![no_std]
#![no_main]
use chronotick_firmware::program;
program!(bench);
fn bench() -> bool {
    true
}
