//! The sans-IO state machine that owns every stage; time is an argument of every call.
//!
//! ```text
//! handle_sample(now, sample)      an exchange arrived
//! handle_forecast(now, forecast)  a model answered
//! handle_timeout(now)             poll_timeout() has passed
//! poll_request(now)               a question for a model, if one is due
//! estimate(at)                    what a reader is told about local instant `at` if nothing more arrives
//! target(now)                     the same, as the line to publish
//! ```

mod ahead;

pub use crate::config::{Config, Counts, WarmStart};
use crate::estimator::exchange::Exchange;
use crate::estimator::{Bank, Family, Line, experts, stacked};
use crate::fallback::Reason;
use crate::forecast::{Active, Asked, Forecast, ForecastError, ForecastRequest, Model};
use crate::fusion::{CYCLE, Fused, Fusion, MOST_EXPERTS, Witness};
use crate::hard_bound::HardBound;
use crate::opinions::Opinions;
use crate::sample::{Sample, SampleError, SourceId};
use crate::sample_filter::Trust;
use crate::selection::{Undecided, Verdict};
use crate::sources::Sources;
use crate::units::{Local, Offset, Rate, Span, Timestamp, Variance};
use crate::window::Window;

/// Exchanges in a row that must contradict the estimate before it is given up and started afresh.
const ASTRAY: u8 = 4;
/// Samples for which a broken assumption is reported.
const CONFLICT_SHOWN: u8 = 8;
/// Fine cells with a measurement before each model is asked: fewer tell it nothing.
const YOUNG: [usize; 2] = [16, 48];
/// Fine cells between two questions to each model.
const CADENCE: [u64; 2] = [4, 4];
/// Fine cells within which an answer is worth having.
const DEADLINE: i64 = 4;
/// A model's forecasts carry weight once its largest share at any horizon is more than the first, until it is less than the second.
const CARRIES: (f32, f32) = (0.05, 0.03);
/// After so many samples that say so, one after the other.
const STEADY: u8 = 8;
/// Samples before forecasts are frozen: those of a clock that knows no rate yet say nothing about the experts.
const PROVEN: u64 = 6;
/// Samples before the filter's rate is recorded as history, and over which their interval is averaged.
const SETTLED: u64 = 16;
/// How often the published line is renewed while nothing arrives.
const RENEWAL: Span = Span::from_secs(1);

/// The state machine. Its stages carry its capacities; those of a plain `Pipeline` suit a host, and a smaller one is for
/// example `Pipeline<Bank<3, 1, 0, 0, 0>, Fusion<10, 4, 2, 40, 2>, Window<64, 16>, Sources<1, 64>>`, where the numbers of
/// experts and of those that earn shares must be what [`experts`] and [`stacked`] say of the bank.
#[derive(Clone, Debug)]
pub struct Pipeline<B = Bank, J = Fusion, W = Window, S = Sources> {
    config: Config,
    scale: f64,
    counts: Counts,
    sources: S,
    hard: HardBound,
    track: Option<Track<B>>,
    fusion: J,
    window: W,
    asked: [Option<Asked>; 2],
    asked_at: [u64; 2],
    active: [Option<Active>; 2],
    standing: [Standing; 2],
    next_id: u32,
    worker_alive: bool,
    /// The newest answer was not usable.
    answer_refused: bool,
    conflict_shown: u8,
    warm_start: Option<WarmStart>,
    now: Timestamp<Local>,
}

/// The estimate of the present and its extrapolation, as of the last sample.
#[derive(Clone, Debug)]
struct Track<B> {
    bank: B,
    line: Line,
    last: Sample,
    /// Mean interval between samples, s.
    spacing: f64,
    samples: u64,
    astray: u8,
}

impl<B> Track<B> {
    /// How old a sample may be and still be fresh.
    #[cfg_attr(target_os = "none", inline(never))]
    fn patience(&self, at_least: Span) -> Span {
        at_least.max(Span::from_secs_f64(4.0 * self.spacing))
    }
}

/// Whether a model's forecasts carry weight, told in a way that does not flicker.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    carries: bool,
    /// Latest samples in a row that say otherwise.
    otherwise: u8,
}

impl Standing {
    /// Its largest share is `share` as of one more sample.
    fn observe(&mut self, share: f32) {
        let carries = share > if self.carries { CARRIES.1 } else { CARRIES.0 };
        self.otherwise = if carries == self.carries { 0 } else { self.otherwise + 1 };
        if self.otherwise >= STEADY {
            *self = Self { carries, otherwise: 0 };
        }
    }
}

