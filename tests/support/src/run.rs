//! One run in virtual time: the world, the faults, and the core driven as the daemon's loop drives it.

use std::collections::VecDeque;

use chronotick_core::fallback::{Reason, Tier};
use chronotick_core::forecast::Forecast;
use chronotick_core::leap::{Announcement, Event, Leaps, Policy};
use chronotick_core::pipeline::{Config, Pipeline};
use chronotick_core::sample::{Sample, SampleError};
use chronotick_core::selection::Verdict;
use chronotick_core::served::{self, ClockRecord, Served, Target};
use chronotick_core::units::{Local, Offset, Span, Temperature, Timestamp, Utc};
use chronotick_host::sim::network::Conduct;
use chronotick_host::sim::world::{START, World};
use chronotick_host::sim::{Random, stream};
use rand::RngExt;

use crate::answers::Answers;
use crate::laws::{Law, Violation};
use crate::outcome::{EXPERTS, HORIZONS, Outcome, Tally};
use crate::scenario::{Interruption, Scenario, is_honest};
use crate::wire::{Heard, Line, Wire};

/// Seconds between freezes.
const FREEZE: f64 = 256.0;
/// Seconds before the first.
const SETTLING: f64 = 1800.0;
/// Worlds of longer steps have no predictions judged: horizons are whole steps.
const FINE_STEP: f64 = 64.0;
/// Exchanges that an estimate rests on.
const RESTS_ON: usize = 64;
/// Violations kept of one run; one is enough to fail.
const KEPT: usize = 8;

struct Pending {
    target: Timestamp<Local>,
    horizon: usize,
    offset: Offset,
    interval: Span,
    bound: Span,
    promised: bool,
    experts: [Offset; EXPERTS],
}

struct Run<'a> {
    scenario: &'a Scenario,
    config: Config,
    pipeline: Box<Pipeline>,
    served: Served,
    leaps: Leaps,
    wire: Option<Wire>,
    outcome: Outcome,
    random: Random,
    /// reference - local beyond the world's own offset, in ns: the epoch, and what the machine slept through.
    base: i64,
    inbox: VecDeque<Heard>,
    /// When they come, and whether they have to be refused.
    answers: VecDeque<(Timestamp<Local>, Forecast, bool)>,
    pending: VecDeque<Pending>,
    frozen_at: f64,
    last_sample: Option<Timestamp<Local>>,
    last_reading: Option<(u16, Timestamp<Utc>)>,
    last_widths: Option<(Span, Span)>,
    silence_since: Timestamp<Local>,
    spacing: f64,
    /// The newest gaps between exchanges, s.
    gaps: VecDeque<f64>,
    /// When each server was last heard since the start.
    heard: Vec<Option<Timestamp<Local>>>,
    /// Conflicts that the core had reported when a liar last had the majority of those heard: what it was confined to then
    /// is promised again only once the core has noticed and forgotten it, or has heard more servers than ever.
    poisoned: Option<u32>,
    /// As many as the core has told of when it was last asked.
    electorate: usize,
    /// What is served is still what a daemon that was poisoned has left.
    inherited: bool,
    /// When no more of those that spoke were honest than lied.
    murky: Option<Timestamp<Local>>,
    /// Whether a liar has ever had the majority.
    ever_poisoned: bool,
    /// Whether the core has refused a server for what others say.
    noticed: bool,
    /// The machine has slept, and no exchange was made since.
    just_woken: bool,
    /// When the estimate began from nothing, in s.
    began: f64,
    /// Error bounds of the newest exchanges taken in, and whether their servers tell the truth.
    budgets: VecDeque<(Span, bool)>,
    /// What no exchange can tell from the offset: errors are counted from there, bounds from the truth.
    unseen: Span,
}

