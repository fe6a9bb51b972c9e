//! Which path an exchange took, and what that path adds to its offset.
//!
//! **Model.** Routes change: for good, for hours, for a minute. A path that is longer than the shortest by `d` measures another offset by
//! anything up to `d / 2` either way, the same for every exchange on it. What it adds is a constant to be estimated along with the clock,
//! a bias in the sense of Schmidt (1966) and Friedland (IEEE Trans. AC 14, 1969): what the first exchanges on it have beyond what is
//! believed of the clock, as far as that was better known than `d / sqrt(12)`. From then on they tell how the clock moves, and
//! the shortest path tells where it is.
//!
//! **How a path is found.** By its delays, in two ways. More than `MOVED` exchanges in a row are beyond nine tenths of those before, and
//! farther from them than either lot differs among itself: congestion also delays for long, but it spreads. Or the delays make two heaps
//! with a valley between them, where waiting alone makes one. Where the shorter path is heard every few exchanges all the same, nothing has to be
//! known of the longer: on it the truth is at the edge of a wide box.
//!
//! **Corrections to it.** The errors of the constant and of the clock are the same once a path is entered, and no covariance of them is
//! kept. Instead the first exchanges tell of the path alone; the constant is then taken to be no better known than the clock was, is left alone
//! before it follows the clock, and all exchanges on the path share what was not known of the clock. A great surprise upon entering is the path's.
//!
//! **Weaknesses.** Paths whose delays overlap are not told apart, and cost up to half their difference. Where the clock is while a path is
//! not left for hours is known no better than its rate. A single path's constant asymmetry cannot be seen.

/// Longer paths that are remembered.
const DETOURS: usize = 3;
/// Exchanges in a row that may be another path.
const MOVED: u16 = 32;
/// One that does not belong there takes so many of them away.
const AGAINST: u16 = 4;
/// Exchanges between two looks at the heaps.
const LOOK: u16 = 64;
/// Of the delays every such one is looked at as the first of a heap.
const STEP: usize = 4;
/// Exchanges that make a heap: the shorter path's and the longer one's.
const HEAP: (usize, usize) = (8, 16);
/// A heap is so many times what is in the valley before it.
const VALLEY: usize = 4;
/// A longer path is longer by so much of the shortest delay, and half of all that took it are within so much of what it is longer by.
const LEAST: f32 = 0.05;
const SPREAD: f32 = 0.75;
/// On average there are so many exchanges in a row on it.
const SPELL: usize = 8;
/// A path begins a little below the quickest seen on it, in what it is longer by.
const BELOW: f32 = 0.05;
/// So many exchanges tell of a path that is entered, and nothing of the clock; after so many it is left alone.
const ENTERED: u16 = 8;
const LEARNED: u16 = 32;
/// In the first so many a surprise, in deviations, is the path's.
const SURPRISED: u16 = 5;
const SURPRISE: f32 = 3.0;
/// How many times the clock's variance when the path was entered is added to that of each exchange on it, and how often more.
const COMMON: f32 = 16.0;
const REPEATED: u16 = 16;

/// The paths of one source.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    /// Ascending.
    longer: heapless::Vec<Longer, DETOURS>,
    /// The path of the newest exchange: the shortest, or one more than its index.
    on: usize,
    /// Exchanges since it was entered, and what was not known of the clock then, s^2.
    since: u16,
    common: f32,
    unlooked: u16,
    streak: Streak,
}

/// A path that is longer than the shortest.
#[derive(Clone, Copy, Debug)]
struct Longer {
    /// Delays from here on are on it, s.
    from: f32,
    /// By how much it is longer, s.
    by: f32,
    /// What it adds to the offset, s, and the variance of that, s^2.
    asymmetry: f32,
    variance: f32,
}

impl Longer {
    /// What a path that is longer by `by` s may add: nobody knows.
    fn unknown(from: f32, by: f32) -> Self {
        Self { from, by, asymmetry: 0.0, variance: possible(by) }
    }
}

/// What is to be taken off an exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Detour {
    /// Of its delay, s.
    pub(crate) by: f32,
    /// Of its offset, s, and the variance of that, s^2.
    pub(crate) asymmetry: f32,
    pub(crate) variance: f32,
}

/// Exchanges in a row that were beyond nine tenths of those before.
#[derive(Clone, Copy, Debug)]
struct Streak {
    /// All of them.
    length: u16,
    /// They were quicker.
    early: bool,
    /// The newest exchange is one of them.
    goes_on: bool,
    /// Those that are looked at: the first may have been late by chance.
    count: u16,
    sum: f32,
    /// The two quickest of them, and which is the newest exchange. The quickest does not count: it may have been late by chance.
    quickest: [Quick; 2],
    newest: Option<bool>,
}

