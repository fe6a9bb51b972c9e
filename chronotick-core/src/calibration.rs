//! The 95 % interval: how the claimed deviations of the fused forecast compare with its errors.
//!
//! **Model.** The error that is seen is that of the forecast plus the noise of the measurement that reveals it: Gaussian, of
//! variance `k^2 v + r` where `v` was claimed. The scale `k^2` is not known, so that each of sixteen possible ones has a
//! probability, and the interval is the one that holds 95 % of the mixture. That widens it by itself while few errors are known, as
//! Student's distribution would, and narrows it as soon as the larger scales have been refuted. An exchange far noisier than the
//! claim favours no scale. The scale is at least an eighth: the noise of the measurements
//! is itself only estimated, and a claim is not narrowed much on its word.
//!
//! **From horizon to horizon.** A horizon's scales begin with those of the next shorter one, which has been tested more
//! often. From an hour on they may be much larger: rooms and days, which a random walk knows nothing of, come in there. And they end
//! with what the next longer one has seen, up to there: within minutes the forecast's errors are lost in the noise of the measurements, and
//! a little later they are not (a chain whose every link is told of both sides: Rabiner 1989).
//!
//! **From now to then.** Nor is what was learned in calm hours true of the next one. From some minutes on the scale that the
//! errors tell may be exceeded, whatever they tell: that is no part of what is learned, and no further horizon begins with it.
//!
//! **Surprises** are a matter of rates, not of scales: a room or a day changes that of a crystal by some 0.2 ppm. To a claim of a nanosecond
//! in a second that is a great deal, and next to nothing to one of a microsecond, which a clock makes that knows its rate no better.
//!
//! **Overlap.** Errors of overlapping forecasts are counted as one; and because calm and busy hours follow each other, an error
//! counts for a fraction of an independent one (a tempered likelihood: Grünwald 2012).
//!
//! **Many errors.** The empirical 95 % quantile of the standardised errors takes over, with the rank of split conformal prediction
//! (Vovk 2005; Gibbs and Candes 2021 for drifting distributions).
//!
//! **Weaknesses.** A constant asymmetry of the path is in every measurement alike and cannot be seen; the hard bound has it.

use crate::evidence;
use crate::rank::ranked;

/// How many scales there are: from [`LEAST`] on, each [`RATIO`] times the one before. A multiple of four is quicker.
const SCALES: usize = 16;
const LEAST: f32 = 0.122;
const RATIO: f32 = 1.6;
const LN_RATIO: f32 = 0.470_003_63;
/// All of them.
const ALL: [f32; SCALES] = {
    let mut all = [LEAST; SCALES];
    let mut i = 1;
    while i < SCALES {
        all[i] = all[i - 1] * RATIO;
        i += 1;
    }
    all
};
/// From so many seconds on, with what probability a claim is as good as at the next shorter horizon, and that of every larger
/// scale against the one before it: a room or a day may have come in.
const SURPRISES: [(f32, f32, f32); 2] = [(10_000.0, 0.42, 0.94), (4000.0, 0.82, 0.88)];
/// The same of the time to come against that which has been judged: it may be a busy one.
const BUSY: [(f32, f32, f32); 2] = [(1000.0, 0.83, 0.85), (200.0, 0.9, 0.7)];
/// What may come in changes the rate by about so much, s/s: an AT cut by 2 to 4 degrees, at 0.05 to 0.1 ppm per degree.
const ROOM: f32 = 2e-7;
/// The log likelihood of an independent error counts for so much.
const TEMPER: f32 = 0.13;
/// Squared errors count up to so many times their expectation.
const CAP: f32 = 25.0;
/// Independent errors at which the empirical quantile counts as much as the scales'.
const EMPIRICAL: f32 = 60.0;
/// Errors from which on there is an empirical quantile, and after how many it is worked out again.
const FEWEST: usize = 40;
const RENEWED: u8 = 8;
/// The 97.5 % quantile of the standard normal distribution.
const NORMAL: f32 = 1.96;

/// How much of a surprise it is to a forecast what comes in from outside, from nothing to one.
#[derive(Clone, Copy, Debug)]
pub struct Surprise {
    /// Whatever it is.
    any: f32,
    /// A change of the rate.
    rate: f32,
}

impl Surprise {
    /// To one of `horizon` s that claims a `deviation`, s. Models and a daily pattern that have a part of `foreseen` in it know of rooms
    /// and days. Of a cycle that is not said; in simulated worlds no more is outside where it counts as well.
    pub fn new(horizon: f32, deviation: f32, foreseen: f32) -> Self {
        let (any, claimed) = (1.0 - foreseen, deviation / (ROOM * horizon));
        Self { any, rate: any / (1.0 + claimed * claimed) }
    }
}