/// Runs `scenario` to its end. A panic of the core is a broken law.
pub fn run(scenario: &Scenario) -> Outcome {
    let outcome = std::panic::catch_unwind(|| started(scenario).live());
    outcome.unwrap_or_else(|_| {
        let mut outcome = started(scenario).outcome;
        outcome.violated = 1;
        outcome.violations.push(Violation { law: Law::Panic, at: 0.0, detail: "see above".to_owned() });
        outcome
    })
}

fn started(scenario: &Scenario) -> Run<'_> {
    let config = Config {
        forecasters: [scenario.answers != Answers::None; 2],
        sources: u8::try_from(scenario.world.servers.len()).unwrap_or(u8::MAX),
        ..Config::default()
    };
    let outcome = Outcome {
        scenario: scenario.clone(),
        tallies: [Tally::EMPTY; HORIZONS.len()],
        violations: Vec::new(),
        violated: 0,
        samples: 0,
        conflicts: 0,
        strain: 0.0,
        digest: 0xcbf2_9ce4_8422_2325,
    };
    let polls = scenario.world.servers.iter().map(|s| s.poll).fold(f64::INFINITY, f64::min);
    Run {
        scenario,
        config,
        pipeline: Box::new(Pipeline::new(config)),
        served: Served::new(served::Config::default()),
        leaps: Leaps::new(Policy::Utc),
        wire: scenario.wiring.map(|wiring| Wire::new(scenario, wiring)),
        outcome,
        random: stream(scenario.seed, "faults"),
        base: scenario.utc.saturating_sub(START.as_nanos()),
        inbox: VecDeque::new(),
        answers: VecDeque::new(),
        pending: VecDeque::new(),
        frozen_at: SETTLING,
        last_sample: None,
        last_reading: None,
        last_widths: None,
        silence_since: START,
        spacing: polls,
        gaps: VecDeque::new(),
        poisoned: None,
        electorate: 0,
        inherited: false,
        murky: None,
        ever_poisoned: false,
        noticed: false,
        just_woken: false,
        began: 0.0,
        budgets: VecDeque::new(),
        heard: vec![None; scenario.world.servers.len()],
        unseen: Span::from_secs_f64(scenario.unseen()),
    }
}

/// How long the bound stays within 10 ms if nothing more arrives.
fn room(target: &Target) -> Span {
    let slack = Span::from_millis(10).saturating_sub(target.bound.half_width()).as_secs_f64();
    let growth = target.bound_growth.value();
    if growth > 0.0 { Span::from_secs_f64(slack.max(0.0) / growth) } else { Span::ZERO }
}