impl Streak {
    const NONE: Self =
        Self { length: 0, early: false, goes_on: false, count: 0, sum: 0.0, quickest: [Quick::NONE; 2], newest: None };
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

impl Paths {
    /// The shortest alone.
    pub(crate) const NONE: Self =
        Self { longer: heapless::Vec::new(), on: 0, since: 0, common: 0.0, unlooked: 0, streak: Streak::NONE };

    /// The path of the newest exchange, which took `delay` s.
    pub(crate) fn take(&mut self, delay: f32) -> Detour {
        let on = self.index(delay);
        if on != self.on && !self.is_quick(on, delay) {
            self.enter(on);
        }
        self.since = self.since.saturating_add(1);
        let Some(path) = on.checked_sub(1).and_then(|i| self.longer.get(i)) else { return Detour::default() };
        let entering = if self.since <= ENTERED { possible(path.by) } else { 0.0 };
        let common = self.common * f32::from(self.since.min(REPEATED));
        Detour { by: path.by, asymmetry: path.asymmetry, variance: path.variance + entering + common }
    }

    /// By how much the path of an exchange that took `delay` s is longer than the shortest, s.
    pub(crate) fn by(&self, delay: f32) -> f32 {
        self.length(self.index(delay))
    }

    /// How many exchanges up to the newest may all be off by the same. Those that have turned out to be congestion are not.
    pub(crate) fn alike(&self) -> f32 {
        let Streak { length, early, goes_on, .. } = self.streak;
        if goes_on && !early && length <= MOVED + 1 { f32::from(length) } else { 1.0 }
    }

    /// The newest exchange was off by `innovation` s from what was believed with variance `predicted`, and had the variance
    /// `measured` without what its path adds, s^2. Whether that is a surprise, which tells of the path and of nothing else.
    pub(crate) fn learn(&mut self, innovation: f32, predicted: f32, measured: f32) -> bool {
        if let Some(second) = self.streak.newest.take() {
            let quick = &mut self.streak.quickest[usize::from(second)];
            *quick = Quick { innovation, predicted, ..*quick };
        }
        let Some(path) = self.on.checked_sub(1).and_then(|i| self.longer.get_mut(i)) else { return false };
        // A single one may be a late one of the path before.
        if self.since < 2 || self.since > LEARNED {
            return false;
        }
        if self.since == 2 {
            path.variance = path.variance.max(predicted.min(possible(path.by)));
            self.common = (COMMON * predicted).min(possible(path.by));
        }
        let square = innovation * innovation;
        let expected = path.variance + predicted + measured;
        let surprise = self.since <= SURPRISED && square > SURPRISE * SURPRISE * expected;
        if surprise {
            path.variance = path.variance.max(square.min(possible(path.by)));
        }
        let gain = path.variance / (path.variance + predicted + measured);
        path.asymmetry = (path.asymmetry + gain * innovation).clamp(-0.5 * path.by, 0.5 * path.by);
        path.variance -= gain * path.variance;
        surprise
    }

    /// Looks for another path once the newest exchange took `delay` s. Those before are `sorted` by how much they took beyond what their paths
    /// are longer by, and `recent` as they were. Whether there is one.
    pub(crate) fn watch<const D: usize>(
        &mut self,
        delay: f32,
        sorted: &[f32],
        recent: &heapless::Deque<f32, D>,
    ) -> bool {
        self.unlooked = self.unlooked.saturating_add(1);
        // Those in a row tell more: they came when the clock was still known.
        if self.unlooked >= LOOK && self.streak.length == 0 {
            self.unlooked = 0;
            if let Some((least, onset)) = heaps(sorted)
                && self.divide(least, onset, recent)
            {
                return true;
            }
        }
        self.follow(delay - self.by(delay), sorted)
    }

    fn index(&self, delay: f32) -> usize {
        self.longer.iter().filter(|path| delay >= path.from).count()
    }

    /// By how much path `on` is longer than the shortest.
    fn length(&self, on: usize) -> f32 {
        on.checked_sub(1).and_then(|i| self.longer.get(i)).map_or(0.0, |path| path.by)
    }

    /// Whether `delay`, which may be path `on`, may as well be a quick one of the longer path that was taken before.
    fn is_quick(&self, on: usize, delay: f32) -> bool {
        let before = self.on.checked_sub(1).and_then(|i| self.longer.get(i));
        before.is_some_and(|path| on < self.on && delay >= path.from - 0.5 * (path.by - self.length(self.on - 1)))
    }

