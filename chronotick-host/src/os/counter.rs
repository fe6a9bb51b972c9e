//! The free-running counter that local time is made of.
//!
//! On x86-64 it is the invariant time-stamp counter, read as `lfence; rdtsc`, where the kernel itself keeps time with it; a
//! kernel that does not trust the TSC (another `current_clocksource`, as on a virtual machine with kvm-clock) knows why.
//! On aarch64 it is the virtual counter, read as `isb; mrs cntvct_el0`. Elsewhere it is `CLOCK_MONOTONIC_RAW`, which no
//! steering touches either. The fence keeps a reading from being taken before the loads in front of it: unfenced counters
//! were seen going backwards between processors by up to 856 ns.
//!
//! The nominal frequency is measured once against `CLOCK_MONOTONIC_RAW` over [`CALIBRATION`]; its error of a part in a million or
//! so is part of the rate that is estimated anyway. Local time starts at the operating system's UTC, so that it doubles as the
//! uncorrected time shown beside the corrected one.
#![allow(unsafe_code)]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use chronotick_core::clock_page::CounterScale;
use chronotick_core::{Local, Span, Timestamp, Utc};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// How long the nominal frequency is measured for.
pub const CALIBRATION: Duration = Duration::from_millis(50);

/// Which counter a page is made from. The discriminants are part of the page's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CounterKind {
    /// The x86-64 time-stamp counter.
    Tsc = 1,
    /// The aarch64 virtual counter.
    Cntvct = 2,
    /// `CLOCK_MONOTONIC_RAW` in nanoseconds.
    MonotonicRaw = 3,
    /// A simulated counter, known only to programs that are given it.
    Virtual = 4,
}

impl CounterKind {
    /// From its discriminant.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Tsc),
            2 => Some(Self::Cntvct),
            3 => Some(Self::MonotonicRaw),
            4 => Some(Self::Virtual),
            _ => None,
        }
    }

    /// The best counter of this machine that its kernel trusts, as of now.
    pub fn detect() -> Self {
        Self::trusted().unwrap_or(Self::MonotonicRaw)
    }

    /// The same; `None` when the kernel cannot be asked, which says nothing about any counter.
    pub(super) fn trusted() -> Option<Self> {
        Self::from_clocksource(Path::new("/sys/devices/system/clocksource/clocksource0/current_clocksource"))
    }

    fn from_clocksource(path: &Path) -> Option<Self> {
        let name = fs::read_to_string(path).ok()?;
        Some(match name.trim() {
            "tsc" if cfg!(target_arch = "x86_64") => Self::Tsc,
            "arch_sys_counter" if cfg!(target_arch = "aarch64") => Self::Cntvct,
            _ => Self::MonotonicRaw,
        })
    }

    /// Reads the counter; a virtual one reads 0, and so does another processor's.
    #[inline(always)]
    pub fn read(self) -> u64 {
        match self {
            Self::Tsc => tsc(),
            Self::Cntvct => cntvct(),
            Self::MonotonicRaw => monotonic_raw(),
            Self::Virtual => 0,
        }
    }
}

/// A free-running counter, its nominal scale, and the operating system's clocks beside it. Tests and the demonstration inject a
/// drifting one.
pub trait LocalClock: Send + Sync {
    /// The counter now.
    fn ticks(&self) -> u64;
    /// How the counter maps to local time.
    fn scale(&self) -> CounterScale;
    /// What the counter is.
    fn kind(&self) -> CounterKind;
    /// The operating system's UTC, uncorrected, and the counter at the same instant.
    fn realtime(&self) -> (u64, Timestamp<Utc>);
    /// How long the machine has been suspended since it started, as far as can be told.
    fn suspended(&self) -> Span {
        Span::ZERO
    }
    /// Local time now.
    fn now(&self) -> Timestamp<Local> {
        self.scale().local(self.ticks())
    }
}

/// The machine's own counter.
#[derive(Clone, Copy, Debug)]
pub struct SystemCounter {
    kind: CounterKind,
    scale: CounterScale,
}

impl SystemCounter {
    /// Picks the best counter and measures its frequency, which takes [`CALIBRATION`].
    pub fn calibrate() -> Self {
        Self::calibrate_kind(CounterKind::detect())
    }

    /// Measures the given counter.
    pub fn calibrate_kind(kind: CounterKind) -> Self {
        let hz = match kind {
            CounterKind::MonotonicRaw | CounterKind::Virtual => 1e9,
            CounterKind::Tsc | CounterKind::Cntvct => measured_hz(kind),
        };
        let (ticks, utc) = paired(kind, ClockId::Realtime);
        Self { kind, scale: CounterScale::from_hz(ticks, utc, hz) }
    }

    /// Goes on with a scale that is in use already.
    pub const fn with_scale(kind: CounterKind, scale: CounterScale) -> Self {
        Self { kind, scale }
    }
}