impl Run<'_> {
    fn live(mut self) -> Outcome {
        let mut params = self.scenario.world.clone();
        if self.wire.is_some() {
            params.servers.clear();
        }
        let mut world = World::new(&params, self.scenario.seed);
        let mut interruptions = self.scenario.interruptions.clone().into_iter().peekable();
        let mut fresh = Vec::new();
        while world.elapsed() < self.scenario.seconds {
            let truth = world.advance(&mut fresh);
            if let Some(wire) = &mut self.wire {
                let offset = truth.offset.as_nanos().saturating_add(self.base);
                let line = Line { at: truth.local, offset, rate: truth.rate };
                let temperature = world.temperature();
                self.inbox.extend(wire.advance(truth.local, line, temperature, || world.reading_jitter()));
            }
            for sample in fresh.drain(..) {
                self.receive(sample);
            }
            let elapsed = world.elapsed();
            if let Some((_, what)) = interruptions.next_if(|i| i.0 <= elapsed) {
                self.interrupt(what, truth.local, elapsed);
            }
            self.step(truth.local, Offset::from_nanos(truth.offset.as_nanos().saturating_add(self.base)), elapsed);
        }
        self.outcome.conflicts = self.pipeline.bound_conflicts();
        if !self.scenario.promised
            && self.lied_to()
            && self.outcome.conflicts == 0
            && !self.noticed
            && self.is_confident_and_wrong()
        {
            self.violate(Law::Noticed, self.scenario.seconds, "never a conflict".to_owned());
        }
        self.outcome
    }

    /// Whether liars that contradict each other or the past were heard at all: one that has always lied alone cannot be told
    /// from a truthful server.
    fn lied_to(&self) -> bool {
        let servers = &self.scenario.world.servers;
        servers.iter().any(|s| s.conduct == Conduct::Honest)
            && servers.iter().any(|s| matches!(s.conduct, Conduct::Wrong(by) if by.abs() > 1.0))
    }

    fn is_confident_and_wrong(&self) -> bool {
        let tally = &self.outcome.tallies[0];
        tally.count > 0 && tally.inside == 0
    }

    /// What the daemon's loop does in one turn, and what readers see.
    fn step(&mut self, now: Timestamp<Local>, truth: Offset, elapsed: f64) {
        let mut news = false;
        while let Some(heard) = self.inbox.pop_front_if(|heard| heard.at <= now) {
            news |= self.deliver(now, heard, elapsed);
        }
        while let Some((_, forecast, nonsense)) = self.answers.pop_front_if(|(at, ..)| *at <= now) {
            let taken = self.pipeline.handle_forecast(now, &forecast).is_ok();
            if taken && nonsense {
                self.violate(Law::Refused, elapsed, format!("{:?}: {forecast:?}", self.scenario.answers));
            }
            news |= taken;
        }
        self.pipeline.handle_timeout(now);
        while let Some(request) = self.pipeline.poll_request(now) {
            for (copy, (takes, forecast)) in self.scenario.answers.to(&request).into_iter().enumerate() {
                let nonsense = self.scenario.answers.is_nonsense(copy);
                self.answers.push_back((now.saturating_add(takes), forecast, nonsense));
            }
        }
        self.look_for_leaps(now);
        self.judge_servers(now);
        self.judge_kisses(elapsed);
        self.judge_waking(now, elapsed);
        self.judge_estimate(now, truth, news, elapsed);
        self.publish(now, elapsed);
        self.judge_reading(now, truth, elapsed);
        if elapsed >= self.frozen_at && self.scenario.world.step <= FINE_STEP {
            self.freeze(now, elapsed);
        }
        self.judge_predictions(now, truth, elapsed);
    }

    /// An exchange is over: the network's faults decide when, how often and as what it reaches the core.
    fn receive(&mut self, mut sample: Sample) {
        sample.offset = Offset::from_nanos(sample.offset.as_nanos().saturating_add(self.base));
        let faults = self.scenario.faults;
        let mut happens = |chance: f64| chance > 0.0 && self.random.random::<f64>() < chance;
        let mut arrives = sample.local.saturating_add(Span::from_nanos(sample.delay.as_nanos() / 2 + 1));
        let twice = happens(faults.twice);
        if happens(faults.temperature) {
            sample.temperature = Some(Temperature::new(f64::NAN));
        }
        if happens(faults.delay) {
            sample.delay = Span::from_nanos(-1 - sample.delay.as_nanos());
        }
        if happens(faults.root_distance) {
            sample.root_distance = Span::from_nanos(i64::MIN);
        }
        if happens(faults.future) {
            sample.local = sample.local.saturating_add(Span::from_secs(3600));
        }
        if happens(faults.late) {
            arrives = arrives.saturating_add(Span::from_secs_f64(10.0 * self.random.random::<f64>()));
        }
        for _ in 0..=u32::from(twice) {
            let place = self.inbox.partition_point(|heard| heard.at <= arrives);
            self.inbox.insert(place, Heard { at: arrives, sample, leap: Announcement::Unknown });
        }
    }

    fn deliver(&mut self, now: Timestamp<Local>, heard: Heard, elapsed: f64) -> bool {
        self.outcome.samples += 1;
        let sample = &self.normalised(heard);
        // Not as the core sees it: it is the core that is judged.
        let nonsense = sample.local > now
            || sample.delay < Span::ZERO
            || sample.root_distance < Span::ZERO
            || sample.temperature.is_some_and(|t| !t.value().is_finite());
        // One from before the last that was taken in comes too late to be heard.
        let late = self.last_sample.is_some_and(|last| sample.local < last);
        if !nonsense
            && !late
            && let Some(heard) = self.heard.get_mut(usize::from(sample.source.0))
        {
            *heard = Some(sample.local);
        }
        self.judge_servers(now);
        let begun = |pipeline: &Pipeline| (pipeline.bound_conflicts(), pipeline.electorate());
        let before = begun(&self.pipeline);
        let taken = self.pipeline.handle_sample(now, sample);
        self.judge_servers(now);
        match taken {
            Ok(()) => {
                if nonsense {
                    self.violate(Law::Refused, elapsed, format!("{sample:?} was accepted"));
                }
                if let Some(last) = self.last_sample {
                    let gap = sample.local.since(last).as_secs_f64();
                    self.spacing += (gap - self.spacing) / 8.0;
                    if self.gaps.len() == RESTS_ON {
                        self.gaps.pop_front();
                    }
                    self.gaps.push_back(gap);
                }
                self.last_sample = Some(sample.local);
                self.just_woken = false;
                if self.budgets.len() == RESTS_ON {
                    self.budgets.pop_front();
                }
                let honest = self.scenario.is_honest(sample.source);
                self.budgets.push_back((sample.error_bound(), honest));
                self.silence_since = sample.local;
                if let (Some(wire), Some(target)) = (&mut self.wire, self.pipeline.target(now)) {
                    wire.set_room(room(&target));
                }
                true
            }
            Err(error) => {
                let outvoted = matches!(error, SampleError::NoMajority | SampleError::Outvoted);
                self.noticed |= outvoted;
                if outvoted && self.scenario.is_honest(sample.source) && self.is_promised() {
                    self.violate(Law::Heard, elapsed, format!("{error}: {sample:?}"));
                }
                // Whoever is refused may be what the bound begins afresh with.
                before != begun(&self.pipeline)
            }
        }
    }

    /// What a server says of leap seconds is heard, and its time moved to the scale without them: as the daemon does it.
    fn normalised(&mut self, heard: Heard) -> Sample {
        let sample = heard.sample;
        self.leaps.hear(sample.source, heard.leap);
        let expected = self.pipeline.estimate(sample.local).map(|estimate| estimate.offset);
        Sample { offset: self.leaps.normalise(sample.local, sample.offset, expected), ..sample }
    }

    fn look_for_leaps(&mut self, now: Timestamp<Local>) {
        let Some(estimate) = self.pipeline.estimate(now).filter(|_| self.wire.is_some()) else { return };
        let pipeline = &self.pipeline;
        let selected = |source| pipeline.verdict(source) == Some(Verdict::Selected);
        if let Some(Event::Happened(_)) = self.leaps.advance(now.to_utc(estimate.offset), selected) {
            self.served.step();
        }
    }

    fn interrupt(&mut self, what: Interruption, now: Timestamp<Local>, elapsed: f64) {
        self.began = elapsed;
        self.budgets.clear();
        self.pending.clear();
        self.answers.clear();
        self.inbox.clear();
        self.last_sample = None;
        self.last_widths = None;
        self.heard.fill(None);
        self.inherited |= self.poisoned.take().is_some();
        self.electorate = 0;
        match what {
            Interruption::Crash => {
                self.outcome.conflicts += self.pipeline.bound_conflicts();
                *self.pipeline = Pipeline::new(self.config);
                let config = served::Config::default();
                let left = self.served.record();
                self.served = left.map_or_else(|| Served::new(config), |record| Served::resume(config, *record));
            }
            Interruption::Suspend(seconds) => {
                self.base = self.base.saturating_add(Span::from_secs_f64(seconds).as_nanos());
                let raw = Target { reason: Reason::Suspended, ..Target::raw(now, Offset::from_nanos(self.base)) };
                self.served.update(&raw);
                self.pipeline.handle_discontinuity();
                self.just_woken = true;
            }
        }
    }

    /// Whether the bound is promised at `now`: of the servers heard, most are honest, and have been since the start, since the
    /// latest of them was first heard or since the core last noticed a contradiction. Before the others have spoken, a liar is all there is.
    fn is_promised(&self) -> bool {
        self.scenario.promised && self.poisoned.is_none()
    }

    /// How many servers were heard since then, and how many of them lie.
    fn voters(&self, since: Timestamp<Local>) -> (usize, usize) {
        let servers = self.scenario.world.servers.iter().zip(&self.heard);
        let voters = servers.filter(|(_, heard)| heard.is_some_and(|at| at >= since));
        voters.fold((0, 0), |(count, lying), (server, _)| (count + 1, lying + usize::from(!is_honest(server.conduct))))
    }

    fn judge_servers(&mut self, now: Timestamp<Local>) {
        /// As long as the core counts the vote of a silent server.
        const VOTES: Span = Span::from_secs(4 * 3600);
        let (count, lying) = self.voters(now.saturating_sub(VOTES));
        let conflicts = self.pipeline.bound_conflicts();
        let electorate = self.pipeline.electorate();
        if lying > 0 && 2 * lying >= count {
            self.poisoned = Some(conflicts);
            self.ever_poisoned = true;
        } else if self.poisoned.is_some_and(|before| conflicts > before) || electorate > self.electorate {
            self.poisoned = None;
        }
        self.electorate = electorate;
    }

    /// What servers ask for they get.
    fn judge_kisses(&mut self, elapsed: f64) {
        if let Some(detail) = self.wire.as_mut().and_then(|wire| wire.disobeyed.take()) {
            self.violate(Law::Kiss, elapsed, detail);
        }
    }

    /// What is known from before a sleep does not outlive it, and contradictions are not imagined.
    fn judge_waking(&mut self, now: Timestamp<Local>, elapsed: f64) {
        let tier = self.served.record().map_or(Tier::Raw, |record| record.tier);
        if self.just_woken && (tier != Tier::Raw || self.pipeline.estimate(now).is_some()) {
            self.violate(Law::Awake, elapsed, format!("tier {tier} before the first exchange"));
        }
        let conflicts = self.pipeline.bound_conflicts();
        if self.scenario.promised && !self.ever_poisoned && conflicts > 0 {
            self.violate(Law::FalseAlarm, elapsed, format!("{conflicts} conflicts in a world without a lie"));
        }
    }

    /// An estimate with fresh measurements is wrong by about as much as the worst of the exchanges that it rests on allows, and
    /// what a rate that is known to 5 ppm can do in four polls; `FACTOR` times that for a filter that a sudden warmth or a
    /// server's moving error has overtaken. An honest server that fell silent vouches for less and less: where as many of those
    /// that still speak lie as do not, nobody can tell the time from the lie, and only the bound has to say so.
    fn judge_accuracy(&mut self, now: Timestamp<Local>, tier: Tier, error: Span, elapsed: f64) {
        const RATE: f64 = 5e-6;
        const FACTOR: f64 = 8.0;
        const NEWEST: usize = 8;
        /// In exchanges.
        const PATIENCE: f64 = 64.0;
        let settled = self.budgets.len() == RESTS_ON && elapsed - self.began >= SETTLING;
        // The votes of the honest count for hours, but exchanges that only liars make tell nobody the time.
        let honest = |newest| 2 * self.budgets.iter().rev().take(newest).filter(|(_, honest)| *honest).count() > newest;
        let a_while_ago = now.saturating_sub(Span::from_secs_f64(PATIENCE * self.spacing.max(1.0)));
        let (count, lying) = self.voters(a_while_ago);
        if 2 * lying >= count {
            self.murky = Some(now);
        }
        let murky = self.murky.is_some_and(|at| at >= a_while_ago);
        if tier > Tier::Filter || !settled || !self.is_promised() || !honest(NEWEST) || !honest(RESTS_ON) || murky {
            return;
        }
        let budget = self.budgets.iter().map(|(budget, _)| budget.as_secs_f64()).fold(0.0, f64::max);
        let age = now.since(self.silence_since).as_secs_f64();
        let allowed = budget + RATE * (age + 4.0 * self.spacing);
        self.outcome.strain = self.outcome.strain.max(error.as_secs_f64() / allowed);
        if error.as_secs_f64() > FACTOR * allowed {
            self.violate(Law::Accurate, elapsed, format!("off by {error:?}, exchanges allow {allowed:e} s"));
        }
    }

    fn judge_estimate(&mut self, now: Timestamp<Local>, truth: Offset, news: bool, elapsed: f64) {
        let Some(estimate) = self.pipeline.estimate(now) else {
            if self.last_sample.is_some() {
                self.violate(Law::Finite, elapsed, "no estimate after a sample".to_owned());
            }
            return;
        };
        let (interval, bound) = (estimate.interval.half_width(), estimate.bound.half_width());
        let error = estimate.offset.since(truth).abs();
        if self.is_promised() && error > bound {
            self.violate(Law::Bound, elapsed, format!("off by {error:?}, bound {bound:?}, tier {}", estimate.tier));
        }
        self.judge_accuracy(now, estimate.tier, error, elapsed);
        if interval < Span::ZERO || bound < Span::ZERO {
            self.violate(Law::Finite, elapsed, format!("interval {interval:?}, bound {bound:?}"));
        }
        if let Some((last_interval, last_bound)) = self.last_widths
            && !news
            && (interval < last_interval || bound < last_bound)
        {
            let detail = format!("interval {last_interval:?} -> {interval:?}, bound {last_bound:?} -> {bound:?}");
            self.violate(Law::Growth, elapsed, detail);
        }
        self.last_widths = Some((interval, bound));
        let quiet = now.since(self.silence_since).as_secs_f64();
        // Four intervals between exchanges, and the core's running mean of 16 of them has an outage in it for a while.
        let patience = self.config.holdover_after.as_secs_f64().max(16.0 * self.spacing);
        let patience = patience.max(self.gaps.iter().sum::<f64>() / 4.0) + 60.0;
        if quiet > patience && estimate.tier < Tier::Holdover {
            self.violate(Law::Tier, elapsed, format!("tier {} after {quiet:.0} s of silence", estimate.tier));
        }
    }

    fn publish(&mut self, now: Timestamp<Local>, elapsed: f64) {
        let Some(target) = self.pipeline.target(now) else { return };
        self.inherited = false;
        let old = self.served.record().copied();
        let new = self.served.update(&self.leaps.serve(target));
        if let Some(old) = old.filter(|old| old.epoch == new.epoch) {
            let jump = new.utc_at(new.at).since(old.utc_at(new.at)).as_nanos();
            // A new line may start above the old one by what its slope gains over the lead.
            let lead = served::Config::default().lead.as_secs_f64();
            #[expect(clippy::cast_possible_truncation, reason = "nanoseconds")]
            let most = (1e9 * lead * 0.02) as i64 + 2;
            if !(-2..=most).contains(&jump) {
                self.violate(Law::Continuous, elapsed, format!("jump of {jump} ns within epoch {}", new.epoch));
            }
        }
    }

    fn judge_reading(&mut self, now: Timestamp<Local>, truth: Offset, elapsed: f64) {
        let Some(record) = self.served.record().copied() else { return };
        // A reader a little later than the record's start, at a random instant before the next.
        let at = record.at.max(now).saturating_add(Span::from_nanos(self.random.random_range(0..1_000_000)));
        let reading: ClockRecord = record.advance(at);
        self.digest(reading.utc.as_nanos());
        if let Some((epoch, last)) = self.last_reading
            && epoch == reading.epoch
            && reading.utc < last
        {
            self.violate(Law::Monotone, elapsed, format!("{last:?} then {:?}", reading.utc));
        }
        self.last_reading = Some((reading.epoch, reading.utc));
        if reading.tier != Tier::Raw && self.is_promised() && !self.inherited {
            // The truth moves by its rate until the reading: a millisecond at 200 ppm.
            let slack = Span::from_nanos(300);
            let leapt = self.wire.as_ref().map_or(0, |wire| wire.leapt(at.to_utc(truth)));
            let truth = truth.saturating_add(Span::from_nanos(leapt));
            let error = reading.utc.offset_from(at).since(truth).abs();
            if error > reading.bound.half_width().saturating_add(slack) {
                let detail = format!("off by {error:?}, bound {:?}, tier {}", reading.bound.half_width(), reading.tier);
                self.violate(Law::ServedBound, elapsed, detail);
            }
        }
    }

    fn freeze(&mut self, now: Timestamp<Local>, elapsed: f64) {
        self.frozen_at = elapsed + FREEZE;
        let promised = self.is_promised();
        let mut widest = (Span::ZERO, Span::ZERO);
        for (horizon, &h) in HORIZONS.iter().enumerate() {
            let target = now.saturating_add(Span::from_secs_f64(h));
            let Some(estimate) = self.pipeline.estimate(target) else { continue };
            let (interval, bound) = (estimate.interval.half_width(), estimate.bound.half_width());
            if bound < widest.1 {
                self.violate(Law::Growth, elapsed, format!("bound {:?} -> {bound:?} at {h} s", widest.1));
            }
            widest = (interval, bound);
            let experts =
                std::array::from_fn(|i| self.pipeline.expert(i, target).unwrap_or(Offset::from_nanos(i64::MIN)));
            self.pending.push_back(Pending {
                target,
                horizon,
                offset: estimate.offset,
                interval,
                bound,
                promised,
                experts,
            });
        }
        self.pending.make_contiguous().sort_by_key(|p| p.target);
    }

    /// Freezes happen at the ends of steps and horizons are whole steps, so a target is the very instant of a truth.
    fn judge_predictions(&mut self, now: Timestamp<Local>, truth: Offset, elapsed: f64) {
        while let Some(p) = self.pending.pop_front_if(|p| p.target <= now) {
            let error = p.offset.since(truth);
            if p.promised && error.abs() > p.bound {
                let h = HORIZONS[p.horizon];
                self.violate(
                    Law::PredictedBound,
                    elapsed,
                    format!("off by {error:?}, bound {:?}, horizon {h} s", p.bound),
                );
            }
            let truth = truth.saturating_add(self.unseen);
            let error = p.offset.since(truth);
            let tally = &mut self.outcome.tallies[p.horizon];
            tally.count += 1;
            tally.squares += error.as_secs_f64().powi(2);
            if error.as_secs_f64().abs() >= tally.largest.0 {
                tally.largest = (error.as_secs_f64().abs(), elapsed);
            }
            tally.inside += u32::from(error.abs() <= p.interval);
            tally.width += 2.0 * p.interval.as_secs_f64();
            for (sum, expert) in tally.experts.iter_mut().zip(p.experts) {
                *sum += expert.since(truth).as_secs_f64().powi(2);
            }
        }
    }

    fn digest(&mut self, value: i64) {
        for byte in value.to_le_bytes() {
            self.outcome.digest = (self.outcome.digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn violate(&mut self, law: Law, at: f64, detail: String) {
        self.outcome.violated += 1;
        if self.outcome.violations.len() < KEPT && !self.outcome.violations.iter().any(|v| v.law == law) {
            self.outcome.violations.push(Violation { law, at, detail });
        }
    }
}