/// What the experts say of the present beyond a line, one by one and together.
#[derive(Debug)]
struct Present<const E: usize> {
    line: Line,
    opinions: Opinions<E>,
    fused: Fused,
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
    /// A pipeline that has heard nothing yet.
    pub fn new(config: Config) -> Self {
        const { assert!(E == experts(F, T, R, Y, W) && E <= MOST_EXPERTS, "E counts the experts") };
        const { assert!(L == stacked(Y, W), "L counts those that earn shares") };
        const { assert!(W == 0 || (W == 1 && Y > 0), "one looks for a cycle, beside a daily pattern") };
        let scale = (config.forecast_step.as_secs_f64() / 64.0).max(1e-6);
        Self {
            config,
            scale,
            counts: Counts::default(),
            sources: Sources::expecting(usize::from(config.sources)),
            hard: HardBound::new(config.max_rate, config.max_drift, config.counter_resolution),
            track: None,
            fusion: Fusion::new(
                Bank::<F, T, R, Y, W>::prior(),
                Bank::<F, T, R, Y, W>::handicap(),
                Bank::<F, T, R, Y, W>::silent_from,
                scale,
            ),
            window: Window::new(config.forecast_step),
            asked: [None; 2],
            asked_at: [0; 2],
            active: core::array::from_fn(|_| None),
            standing: [Standing::default(); 2],
            next_id: 0,
            worker_alive: true,
            answer_refused: false,
            conflict_shown: 0,
            warm_start: None,
            now: Timestamp::from_nanos(i64::MIN),
        }
    }

    /// Begins with a rate that is known from an earlier run; without effect once a sample has been taken in. What is not
    /// plausible (not finite, beyond the largest rate, without a deviation) is ignored.
    pub fn begin_with(&mut self, known: WarmStart) {
        let (deviation, most) = (known.deviation.value(), self.config.max_rate.value());
        let plausible = known.rate.value().abs() <= most && deviation > 0.0 && deviation <= most;
        self.warm_start = Some(known).filter(|_| plausible && self.track.is_none());
    }

    /// What a later run may begin with; `None` while the rate is not known well.
    pub fn warm_start(&self) -> Option<WarmStart> {
        let track = self.track.as_ref().filter(|track| track.samples >= SETTLED)?;
        let deviation = Rate::new(f64::from(track.bank.line_deviation().1));
        Some(WarmStart { rate: Rate::new(track.line.r), deviation })
    }

    /// Takes in one exchange. An error says why it was not used; what is served stays as it was.
    pub fn handle_sample(&mut self, now: Timestamp<Local>, sample: &Sample) -> Result<(), SampleError> {
        let checked = self.check(now, sample);
        if let Err(error) = checked {
            self.counts.samples_rejected += 1;
            return Err(error);
        }
        self.now = self.now.max(now);
        let at = sample.local;
        let (low, high) = match self.believe(sample) {
            Ok(hull) => hull,
            Err(error) => {
                self.counts.samples_rejected += 1;
                return Err(error);
            }
        };
        if !self.hard.update(at, low, high) {
            self.conflict_shown = CONFLICT_SHOWN;
            if S > 1 {
                // Whoever is heard has a vote, and a majority that there was is one by any rate.
                let _ = self.begin_bound_afresh(at);
            }
        }
        self.conflict_shown = self.conflict_shown.saturating_sub(1);
        let trust = self.sources.filters[usize::from(sample.source.0)].observe(sample.delay);
        if let Some(present) = self.take_in(sample, &trust) {
            self.follow(sample, Some(present));
        } else {
            self.start(sample);
        }
        self.counts.samples_accepted += 1;
        Ok(())
    }

    /// Takes in a model's answer. An error drops the answer and leaves the state as it was.
    pub fn handle_forecast(&mut self, now: Timestamp<Local>, forecast: &Forecast) -> Result<(), ForecastError> {
        let slot = forecast.model.index();
        let deviation = self.track.as_ref().map_or(0.0, |t| f64::from(t.bank.line_deviation().0));
        let checked = match &self.asked[slot] {
            Some(asked) => asked.check(now, forecast, self.config.max_drift, deviation).map(|()| *asked),
            None => Err(ForecastError::NotRequested),
        };
        match checked {
            Ok(asked) => {
                self.active[slot] = Some(Active::new(&asked, forecast));
                self.fusion.forget_curve();
                self.asked[slot] = None;
                self.answer_refused = false;
                self.counts.forecasts_accepted += 1;
                if !self.carries(forecast.model) {
                    self.counts.forecasts_muted += 1;
                }
                Ok(())
            }
            Err(error) => {
                self.answer_refused |= !matches!(error, ForecastError::NotRequested | ForecastError::Late);
                self.counts.forecasts_muted += 1;
                Err(error)
            }
        }
    }

