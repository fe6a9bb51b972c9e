//! What a model adds to the bank: the forecast moves towards it by a share of its distance.
//!
//! **Model.** At one horizon the bank says `b`, the model `m`, and what comes is `t`. Of all `b + w (m - b)` the one with the least
//! mean squared error has the `w` of the regression of `t - b` on `m - b` (Bates and Granger, 1969; "stacking", Wolpert, 1992).
//! It has a normal prior around the model's share at the next shorter horizon: a model that knows better there is likely to know
//! better here, long before this horizon has passed often enough to tell. At the shortest one the prior is nothing. The share is
//! the posterior mean less a part of its sampling error and less a toll, between nothing and all: a model earns its place.
//!
//! Most of the means is taken out of the moments. A model that always says the same, or a path that has become longer, is no
//! knowledge of the oscillator.
//!
//! A model that is no better than the bank still earns a share when it errs differently. Nonsense, however loud, does not go the
//! way in which the bank errs: its share is nothing after a few forecasts. The bank's own weights know nothing of the models, so
//! that the worst they can do is to move the forecast by their share.
//!
//! **Weaknesses.** The forecasts of one horizon overlap, and so do their errors: they are counted as fewer, by a rule of thumb.

/// Inverse variance of the prior.
const PRIOR: f32 = 3.0;
/// Parts of the shares' sampling errors that are taken off. In simulated worlds the near model knows little that the bank does not, so
/// that what looks like it is more often luck.
pub(super) const DOUBT: [f32; super::MODELS] = [1.0, 0.3];
/// The share below which a model is not worth following.
const TOLL: f32 = 0.1;
/// Part of the means that is taken out of the moments.
const CENTRED: f32 = 0.8;
/// What is left of the bank's errors counts for at least this part of them: overlapping forecasts fit each other too well.
const LEFT: f32 = 0.5;

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

    /// The share anew, `shorter` being that at the next shorter horizon. `overlap` forecasts are worth one independent one,
    /// and `doubt` of the sampling error is taken off.
    pub(super) fn settle(&mut self, shorter: f32, overlap: f32, doubt: f32) {
        // The unscored, and those who never said anything else than the bank.
        if self.away_away <= 0.0 {
            self.share = shorter;
            return;
        }
        let centred = CENTRED / self.weight;
        let spread = (self.away_away - centred * self.away * self.away).max(f32::MIN_POSITIVE);
        let common = self.missed_away - centred * self.missed * self.away;
        let missed = self.missed_missed - centred * self.missed * self.missed;
        let left = (missed - common * common / spread).max(LEFT * missed).max(f32::MIN_POSITIVE);
        // Both are of the order of the squared errors over the noise: a ratio of them is a number of forecasts.
        let told = self.count / overlap * (spread / left);
        let mean = (told * (common / spread) + PRIOR * shorter) / (told + PRIOR);
        let unsure = libm::sqrtf(told) / (told + PRIOR);
        let share = (mean - doubt * unsure - TOLL) / (1.0 - TOLL);
        // Whatever is not a number is nothing.
        self.share = if share > 0.0 { share.min(1.0) } else { 0.0 };
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
        share.settle(0.0, 1.0, DOUBT[1]);
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
        share.settle(0.4, 9.0, DOUBT[1]);
        assert_eq!(share.share, 0.4);
    }

    #[test]
    fn what_is_not_a_number_is_nothing() {
        let mut share = Share::default();
        share.learn(1e30, 1e30, 1e30, 1.0);
        share.settle(0.4, 9.0, DOUBT[1]);
        assert!((0.0..=1.0).contains(&share.share));
    }
}
