//! What the offset really was, as far as a recording can tell, and what simple extrapolations would have said.
//!
//! **Witness.** Around an instant lines are fitted to the 8, 16, 32 and 64 nearest exchanges on either side, weighted by
//! `(1 + excess delay / usual excess)^-4`: what queued is believed less. The line that is surest of itself speaks: a quiet network has
//! no need of many exchanges, and where the clock bends, more of them scatter more. It uses what came after, so it is a witness and never a
//! forecast. Its own error is not zero: the part of the path's asymmetry that never changes is in it, as in every exchange.
//! Where the truth is known (a simulated world) it takes the witness's place.

use chronotick_core::Sample;
use chronotick_core::units::{Local, Offset, Span, Timestamp};

/// Exchanges on either side.
const SIDES: [usize; 4] = [8, 16, 32, 64];
/// Fewest on either side.
const FEWEST: usize = 3;
/// An instant further than this many usual intervals from its neighbours has no witness.
const GAP: f64 = 6.0;

/// Knows the offset in hindsight.
pub(super) struct Witness<'a> {
    samples: &'a [Sample],
    /// The true offsets, where they are known, ascending.
    truth: Option<&'a [(Timestamp<Local>, Offset)]>,
    /// Usual interval between exchanges, in s.
    spacing: f64,
}

/// An offset and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Testimony {
    pub(super) offset: Offset,
    /// Standard deviation, in s; the constant asymmetry is not in it.
    pub(super) deviation: f64,
    /// Most that the exchanges' delays and budgets leave open, in s; 0 for the truth.
    pub(super) bound: f64,
}

impl<'a> Witness<'a> {
    pub(super) fn new(samples: &'a [Sample], truth: Option<&'a [(Timestamp<Local>, Offset)]>) -> Self {
        let mut steps: Vec<f64> =
            samples.windows(2).map(|pair| pair[1].local.since(pair[0].local).as_secs_f64()).collect();
        steps.sort_by(f64::total_cmp);
        Self { samples, truth, spacing: steps.get(steps.len() / 2).copied().unwrap_or(0.0) }
    }

    pub(super) fn spacing(&self) -> f64 {
        self.spacing
    }

    /// The offset at `at`, if enough was heard around it.
    pub(super) fn at(&self, at: Timestamp<Local>) -> Option<Testimony> {
        if let Some(truth) = self.truth {
            let next = truth.partition_point(|&(local, _)| local < at);
            let (after, before) = (truth.get(next)?, truth.get(next.saturating_sub(1))?);
            let share = match after.0.since(before.0) {
                Span::ZERO => 0.0,
                gap => at.since(before.0).as_nanos() as f64 / gap.as_nanos() as f64,
            };
            let moved = after.1.since(before.1).as_secs_f64() * share;
            let offset = before.1.saturating_add(Span::from_secs_f64(moved));
            return Some(Testimony { offset, deviation: 0.0, bound: 0.0 });
        }
        let next = self.samples.partition_point(|s| s.local < at);
        if next < FEWEST || next + FEWEST > self.samples.len() {
            return None;
        }
        let (before, after) = (&self.samples[next - 1], &self.samples[next]);
        if after.local.since(before.local).as_secs_f64() > (GAP * self.spacing).max(1e-3) {
            return None;
        }
        let lines = SIDES.iter().filter_map(|side| {
            line_through(&self.samples[next.saturating_sub(*side)..(next + side).min(self.samples.len())], at)
        });
        let line = lines.min_by(|a, b| a.deviation.total_cmp(&b.deviation))?;
        let bound = before.error_bound().as_secs_f64().max(after.error_bound().as_secs_f64());
        Some(Testimony { offset: line.offset, deviation: line.deviation, bound })
    }
}

/// A fitted line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fitted {
    /// At the instant asked for.
    pub(super) offset: Offset,
    /// In s/s.
    pub(super) slope: f64,
    /// Standard deviation of `offset`, in s, from the scatter about the line.
    pub(super) deviation: f64,
}

/// The line through `samples`, weighted by their delays, at `at`.
pub(super) fn line_through(samples: &[Sample], at: Timestamp<Local>) -> Option<Fitted> {
    let base = samples.first()?.offset;
    let mut delays: Vec<f64> = samples.iter().map(|s| s.delay.as_secs_f64()).collect();
    delays.sort_by(f64::total_cmp);
    let least = delays[0];
    let usual = (delays[delays.len() / 2] - least).max(1e-7);
    let rows: Vec<(f64, f64, f64)> = samples
        .iter()
        .map(|s| {
            let weight = (1.0 + (s.delay.as_secs_f64() - least) / usual).powi(-4);
            (s.local.since(at).as_secs_f64(), s.offset.since(base).as_secs_f64(), weight)
        })
        .collect();
    let total: f64 = rows.iter().map(|r| r.2).sum();
    let mean_t = rows.iter().map(|r| r.2 * r.0).sum::<f64>() / total;
    let mean_x = rows.iter().map(|r| r.2 * r.1).sum::<f64>() / total;
    let spread: f64 = rows.iter().map(|r| r.2 * (r.0 - mean_t).powi(2)).sum();
    if rows.len() < 3 || spread <= 0.0 {
        return None;
    }
    let slope = rows.iter().map(|r| r.2 * (r.0 - mean_t) * (r.1 - mean_x)).sum::<f64>() / spread;
    let squares: f64 = rows.iter().map(|r| r.2 * (r.1 - mean_x - slope * (r.0 - mean_t)).powi(2)).sum();
    let scatter = squares / total * rows.len() as f64 / (rows.len() - 2) as f64;
    let alike = total * total / rows.iter().map(|r| r.2 * r.2).sum::<f64>();
    let deviation = (scatter / alike * (1.0 + mean_t * mean_t * total / spread)).sqrt();
    let offset = base.saturating_add(Span::from_secs_f64(mean_x - slope * mean_t));
    Some(Fitted { offset, slope, deviation })
}

