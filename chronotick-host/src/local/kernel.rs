//! The system's clock as a reference, with the error that whoever disciplines it admits to.
//!
//! The kernel keeps a maximum error beside its clock: the discipline (chronyd, ntpd, systemd-timesyncd, ptp4l) sets it, and the
//! kernel lets it grow until the next time. A clock that nobody disciplines is refused, and so is one whose discipline says that
//! there is no error at all: see [`KernelState::says_its_error`](crate::os::kernel_clock::KernelState::says_its_error). One that
//! does say is taken for one that does not while its error happens to begin at a multiple of 500 us, one time in five hundred.
//! What the kernel has yet to work off counts as error: whether the discipline means the clock before or after it is not said.

use super::{Answer, Bracket, Measured, Reference, Trouble, pair};
use crate::ntp::packet::Leap;
use crate::os::counter::LocalClock;
use crate::os::kernel_clock::{KernelClock, ThisKernel};
use crate::runner::source::Known;
use chronotick_core::units::Span;

/// The kernel's clock.
pub(super) struct Kernel {
    kernel: Box<dyn KernelClock>,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self { kernel: Box::new(ThisKernel) }
    }
}

impl Reference for Kernel {
    fn kind(&self) -> &'static str {
        "kernel"
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn ask(&mut self, clock: &dyn LocalClock, _: Option<&Known>) -> Result<Answer, Trouble> {
        let (bracket, state) = Bracket::around(clock, || self.kernel.state());
        let state =
            state.map_err(|cause| Trouble::Missing(format!("the kernel does not tell of its clock: {cause}")))?;
        if !state.synchronised {
            return Err(Trouble::Useless("nobody disciplines the system's clock".to_owned()));
        }
        if !state.says_its_error() {
            let told = "whoever disciplines the system's clock does not tell the kernel how far it can be off (systemd-timesyncd \
                        and phc2sys do not): list servers in [ntp], or the hardware clock in [local] sources";
            return Err(Trouble::Useless(told.to_owned()));
        }
        // The state may have changed with a step between the two pairs.
        let (local, system) = pair(clock);
        let (_, slack) = bracket.local(bracket.after.1)?;
        let leap = match (state.insert, state.delete) {
            (true, false) => Leap::Insert,
            (false, true) => Leap::Delete,
            _ => Leap::None,
        };
        Ok(Answer::Measured(Measured {
            local,
            offset: system.offset_from(local),
            delay: slack.saturating_add(Span::from_nanos(1)),
            root_distance: state.max_error.saturating_add(state.remaining.abs()),
            leap: Some(leap),
            stratum: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use chronotick_core::units::Span;

    use super::super::fake::{Clock, START};
    use super::*;
    use crate::os::kernel_clock::KernelState;

    struct Says(KernelState);

    impl KernelClock for Says {
        fn state(&mut self) -> io::Result<KernelState> {
            Ok(self.0)
        }
    }

    const DISCIPLINED: KernelState = KernelState {
        synchronised: true,
        insert: false,
        delete: false,
        max_error: Span::from_micros(4_137),
        remaining: Span::from_micros(-250),
        tai_offset: Span::ZERO,
    };

    fn ask(state: KernelState, clock: &Clock) -> Result<Answer, Trouble> {
        Kernel { kernel: Box::new(Says(state)) }.ask(clock, None)
    }

    #[test]
    fn its_offset_is_the_system_clocks_and_its_error_what_it_admits() {
        let clock = Clock::new();
        clock.pass(Span::from_secs(5));
        let Ok(Answer::Measured(measured)) = ask(DISCIPLINED, &clock) else { panic!("disciplined") };
        assert_eq!(measured.offset.as_nanos(), START + 3_000_000);
        assert_eq!(measured.root_distance, Span::from_micros(4_387));
        // The fake system clock is 3 ms off, which the bound covers.
        assert!(measured.error_bound() > Span::from_millis(3));
        assert_eq!(measured.leap, Some(Leap::None));
        let leaping = ask(KernelState { insert: true, ..DISCIPLINED }, &clock);
        assert!(matches!(leaping, Ok(Answer::Measured(Measured { leap: Some(Leap::Insert), .. }))));
    }

    #[test]
    fn a_clock_that_nobody_disciplines_is_refused() {
        let state = KernelState { synchronised: false, ..DISCIPLINED };
        assert!(matches!(ask(state, &Clock::new()), Err(Trouble::Useless(_))));
    }

    #[test]
    fn a_discipline_that_claims_no_error_is_refused() {
        // systemd-timesyncd 16 s ago: the clock may well be 8 ms off on an asymmetric path.
        let state = KernelState { max_error: Span::from_millis(8), ..DISCIPLINED };
        let Err(Trouble::Useless(told)) = ask(state, &Clock::new()) else { panic!("its error is no error") };
        assert!(told.contains("systemd-timesyncd") && told.contains("[ntp]") && !told.contains('\n'), "{told}");
    }

    #[test]
    fn this_machines_kernel_answers_or_is_refused() {
        let outcome = Kernel::new().ask(&crate::os::counter::SystemCounter::calibrate(), None);
        assert!(!matches!(outcome, Err(Trouble::Missing(_))), "{outcome:?}");
    }
}
