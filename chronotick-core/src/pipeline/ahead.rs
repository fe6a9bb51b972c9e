//! What is told about the present and later instants, if nothing more arrives: the curve of the fused forecasts, its interval and
//! its bound, who answers, and why.

use super::{Pipeline, Track};
use crate::estimator::Bank;
use crate::fallback::{self, ClockSource, Estimate, Reason, Tier};
use crate::forecast::{Model, OUTLOOK_STEPS, Outlook};
use crate::fusion::{Ahead, Fusion};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::opinions::Opinions;
use crate::served::Target;
use crate::sources::Sources;
use crate::units::{Local, Offset, Rate, Span, Timestamp};
use crate::window::Window;

/// What is foreseen beyond the last horizon.
struct Beyond {
    /// Beyond the base line, since the last horizon, s.
    displacement: f32,
    /// Beyond the base line's rate, s/s.
    slope: f32,
    /// So many times the interval of the last horizon.
    wider: f32,
}

impl<
    const F: usize,
    const T: usize,
    const R: usize,
    const Y: usize,
    const W: usize,
    const E: usize,
    const K: usize,
    const P: usize,
    const C: usize,
    const L: usize,
    const N: usize,
    const M: usize,
    const S: usize,
    const D: usize,
> Pipeline<Bank<F, T, R, Y, W>, Fusion<E, K, P, C, L>, Window<N, M>, Sources<S, D>>
{
    /// What a reader is told about the local instant `at` if nothing more arrives. `None`: nothing is known yet.
    pub fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        let track = self.track.as_ref()?;
        let fresh = self.is_fresh(track, at);
        let carried = Model::ALL.into_iter().any(|model| self.carries(model));
        let answer = |tier, reason| self.extrapolate(track, at, tier, reason);
        let fused = |_| (fresh && carried).then(|| answer(Tier::Fused, self.reason()));
        let filter = |_| fresh.then(|| answer(Tier::Filter, self.reason()));
        let holdover = |_| Some(answer(Tier::Holdover, self.silence()));
        fallback::first(&[&fused, &filter, &holdover], at)
    }

    /// The line to publish from `now` on. `None`: nothing is known yet, serve the operating system's clock as `raw`.
    ///
    /// The growths are the steepest chords from `now` to any horizon within `void_after`, so that a reader who holds the
    /// line that long is still told the truth.
    pub fn target(&self, now: Timestamp<Local>) -> Option<Target> {
        let here = self.estimate(now)?;
        let rate = self.rate_at(now);
        let half = here.interval.half_width().as_secs_f64();
        let reach = here.bound.half_width().as_secs_f64();
        let (mut interval_growth, mut bound_growth) = (0.0f64, 0.0f64);
        for h in (1..K).map(|node| f64::from(self.fusion.horizon(node))).chain([self.config.void_after.as_secs_f64()]) {
            let there = now.saturating_add(Span::from_secs_f64(h));
            if h > self.config.void_after.as_secs_f64() {
                continue;
            }
            let Some(then) = self.estimate(there) else { continue };
            let line = here.offset.saturating_add(rate.over(there.since(now)));
            let bend = then.offset.since(line).abs().as_secs_f64();
            let wide = then.interval.half_width().as_secs_f64();
            interval_growth = interval_growth.max((wide + bend - half) / h);
            bound_growth = bound_growth.max((then.bound.half_width().as_secs_f64() + bend - reach) / h);
        }
        // Beyond that a reader goes on at the largest rate, unless the line itself runs away from the truth faster.
        let (low, high) = self.hard.rates();
        let apart = (rate - low).value().max((high - rate).value());
        if apart > self.config.max_rate.value() {
            bound_growth = bound_growth.max(apart);
        }
        Some(Target {
            at: now,
            offset: here.offset,
            rate,
            interval: here.interval,
            interval_growth: Rate::new(interval_growth),
            bound: here.bound,
            bound_growth: Rate::new(bound_growth),
            void_after: self.config.void_after,
            tier: here.tier,
            reason: here.reason,
        })
    }

    /// The estimated rate of the oscillator: the slope of the offset at the last sample.
    pub fn rate(&self) -> Rate {
        self.track.as_ref().map_or(Rate::ZERO, |track| self.rate_at(track.bank.at()))
    }

    /// Where the filter's line is at the last sample: what a request's answer starts from.
    pub fn line_offset(&self) -> Option<Offset> {
        self.track.as_ref().map(|track| track.bank.reference().saturating_add(Span::from_secs_f64(track.line.x)))
    }

    /// What expert `index` alone says about `at`: for ablations and tables.
    pub fn expert(&self, index: usize, at: Timestamp<Local>) -> Option<Offset> {
        let track = self.track.as_ref()?;
        let h = at.since(track.bank.at()).as_secs_f64();
        #[allow(clippy::cast_possible_truncation, reason = "predictions are f32")]
        let opinions = Opinions::<E>::ahead(&track.bank, &self.active, h as f32);
        #[allow(clippy::cast_possible_truncation, reason = "predictions are f32")]
        let from = if index + 2 < E { 0.0 } else { self.fusion.bank(h as f32, &opinions).displacement };
        let displacement = from + opinions.displacement[index];
        let ahead = Span::from_secs_f64(track.line.x + track.line.r * h + f64::from(displacement));
        displacement.is_finite().then(|| track.bank.reference().saturating_add(ahead))
    }

    /// What the bank alone expects: no model is to be told what a model has said.
    #[allow(clippy::cast_possible_truncation, reason = "predictions are f32")]
    pub(super) fn outlook(&self, track: &Track<Bank<F, T, R, Y, W>>) -> Outlook {
        let mut outlook = Outlook::default();
        for (i, steps) in OUTLOOK_STEPS.into_iter().enumerate() {
            let h = steps * self.config.forecast_step.as_secs_f64() as f32;
            let said = self.fusion.bank(h, &Opinions::ahead(&track.bank, &core::array::from_fn(|_| None), h));
            (outlook.displacement[i], outlook.deviation[i]) = (said.displacement, said.deviation);
        }
        outlook
    }

    /// The fused extrapolation at every horizon.
    fn curve(&self, track: &Track<Bank<F, T, R, Y, W>>) -> &[Ahead; K] {
        self.fusion.curve(track.bank.at(), track.line, |h| Opinions::ahead(&track.bank, &self.active, h))
    }

    fn is_fresh(&self, track: &Track<Bank<F, T, R, Y, W>>, at: Timestamp<Local>) -> bool {
        at.since(track.last.local) <= track.patience(self.config.holdover_after)
    }

    fn reason(&self) -> Reason {
        if let Some(undecided) = self.sources.undecided {
            undecided.into()
        } else if self.conflict_shown > 0 {
            Reason::BoundConflict
        } else if self.sources.selection.is_short() {
            Reason::FewServers
        } else if self.config.forecasters == [false, false] {
            Reason::ForecastersOff
        } else if Model::ALL.into_iter().any(|model| self.carries(model)) {
            Reason::Nominal
        } else if !self.worker_alive {
            Reason::WorkerDown
        } else if self.answer_refused || self.active.iter().any(Option::is_some) {
            Reason::ForecastsMuted
        } else {
            Reason::WarmingUp
        }
    }

    /// Why there is no fresh measurement.
    fn silence(&self) -> Reason {
        self.sources.undecided.map_or(Reason::NoSamples, Reason::from)
    }

    fn rate_at(&self, at: Timestamp<Local>) -> Rate {
        let Some(track) = &self.track else { return Rate::ZERO };
        let h = at.since(track.bank.at()).as_secs_f64();
        if let Some(beyond) = self.beyond(track, h) {
            return Rate::new(track.line.r + f64::from(beyond.slope));
        }
        let (node, _) = self.bracket(h);
        let curve = self.curve(track);
        let (c0, c1) = (&curve[node], &curve[node + 1]);
        let width = self.fusion.horizon(node + 1) - self.fusion.horizon(node);
        Rate::new(track.line.r + f64::from((c1.displacement - c0.displacement) / width))
    }

    /// The node below `h` and how far `h` is on the way to the next; beyond the last node, more than one.
    #[allow(clippy::cast_possible_truncation, reason = "a place between two f32 values")]
    fn bracket(&self, h: f64) -> (usize, f32) {
        let h = h as f32;
        let node = (0..K - 2).find(|&node| h <= self.fusion.horizon(node + 1)).unwrap_or(K - 2);
        let (h0, h1) = (self.fusion.horizon(node), self.fusion.horizon(node + 1));
        (node, ((h - h0) / (h1 - h0)).max(0.0))
    }

    /// What comes after the last horizon, `h` s ahead. A day goes on as it did yesterday, and not along the last hours' chord; a rate that
    /// walks at random takes the offset away with the power of 1.5 of the time. A bank without a pattern and without means goes on straight.
    #[allow(clippy::cast_possible_truncation, reason = "predictions are f32")]
    fn beyond(&self, track: &Track<Bank<F, T, R, Y, W>>, h: f64) -> Option<Beyond> {
        let (h, last) = (h as f32, self.fusion.horizon(K - 1));
        if Y + R == 0 || h <= last {
            return None;
        }
        // The models have nothing to say there.
        let said = |h| self.fusion.fuse(K - 1, &Opinions::ahead(&track.bank, &[None, None], h));
        let (then, there) = (said(last), said(h));
        let times = h / last;
        Some(Beyond {
            displacement: there.displacement - then.displacement,
            slope: there.slope,
            wider: times * libm::sqrtf(times),
        })
    }

    /// The fused extrapolation at `at`, whoever is asking.
    fn extrapolate(
        &self,
        track: &Track<Bank<F, T, R, Y, W>>,
        at: Timestamp<Local>,
        tier: Tier,
        reason: Reason,
    ) -> Estimate {
        let h = at.since(track.bank.at()).as_secs_f64();
        let (node, share) = self.bracket(h);
        let curve = self.curve(track);
        let (c0, c1) = (&curve[node], &curve[node + 1]);
        let between = |a: f32, b: f32| a + share * (b - a);
        let (mut displacement, mut half) =
            (between(c0.displacement, c1.displacement), between(c0.half_width, c1.half_width));
        if let Some(beyond) = self.beyond(track, h) {
            displacement = c1.displacement + beyond.displacement;
            half = c1.half_width * beyond.wider;
        }
        let ahead = track.line.x + track.line.r * h + f64::from(displacement);
        let offset = track.bank.reference().saturating_add(Span::from_secs_f64(ahead));
        // A curve that leads back into the confinement's middle is no news: the bound does not shrink for it. Between two
        // nodes the reach is convex, so its largest value up to `at` is at a node or at `at` itself. Beyond the last one it grows for as long
        // as the rate that is foreseen is one that the oscillator can have.
        let passed = curve[..=node].iter().enumerate().map(|(node, fused)| {
            let h = f64::from(self.fusion.horizon(node));
            let there = track.bank.at().saturating_add(Span::from_secs_f64(h));
            let ahead = track.line.x + track.line.r * h + f64::from(fused.displacement);
            self.hard.half_width(there, track.bank.reference().saturating_add(Span::from_secs_f64(ahead)))
        });
        let bound = passed.fold(self.hard.half_width(at, offset), Span::max);
        let half = f64::from(half);
        let half = if S > 1 { libm::hypot(half, self.sources.disagreement.half_width()) } else { half };
        let claimed = if half.is_finite() { Span::from_secs_f64(half) } else { Span::MAX };
        Estimate {
            offset,
            // What certainly holds holds 95 % of the time as well.
            interval: PredictionInterval::new(claimed.min(bound)),
            bound: ErrorBound::new(bound),
            tier,
            reason,
        }
    }
}

impl<
    const F: usize,
    const T: usize,
    const R: usize,
    const Y: usize,
    const W: usize,
    const E: usize,
    const K: usize,
    const P: usize,
    const C: usize,
    const L: usize,
    const N: usize,
    const M: usize,
    const S: usize,
    const D: usize,
> ClockSource for Pipeline<Bank<F, T, R, Y, W>, Fusion<E, K, P, C, L>, Window<N, M>, Sources<S, D>>
{
    fn estimate(&self, at: Timestamp<Local>) -> Option<Estimate> {
        self.estimate(at)
    }
}