    /// The delays begin at `least` and anew at `onset`: whoever is there is on a longer path, or the shortest has become shorter.
    fn divide<const D: usize>(&mut self, least: f32, onset: f32, recent: &heapless::Deque<f32, D>) -> bool {
        let rise = onset - least;
        let mut found = false;
        for on in (0..=self.longer.len()).rev() {
            let by = self.length(on);
            let (mut early, mut late, mut spells, mut before) = (0, 0, 0, false);
            for &delay in recent {
                let beyond = delay - by;
                let taken = self.index(delay) == on;
                let is_late = taken && beyond >= onset;
                early += usize::from(taken && beyond < onset - 0.5 * rise);
                late += usize::from(is_late && beyond < onset + 0.25 * rise);
                spells += usize::from(is_late && !before);
                before = is_late;
            }
            if late < HEAP.1 || late < SPELL * spells {
                continue;
            }
            found = true;
            if early == 0 && on > 0 {
                let path = &mut self.longer[on - 1];
                path.by += rise;
                path.variance = possible(path.by);
            } else {
                let asymmetry = on.checked_sub(1).map_or(0.0, |i| self.longer[i].asymmetry);
                let path = Longer::unknown(onset + by - BELOW * rise, by + rise);
                self.add(Longer { asymmetry, variance: possible(rise), ..path });
            }
        }
        found
    }

    fn add(&mut self, path: Longer) {
        // The shortest is the least likely to come back.
        if self.longer.is_full() {
            self.longer.remove(0);
        }
        let at = self.longer.partition_point(|other| other.from < path.from);
        let _ = self.longer.insert(at, path);
        self.enter(usize::MAX);
    }

    /// The newest exchange is on another path: `on`, or one that is to be found out.
    fn enter(&mut self, on: usize) {
        (self.on, self.since, self.common, self.streak) = (on, 0, 0.0, Streak::NONE);
    }

    /// Goes on with those in a row beyond the others. Whether they are on another path.
    fn follow(&mut self, delay: f32, sorted: &[f32]) -> bool {
        let length = usize::from(self.streak.length);
        let others = sorted.len().saturating_sub(length);
        if others < 2 * usize::from(MOVED) {
            self.streak = Streak::NONE;
            return false;
        }
        // Those in a row are at the other end.
        let from = if self.streak.early { length } else { 0 };
        let others = &sorted[from..from + others];
        let tenth = others.len() / 10;
        let (early, late) = (delay < others[tenth], delay > others[others.len() * 9 / 10]);
        let goes_on = if length == 0 { early || late } else { [late, early][usize::from(self.streak.early)] };
        self.streak.goes_on = goes_on;
        if !goes_on {
            self.streak.length = self.streak.length.saturating_sub(AGAINST);
            if self.streak.length == 0 {
                self.streak = Streak::NONE;
            }
            return false;
        }
        if length == 0 {
            self.streak.early = early;
        }
        let streak = &mut self.streak;
        streak.length = streak.length.saturating_add(1);
        streak.count = streak.count.saturating_add(1);
        streak.sum += delay;
        let [first, second] = streak.quickest;
        let new = Quick { delay, ..Quick::NONE };
        (streak.quickest, streak.newest) = if delay < first.delay {
            ([new, first], Some(false))
        } else if delay < second.delay {
            ([first, new], Some(true))
        } else {
            ([first, second], None)
        };
        // What the newest one measures is not known yet.
        streak.count > MOVED && streak.newest.is_none() && self.conclude(others)
    }

