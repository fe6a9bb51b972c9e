//! What a model, the daily pattern or a cycle adds to the bank: the forecast moves towards it by a share of its distance.
//!
//! **Model.** At one horizon the bank says `b`, the model `m`, and what comes is `t`. Of all `b + w (m - b)` the one with the least
//! mean squared error has the `w` of the regression of `t - b` on `m - b` (Bates and Granger, 1969; "stacking", Wolpert, 1992).
//! It has a normal prior around what is expected of it at the next shorter horizon, which passes more often: nonsense is found out
//! there, long before a horizon of hours has passed once, and a model that has said nothing there is still what it was expected to
//! be. The far model is expected to go some of the way, since it was trained on what the bank misses; the near one, the daily
//! pattern and a cycle have to show it. The share is the posterior mean less a part of its sampling error and less a toll, between nothing and all.
//!
//! What a model says that is little against what the bank claims is drawn towards nothing before anything is made of it.
//!
//! A part of the means is taken out of what speaks for a model, and none out of what speaks against it: a path that has become
//! longer is no knowledge of the oscillator, and a model that always says the same is found out as fast as any other.
//!
//! A model that is no better than the bank still earns a share when it errs differently. Nonsense, however loud, does not go the
//! way in which the bank errs: its share is nothing after a few forecasts. The bank's own weights know nothing of the models, so
//! that the worst they can do is to move the forecast by their share.
//!
//! **Weaknesses.** The forecasts of one horizon overlap, and so do their errors: they are counted as fewer, by a rule of thumb. What
//! is wrong by less than the bank's errors within an hour, and by more than they hours ahead, costs some per cent there until
//! hours have passed.

/// Inverse variance of the prior.
const PRIOR: f32 = 3.0;
/// The near model, the far one, the daily pattern and the cycle.
const STACKED: usize = 4;
/// What the shares are expected to be before anything is known of them.
const AT_FIRST: [f32; STACKED] = [0.0, 0.2, 0.0, 0.0];
/// Parts of the shares' sampling errors that are taken off. In simulated worlds the near model knows little that the bank does not, so
/// that what looks like it is more often luck. Of the far one's nothing is: what is little has been drawn to nothing already.
const DOUBT: [f32; STACKED] = [1.0, 0.0, 0.5, 0.5];
/// Part of their forecasts' overlap in which what they add repeats itself: the far model is asked again long before it is over, and a
/// day goes on meanwhile, while a cycle that is mistaken is so all the way round.
const REPEATED: [f32; STACKED] = [1.0, 0.5, 0.5, 1.0];
/// What forecasts of the next shorter horizon count for when it is asked how well a model has been tested.
const ELSEWHERE: f32 = 0.5;
/// Where an untested model is too bold, in claimed deviations of the bank. On a day that the bank knows nothing of, it is off by three.
const BOLD: f32 = 5.0;
/// The square of what is little, in the same unit: half of it is left of a correction as large as that.
const LITTLE: f32 = 0.36;
/// Independent forecasts of its shortest horizon after which a model is half believed to be what it is expected to be.
const NEW: f32 = 8.0;
/// The share below which a model is not worth following.
const TOLL: f32 = 0.1;
/// Part of the means that is taken out of what speaks for a model.
const CENTRED: [f32; STACKED] = [0.8, 0.8, 0.45, 0.45];
/// What is left of the bank's errors counts for at least this part of them: overlapping forecasts fit each other too well.
const LEFT: f32 = 0.5;

/// What is left of a model's correction, in s, to a forecast of the bank that claims a `deviation`, s. On a clock without a pattern a
/// model never says exactly nothing, and by chance what it says fits the first few errors.
pub(super) fn without_little(away: f32, deviation: f32) -> f32 {
    let little = LITTLE * deviation * deviation;
    let square = away * away;
    // Nothing of nothing is left.
    away * (square / (square + little).max(f32::MIN_POSITIVE))
}

/// One model at one horizon.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Sums of what the bank did not foresee, of the model's distance from the bank, and of their products.
    weight: f32,
    missed: f32,
    away: f32,
    missed_missed: f32,
    missed_away: f32,
    away_away: f32,
    /// Discounted number of forecasts.
    count: f32,
    /// What it is expected to be, and by how many forecasts that would have told.
    pub(super) mean: f32,
    tested: f32,
    /// Independent forecasts that have passed, here or at a shorter horizon, whatever they told.
    passed: f32,
    /// How much of the way to the model is gone, from 0 to 1.
    pub(super) share: f32,
}

impl Share {
    /// The bank's forecast missed what came by `missed` s, the model's was `away` s from it. The past keeps a part of `keep`.
    pub(super) fn learn(&mut self, missed: f32, away: f32, importance: f32, keep: f32) {
        self.weight = self.weight * keep + importance;
        self.missed = self.missed * keep + importance * missed;
        self.away = self.away * keep + importance * away;
        self.missed_missed = self.missed_missed * keep + importance * missed * missed;
        self.missed_away = self.missed_away * keep + importance * missed * away;
        self.away_away = self.away_away * keep + importance * away * away;
        self.count = self.count * keep + 1.0;
    }