    /// Lets time pass: forgets questions whose deadline is over.
    pub fn handle_timeout(&mut self, now: Timestamp<Local>) {
        self.now = self.now.max(now);
        for asked in &mut self.asked {
            if asked.is_some_and(|asked| now > asked.deadline) {
                *asked = None;
            }
        }
    }

    /// When [`Pipeline::handle_timeout`] wants to be called next, and the line republished. `None` until the first sample.
    pub fn poll_timeout(&self) -> Option<Timestamp<Local>> {
        self.track.as_ref().map(|_| self.now.saturating_add(RENEWAL))
    }

    /// The next question for a model, if one is due. Ask until `None`.
    pub fn poll_request(&mut self, now: Timestamp<Local>) -> Option<ForecastRequest<N, M>> {
        let track = self.track.as_ref()?;
        let closed = self.window.closed();
        let model = Model::ALL.into_iter().find(|model| {
            let slot = model.index();
            let due = self.asked_at[slot] == 0 || closed.wrapping_sub(self.asked_at[slot]) >= CADENCE[slot];
            self.config.forecasters[slot] && self.asked[slot].is_none() && due && self.window.measured() >= YOUNG[slot]
        })?;
        let (offset_deviation, rate_deviation) = track.bank.line_deviation();
        self.next_id = self.next_id.wrapping_add(1);
        self.asked_at[model.index()] = closed;
        self.counts.forecasts_issued += 1;
        let rate = Rate::new(track.line.r);
        let outlook = self.outlook(track);
        let asked = Asked {
            id: self.next_id,
            model,
            origin: track.bank.at(),
            step: self.config.forecast_step,
            outlook,
            deadline: now.saturating_add(self.config.forecast_step.saturating_mul(DEADLINE)),
        };
        self.asked[model.index()] = Some(asked);
        Some(ForecastRequest {
            id: asked.id,
            model,
            origin: asked.origin,
            step: asked.step,
            rate,
            offset_deviation,
            rate_deviation,
            outlook,
            history: self.window.history(rate),
        })
    }

    /// The worker came up or went down: shown as the reason for a lower tier.
    pub fn set_worker_alive(&mut self, alive: bool) {
        self.worker_alive = alive;
    }

    /// The counter jumped or the machine slept: what was known of the offset no longer holds.
    pub fn handle_discontinuity(&mut self) {
        self.track = None;
        self.hard.reset();
        self.sources.selection.reset();
        self.sources.undecided = None;
        self.fusion.forget_frozen();
        self.window = Window::new(self.config.forecast_step);
        self.asked = [None; 2];
        self.forget_answers();
        self.answer_refused = false;
        // The counter may have gone back.
        self.now = Timestamp::from_nanos(i64::MIN);
    }

    /// Takes from `config` what may change while running: `holdover_after`, `void_after` and `forecasters`. The rest is what the
    /// estimate was made with and stays.
    pub fn reconfigure(&mut self, config: Config) {
        let Config { holdover_after, void_after, forecasters, .. } = config;
        self.config = Config { holdover_after, void_after, forecasters, ..self.config };
        for (slot, enabled) in forecasters.into_iter().enumerate() {
            if !enabled {
                self.asked[slot] = None;
                self.active[slot] = None;
            }
        }
        self.fusion.forget_curve();
    }

    /// Source `source` is another one from now on: its delays and its vote are forgotten.
    pub fn forget_source(&mut self, source: SourceId) {
        self.sources.forget(source);
    }

    /// What kind of expert `index` is.
    pub const fn family(&self, index: usize) -> Family {
        Family::of(index, F, T, R, Y, W)
    }

    /// The experts' weights at horizon `node`, one in all. A model counts while there is an answer of it, and a cycle while there is one.
    pub fn weights(&self, node: usize) -> [f32; E] {
        let heard = core::array::from_fn(|slot| match self.active.get(slot) {
            Some(answer) => answer.is_some(),
            None => slot != CYCLE || self.track.as_ref().is_some_and(|track| track.bank.sees_cycle()),
        });
        self.fusion.weights(node, heard)
    }

    /// The judges of the experts: skill per horizon, and what they make of the models.
    pub const fn fusion(&self) -> &Fusion<E, K, P, C, L> {
        &self.fusion
    }

