//! How far to trust one exchange: a box around every measured offset, from the delays of its source.
//!
//! **Model.** A packet waits `a` on the way out and `b` on the way back, over a fixed path. The measured offset is off by
//! `(a - b) / 2` and the delay exceeds its minimum by the excess `e = a + b`: whatever the waiting times are like, the truth lies
//! within `e / 2` of what was measured, and the few exchanges with the least delay carry nearly all the information (Mills 1991,
//! RFC 5905 section 10; Paxson 1998). What a filter makes of the box says [`crate::estimator::exchange`].
//!
//! **Corrections to it.** The least of the delays is above that of the path itself. Where there is room for many delays, the path's
//! own is estimated with its deviation (`propagation.rs`); in a small filter the box is wider by a part of how far the least
//! is probably above it. The edges are blurred by what is not known of that, and more while few delays are known. Timestamps have
//! noise of their own that no delay shows, a server's most of all: what the innovations of the most precise exchanges had beyond all
//! that is learned and blurs the edges as well. And waiting times may be more alike on both ways than exponential ones, which fill
//! the box evenly: where the innovations of a class of delays are significantly smaller than that, around what the least delays say,
//! its box shrinks.
//!
//! **Another path.** A route that alternates between two lengths from one exchange to the next needs no care: on the longer one the truth
//! is at the edge of a wide box. Of one that is longer for a minute or for good the exchanges are counted as if on the shortest, less
//! what it adds to their delays and to their offsets (`paths.rs`). In a small filter the old path is forgotten soon enough by itself.
//!
//! **Numerics.** All of it is f32: these are means over some hundred innovations, of which the third digit is chance.
//!
//! **Weaknesses.** A constant asymmetry of the path at minimum delay is invisible to any single source; the hard bound
//! covers it, this box does not. What several of them show is in `disagreement.rs`.

use crate::paths::{Detour, Paths};
use crate::propagation::{Delays, Propagation};
use crate::units::{Span, Variance};

/// Delay classes, by excess over the typical excess in octaves.
const CLASSES: usize = 7;
/// Samples over which a class forgets, and so does the noise that no delay shows.
const MEMORY: f32 = 150.0;
/// A class's box shrinks for what its innovations say beyond so many of their standard errors.
const SIGNIFICANT: f32 = 3.0;
/// A box is never shrunk below this share.
const NARROWEST: f32 = 0.01;
/// Samples of least delay that say what is unbiased.
const ANCHOR: f32 = 12.0;
/// The share of the delays that are left out below the minimum: a timestamp may be wrong for once.
const MINIMUM: f32 = 0.004;
/// In a filter of little room: the share of the delays whose spread blurs the edges, and how much of it; how much of the least delay's
/// distance from the path's own is added to the excess, the blur having the rest.
const LOW: f32 = 0.1;
const BLUR: f32 = 0.15;
const BELOW: f32 = 0.3;
/// Elsewhere: the part of the mean wait that blurs the edges beside what is not known of the path's own delay, and what is left of
/// the blur that a small filter has while few delays are known.
const EDGE: f32 = 0.035;
const SURER: f32 = 0.15;
/// Share of the squares beyond the box that the belief's own variance and the blur explain: on one side of it.
const EXPLAINED: f32 = 0.7;
/// Squares beyond the box count up to this multiple of their expectation.
const CAP: f32 = 9.0;
/// Samples until the minimum delay is trusted.
const YOUNG: f32 = 64.0;
/// Delays that have to be remembered to look for another path and for the path's own delay: a filter with less room forgets an old path
/// soon enough by itself.
const ROOM: usize = 256;

/// The delays of one source and what its innovations were like; `D` recent delays are remembered.
#[derive(Clone, Debug)]
pub struct SampleFilter<const D: usize> {
    /// Recent delays in order of arrival, in s.
    recent: heapless::Deque<f32, D>,
    /// Without what their paths are longer by, ascending.
    sorted: heapless::Vec<f32, D>,
    classes: [Class; CLASSES],
    hidden: Hidden,
    seen: f32,
    paths: Paths,
    propagation: Propagation,
}

