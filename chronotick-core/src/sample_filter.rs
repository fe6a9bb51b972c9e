//! How far to trust one exchange: a variance for every sample from the delays of its source.
//!
//! **Model.** A packet waits `a` on the way out and `b` on the way back, over a fixed path. The measured offset is off by
//! `(a - b) / 2` and the delay exceeds its minimum by the excess `e = a + b`. Given `e` alone and waiting times that are
//! exponential, the error is uniform on `[-e/2, e/2]`: its variance is `e^2 / 12`. So the few exchanges with the least delay
//! carry nearly all the information (Mills 1991, RFC 5905 section 10; Paxson 1998).
//!
//! **Corrections to it.** The minimum is known only as well as the delays seen, so a floor proportional to the typical excess
//! is added; an excess far beyond the low tail is likely to be one-sided, so its variance grows faster than `e^2`; and
//! what the innovations actually did in this and neighbouring delay classes is learned and takes over from the prior. A class
//! whose mean innovation differs from that of the least delays (a longer, asymmetric path) is penalised by the square of the
//! difference.
//!
//! **Another path.** A route that becomes longer for good would make every exchange look late until the memory of the shorter one is
//! gone. `MOVED` exchanges in a row later than nine tenths of those before, all of them later by more than they differ among
//! themselves, are another path: what was learned of the old one is forgotten. Congestion also delays for long, but it
//! spreads. A route that becomes shorter needs no such care: its exchanges are the least.
//!
//! **Weaknesses.** A constant asymmetry of the path at minimum delay is invisible to any single source; the hard bound
//! covers it, this variance does not.

use crate::units::{Span, Variance, limited};

/// Delay classes, by excess over the typical excess in octaves.
const CLASSES: usize = 7;
/// Samples over which a class forgets.
const CLASS_MEMORY: f64 = 150.0;
/// Samples that the prior variance counts for in a class.
const PRIOR_WEIGHT: f64 = 20.0;
/// Weight of a class's squared mean innovation beyond what chance explains.
const BIAS_PENALTY: f64 = 200.0;
/// Samples of least delay that say what is unbiased.
const ANCHOR: f64 = 12.0;
/// Deviation that remains at minimum delay, as a share of the typical excess.
const FLOOR: f64 = 0.08;
/// Excess, in multiples of the low tail's, from which the variance grows faster than its square.
const TAIL: f64 = 5.0;
/// Samples until the minimum delay is trusted.
const YOUNG: f64 = 64.0;
/// Late exchanges in a row after which the path may have changed.
const MOVED: u16 = 32;
/// Delays that have to be remembered to tell: a filter with less room forgets the old path soon enough by itself.
const ROOM: usize = 256;

/// The delays of one source and what its innovations were like; `D` recent delays are remembered.
#[derive(Clone, Debug)]
pub struct SampleFilter<const D: usize> {
    /// Recent delays in order of arrival, in s.
    recent: heapless::Deque<f32, D>,
    /// The same, ascending.
    sorted: heapless::Vec<f32, D>,
    classes: [Class; CLASSES],
    seen: f64,
    late: Late,
}

/// Exchanges in a row that were later than nine tenths of those before.
#[derive(Clone, Copy, Debug)]
struct Late {
    count: u16,
    least: f32,
    sum: f32,
}

impl Late {
    const NONE: Self = Self { count: 0, least: f32::MAX, sum: 0.0 };
}

#[derive(Clone, Copy, Debug)]
struct Class {
    weight: f64,
    mean: f64,
    square: f64,
    ratio: f64,
}

impl Class {
    const UNKNOWN: Self = Self { weight: 0.0, mean: 0.0, square: 0.0, ratio: 1.0 };
}

