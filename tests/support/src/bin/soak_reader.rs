//! A program that reads the time as fast as it may and holds every reading to the laws: for tests/soak.sh.
//!
//! `soak-reader PAGE STOP_FILE`: reads until the file exists. The truth is the operating system's clock, which the server of
//! the soak serves. Prints one line: readings, outside the hard bound, earlier than one before within an epoch, by tier.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chronotick_core::Tier;
use chronotick_host::Reader;
use chronotick_host::os::counter::os_utc;

/// Between two rounds of readings, so that eight readers leave something of two cores.
const PAUSE: Duration = Duration::from_millis(2);
const ROUND: u32 = 200;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(page), Some(stop)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: soak-reader PAGE STOP_FILE");
        return ExitCode::from(2);
    };
    let reader = loop {
        match Reader::attach(&page) {
            Ok(reader) => break reader,
            Err(error) if stop.exists() => {
                eprintln!("soak-reader: {error}");
                return ExitCode::FAILURE;
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    };
    let (mut readings, mut outside, mut back) = (0_u64, 0_u64, 0_u64);
    let mut tiers = [0_u64; Tier::ALL.len()];
    let mut last = None;
    while !stop.exists() {
        for _ in 0..ROUND {
            let before = os_utc();
            let now = reader.now();
            let after = os_utc();
            readings += 1;
            tiers[now.tier() as usize] += 1;
            // The operating system's clock has no bound, and is another line than the served one.
            if now.tier() == Tier::Raw {
                last = None;
                continue;
            }
            if now.earliest() > after || now.latest() < before {
                outside += 1;
                eprintln!("outside: {now:?}, the truth {before:?} to {after:?}");
            }
            if last.is_some_and(|(epoch, utc)| epoch == now.epoch() && now.utc() < utc) {
                back += 1;
                eprintln!("back: {last:?}, then {now:?}");
            }
            last = Some((now.epoch(), now.utc()));
        }
        std::thread::sleep(PAUSE);
    }
    let [fused, filter, holdover, cached, raw] = tiers;
    println!("{readings} {outside} {back} {fused} {filter} {holdover} {cached} {raw}");
    if outside + back == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