/// Variance that no delay shows, s^2, as a mean that is weighted by precision.
#[derive(Clone, Copy, Debug, Default)]
struct Hidden {
    sum: f32,
    weight: f32,
}

impl Hidden {
    fn variance(&self) -> f32 {
        if self.weight > 0.0 && self.sum > 0.0 { self.sum / self.weight } else { 0.0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Class {
    weight: f32,
    mean: f32,
    square: f32,
    ratio: f32,
}

impl Class {
    const UNKNOWN: Self = Self { weight: 0.0, mean: 0.0, square: 0.0, ratio: 1.0 };
}

/// What the filter says of one exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// The truth is within this of what was measured, s.
    pub half: f64,
    /// Variance of the edges of that.
    pub blur: Variance,
    /// To be taken off the measured offset, s: what a longer path adds to it.
    pub asymmetry: f64,
    class: u8,
    /// Exchanges in a row up to this one that may all be off by the same, at least 1.
    alike: f32,
    /// The part of the blur that is of the asymmetry, s^2.
    detour: f32,
    /// The part of the blur that no delay shows, s^2.
    hidden: f32,
    /// The variance before anything was learned of the class, s^2.
    prior: f32,
}

impl Trust {
    /// Variance of the measured offset around the truth.
    pub fn variance(&self) -> Variance {
        Variance::new(self.half * self.half / 3.0 + self.blur.value())
    }

    /// That of the exchange as a witness of forecasts. Late ones in a row may all be off by the same, so that `n` of them are no
    /// more than one or two.
    pub fn witness(&self) -> Variance {
        Variance::new(self.variance().value() * f64::from(self.alike * self.alike))
    }
}

impl<const D: usize> Default for SampleFilter<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const D: usize> SampleFilter<D> {
    /// A filter that has seen nothing.
    pub const fn new() -> Self {
        Self {
            recent: heapless::Deque::new(),
            sorted: heapless::Vec::new(),
            classes: [Class::UNKNOWN; CLASSES],
            seen: 0.0,
            hidden: Hidden { sum: 0.0, weight: 0.0 },
            paths: Paths::NONE,
            propagation: Propagation::UNKNOWN,
        }
    }

    /// Takes in the delay of an exchange and says how far to trust its offset.
    pub fn observe(&mut self, delay: Span) -> Trust {
        #[allow(clippy::cast_possible_truncation, reason = "f32 resolves 1e-7 of a delay, far below its noise")]
        let delay = (delay.as_secs_f64() as f32).max(0.0);
        let detour = if D >= ROOM { self.detour(delay) } else { Detour::default() };
        self.remember(delay);
        let delay = delay - detour.by;
        let minimum = self.quantile(MINIMUM);
        let typical = (self.quantile(0.5) - minimum).max(1e-9);
        let hidden = self.hidden.variance();
        let spread = 0.3 * typical.max(0.05 * delay);
        let young = (YOUNG / self.seen - 1.0).max(0.0) * spread * spread;
        let (excess, blur) = if D >= ROOM {
            let delays = self.delays();
            self.propagation.observe(delay, &delays);
            let Propagation { delay: least, variance, wait, .. } = self.propagation;
            let edge = EDGE * wait;
            (delay - least, 0.25 * variance + edge * edge + SURER * young)
        } else {
            let edge = BLUR * (self.quantile(LOW) - minimum).max(1e-9);
            (delay - minimum + BELOW * self.gap(minimum), edge * edge + young)
        };
        let half = 0.5 * excess.max(0.0);
        let blur = blur + hidden;
        let even = half * half / 3.0;

        let class = class_of(2.0 * half, typical);
        // A shrunk box is also a rounder one: half of what its variance keeps goes to the edges.
        let share = self.share(class);
        let edges = f64::from(blur + (share - share * share) * even + 1e-18);
        #[allow(clippy::cast_possible_truncation, reason = "below CLASSES")]
        Trust {
            half: f64::from(half * share),
            blur: Variance::new(if D >= ROOM { edges + f64::from(detour.variance) } else { edges }),
            class: class as u8,
            alike: if D >= ROOM { self.paths.alike() } else { 1.0 },
            asymmetry: f64::from(detour.asymmetry),
            detour: detour.variance,
            hidden,
            prior: blur + even,
        }
    }

    /// The clock was found anew: what its predictions told of a longer path is void, the delays are not.
    pub fn begin_anew(&mut self) {
        if D >= ROOM {
            self.paths = Paths::NONE;
            self.sort();
        }
    }

    /// Learns from the innovation (measured minus predicted offset, s, without the asymmetry) of the exchange that `trust` was given
    /// for, the prediction having had variance `predicted`.
    pub fn learn(&mut self, trust: &Trust, innovation: f64, predicted: Variance) {
        if !(innovation + predicted.value()).is_finite() {
            return;
        }
        let edges = if D >= ROOM { trust.blur.value() - f64::from(trust.detour) } else { trust.blur.value() };
        #[allow(clippy::cast_possible_truncation, reason = "squares of what is itself only estimated")]
        let [innovation, predicted, half, blur] =
            [innovation, predicted.value(), trust.half, edges].map(|value| value as f32);
        let predicted = if D >= ROOM {
            if self.paths.learn(innovation, predicted, half * half / 3.0 + blur) {
                return;
            }
            let predicted = predicted + trust.detour;
            let delays = self.delays();
            self.propagation.learn(innovation, predicted + trust.hidden, &delays);
            predicted
        } else {
            predicted
        };
        // Beyond the box is only what its edges and the belief explain, and what no delay shows.
        let explained = blur + predicted;
        let beyond = (innovation.abs() - half).max(0.0);
        // Without what is to be learned here: noise that was learned too large would otherwise keep whatever could correct it unheard.
        // Beside much noise nothing is left of a small difference, least of all its sign.
        let otherwise = (explained - trust.hidden).max(1e-6 * explained);
        let excess = (beyond * beyond).min(CAP * explained) - EXPLAINED * otherwise;
        let precision = 1.0 / (otherwise + half * half / 3.0);
        let keep = 1.0 - 1.0 / MEMORY;
        self.hidden.sum = self.hidden.sum * keep + precision * excess;
        self.hidden.weight = self.hidden.weight * keep + precision;

        let class = &mut self.classes[usize::from(trust.class)];
        let claimed = trust.prior + predicted;
        let limit = 3.0 * libm::sqrtf(claimed * class.ratio.max(1.0));
        let clipped = innovation.max(-limit).min(limit);
        let square = clipped * clipped;
        let total = class.weight * keep + 1.0;
        let gain = 1.0 / total;
        class.mean += gain * (clipped - class.mean);
        class.square += gain * (square - class.square);
        class.ratio += gain * (square / claimed - class.ratio);
        class.weight = total;
    }

    /// By how much the box of `class` is smaller than the excess says.
    fn share(&self, class: usize) -> f32 {
        let Class { weight, mean, square, ratio } = self.classes[class];
        if weight < 2.0 || square <= 0.0 {
            return 1.0;
        }
        // A class that is off by a constant is not precise, and one that is off by little else is another path.
        let bias = mean - self.anchor();
        let constant = (4.0 * bias * bias / square - 2.0).clamp(0.0, 1.0);
        let ratio = ratio * (1.0 + (bias * bias - mean * mean) / square);
        let most = ratio * (1.0 + SIGNIFICANT * libm::sqrtf(2.0 / weight));
        let share = most.clamp(NARROWEST, 1.0);
        share + (1.0 - share) * constant
    }

    /// Mean innovation of the exchanges with the least delay: what the whole estimate is off by, as far as they can tell.
    fn anchor(&self) -> f32 {
        let (mut sum, mut weight) = (0.0, 0.0);
        for class in self.classes.iter().filter(|class| class.weight > 0.0) {
            if weight >= ANCHOR {
                break;
            }
            let share = class.weight.min((ANCHOR - weight).max(0.0));
            sum += share * class.mean;
            weight += share;
        }
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// The delay below which a share `p` of the recent ones lies, in s.
    fn quantile(&self, p: f32) -> f32 {
        let last = self.sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
        let index = (p * last as f32) as usize;
        self.sorted.get(index).copied().unwrap_or(0.0)
    }

    /// What the delays alone say of the path: the least of a few, nothing.
    fn delays(&self) -> Delays {
        let least = self.quantile(MINIMUM);
        let gap = if self.sorted.len() < 4 { 0.5 * least } else { self.gap(least) };
        Delays { least, gap, median: self.quantile(0.5) }
    }

    /// How far the path's own delay is below the `minimum`, which is the least of a few, in s. Two ways of waiting have a distribution
    /// that begins as a square, so that the delay of rank `4 r` is twice as far from the path's own as that of rank `r`.
    fn gap(&self, minimum: f32) -> f32 {
        let last = self.sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
        let rank = (MINIMUM * last as f32) as usize + 1;
        (self.sorted.get(4 * rank - 1).copied().unwrap_or(minimum) - minimum).max(0.0)
    }

    /// What the path of an exchange that took `delay` s adds to it. If it is a new one, the delays before are gone through again.
    fn detour(&mut self, delay: f32) -> Detour {
        let detour = self.paths.take(delay);
        if !self.paths.watch(delay, &self.sorted, &self.recent) {
            return detour;
        }
        self.sort();
        self.paths.take(delay)
    }

    /// The paths are other ones: what each delay is beyond them, and nothing else is known of them.
    fn sort(&mut self) {
        self.sorted.clear();
        for &delay in &self.recent {
            let _ = self.sorted.push(delay - self.by(delay));
        }
        self.sorted.sort_unstable_by(f32::total_cmp);
        self.propagation.forget();
        self.classes = [Class::UNKNOWN; CLASSES];
    }

    /// By how much the path of an exchange that took `delay` s is longer than the shortest, s.
    fn by(&self, delay: f32) -> f32 {
        if D >= ROOM { self.paths.by(delay) } else { 0.0 }
    }

    /// Out of line: a micro-controller has no room for it elsewhere.
    #[inline(never)]
    fn remember(&mut self, delay: f32) {
        if self.recent.is_full()
            && let Some(oldest) = self.recent.pop_front()
        {
            let oldest = oldest - self.by(oldest);
            let at = self.sorted.partition_point(|&x| x < oldest);
            self.sorted.remove(at);
        }
        let shortest = delay - self.by(delay);
        let at = self.sorted.partition_point(|&x| x < shortest);
        // Room was made above, so neither can be full.
        let _ = self.sorted.insert(at, shortest);
        let _ = self.recent.push_back(delay);
        self.seen += 1.0;
    }
}

/// Octaves of the excess relative to the typical one: class 0 below 1/16, the last above 2.
fn class_of(excess: f32, typical: f32) -> usize {
    let mut limit = typical / 16.0;
    for class in 0..CLASSES - 1 {
        if excess < limit {
            return class;
        }
        limit *= 2.0;
    }
    CLASSES - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays of a path: `least` and waiting times, in us, whose distribution is exponential with mean `wait`.
    fn observe(filter: &mut SampleFilter<1024>, count: u32, least: f64, wait: f64) -> Trust {
        let mut last = None;
        for i in 0..count {
            // The fractional parts of multiples of the golden ratio are spread evenly.
            let even = (f64::from(i) * 0.618_033_988_75).fract();
            let delay = least - wait * libm::log(1.0 - even);
            last = Some(filter.observe(Span::from_secs_f64(delay * 1e-6)));
        }
        last.expect("at least one")
    }

    fn deviation(trust: Trust) -> f64 {
        libm::sqrt(trust.variance().value()) * 1e6
    }

    #[test]
    fn a_longer_path_is_learned_anew() {
        let mut filter = SampleFilter::new();
        observe(&mut filter, 300, 1_000.0, 50.0);
        let before = deviation(observe(&mut filter, 1, 1_000.0, 50.0));
        let at_first = deviation(observe(&mut filter, 1, 3_000.0, 50.0));
        assert!(at_first > 500.0, "{at_first} us");
        observe(&mut filter, 64, 3_000.0, 50.0);
        let after = deviation(observe(&mut filter, 1, 3_000.0, 50.0));
        assert!(after < 4.0 * before + 10.0, "{before} us before, {after} us after");
    }

    #[test]
    fn a_clock_that_begins_anew_takes_the_path_that_is_left_for_the_shortest() {
        let mut filter = SampleFilter::new();
        measured(&mut filter, 200, 1_000.0, 0.0, 5.0);
        let longer = measured(&mut filter, 1_100, 3_000.0, 900.0, 5.0).asymmetry * 1e6;
        assert!((longer - 900.0).abs() < 5.0, "{longer} us");
        filter.begin_anew();
        let anew = measured(&mut filter, 1, 3_000.0, 0.0, 5.0);
        assert_eq!(anew.asymmetry, 0.0);
        let after = deviation(measured(&mut filter, 100, 3_000.0, 0.0, 5.0));
        assert!(after < 50.0, "{after} us");
    }

    #[test]
    fn congestion_is_no_other_path() {
        let mut filter = SampleFilter::new();
        observe(&mut filter, 300, 1_000.0, 50.0);
        observe(&mut filter, 64, 1_400.0, 600.0);
        let quick = deviation(observe(&mut filter, 1, 1_400.0, 0.0));
        assert!(quick > 100.0, "{quick} us: the least of the congested is not trusted");
    }

    /// Exchanges of which every one measures `offset` us more than a prediction that is good to `known` us; the last one's trust.
    fn measured(filter: &mut SampleFilter<1024>, count: u32, least: f64, offset: f64, known: f64) -> Trust {
        let mut last = None;
        for i in 0..count {
            let trust = observe(filter, 1, least + f64::from(i % 7), 30.0);
            let innovation = offset * 1e-6 - trust.asymmetry;
            filter.learn(&trust, innovation, Variance::new(known * known * 1e-12));
            last = Some(trust);
        }
        last.expect("at least one")
    }

    #[test]
    fn what_a_longer_path_adds_is_taken_off_until_the_short_one_is_back() {
        let mut filter = SampleFilter::new();
        assert_eq!(measured(&mut filter, 200, 1_000.0, 0.0, 5.0).asymmetry, 0.0);
        let longer = measured(&mut filter, 100, 3_000.0, 900.0, 5.0).asymmetry * 1e6;
        assert!((longer - 900.0).abs() < 5.0, "{longer} us");
        // Longer still, the other way round.
        let longest = measured(&mut filter, 80, 7_000.0, -600.0, 5.0).asymmetry * 1e6;
        assert!((longest + 600.0).abs() < 5.0, "{longest} us");
        let between = measured(&mut filter, 8, 3_000.0, 900.0, 5.0).asymmetry * 1e6;
        assert!((between - 900.0).abs() < 5.0, "{between} us");
        assert_eq!(measured(&mut filter, 8, 1_000.0, 0.0, 5.0).asymmetry, 0.0);
    }

    #[test]
    fn what_a_longer_path_adds_is_known_when_it_comes_back() {
        let mut filter = SampleFilter::new();
        for spell in 0..6 {
            let short = measured(&mut filter, 40, 1_000.0, 0.0, 5.0);
            assert_eq!(short.asymmetry, 0.0, "spell {spell}");
            let longer = measured(&mut filter, 60, 3_000.0, -700.0, 5.0).asymmetry * 1e6;
            // A few are not enough to tell another path from congestion.
            assert!((longer + 700.0).abs() < if spell == 0 { 701.0 } else { 10.0 }, "spell {spell}: {longer} us");
        }
    }

    #[test]
    fn the_path_before_was_longer_if_this_one_is_shorter() {
        let mut filter = SampleFilter::new();
        measured(&mut filter, 200, 3_000.0, 0.0, 5.0);
        measured(&mut filter, 60, 1_000.0, 800.0, 5.0);
        let short = measured(&mut filter, 1, 1_000.0, 0.0, 5.0);
        assert_eq!(short.asymmetry, 0.0);
        let longer = measured(&mut filter, 20, 3_000.0, -800.0, 5.0).asymmetry * 1e6;
        assert!((longer + 800.0).abs() < 10.0, "{longer} us");
    }

    #[test]
    fn a_longer_path_is_nothing_to_know_of_while_the_shorter_one_is_heard() {
        let mut filter = SampleFilter::new();
        for i in 0..1500 {
            let trust = measured(&mut filter, 1, if i % 5 == 0 { 1_000.0 } else { 3_000.0 }, 0.0, 5.0);
            assert_eq!(trust.asymmetry, 0.0, "{i}");
        }
    }

    #[test]
    fn a_prediction_that_knows_less_than_the_path_does_not_blame_it() {
        let mut filter = SampleFilter::new();
        measured(&mut filter, 200, 1_000.0, 0.0, 5.0);
        let longer = measured(&mut filter, 40, 3_000.0, 900.0, 20_000.0).asymmetry * 1e6;
        assert!(longer.abs() < 5.0, "{longer} us");
    }

    #[test]
    fn no_path_adds_more_than_half_of_what_it_is_longer_by() {
        let mut filter = SampleFilter::new();
        measured(&mut filter, 200, 1_000.0, 0.0, 5.0);
        let longer = measured(&mut filter, 40, 3_000.0, 50_000.0, 5.0).asymmetry * 1e6;
        assert!((longer - 1_000.0).abs() < 20.0, "{longer} us");
    }

    #[test]
    fn late_exchanges_in_a_row_are_one_or_two_witnesses() {
        let mut filter = SampleFilter::new();
        measured(&mut filter, 200, 1_000.0, 0.0, 5.0);
        let mut told = 0.0;
        for n in 1..=30_u8 {
            let trust = measured(&mut filter, 1, 3_000.0, 900.0, 5.0);
            let share = trust.variance().value() / trust.witness().value();
            assert!((share * f64::from(n) * f64::from(n) - 1.0).abs() < 1e-6, "the {n}th: {share}");
            told += share;
        }
        assert!(told < 2.0, "{told}");
        let quick = measured(&mut filter, 1, 1_000.0, 0.0, 5.0);
        assert_eq!(quick.witness(), quick.variance());
    }

    #[test]
    fn a_prediction_that_knew_nothing_leaves_no_noise_behind() {
        let mut filter = SampleFilter::<1024>::new();
        measured(&mut filter, 1, 1_000.0, 3e16, 1e16);
        let after = deviation(measured(&mut filter, 100, 1_000.0, 0.0, 5.0));
        assert!(after < 50.0, "{after} us");
    }

    #[test]
    fn noise_beside_which_the_delays_are_nothing_is_still_a_number() {
        let mut filter = SampleFilter::<1024>::new();
        for i in 0..2000 {
            let trust = filter.observe(Span::from_nanos(180_000));
            assert!(trust.variance().value().is_finite() && (i < 100 || trust.hidden > 1e-5), "after {i}: {trust:?}");
            filter.learn(&trust, 0.02 * f64::from(i % 7) / 7.0, Variance::new(1e-15));
        }
    }
}