    /// The configuration names another number of sources from now on.
    pub fn expect_sources(&mut self, sources: u8) {
        self.config.sources = sources;
        self.sources.selection.expect(usize::from(sources));
    }

    /// Why there is no estimate, while there is none.
    pub fn why_nothing(&self) -> Reason {
        self.sources.undecided.map_or(Reason::NeverSynchronised, Reason::from)
    }

    /// Counters since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The assumptions in force.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What the other sources make of `source`; `None` if it has not been heard.
    pub fn verdict(&self, source: SourceId) -> Option<Verdict> {
        self.sources.selection.verdict(source)
    }

    /// Of how many sources a majority has decided where the offset lies, at most, while the clock was young. What fewer had decided is given up.
    pub const fn electorate(&self) -> usize {
        self.sources.selection.electorate()
    }

    /// How often the assumptions behind the hard bound were caught broken.
    pub const fn bound_conflicts(&self) -> u32 {
        self.hard.conflicts()
    }

    fn check(&self, now: Timestamp<Local>, sample: &Sample) -> Result<(), SampleError> {
        sample.validate()?;
        if sample.local > now {
            return Err(SampleError::FromTheFuture);
        }
        if usize::from(sample.source.0) >= S {
            return Err(SampleError::UnknownSource);
        }
        if self.track.as_ref().is_some_and(|track| sample.local < track.last.local) {
            return Err(SampleError::OutOfOrder);
        }
        Ok(())
    }

    /// Where the offset lies, by `sample` and the latest of the other sources.
    fn believe(&mut self, sample: &Sample) -> Result<(Offset, Offset), SampleError> {
        let at = sample.local;
        let selected = |pipeline: &Self| pipeline.verdict(sample.source) == Some(Verdict::Selected);
        let electorate = self.electorate();
        let (interval, rates) = (self.hard.interval(sample), self.hard.rates());
        let mut hull = self.sources.selection.vote(sample.source, at, interval, rates);
        // One source alone is always believed.
        let refused = S > 1 && (hull.is_err() || !selected(self));
        if refused && self.sources.selection.most_contradict_themselves(at) {
            // The oscillator has broken its assumptions: judged by these, honest servers would refuse each other for as long as it does.
            self.hard.contradicted();
            self.conflict_shown = CONFLICT_SHOWN;
            hull = self.begin_bound_afresh(at);
        } else if S > 1 && self.electorate() > electorate {
            // Those who were heard before may have been as many liars as not.
            hull = self.begin_bound_afresh(at);
        }
        self.sources.undecided = hull.err();
        match hull {
            Ok(hull) if selected(self) => Ok(hull),
            Ok(_) => Err(SampleError::Outvoted),
            Err(Undecided::Waiting) => Err(SampleError::AwaitingMajority),
            Err(Undecided::NoMajority) => Err(SampleError::NoMajority),
        }
    }

    /// Confines the offset to what the latest of the sources say together and to nothing else. They are moved to `at` by any rate that the
    /// oscillator can have: those that it was confined to rested on what is given up.
    fn begin_bound_afresh(&mut self, at: Timestamp<Local>) -> Result<(Offset, Offset), Undecided> {
        self.hard.reset();
        let hull = self.sources.selection.reconsider(at, self.hard.rates());
        if let Ok((low, high)) = hull {
            self.hard.update(at, low, high);
        }
        hull
    }

    /// One by one: an array of them would be a kilobyte of zeros in the program.
    fn forget_answers(&mut self) {
        for active in &mut self.active {
            *active = None;
        }
    }

    /// The filters and the judges of the experts learn from `sample`, and what they say of the present. None: there is no track,
    /// or it must be given up.
    #[allow(clippy::cast_possible_truncation, reason = "variances and a few seconds")]
    fn take_in(&mut self, sample: &Sample, trust: &Trust) -> Option<Present<E>> {
        let track = self.track.as_mut()?;
        track.bank.advance(sample.local, sample.plausible_temperature());
        let z = sample.offset.since(track.bank.reference()).as_secs_f64() - trust.asymmetry;
        let before = self.fusion.fuse(0, &Opinions::ahead(&track.bank, &self.active, 0.0));
        let innovation = z - (track.bank.line().x + f64::from(before.displacement));
        let claimed = Variance::new(f64::from(before.deviation * before.deviation));
        let elapsed = sample.local.since(track.last.local).as_secs_f64() / self.scale;
        self.sources.learn(sample, trust, innovation, claimed, elapsed);
        track.bank.update(&Exchange { z, half: trust.half, blur: trust.blur.value() });
        let line = track.bank.line();
        let present = Opinions::ahead(&track.bank, &self.active, 0.0);
        let after = self.fusion.fuse(0, &present);
        let x = line.x + f64::from(after.displacement);
        self.fusion.mark_strays(&present, &after);
        let contradicts = (z - x).abs() > 2.0 * sample.error_bound().as_secs_f64();
        let witness = Witness {
            at: sample.local,
            raw: (z, trust.witness().value() as f32),
            filtered: (x, after.deviation * after.deviation),
            several: S > 1 && self.sources.selection.expects_several(),
            contradicts,
            spacing: track.spacing as f32,
        };
        self.fusion.score(&witness);
        track.astray = if contradicts { track.astray + 1 } else { 0 };
        // Nothing that a sample can hold may leave the filters without a number.
        let lost = !(x + f64::from(after.deviation) + line.r).is_finite();
        (!lost && track.astray < ASTRAY).then_some(Present { line, opinions: present, fused: after })
    }