    /// The share of number `slot` anew, `shorter` being what is expected of it at the next shorter horizon. `overlap` forecasts are
    /// worth one independent one.
    pub(super) fn settle(&mut self, slot: usize, shorter: &Self, overlap: f32) {
        let overlap = REPEATED[slot] * overlap;
        let mut unsure = 0.0;
        self.mean = shorter.mean;
        self.tested = ELSEWHERE * shorter.tested;
        self.passed = shorter.passed.max(self.count / overlap);
        // Else it is unscored, or never said anything else than the bank.
        if self.away_away > 0.0 {
            let centred = CENTRED[slot] / self.weight;
            let spread = (self.away_away - centred * self.away * self.away).max(f32::MIN_POSITIVE);
            let common = self.missed_away - centred * self.missed * self.away;
            let missed = self.missed_missed - centred * self.missed * self.missed;
            let left = (missed - common * common / spread).max(LEFT * missed).max(f32::MIN_POSITIVE);
            // Both are of the order of the squared errors over the noise: a ratio of them is a number of forecasts.
            let told = self.count / overlap * (self.away_away / left);
            let mean = (told * (common / self.away_away) + PRIOR * shorter.mean) / (told + PRIOR);
            unsure = libm::sqrtf(told) / (told + PRIOR);
            self.tested += told;
            // Whatever is not a number is nothing.
            self.mean = if mean > 0.0 { mean.min(1.0) } else { 0.0 };
        }
        let share = (self.mean - DOUBT[slot] * unsure - TOLL) / (1.0 - TOLL);
        self.share = if share > 0.0 { share } else { 0.0 };
    }

    /// How far to go towards a model that is so many of the bank's `deviations` away: nobody follows one that is new, nor one that has
    /// shown little far beyond what the bank holds possible.
    pub(super) fn towards(&self, deviations: f32) -> f32 {
        let square = deviations * deviations * (1.0 / (BOLD * BOLD));
        let believed = PRIOR / (1.0 + square * square) * self.passed / (self.passed + NEW);
        self.share * (self.tested + believed) / (self.tested + PRIOR)
    }

    /// What is expected of number `slot` before anything is known of it.
    pub(super) fn at_first(slot: usize) -> Self {
        Self { mean: AT_FIRST[slot], ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share after `count` forecasts, all independent, of which `said` tells what the bank missed and how far away the model was.
    fn after(count: u8, said: impl Fn(f32) -> (f32, f32)) -> f32 {
        let mut share = Share::default();
        for i in 0..count {
            let (missed, away) = said(f32::from(i));
            share.learn(missed, away, 1e9, 0.99);
        }
        share.settle(1, &Share::default(), 1.0);
        share.share
    }

    /// Errors of some microseconds that follow no pattern.
    fn error(i: f32) -> f32 {
        3e-6 * libm::sinf(12.9898 * i + 78.0 * libm::sinf(i))
    }

    #[test]
    fn the_truth_is_followed_after_a_few_forecasts() {
        assert!(after(4, |i| (error(i), error(i))) > 0.5);
        assert!(after(60, |i| (error(i), error(i))) > 0.9);
    }

    #[test]
    fn nonsense_is_not_followed() {
        for loud in [1e-7, 3e-6, 1e-3, 10.0] {
            assert_eq!(after(60, |i| (error(i), -loud * error(i))), 0.0, "flipped");
            assert!(after(60, |i| (error(i), loud)) < 0.05, "constant {loud}");
            assert!(after(60, |i| (error(i), loud * error(i + 0.5) / 3e-6)) < 0.2, "random {loud}");
        }
    }

    #[test]
    fn a_model_that_errs_differently_earns_a_share() {
        let share = after(100, |i| (error(i), error(i) - error(i + 0.37)));
        assert!((0.3..0.7).contains(&share), "{share}");
    }

    #[test]
    fn without_forecasts_the_shorter_horizon_speaks() {
        let mut share = Share::default();
        share.settle(1, &Share { mean: 0.4, ..Share::default() }, 9.0);
        assert_eq!(share.mean, 0.4);
        assert!((share.share - (0.4 - TOLL) / (1.0 - TOLL)).abs() < 1e-6);
    }

    #[test]
    fn a_model_that_is_expected_to_help_loses_that_by_nonsense_of_any_kind() {
        for (what, said) in [("flipped", -1.0), ("constant", 0.0)] {
            let mut share = Share::default();
            for i in 0..20 {
                let missed = error(i as f32);
                share.learn(missed, if said == 0.0 { 3e-6 } else { said * missed }, 1e9, 0.99);
            }
            share.settle(1, &Share::at_first(1), 1.0);
            assert!(share.share < 0.1, "{what}: {}", share.share);
        }
    }

    #[test]
    fn of_little_next_to_nothing_is_left_and_of_much_all() {
        let left = |away| without_little(away, 1e-6) / away;
        assert!(left(3e-8) < 0.01 && left(-3e-8) < 0.01);
        assert!((left(1e-6) - 1.0 / (1.0 + LITTLE)).abs() < 1e-6);
        assert!(left(1e-5) > 0.99 && left(-1e-2) > 0.99 && left(3e-7) < 0.25);
        for (away, deviation) in [(0.0, 1e-6), (0.0, 0.0), (1e-30, 1e-30)] {
            assert!(without_little(away, deviation).abs() <= away, "{away} {deviation}");
        }
        assert_eq!(without_little(1e-3, 0.0), 1e-3);
    }

    #[test]
    fn what_is_not_a_number_is_nothing() {
        let mut share = Share::default();
        share.learn(1e30, 1e30, 1e30, 1.0);
        share.settle(1, &Share { mean: 0.4, ..Share::default() }, 9.0);
        assert!((0.0..=1.0).contains(&share.share));
    }
}