    /// There are enough in a row. Whether they are another path than the `others`.
    fn conclude(&mut self, others: &[f32]) -> bool {
        let Streak { length, early, count, sum, quickest: [first, quick], .. } = self.streak;
        let least = others[others.len() / 100];
        let typical = others[others.len() / 2] - least;
        let spread = (sum - first.delay) / f32::from(count - 1) - quick.delay;
        let rise = if early { least - first.delay } else { quick.delay - least };
        if rise <= spread + typical {
            self.streak = Streak { length, early, goes_on: true, ..Streak::NONE };
            return false;
        }
        if early {
            // All those before were on longer paths, and the clock has followed already.
            for path in &mut self.longer {
                *path = Longer::unknown(path.from, path.by + rise);
            }
            self.add(Longer::unknown(least - BELOW * rise, rise));
            return true;
        }
        let believed = possible(rise) / (possible(rise) + quick.predicted);
        let asymmetry = (believed * quick.innovation).clamp(-0.5 * rise, 0.5 * rise);
        let by = self.length(self.on);
        let before = self.on.checked_sub(1).and_then(|i| self.longer.get(i)).map_or(0.0, |path| path.asymmetry);
        let from = quick.delay + by - BELOW * rise;
        let path = Longer::unknown(from, by + rise);
        self.add(Longer { asymmetry: before + asymmetry, variance: believed * quick.predicted, ..path });
        // It was entered when they began, and is known from then: the clock may have been taken along since.
        (self.on, self.since, self.common) = (self.index(from), LEARNED, quick.predicted);
        true
    }
}

/// Variance of what a path that is longer by `by` s may add to an offset, s^2: anything up to half of that is as likely.
fn possible(by: f32) -> f32 {
    by * by / 12.0
}

/// Where the delays that are `sorted` begin, and where they begin anew.
fn heaps(sorted: &[f32]) -> Option<(f32, f32)> {
    let least = *sorted.get(sorted.len() / 250)?;
    // Indices that follow each other upwards: half of the way to the onset, a width from the least, and about the onset.
    let (mut half, mut low, mut below, mut just_below, mut just_above, mut above) = (0, 0, 0, 0, 0, 0);
    let (mut found, mut clearest) = (None, 0.0);
    let up_to = |index: &mut usize, limit: f32| {
        while sorted.get(*index).is_some_and(|&delay| delay < limit) {
            *index += 1;
        }
    };
    for (i, &onset) in sorted.iter().enumerate().skip(HEAP.0).step_by(STEP) {
        let rise = onset - least;
        let width = 0.25 * rise;
        up_to(&mut half, onset - 0.5 * rise);
        up_to(&mut low, least + width);
        up_to(&mut below, onset - width);
        up_to(&mut just_below, onset - 0.25 * width);
        up_to(&mut just_above, onset + 0.25 * width);
        up_to(&mut above, onset + width);
        let valley = VALLEY * (i.saturating_sub(below) + 1);
        let heaped = half >= HEAP.0 && low >= HEAP.0.max(valley) && above.saturating_sub(i) >= HEAP.1.max(valley);
        let median = sorted[(i + sorted.len()) / 2];
        if !heaped || rise < LEAST * least || median - onset > SPREAD * rise {
            continue;
        }
        #[allow(clippy::cast_precision_loss, reason = "counts of some hundred")]
        let clear = just_above.saturating_sub(i) as f32 / (i.saturating_sub(just_below) + 1) as f32;
        if clear > clearest {
            (found, clearest) = (Some((least, onset)), clear);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays of `count` exchanges that wait twice, on average for `wait` s altogether, on a path of `least` s.
    fn heap(delays: &mut heapless::Vec<f32, 1024>, count: u16, least: f32, wait: f32) {
        for i in 0..count {
            let even = [0.618_034, 0.754_877_7].map(|step: f32| (f32::from(i + 1) * step).fract());
            let waits = even.map(|even| -0.5 * wait * libm::logf(1.0 - even));
            delays.push(least + waits[0] + waits[1]).unwrap();
        }
    }

    fn found(lots: &[(u16, f32, f32)]) -> Option<f32> {
        let mut delays = heapless::Vec::new();
        for &(count, least, wait) in lots {
            heap(&mut delays, count, least, wait);
        }
        delays.sort_unstable_by(f32::total_cmp);
        heaps(&delays).map(|(_, onset)| onset)
    }

    #[test]
    fn waiting_makes_one_heap() {
        for wait in [1e-6, 1e-4, 1e-2] {
            for count in [30, 100, 300, 1000] {
                assert_eq!(found(&[(count, 1e-3, wait)]), None, "{count} exchanges that wait for {wait} s");
            }
        }
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn waiting_longer_makes_no_other() {
        assert_eq!(found(&[(600, 1e-3, 1e-4), (400, 1e-3, 1e-3)]), None);
    }

    #[test]
    fn a_longer_path_makes_two() {
        for longer in [20, 100, 300, 900] {
            let onset = found(&[(1000 - longer, 1e-3, 1e-4), (longer, 2e-3, 1e-4)]);
            assert!(onset.is_some_and(|onset| (onset - 2e-3).abs() < 1e-4), "{longer} of a thousand: {onset:?}");
        }
    }

    #[test]
    fn a_surprise_upon_entering_is_the_paths() {
        let mut paths = Paths::NONE;
        paths.add(Longer { variance: 1e-12, ..Longer::unknown(2e-3, 1e-3) });
        paths.take(1e-3);
        for _ in 0..3 {
            paths.take(2.1e-3);
            let _ = paths.learn(4e-4 - paths.longer[0].asymmetry, 1e-12, 1e-10);
        }
        assert!((paths.longer[0].asymmetry - 4e-4).abs() < 2e-5, "{paths:?}");
    }

    #[test]
    fn a_single_late_exchange_is_not_on_a_longer_path() {
        let mut paths = Paths::NONE;
        paths.add(Longer { asymmetry: 4e-4, variance: 1e-12, ..Longer::unknown(2e-3, 1e-3) });
        for _ in 0..20 {
            paths.take(1e-3);
            let detour = paths.take(2.1e-3);
            assert!(detour.variance >= possible(1e-3), "{detour:?}");
            assert!(!paths.learn(-4e-4, 1e-12, 1e-10));
        }
        assert_eq!(paths.longer[0].asymmetry, 4e-4);
    }
}