/// What the filter says of one exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trust {
    /// Variance of the measured offset around the truth.
    pub variance: Variance,
    /// The part of it that would remain at minimum delay.
    pub floor: Variance,
    class: u8,
    prior: f64,
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
            late: Late::NONE,
        }
    }

    /// Takes in the delay of an exchange and says how far to trust its offset.
    pub fn observe(&mut self, delay: Span) -> Trust {
        #[allow(clippy::cast_possible_truncation, reason = "f32 resolves 1e-7 of a delay, far below its noise")]
        let delay = delay.as_secs_f64().max(0.0) as f32;
        if D >= ROOM {
            self.watch_path(delay);
        }
        self.remember(delay);
        let minimum = f64::from(self.quantile(0.01));
        let excess = (f64::from(delay) - minimum).max(0.0);
        let low_tail = (f64::from(self.quantile(0.05)) - minimum).max(0.0);
        let typical = (f64::from(self.quantile(0.5)) - minimum).max(1e-9);

        let ratio = excess / (TAIL * low_tail.max(0.02 * typical)).max(1e-12);
        let ratio2 = ratio * ratio;
        let floor = FLOOR * typical;
        let uniform = excess * excess / 12.0;
        let spread = 0.3 * typical.max(0.05 * f64::from(delay));
        let young = (YOUNG / self.seen - 1.0).max(0.0) * spread * spread;
        // The quartic growth is capped so that no variance overflows.
        let prior = floor * floor + uniform * (1.0 + (ratio2 * ratio2).min(1e6)) + young;

        let class = class_of(excess, typical);
        let anchor = self.anchor();
        let learned = &self.classes[class];
        let variance = if learned.weight > 0.0 {
            let blend = learned.weight / (learned.weight + PRIOR_WEIGHT);
            let bias = learned.mean - anchor;
            let square = (learned.square - anchor * anchor).max(0.05 * learned.square);
            #[allow(clippy::cast_possible_truncation, reason = "a factor that is itself only estimated")]
            let factor = libm::expf(blend as f32 * libm::logf(limited(learned.ratio, 0.05, 1e6) as f32));
            prior * f64::from(factor) + BIAS_PENALTY * (bias * bias - 0.5 * square).max(0.0)
        } else {
            prior
        };
        #[allow(clippy::cast_possible_truncation, reason = "below CLASSES")]
        Trust {
            variance: Variance::new(variance.max(1e-18)),
            floor: Variance::new(floor * floor + 1e-18),
            class: class as u8,
            prior,
        }
    }

    /// Learns from the innovation (measured minus predicted offset, s) of the exchange that `trust` was given for, the
    /// prediction having had variance `predicted`.
    pub fn learn(&mut self, trust: &Trust, innovation: f64, predicted: Variance) {
        if !(innovation + predicted.value()).is_finite() {
            return;
        }
        let class = &mut self.classes[usize::from(trust.class)];
        let claimed = trust.prior + predicted.value();
        let limit = 3.0 * libm::sqrt(claimed * class.ratio.max(1.0));
        let clipped = limited(innovation, -limit, limit);
        let square = clipped * clipped;
        let keep = 1.0 - 1.0 / CLASS_MEMORY;
        let total = class.weight * keep + 1.0;
        let gain = 1.0 / total;
        class.mean += gain * (clipped - class.mean);
        class.square += gain * (square - class.square);
        class.ratio += gain * (square / claimed - class.ratio);
        class.weight = total;
    }

    /// Mean innovation of the exchanges with the least delay: what the whole estimate is off by, as far as they can tell.
    fn anchor(&self) -> f64 {
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
    fn quantile(&self, p: f64) -> f32 {
        let last = self.sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
        let index = (p * last as f64) as usize;
        self.sorted.get(index).copied().unwrap_or(0.0)
    }

    /// Looks for a lasting step of the least delay before `delay` is remembered.
    fn watch_path(&mut self, delay: f32) {
        if self.recent.len() < 2 * usize::from(MOVED) || delay <= self.quantile(0.9) {
            self.late = Late::NONE;
            return;
        }
        let late = &mut self.late;
        *late = Late { count: late.count + 1, least: late.least.min(delay), sum: late.sum + delay };
        if late.count < MOVED {
            return;
        }
        let (count, late) = (usize::from(MOVED), core::mem::replace(&mut self.late, Late::NONE));
        let typical = self.quantile(0.5) - self.quantile(0.01);
        let spread = late.sum / f32::from(MOVED) - late.least;
        if late.least - self.quantile(0.01) <= 2.0 * (spread + typical) {
            return;
        }
        // The last but one of the late ones are at the end of the memory; `delay` is the last.
        while self.recent.len() >= count {
            self.recent.pop_front();
        }
        self.sorted.clear();
        for &delay in &self.recent {
            let at = self.sorted.partition_point(|&x| x < delay);
            let _ = self.sorted.insert(at, delay);
        }
        self.classes = [Class::UNKNOWN; CLASSES];
        self.seen = f64::from(MOVED - 1);
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
fn class_of(excess: f64, typical: f64) -> usize {
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
        libm::sqrt(trust.variance.value()) * 1e6
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
}