/// Extrapolations that anybody could make, frozen at the last of the samples that they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Baseline {
    /// The offset of the quickest of the last eight exchanges stays (the clock filter of RFC 5905).
    Hold,
    /// The line through the last quarter of an hour, at least eight exchanges, goes on.
    Line,
    /// The line through the last four hours, at least sixteen exchanges, goes on.
    LongLine,
}

impl Baseline {
    pub(super) const ALL: [Self; 3] = [Self::Line, Self::LongLine, Self::Hold];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Line => "line of 15 min",
            Self::LongLine => "line of 4 h",
        }
    }

    /// A function of the target, frozen after `seen`.
    pub(super) fn freeze(self, seen: &[Sample]) -> Option<impl Fn(Timestamp<Local>) -> Offset + use<>> {
        let last = seen.last()?.local;
        let (offset, slope) = match self {
            Self::Hold => {
                let recent = &seen[seen.len().saturating_sub(8)..];
                (recent.iter().min_by_key(|s| s.delay)?.offset, 0.0)
            }
            Self::Line | Self::LongLine => {
                let (back, fewest) = if self == Self::Line { (900, 8) } else { (14_400, 16) };
                let from = last.saturating_sub(Span::from_secs(back));
                let first = seen.partition_point(|s| s.local < from).min(seen.len().saturating_sub(fewest));
                let line = line_through(&seen[first..], last)?;
                (line.offset, line.slope)
            }
        };
        Some(move |at: Timestamp<Local>| {
            offset.saturating_add(Span::from_secs_f64(slope * at.since(last).as_secs_f64()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: i64) -> Vec<Sample> {
        let sample = |i: i64| Sample {
            local: Timestamp::from_nanos(i * 16_000_000_000),
            offset: Offset::from_nanos(1_700_000_000_000_000_000 + 640_000 * i + if i % 2 == 0 { 900 } else { -900 }),
            delay: Span::from_nanos(100_000 + 1000 * (i % 5)),
            root_distance: Span::from_nanos(20_000),
            temperature: None,
            source: Default::default(),
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn the_witness_finds_the_line_and_is_silent_in_gaps() {
        let mut samples = samples(200);
        samples.drain(100..120);
        let witness = Witness::new(&samples, None);
        let at = Timestamp::from_nanos(50 * 16_000_000_000 + 3_000_000_000);
        let found = witness.at(at).expect("exchanges around it");
        let expected = 1_700_000_000_000_000_000 + 640_000 * 50 + 120_000;
        assert!((found.offset.as_nanos() - expected).abs() < 600, "{found:?}");
        assert!(found.deviation > 1e-8 && found.deviation < 1e-6, "{found:?}");
        assert!(witness.at(Timestamp::from_nanos(110 * 16_000_000_000)).is_none());
        assert!(witness.at(Timestamp::from_nanos(0)).is_none());
    }

    #[test]
    fn a_known_truth_takes_its_place() {
        let truth = [(0, 100), (1_000, 300)].map(|(at, x)| (Timestamp::from_nanos(at), Offset::from_nanos(x)));
        let witness = Witness::new(&[], Some(&truth));
        let found = witness.at(Timestamp::from_nanos(500)).map(|t| t.offset.as_nanos());
        assert_eq!(found, Some(200));
        assert!(witness.at(Timestamp::from_nanos(1_001)).is_none());
    }

    #[test]
    fn baselines_use_nothing_later_and_lines_go_on() {
        let samples = samples(200);
        let target = Timestamp::from_nanos(180 * 16_000_000_000);
        let expected = 1_700_000_000_000_000_000 + 640_000 * 180;
        for baseline in [Baseline::Line, Baseline::LongLine] {
            let frozen = baseline.freeze(&samples[..150]).expect("enough exchanges");
            assert!((frozen(target).as_nanos() - expected).abs() < 20_000, "{baseline:?}");
        }
        let held = Baseline::Hold.freeze(&samples[..150]).expect("enough exchanges")(target);
        assert!((held.as_nanos() - expected).abs() > 15_000_000);
        assert!(Baseline::Line.freeze(&[]).is_none());
    }
}