/// How probable each scale is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales([f32; SCALES]);

impl Scales {
    /// Of a forecast of the present, of which nothing is known: the claim stands, and not firmly.
    pub const FIRST: Self =
        Self([0.0, 0.01, 0.03, 0.07, 0.23, 0.38, 0.19, 0.09, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    /// Nothing is known at all.
    pub const ANY: Self = Self([1.0 / SCALES as f32; SCALES]);

    /// What they are expected to be at `horizon` s, which is the next longer one, in units of the time scale.
    pub fn ahead(&self, horizon: f32, surprise: Surprise) -> Self {
        match SURPRISES.into_iter().find(|&(from, ..)| horizon >= from) {
            Some((_, same, larger)) => self.larger(same, larger, surprise.rate),
            None => self.further(),
        }
    }

    /// What the errors seen at `horizon` s, which is the next longer one, tell of these, being `self` by what they and longer ones say alone.
    pub fn behind(&self, horizon: f32) -> Self {
        // What comes in from outside within hours is not there within minutes.
        if SURPRISES.iter().any(|&(from, ..)| horizon >= from) { Self::ANY } else { self.further() }
    }

    /// The same with half the weight: what is known of them otherwise counts for more.
    pub fn half(&self) -> Self {
        Self(self.0.map(|probability| 0.5 * (probability + 1.0 / SCALES as f32)))
    }

    /// What they may be in the time to come, having been these so far; `horizon` and `surprise` as for [`Scales::ahead`].
    pub fn to_come(&self, horizon: f32, surprise: Surprise) -> Self {
        match BUSY.into_iter().find(|&(from, ..)| horizon >= from) {
            // Paths have busy hours as well, whatever the claim.
            Some((_, same, larger)) => self.larger(same, larger, surprise.rate.max(0.5 * surprise.any)),
            None => *self,
        }
    }

    /// What is known from both sides.
    pub fn and(&self, other: &Self) -> Self {
        let both = Self(core::array::from_fn(|i| self.0[i] * other.0[i]));
        both.normalised().unwrap_or(*self)
    }

    /// About the same.
    fn further(&self) -> Self {
        /// The probability of one scale more, and of one less.
        const APART: f32 = 0.34;
        let mut out = [0.0; SCALES];
        for i in 0..SCALES {
            let (less, more) = (i.saturating_sub(1), (i + 1).min(SCALES - 1));
            out[i] += (1.0 - 2.0 * APART) * self.0[i];
            out[less] += APART * self.0[i];
            out[more] += APART * self.0[i];
        }
        Self(out)
    }

    /// Larger, and nobody knows how much: `same` is the probability that it is not, as far as there is a `surprise` at all, and `larger`
    /// that of every larger scale against the one before it.
    fn larger(&self, same: f32, larger: f32, surprise: f32) -> Self {
        let otherwise = (1.0 - same) * surprise;
        let mut below = 0.0;
        let then = self.0.map(|probability| {
            let out = (1.0 - otherwise) * probability + otherwise * (1.0 - larger) * below;
            below = larger * below + probability;
            out
        });
        // What was at the largest scale has nowhere to go.
        Self(then).normalised().unwrap_or(*self)
    }

    /// The same in all, one. `None`: nothing is possible.
    fn normalised(self) -> Option<Self> {
        let total: f32 = self.0.iter().sum();
        (total > 0.0).then(|| Self(self.0.map(|probability| probability / total)))
    }

    /// Half the width of the interval that holds 95 % of the mixture, in claimed deviations.
    pub fn half_width(&self) -> f32 {
        const NOMINAL: f32 = 0.05;
        // The probability outside falls from one scale's own interval to the next; in between it is taken to be exponential.
        let (mut scale, mut before) = (0, 1.0);
        let mut outside = self.outside(0);
        while outside > NOMINAL && scale < SCALES {
            scale += 1;
            before = outside;
            outside = self.outside(scale);
        }
        let steps = if scale == 0 {
            0.0
        } else {
            let between = evidence::ln(NOMINAL / before) / evidence::ln(outside.max(1e-30) / before);
            scale as f32 - 1.0 + between.clamp(0.0, 1.0)
        };
        NORMAL * libm::sqrtf(LEAST * evidence::exp(steps * LN_RATIO))
    }

    /// The probability outside the 95 % interval of scale `index`.
    fn outside(&self, index: usize) -> f32 {
        /// That of a normal distribution whose scale is so many below: 2 Q(1.96 RATIO^(i / 2)).
        const BELOW: [f32; 5] = [0.05, 0.013_16, 0.001_71, 7.3e-5, 5.2e-7];
        /// And above.
        const ABOVE: [f32; SCALES] = [
            0.05, 0.121_26, 0.220_58, 0.332_82, 0.443_9, 0.544_99, 0.632_28, 0.705_21, 0.764_88, 0.813_09, 0.851_72,
            0.882_52, 0.907, 0.926_4, 0.941_8, 0.954,
        ];
        let mut sum = 0.0;
        for (i, probability) in self.0.iter().enumerate() {
            let share = if i > index { ABOVE[i - index] } else { BELOW.get(index - i).copied().unwrap_or(0.0) };
            sum += probability * share;
        }
        sum
    }
}

/// How the claimed deviations of the fused forecast compare with its errors; `C` standardised errors are kept, at least one.
#[derive(Clone, Debug)]
pub struct Calibration<const C: usize = 96> {
    /// Log likelihood of each scale.
    likelihood: [f32; SCALES],
    /// Independent errors behind it.
    weight: f32,
    /// Squares of standardised errors, newest last.
    recent: heapless::Deque<f32, C>,
    until_renewed: u8,
    /// What errors are standardised by, in claimed deviations, and the quantile of those that were.
    unit: f32,
    quantile: f32,
}

impl<const C: usize> Default for Calibration<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const C: usize> Calibration<C> {
    /// No error has been seen.
    pub const fn new() -> Self {
        Self {
            likelihood: [0.0; SCALES],
            weight: 0.0,
            recent: heapless::Deque::new(),
            until_renewed: 0,
            unit: 1.0,
            quantile: NORMAL,
        }
    }

    /// Takes in the `error` (s) of a forecast that had claimed the variance `claimed`, seen through a measurement of variance
    /// `noise` (both s^2). `keep` of the past is remembered, and `overlap` such errors are worth one independent one.
    pub fn learn(&mut self, error: f32, claimed: f32, noise: f32, keep: f32, overlap: f32) {
        let total = claimed + noise;
        if !(total > 0.0 && claimed > 0.0) {
            return;
        }
        let (share, square) = (claimed / total, error * error);
        self.weight = self.weight * keep + share * share / overlap;
        let (tempered, relative) = (0.5 * TEMPER / overlap, 1.0 / total);
        let (claimed_part, noise_part, square_part) = (claimed * relative, noise * relative, square * relative);
        for (likelihood, scale) in self.likelihood.iter_mut().zip(ALL) {
            let ratio = scale * claimed_part + noise_part;
            let surprise = square_part / ratio;
            let capped = if surprise < CAP { surprise } else { CAP };
            *likelihood = *likelihood * keep - tempered * (evidence::ln(ratio) + capped);
        }
        if self.recent.is_full() {
            self.recent.pop_front();
        }
        let _ = self.recent.push_back(square / (self.unit * self.unit * claimed + noise));
        if self.until_renewed == 0 {
            self.until_renewed = RENEWED;
            self.unit = self.scales(&Scales::ANY).half_width() / NORMAL;
            self.quantile = self.empirical();
        }
        self.until_renewed -= 1;
    }

    /// How probable each scale is, having been as probable as `before` without the errors seen here.
    pub fn scales(&self, before: &Scales) -> Scales {
        let most = self.likelihood.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
        let mut scales = *before;
        for (probability, likelihood) in scales.0.iter_mut().zip(self.likelihood) {
            *probability *= evidence::exp(likelihood - most);
        }
        // What was impossible before and is all that is left: the errors are right.
        scales.normalised().unwrap_or(Scales::ANY)
    }

    /// What the claimed deviation is multiplied by to give the half-width of the 95 % interval, with `scales` from
    /// [`Calibration::scales`].
    pub fn factor(&self, scales: &Scales) -> f32 {
        let trust = self.weight / (self.weight + EMPIRICAL);
        let half_width = scales.half_width();
        half_width + trust * (self.unit * self.quantile - half_width)
    }

    /// The 95 % quantile of the standardised errors, with the rank of conformal prediction.
    fn empirical(&self) -> f32 {
        let known = self.recent.len();
        if known < FEWEST {
            return NORMAL;
        }
        let mut scores = [f32::INFINITY; C];
        for (score, &recent) in scores.iter_mut().zip(&self.recent) {
            *score = recent;
        }
        // ceil(0.95 (n + 1))
        let rank = (19 * (known + 1)).div_ceil(20).min(known);
        libm::sqrtf(ranked(&scores, rank - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// To one who claims to know the rate.
    const CERTAIN: Surprise = Surprise { any: 1.0, rate: 1.0 };

    /// Errors that alternate in sign with a constant magnitude have exactly that deviation.
    fn learnt(error: f32, claimed: f32, noise: f32, times: usize) -> Calibration<96> {
        let mut calibration = Calibration::<96>::new();
        for _ in 0..times {
            calibration.learn(error, claimed * claimed, noise * noise, 1.0, 1.0);
        }
        calibration
    }

    fn factor(calibration: &Calibration<96>) -> f32 {
        calibration.factor(&calibration.scales(&Scales::FIRST.ahead(14_400.0, CERTAIN)))
    }

    #[test]
    fn an_honest_claim_is_left_alone_and_an_optimistic_one_widened() {
        let honest = factor(&learnt(1e-6, 1e-6, 0.0, 39));
        assert!(honest > 1.7 && honest < 2.7, "{honest}");
        let widened = factor(&learnt(3e-6, 1e-6, 0.0, 39));
        assert!(widened > 2.5 * 1.96 && widened < 4.0 * 1.96, "{widened}");
    }

    #[test]
    fn a_noisy_witness_says_nothing() {
        let before = factor(&Calibration::new());
        let after = factor(&learnt(1e-3, 1e-6, 1e-3, 30));
        assert!((after - before).abs() < 0.05 * before, "{before} {after}");
    }

    #[test]
    fn few_errors_widen() {
        assert!(factor(&learnt(1e-6, 1e-6, 0.0, 2)) > 1.2 * factor(&learnt(1e-6, 1e-6, 0.0, 35)));
    }

    #[test]
    fn calm_hours_do_not_promise_a_calm_one() {
        let calm = learnt(1e-6, 1e-6, 0.0, 1000).scales(&Scales::FIRST);
        let at = |horizon, surprise| calm.to_come(horizon, surprise).half_width() / calm.half_width();
        assert_eq!(at(64.0, CERTAIN), 1.0);
        let (minutes, hours) = (at(256.0, CERTAIN), at(1024.0, CERTAIN));
        assert!(1.0 < minutes && minutes < hours, "{minutes} {hours}");
        assert!((1.2..2.5).contains(&hours) && at(14_400.0, CERTAIN) == hours, "{hours}");
        // Who foresees the room and the day is not surprised.
        let foreseen = |part| at(1024.0, Surprise::new(1024.0, 1e-6, part));
        assert!(foreseen(0.9) < 1.1 && foreseen(1.0) == 1.0, "{}", foreseen(0.9));
    }

    #[test]
    fn a_room_is_no_surprise_to_a_claim_that_has_room_for_it() {
        let wide = |horizon: f32, rate: f32| {
            Scales::FIRST.ahead(horizon, Surprise::new(horizon, rate * horizon, 0.0)).half_width()
        };
        for horizon in [4096.0, 14_400.0] {
            let (sure, unsure) = (wide(horizon, 1e-10), wide(horizon, 1e-5));
            assert!(sure > 1.3 * unsure, "{horizon} s: {sure} {unsure}");
            assert!((unsure / Scales::FIRST.half_width() - 1.0).abs() < 0.05, "{horizon} s: {unsure}");
        }
        // Not so that of the next hour on a path.
        let next = Scales::FIRST.to_come(1024.0, Surprise::new(1024.0, 1e-2, 0.0)).half_width();
        assert!(next > 1.1 * Scales::FIRST.half_width(), "{next}");
    }

    #[test]
    fn what_a_longer_horizon_has_seen_is_told_to_the_shorter_one() {
        let seen = learnt(4e-6, 1e-6, 0.0, 300).scales(&Scales::ANY);
        let told = Scales::FIRST.and(&seen.behind(256.0)).half_width();
        // The claim was a fourth of what errors were.
        assert!(told > 3.5 && told > 1.4 * Scales::FIRST.half_width(), "{told}");
        let not_told = Scales::FIRST.and(&seen.behind(4096.0)).half_width();
        assert!((not_told / Scales::FIRST.half_width() - 1.0).abs() < 1e-5, "{not_told}");
    }

    #[test]
    fn one_certain_scale_has_the_interval_of_its_deviation() {
        for i in 0..SCALES {
            let mut scales = Scales([0.0; SCALES]);
            scales.0[i] = 1.0;
            let deviation = libm::sqrtf(LEAST * libm::powf(RATIO, i as f32));
            assert!((scales.half_width() / deviation - NORMAL).abs() < 0.01, "scale {i}: {}", scales.half_width());
        }
    }

    #[test]
    fn probabilities_stay_probabilities_and_what_is_further_is_no_narrower() {
        let mut scales = Scales::FIRST;
        for step in 0..6 {
            let next = scales.ahead([16.0, 64.0, 256.0, 1024.0, 4096.0, 14_400.0][step], CERTAIN);
            assert!((next.0.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{next:?}");
            assert!(next.half_width() > scales.half_width(), "{scales:?} {next:?}");
            scales = next;
        }
    }
}
