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
//! **Another path.** A route that alternates between two lengths needs no care: on the longer one the truth is at the edge of a wide
//! box. One that becomes longer for good would make every exchange look late until the memory of the shorter one is gone.
//! More than `MOVED` exchanges in a row later than nine tenths of those before, by more than these and they differ among
//! themselves, are another path: what was learned of the old one is forgotten. Congestion also delays for long, but it
//! spreads. A route that becomes shorter needs no such care: its exchanges are the least.
//!
//! **Its asymmetry.** A path that is longer by `d` measures another offset by anything up to `d / 2` either way, while the oscillator has
//! gone on. So what its quickest exchange says against the prediction is taken for the path's and off every exchange on it, as far as
//! the prediction was better than `d / sqrt(12)`, until the delays are those of the shorter path again.
//!
//! **Numerics.** All of it is f32: these are means over some hundred innovations, of which the third digit is chance.
//!
//! **Weaknesses.** A constant asymmetry of the path at minimum delay is invisible to any single source; the hard bound
//! covers it, this box does not.

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
/// Late exchanges in a row after which the path may have changed.
const MOVED: u16 = 32;
/// Longer paths that are remembered, each longer than the one before.
const DETOURS: usize = 3;
/// Delays that have to be remembered to look for another path and for the path's own delay: a filter with less room forgets an old path
/// soon enough by itself.
const ROOM: usize = 256;

/// The delays of one source and what its innovations were like; `D` recent delays are remembered.
#[derive(Clone, Debug)]
pub struct SampleFilter<const D: usize> {
    /// Recent delays in order of arrival, in s.
    recent: heapless::Deque<f32, D>,
    /// The same, ascending.
    sorted: heapless::Vec<f32, D>,
    classes: [Class; CLASSES],
    hidden: Hidden,
    seen: f32,
    late: Late,
    longer: heapless::Vec<Longer, DETOURS>,
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

/// Exchanges in a row that were later than nine tenths of those before.
#[derive(Clone, Copy, Debug)]
struct Late {
    /// All of them.
    streak: u16,
    /// Those that are looked at: the first may have been late by chance.
    count: u16,
    sum: f32,
    /// The two quickest of them, and which is the newest exchange. The quickest does not count: it may have been late by chance.
    quickest: [Quick; 2],
    newest: Option<bool>,
}

impl Late {
    const NONE: Self = Self { streak: 0, count: 0, sum: 0.0, quickest: [Quick::NONE; 2], newest: None };