impl LocalClock for SystemCounter {
    fn ticks(&self) -> u64 {
        self.kind.read()
    }
    fn scale(&self) -> CounterScale {
        self.scale
    }
    fn kind(&self) -> CounterKind {
        self.kind
    }
    fn realtime(&self) -> (u64, Timestamp<Utc>) {
        let (ticks, utc) = paired(self.kind, ClockId::Realtime);
        (ticks, Timestamp::from_nanos(utc))
    }
    fn suspended(&self) -> Span {
        suspended()
    }
}

/// The operating system's UTC, uncorrected.
pub fn os_utc() -> Timestamp<Utc> {
    Timestamp::from_nanos(nanos(clock_gettime(ClockId::Realtime)))
}

/// How long the machine has been suspended since it started: boot time less monotonic time, which stops meanwhile.
pub fn suspended() -> Span {
    // Both are slewed alike, so that their difference moves by suspension alone. Reading one between two readings of the
    // other shows an interruption.
    let mut best = (i64::MAX, 0);
    for _ in 0..8 {
        let before = nanos(clock_gettime(ClockId::Monotonic));
        let boot = nanos(clock_gettime(ClockId::Boottime));
        let width = nanos(clock_gettime(ClockId::Monotonic)) - before;
        best = best.min((width, boot - before - width / 2));
        if width < 100_000 {
            break;
        }
    }
    Span::from_nanos(best.1)
}

fn measured_hz(kind: CounterKind) -> f64 {
    let (ticks0, raw0) = paired(kind, ClockId::MonotonicRaw);
    thread::sleep(CALIBRATION);
    let (ticks1, raw1) = paired(kind, ClockId::MonotonicRaw);
    ticks1.wrapping_sub(ticks0) as f64 * 1e9 / (raw1 - raw0) as f64
}

/// A counter reading and the clock's nanoseconds at the middle of the tightest of several pairs around it.
fn paired(kind: CounterKind, clock: ClockId) -> (u64, i64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..16 {
        let before = kind.read();
        let time = nanos(clock_gettime(clock));
        let width = kind.read().wrapping_sub(before);
        best = best.min((width, before.wrapping_add(width / 2), time));
    }
    (best.1, best.2)
}

fn nanos(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn monotonic_raw() -> u64 {
    nanos(clock_gettime(ClockId::MonotonicRaw)).cast_unsigned()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn tsc() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: both instructions exist on every x86-64 processor and touch no memory. Where a process has forbidden itself
    // `rdtsc` (prctl) it ends, as it asked for. Not marked `nomem`, so that the compiler moves no load across either.
    unsafe { core::arch::asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags)) };
    low | high << 32
}

#[cfg(not(target_arch = "x86_64"))]
fn tsc() -> u64 {
    0
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn cntvct() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register that Linux makes readable to every process; no memory is touched. Not marked `nomem`, so that
    // the loads before stay before it.
    unsafe { core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) ticks, options(nostack, preserves_flags)) };
    ticks
}

#[cfg(not(target_arch = "aarch64"))]
fn cntvct() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocksource_decides() {
        let path = std::env::temp_dir().join(format!("chronotick-clocksource-{}", std::process::id()));
        for (name, kind) in [("kvm-clock\n", CounterKind::MonotonicRaw), ("", CounterKind::MonotonicRaw)] {
            fs::write(&path, name).unwrap();
            assert_eq!(CounterKind::from_clocksource(&path), Some(kind));
        }
        fs::write(&path, "tsc\n").unwrap();
        let expected = if cfg!(target_arch = "x86_64") { CounterKind::Tsc } else { CounterKind::MonotonicRaw };
        assert_eq!(CounterKind::from_clocksource(&path), Some(expected));
        fs::remove_file(&path).unwrap();
        assert_eq!(CounterKind::from_clocksource(&path), None, "no answer is not another counter");
    }

    #[test]
    fn the_counter_runs_at_its_measured_rate() {
        for kind in [CounterKind::detect(), CounterKind::MonotonicRaw] {
            let counter = SystemCounter::calibrate_kind(kind);
            let (ticks0, raw0) = paired(kind, ClockId::MonotonicRaw);
            let until = raw0 + 5_000_000;
            while nanos(clock_gettime(ClockId::MonotonicRaw)) < until {}
            let (ticks1, raw1) = paired(kind, ClockId::MonotonicRaw);
            let local = counter.scale().local(ticks1).since(counter.scale().local(ticks0)).as_nanos();
            assert!((local - (raw1 - raw0)).abs() < 5_000, "{kind:?}: {local} ns in {} ns", raw1 - raw0);
        }
    }

    #[test]
    fn local_time_starts_at_the_operating_systems() {
        let counter = SystemCounter::calibrate();
        let (ticks, utc) = counter.realtime();
        let difference = counter.scale().local(ticks).as_nanos() - utc.as_nanos();
        assert!(difference.abs() < 1_000_000, "{difference} ns");
        assert!(suspended().as_nanos() >= -1_000_000);
    }
}
