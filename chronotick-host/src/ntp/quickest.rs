//! Whether an exchange was quicker than exchanges can be.
//!
//! **Model.** An answer confines the offset to `[transmit - received, receive - sent]`: the server's two timestamps are its ends, and
//! their distance is the delay. Plain NTP has nothing that protects those timestamps on the way. A changed one that widens the
//! interval does no harm; one that narrows it may cut the truth off, and then the delay has shrunk by exactly as much.
//!
//! **Remedy.** The second least delay among the recent exchanges is one that two of them agree on. An exchange that claims to have been
//! quicker by `e` is given `2 e` back: its interval grows at either end by what may have been cut off. An honest new minimum
//! pays that once, until another exchange confirms it.
//!
//! **Weaknesses.** The first exchanges have nothing to be compared with. Two timestamps changed by the same amount, which takes
//! an attacker on the path, are out of reach: that is what authentication is for.

use chronotick_core::units::Span;

/// Exchanges that are remembered.
const RECENT: usize = 32;

/// The delays of the recent exchanges with one address.
#[derive(Clone, Debug)]
pub struct Quickest {
    recent: [i64; RECENT],
    seen: usize,
}

impl Default for Quickest {
    fn default() -> Self {
        Self { recent: [i64::MAX; RECENT], seen: 0 }
    }
}

impl Quickest {
    /// Takes in the delay of an exchange, which may be a little below zero, and returns the one to believe.
    pub fn observe(&mut self, delay: Span) -> Span {
        let confirmed = self.second_least();
        self.recent[self.seen % RECENT] = delay.as_nanos();
        self.seen += 1;
        match confirmed {
            Some(confirmed) if delay < confirmed => confirmed.saturating_add(confirmed.saturating_sub(delay)),
            _ => delay,
        }
    }

    fn second_least(&self) -> Option<Span> {
        let (mut least, mut second) = (i64::MAX, i64::MAX);
        for &delay in &self.recent {
            if delay < least {
                (least, second) = (delay, least);
            } else if delay < second {
                second = delay;
            }
        }
        (self.seen >= 2).then_some(Span::from_nanos(second))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn observe(quickest: &mut Quickest, delay: i64) -> i64 {
        quickest.observe(Span::from_nanos(delay)).as_nanos()
    }

    #[test]
    fn a_shorter_path_pays_until_it_is_confirmed() {
        let mut quickest = Quickest::default();
        let believed: Vec<_> = [100, 105, 40, 41, 40].map(|delay| observe(&mut quickest, delay)).into();
        assert_eq!(believed, [100, 105, 170, 159, 42]);
    }

    #[test]
    fn the_memory_is_short() {
        let mut quickest = Quickest::default();
        for _ in 0..3 {
            observe(&mut quickest, 10);
        }
        for _ in 0..RECENT {
            observe(&mut quickest, 1_000);
        }
        assert_eq!(observe(&mut quickest, 900), 1_100);
    }

    proptest! {
        /// `out` and `back` are the legs of a settled path; one timestamp of one answer is moved so that the interval narrows.
        #[test]
        fn one_changed_timestamp_never_cuts_the_truth_off(
            out in 1i64..1_000_000,
            back in 1i64..1_000_000,
            cut in 0i64..3_000_000,
            receive in any::<bool>(),
        ) {
            let mut quickest = Quickest::default();
            for _ in 0..2 {
                observe(&mut quickest, out + back);
            }
            // The truth is 0: the interval is [-back, out] before the change.
            let (low, high) = if receive { (-back, out - cut) } else { (-back + cut, out) };
            let half = observe(&mut quickest, high - low).div_euclid(2) + 1;
            let middle = (low + high).div_euclid(2);
            prop_assert!(middle - half <= 0 && 0 <= middle + half + 1, "{middle} +- {half}");
        }
    }
}