    /// The first sample, or the first after everything was given up.
    #[cfg_attr(target_os = "none", inline(never))]
    fn start(&mut self, sample: &Sample) {
        let half = sample.error_bound().as_secs_f64().max(1e-9);
        self.fusion.forget_frozen();
        self.asked = [None; 2];
        self.forget_answers();
        self.sources.begin_anew();
        // Whoever is lost with a rate from an earlier run does not begin with it again.
        let known = self.warm_start.take().map(|known| (known.rate.value(), known.deviation.value()));
        // But the exchanges until now have confined it, to three deviations on each side.
        let (low, high) = self.hard.rates();
        let confined = (0.5 * (low.value() + high.value()), (high.value() - low.value()) / 6.0);
        let (rate, deviation) = known.unwrap_or(confined);
        let rate = (rate, deviation * deviation);
        let mut bank = Bank::new(sample.local, sample.offset, half * half / 4.0, rate, self.scale);
        if let Some(lost) = &self.track {
            bank.inherit(&lost.bank);
        }
        let line = bank.line();
        let track = self.track.insert(Track { bank, line, last: *sample, spacing: 0.0, samples: 0, astray: 0 });
        track.bank.advance(sample.local, sample.plausible_temperature());
        self.follow(sample, None);
    }

    /// After the bank has taken in `sample`: the new line, and what is frozen of its extrapolation.
    fn follow(&mut self, sample: &Sample, present: Option<Present<E>>) {
        let Some(track) = &mut self.track else { return };
        let at = sample.local;
        if let Some(shift) = track.bank.rebase() {
            self.fusion.rebase(shift);
        }
        for (slot, (active, standing)) in self.active.iter_mut().zip(&mut self.standing).enumerate() {
            if active.as_ref().is_some_and(|answer| answer.is_over(at)) {
                *active = None;
            }
            standing.observe((0..K).map(|node| self.fusion.share(node, slot)).fold(0.0, f32::max));
        }
        // The middle horizon's best filter leads: long enough to see the rate, short enough to have evidence early.
        track.bank.set_lead(self.fusion.best_of(K / 2, F));
        track.line = track.bank.line();
        let dt = at.since(track.last.local);
        // One long silence is no reason to be patient with the next.
        let dt = if track.samples < SETTLED { dt } else { dt.min(track.patience(self.config.holdover_after)) };
        track.samples += 1;
        track.spacing += (dt.as_secs_f64() - track.spacing) / (track.samples.min(SETTLED) as f64);
        track.last = *sample;
        self.fusion.forget_curve();
        // What has been said of the present holds as long as it is said of the same line.
        let present = present.filter(|present| track.samples >= PROVEN && present.line == track.line);
        if let Some(Present { opinions, fused, .. }) = &present {
            self.fusion.freeze(0, at, track.line, opinions, fused);
        }
        for node in usize::from(present.is_some())..K {
            if track.samples >= PROVEN && self.fusion.wants(node, at) {
                let predictions = Opinions::ahead(&track.bank, &self.active, self.fusion.horizon(node));
                let fused = self.fusion.fuse(node, &predictions);
                self.fusion.freeze(node, at, track.line, &predictions, &fused);
            }
        }
        // The guesses of a filter that is still finding its rate are no history to learn from.
        if track.samples >= SETTLED {
            self.window.extend(at, Rate::new(track.line.r), sample.plausible_temperature());
        }
    }

    /// Whether `model`'s forecasts have weight anywhere.
    const fn carries(&self, model: Model) -> bool {
        let slot = model.index();
        self.active[slot].is_some() && self.standing[slot].carries
    }
}
