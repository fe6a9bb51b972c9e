//! What the kernel knows of its own clock (`adjtimex`), read and never written.
#![allow(unsafe_code)]

use std::io;
use std::mem::zeroed;

use chronotick_core::units::Span;

/// What whoever disciplines the kernel's clock has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KernelState {
    /// Somebody disciplines the clock, and recently.
    pub(crate) synchronised: bool,
    /// The last minute of this UTC day is announced to have 61 seconds.
    pub(crate) insert: bool,
    /// The same with 59 seconds.
    pub(crate) delete: bool,
    /// How far the clock can be off. Grows by itself while nobody renews it.
    pub(crate) max_error: Span,
    /// What the kernel still has to work off.
    pub(crate) remaining: Span,
    /// TAI - UTC, if somebody has told; 0 if not.
    pub(crate) tai_offset: Span,
}

impl KernelState {
    /// Whether the discipline has said how far the clock can be off. Some only ever say zero (systemd-timesyncd and phc2sys, to
    /// be allowed to clear a flag). The kernel adds its [`GROWTH`] each second, so what began at zero is a multiple of that for
    /// as long as it lasts, and what began elsewhere never is one.
    pub(crate) const fn says_its_error(&self) -> bool {
        self.max_error.as_nanos() % GROWTH.as_nanos() != 0
    }
}

/// What the kernel adds to the maximum error each second: 500 ppm, in the microseconds that it counts it in.
const GROWTH: Span = Span::from_micros(500);

/// Something that can be asked for the kernel's state.
pub(crate) trait KernelClock: Send {
    /// The state now.
    fn state(&mut self) -> io::Result<KernelState>;
}

/// This machine's kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThisKernel;

impl KernelClock for ThisKernel {
    fn state(&mut self) -> io::Result<KernelState> {
        // SAFETY: the structure is plain integers, for which zeros are valid; `modes` of 0 changes nothing.
        let mut timex: libc::timex = unsafe { zeroed() };
        // SAFETY: the call reads and writes one structure of its own type, alive through the call.
        let state = unsafe { libc::adjtimex(&raw mut timex) };
        if state < 0 {
            return Err(io::Error::last_os_error());
        }
        let unit = if timex.status & libc::STA_NANO != 0 { 1 } else { 1_000 };
        let unsynchronised = state == libc::TIME_ERROR || timex.status & (libc::STA_UNSYNC | libc::STA_CLOCKERR) != 0;
        #[allow(clippy::useless_conversion, reason = "the width of long depends on the target")]
        let (offset, max_error) = (i64::from(timex.offset), i64::from(timex.maxerror));
        Ok(KernelState {
            synchronised: !unsynchronised,
            insert: timex.status & libc::STA_INS != 0,
            delete: timex.status & libc::STA_DEL != 0,
            max_error: Span::from_micros(max_error.max(0)),
            remaining: Span::from_nanos(offset.saturating_mul(unit)),
            tai_offset: Span::from_secs(timex.tai.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_began_at_zero_is_none_however_old_it_is() {
        let says = |base: i64, seconds: i64| {
            let max_error = Span::from_micros(base + 500 * seconds);
            let (synchronised, zero) = (true, Span::ZERO);
            KernelState { synchronised, insert: false, delete: false, max_error, remaining: zero, tai_offset: zero }
                .says_its_error()
        };
        for seconds in [0, 1, 63, 2_048] {
            assert!(!says(0, seconds), "{seconds} s after systemd-timesyncd");
            // chronyd with a hardware clock, and with servers.
            assert!(says(1, seconds) && says(11_437, seconds), "{seconds} s");
        }
    }

    #[test]
    fn this_kernel_has_a_state() {
        let state = ThisKernel.state().expect("reading needs no privilege");
        assert!(state.max_error >= Span::ZERO);
        println!("{state:?}");
    }
}
