//! Whichever reference of this machine has the smallest bound.
//!
//! Candidates are the clocks of hypervisors (which count UTC; a network card's may count anything), the kernel and a chronyd on
//! its usual port. All are asked every [`SURVEY`], and as soon as the current one fails; in between only the current one. A pulse
//! per second is no candidate: it needs somebody to number it and has to be named.

use std::os::fd::BorrowedFd;
use std::path::Path;

use chronotick_core::units::{Local, Span, Timestamp};

use super::address::{ChronydAddress, LocalAddress};
use super::{Answer, Measured, Reference, Settings, Trouble, ptp, reference};
use crate::os::counter::LocalClock;
use crate::runner::source::Known;

/// All candidates are asked this often.
const SURVEY: Span = Span::from_secs(64);

/// The best of several references.
pub(super) struct Auto {
    candidates: Vec<Candidate>,
    current: Option<usize>,
    surveyed: Option<Timestamp<Local>>,
}

struct Candidate {
    name: String,
    reference: Box<dyn Reference>,
    /// Its newest measurement in this survey.
    last: Option<Measured>,
    awaited: bool,
}

impl Auto {
    /// The candidates of this machine, as they are now.
    pub(super) fn of_this_machine(settings: &Settings) -> Self {
        let clocks = ptp::of_hypervisors(Path::new("/sys/class/ptp")).into_iter();
        let clocks = clocks.map(|path| LocalAddress::Ptp { path, tai: false });
        let others = [LocalAddress::Kernel, LocalAddress::Chronyd(ChronydAddress::DEFAULT)];
        Self::new(clocks.chain(others).map(|address| (address.to_string(), reference(&address, settings))))
    }

    fn new(references: impl Iterator<Item = (String, Box<dyn Reference>)>) -> Self {
        let candidate = |(name, reference)| Candidate { name, reference, last: None, awaited: false };
        Self { candidates: references.map(candidate).collect(), current: None, surveyed: None }
    }

    fn survey(&mut self, clock: &dyn LocalClock) -> Result<Answer, Trouble> {
        self.surveyed = Some(clock.now());
        for candidate in &mut self.candidates {
            let outcome = candidate.reference.ask(clock, None);
            candidate.awaited = outcome == Ok(Answer::Awaited);
            candidate.last = match outcome {
                Ok(Answer::Measured(measured)) => Some(measured),
                _ => None,
            };
        }
        self.choose()
    }

    /// Settles on the smallest bound so far.
    fn choose(&mut self) -> Result<Answer, Trouble> {
        let measured = self.candidates.iter().enumerate().filter_map(|(i, c)| Some((c.last.as_ref()?, i)));
        let best = measured.min_by_key(|(measured, _)| measured.error_bound());
        match best.map(|(measured, index)| (measured.clone(), index)) {
            Some((measured, index)) => {
                if self.current != Some(index) {
                    tracing::info!(reference = self.candidates[index].name, "auto: smallest bound");
                }
                self.current = Some(index);
                Ok(Answer::Measured(measured))
            }
            None if self.candidates.iter().any(|candidate| candidate.awaited) => Ok(Answer::Awaited),
            None => {
                (self.current, self.surveyed) = (None, None);
                let names: Vec<_> = self.candidates.iter().map(|candidate| candidate.name.as_str()).collect();
                Err(Trouble::Missing(format!("none of {} answers usefully", names.join(", "))))
            }
        }
    }
}