    /// How many exchanges up to the newest may all be off by the same. Those that have turned out to be congestion are not.
    fn alike(&self) -> f32 {
        if self.streak <= MOVED + 1 { f32::from(self.streak.max(1)) } else { 1.0 }
    }
}

/// A quick exchange: its delay, s, what it measured beyond the prediction, s, and the variance of that, s^2.
#[derive(Clone, Copy, Debug)]
struct Quick {
    delay: f32,
    innovation: f32,
    predicted: f32,
}

impl Quick {
    const NONE: Self = Self { delay: f32::MAX, innovation: 0.0, predicted: 0.0 };
}

/// A path that has become longer.
#[derive(Clone, Copy, Debug)]
struct Longer {
    /// Delays from here on are on it, s.
    from: f32,
    /// How far what is measured on it is from what was measured on the shortest one, s.
    asymmetry: f32,
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
            late: Late::NONE,
            longer: heapless::Vec::new(),
            propagation: Propagation::UNKNOWN,
        }
    }

    /// Takes in the delay of an exchange and says how far to trust its offset.
    pub fn observe(&mut self, delay: Span) -> Trust {
        #[allow(clippy::cast_possible_truncation, reason = "f32 resolves 1e-7 of a delay, far below its noise")]
        let delay = (delay.as_secs_f64() as f32).max(0.0);
        if D >= ROOM {
            self.watch_path(delay);
        }
        self.remember(delay);
        let minimum = self.quantile(MINIMUM);
        let asymmetry = if D >= ROOM { self.asymmetry(delay, minimum) } else { 0.0 };
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
        #[allow(clippy::cast_possible_truncation, reason = "below CLASSES")]
        Trust {
            half: f64::from(half * share),
            blur: Variance::new(f64::from(blur + (share - share * share) * even + 1e-18)),
            class: class as u8,
            alike: if D >= ROOM { self.late.alike() } else { 1.0 },
            asymmetry: f64::from(asymmetry),
            hidden,
            prior: blur + even,
        }
    }

    /// The clock was found anew: what its predictions told of a longer path is void, the delays are not.
    pub fn begin_anew(&mut self) {
        self.longer.clear();
        self.late = Late::NONE;
    }

    /// Learns from the innovation (measured minus predicted offset, s, without the asymmetry) of the exchange that `trust` was given
    /// for, the prediction having had variance `predicted`.
    pub fn learn(&mut self, trust: &Trust, innovation: f64, predicted: Variance) {
        if !(innovation + predicted.value()).is_finite() {
            return;
        }
        #[allow(clippy::cast_possible_truncation, reason = "squares of what is itself only estimated")]
        let [innovation, predicted, half, blur] =
            [innovation, predicted.value(), trust.half, trust.blur.value()].map(|value| value as f32);
        if D >= ROOM {
            let delays = self.delays();
            self.propagation.learn(innovation, predicted + trust.hidden, &delays);
        }
        if let Some(second) = self.late.newest.take() {
            let quick = &mut self.late.quickest[usize::from(second)];
            *quick = Quick { innovation, predicted, ..*quick };
        }
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

    /// What the path of an exchange that took `delay` adds to its offset, s, the least delays being about `minimum`.
    fn asymmetry(&mut self, delay: f32, minimum: f32) -> f32 {
        while self.longer.last().is_some_and(|path| minimum < path.from) {
            self.longer.pop();
        }
        self.longer.iter().rev().find(|path| delay >= path.from).map_or(0.0, |path| path.asymmetry)
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

    /// Looks for a lasting step of the least delay before `delay` is remembered.
    fn watch_path(&mut self, delay: f32) {
        // Those in a row are all above nine tenths of the others, so the others are first.
        let others = self.sorted.len().saturating_sub(usize::from(self.late.streak));
        let late = self.sorted.get(others * 9 / 10).is_some_and(|&most| delay > most);
        if others < 2 * usize::from(MOVED) || !late {
            self.late = Late::NONE;
            return;
        }
        let late = &mut self.late;
        late.streak = late.streak.saturating_add(1);
        late.count += 1;
        late.sum += delay;
        let [first, second] = late.quickest;
        let new = Quick { delay, ..Quick::NONE };
        (late.quickest, late.newest) = if delay < first.delay {
            ([new, first], Some(false))
        } else if delay < second.delay {
            ([first, new], Some(true))
        } else {
            ([first, second], None)
        };
        // What the newest one measures is not known yet.
        if late.count <= MOVED || late.newest.is_some() {
            return;
        }
        let (streak, sum, [first, quick]) = (late.streak, late.sum, late.quickest);
        let least = self.sorted[others / 100];
        let typical = self.sorted[others / 2] - least;
        let spread = (sum - first.delay) / f32::from(late.count - 1) - quick.delay;
        let rise = quick.delay - least;
        if rise <= spread + typical {
            self.late = Late { streak, ..Late::NONE };
            return;
        }
        self.propagation.forget();
        self.late = Late::NONE;
        let possible = rise * rise / 12.0;
        let believed = quick.innovation * possible / (possible + quick.predicted);
        let before = self.longer.last().map_or(0.0, |path| path.asymmetry);
        // The paths that are forgotten first are the shortest ones: they are the least likely to come back.
        if self.longer.is_full() {
            self.longer.remove(0);
        }
        let asymmetry = before + believed.clamp(-0.5 * rise, 0.5 * rise);
        let _ = self.longer.push(Longer { from: quick.delay - 0.5 * rise, asymmetry });
        // The last but one of the late ones are at the end of the memory; `delay` is the last.
        while self.recent.len() >= usize::from(MOVED) {
            self.recent.pop_front();
        }
        self.sorted.clear();
        for &delay in &self.recent {
            let at = self.sorted.partition_point(|&x| x < delay);
            let _ = self.sorted.insert(at, delay);
        }
        self.classes = [Class::UNKNOWN; CLASSES];
        self.seen = f32::from(MOVED - 1);
    }

    fn remember(&mut self, delay: f32) {
        if self.recent.is_full()
            && let Some(oldest) = self.recent.pop_front()
        {
            let at = self.sorted.partition_point(|&x| x < oldest);
            self.sorted.remove(at);
        }
        let at = self.sorted.partition_point(|&x| x < delay);
        // Room was made above, so neither can be full.
        let _ = self.sorted.insert(at, delay);
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
            filter.learn(&trust, offset * 1e-6 - trust.asymmetry, Variance::new(known * known * 1e-12));
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