impl Reference for Auto {
    fn kind(&self) -> &'static str {
        "auto"
    }

    fn address(&self) -> Option<String> {
        self.current.map(|index| self.candidates[index].name.clone())
    }

    fn ask(&mut self, clock: &dyn LocalClock, known: Option<&Known>) -> Result<Answer, Trouble> {
        let fresh = self.surveyed.is_some_and(|at| clock.now().since(at) < SURVEY);
        let Some(current) = self.current.filter(|_| fresh) else { return self.survey(clock) };
        let candidate = &mut self.candidates[current];
        match candidate.reference.ask(clock, known) {
            Ok(answer) => {
                candidate.awaited = answer == Answer::Awaited;
                Ok(answer)
            }
            Err(Trouble::Spoilt(told)) => Err(Trouble::Spoilt(told)),
            Err(_) => self.survey(clock),
        }
    }

    fn hear(&mut self, clock: &dyn LocalClock) -> Result<Answer, Trouble> {
        let mut news = false;
        for candidate in self.candidates.iter_mut().filter(|candidate| candidate.awaited) {
            let outcome = candidate.reference.hear(clock);
            candidate.awaited = outcome == Ok(Answer::Awaited);
            news |= !candidate.awaited;
            if let Ok(Answer::Measured(measured)) = outcome {
                candidate.last = Some(measured);
            } else if !candidate.awaited {
                candidate.last = None;
            }
        }
        if news { self.choose() } else { Ok(Answer::Awaited) }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.candidates.iter().filter(|candidate| candidate.awaited).find_map(|candidate| candidate.reference.fd())
    }

    fn restart(&mut self) {
        (self.current, self.surveyed) = (None, None);
        for candidate in &mut self.candidates {
            (candidate.last, candidate.awaited) = (None, false);
            candidate.reference.restart();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chronotick_core::units::Offset;

    use super::super::fake::Clock;
    use super::*;

    /// Claims the error that the test sets, in us; none is a reference that is missing.
    struct Claims(Arc<Mutex<Option<i64>>>, u8);

    impl Reference for Claims {
        fn kind(&self) -> &'static str {
            "kernel"
        }
        fn address(&self) -> Option<String> {
            None
        }
        fn ask(&mut self, clock: &dyn LocalClock, _: Option<&Known>) -> Result<Answer, Trouble> {
            let claim = self.0.lock().expect("one thread").ok_or(Trouble::Missing("gone".to_owned()))?;
            Ok(Answer::Measured(Measured {
                local: clock.now(),
                offset: Offset::ZERO,
                delay: Span::from_nanos(1),
                root_distance: Span::from_micros(claim),
                leap: None,
                stratum: Some(self.1),
            }))
        }
    }

    fn asked(auto: &mut Auto, clock: &Clock) -> Option<u8> {
        match auto.ask(clock, None) {
            Ok(Answer::Measured(measured)) => measured.stratum,
            other => {
                assert!(matches!(other, Err(Trouble::Missing(_))), "{other:?}");
                None
            }
        }
    }

    #[test]
    fn the_smallest_bound_wins_until_it_fails_or_another_is_better() {
        let clock = Clock::new();
        let claims: Vec<_> = [Some(900), Some(40), None].into_iter().map(|c| Arc::new(Mutex::new(c))).collect();
        let set = |index: usize, claim| *claims[index].lock().expect("one thread") = claim;
        let references = claims.iter().zip(0u8..).map(|(claim, index)| -> (String, Box<dyn Reference>) {
            (format!("number {index}"), Box::new(Claims(Arc::clone(claim), index)))
        });
        let mut auto = Auto::new(references);
        assert_eq!(asked(&mut auto, &clock), Some(1));
        assert_eq!(auto.address().as_deref(), Some("number 1"));
        // Another becomes better, which the next survey finds.
        set(2, Some(3));
        assert_eq!(asked(&mut auto, &clock), Some(1));
        clock.pass(SURVEY);
        assert_eq!(asked(&mut auto, &clock), Some(2));
        // The current one fails, which is a survey.
        set(2, None);
        assert_eq!(asked(&mut auto, &clock), Some(1));
        (0..3).for_each(|index| set(index, None));
        assert_eq!(asked(&mut auto, &clock), None);
        assert_eq!(auto.address(), None);
        set(0, Some(900));
        assert_eq!(asked(&mut auto, &clock), Some(0));
    }
}
