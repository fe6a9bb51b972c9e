//! Who is believed, and how far: experts weighted per horizon by the errors of their frozen forecasts.
//!
//! **Model.** For each of a few horizons the forecasts of all experts are frozen, and scored against what was measured when
//! that horizon has passed: nothing that was learned in between can flatter them. The errors at one horizon are taken as
//! Gaussian with an unknown scale per expert, which makes an expert's evidence `-(n/2) ln L` for a mean squared error `L` over
//! `n` independent forecasts; overlapping horizons count less. The next shorter horizon's evidence is added while there is
//! little of one's own: what is good at 256 s is probably not bad at 1,024 s, and speaks sooner. The errors are measured against
//! raw exchanges, weighted by their precision: against the estimate itself, an expert that lags with it would look good.
//!
//! **Strays.** An expert whose estimate of the *present* is off by `d` will be off by as much at every horizon, whatever its
//! past forecasts were like: `d^2` against the best loss there counts against it at once. It is how a step of the rate is
//! noticed at long horizons before they have passed.
//!
//! **Combination.** A weighted mean over the middle of the weighted distribution (30 to 70 %): robust against the one expert
//! that is suddenly far out.
//!
//! **Calibration.** The fused forecast is frozen too, and its errors calibrate its claims: [`crate::calibration`].
//!
//! **Weaknesses.** A horizon that has not passed even once has no evidence of its own, only its shorter neighbours'.

use core::cell::OnceCell;

use crate::calibration::Calibration;
use crate::estimator::{Line, Prediction};
use crate::units::{Local, Timestamp};

/// The horizons, in s for a time scale of one.
pub const HORIZONS: [f64; 7] = [0.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 14400.0];

/// `K` of [`HORIZONS`], the first, the last and those evenly between.
pub const fn horizons<const K: usize>() -> [f64; K] {
    const { assert!(K >= 2 && K <= HORIZONS.len(), "at least the first and the last, at most all") };
    let mut chosen = [0.0; K];
    let mut node = 0;
    while node < K {
        chosen[node] = HORIZONS[node * (HORIZONS.len() - 1) / (K - 1)];
        node += 1;
    }
    chosen
}

/// The most that evidence may count, in independent forecasts.
const MAX_EVIDENCE: f64 = 200.0;
/// How strongly overlapping forecasts are discounted.
const OVERLAP: f64 = 0.5;
/// Share of the next shorter horizon's log weight that is added; all of it while there is no evidence of one's own.
const NEIGHBOUR: f64 = 0.8;
/// Evidence at which that share has fallen half way.
const OWN: f64 = 8.0;
/// The neighbour's word is limited to this, divided by one's own evidence.
const NEIGHBOUR_LIMIT: f64 = 10.0;
/// What an expert's own claim counts for, in independent forecasts.
const CLAIM: f64 = 0.5;
/// Claims count from this many intervals between exchanges on.
const CLAIM_SPACINGS: f64 = 2.0;
/// The most forecasts that a stray present counts for.
const STRAY_TRIALS: f64 = 2.0;
/// Where that saturates, and how far what is beyond the best loss counts once the horizon has been tested, both as a share of
/// that loss.
const STRAY_NEAR: f32 = 8.0;
const STRAY_FAR: f32 = 50.0;
/// Squared errors are capped at this multiple of the usual one.
const CAP: f64 = 400.0;
/// An exchange loses weight once the best expert's squared error is beyond this multiple of the usual one.
const SPIKE: f64 = 4.0;
/// Log weights below this do not take part.
const NEGLIGIBLE: f32 = -6.0;
/// Forecasts of a model that must have been scored at a horizon before it is heard there.
const PROBATION: u8 = 24;
/// The weighted distribution is trimmed to its middle, from this share to the rest.
const TRIM: f32 = 0.3;
/// Seconds over which skill forgets, and at least so many horizons.
const MEMORY: (f64, f64) = (14400.0, 20.0);
/// Seconds over which calibration forgets, and at least so many horizons.
const CALIBRATION_MEMORY: (f64, f64) = (86400.0, 10.0);
/// From this horizon on the filtered estimate is the better witness of the fused forecast's error, s.
const LATE: f64 = 1000.0;
/// From there on a claim that has not been tested yet is widened by this against the next shorter horizon's, as a variance:
/// rooms and days, which a random walk knows nothing of, come in here.
const UNFORESEEN: f64 = 4.0;
/// From this horizon on all exchanges tell alike, whatever their noise, s.
const FAR: f64 = 4000.0;
/// Share of the usual squared error that is added to the noise there.
const FAR_FLOOR: f64 = 0.1;

/// The experts' weights and forecasts under test at every horizon: `E` experts, `K` horizons, `P` frozen forecasts and `C`
/// scores for calibration per horizon.
#[derive(Clone, Debug)]
pub struct Fusion<const E: usize = 36, const K: usize = 7, const P: usize = 64, const C: usize = 96> {
    nodes: [Node<E, P, C>; K],
    /// The fused extrapolation, made when it is first asked for.
    curve: OnceCell<[Fused; K]>,
    /// Log weights before anything is known.
    prior: [f32; E],
    /// What an expert's evidence must overcome at every horizon anew, as a log weight.
    handicap: [f32; E],
    /// Squared distance of each expert's present from the fused one, s^2.
    stray: [f32; E],
    scale: f64,
}

#[derive(Clone, Debug)]
struct Node<const E: usize, const P: usize, const C: usize> {
    horizon: f64,
    frozen: heapless::Deque<Frozen<E>, P>,
    skill: [Skill; E],
    /// What the median expert's squared error usually is, s^2.
    level: f64,
    /// Discounted number of scored forecasts, and the interval between them.
    scored: f64,
    spacing: f64,
    last_scored: Option<Timestamp<Local>>,
    /// Experts from this index on are on probation: they are scored before they are heard.
    unproven: usize,
    /// Log weights, zero for the best.
    log_weight: [f32; E],
    /// The variance that each expert claims of late, s^2.
    claim: [f32; E],
    /// Mean variance of the exchanges that scored, s^2.
    noise: f64,
    /// The least loss of any expert, s^2.
    least: f32,
    /// The part of them that this horizon's own forecasts tell, and for how many forecasts they count.
    own: [f32; E],
    evidence: f64,
    calibration: Calibration<C>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Skill {
    loss: f64,
    weight: f64,
    /// Forecasts scored, up to the end of probation.
    trials: u8,
}

#[derive(Clone, Debug)]
struct Frozen<const E: usize> {
    at: Timestamp<Local>,
    line: Line,
    displacement: [f32; E],
    slope: [f32; E],
    fused: f32,
    fused_slope: f32,
    deviation: f32,
}

/// The fused forecast at one horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fused {
    /// Beyond the base line, s.
    pub displacement: f64,
    /// Slope beyond the base line's, s/s.
    pub slope: f64,
    /// Claimed standard deviation before calibration, s.
    pub deviation: f64,
    /// Half-width of the calibrated 95 % interval, s.
    pub half_width: f64,
}

impl<const E: usize, const K: usize, const P: usize, const C: usize> Fusion<E, K, P, C> {
    /// Nothing is known but `prior`, the experts' log weights at the start, and `handicap`, what their evidence must overcome at
    /// every horizon. `scale` stretches all horizons.
    pub fn new(prior: [f32; E], handicap: [f32; E], scale: f64) -> Self {
        Self {
            nodes: horizons::<K>().map(|horizon| Node {
                horizon: horizon * scale,
                frozen: heapless::Deque::new(),
                skill: [Skill::default(); E],
                level: f64::INFINITY,
                scored: 0.0,
                spacing: 16.0,
                last_scored: None,
                unproven: E - 2,
                log_weight: prior,
                claim: [f32::NAN; E],
                noise: 0.0,
                least: f32::INFINITY,
                own: [0.0; E],
                evidence: 0.0,
                calibration: Calibration::new(),
            }),
            curve: OnceCell::new(),
            prior,
            handicap,
            stray: [0.0; E],
            scale,
        }
    }

    /// The horizon of node `node`, s.
    pub fn horizon(&self, node: usize) -> f64 {
        self.nodes[node].horizon
    }

    /// The logarithms of the experts' weights at `node`, zero for the best.
    pub fn log_weights(&self, node: usize) -> &[f32; E] {
        &self.nodes[node].log_weight
    }

    /// Root mean squared error of expert `index` at `node`, in s, if it has been scored.
    pub fn skill(&self, node: usize, index: usize) -> Option<f64> {
        let skill = &self.nodes[node].skill[index];
        (skill.weight > 0.0).then(|| libm::sqrt(skill.loss))
    }

    /// Notes how far each expert's estimate of the present is from the `fused` one. Those without one follow the base line.
    pub fn mark_strays(&mut self, present: &[Prediction; E], fused: &Fused) {
        for (stray, prediction) in self.stray.iter_mut().zip(present) {
            let line = if prediction.displacement.is_finite() { prediction.displacement } else { 0.0 };
            #[allow(clippy::cast_possible_truncation, reason = "a share of a loss")]
            let distance = (line - fused.displacement) as f32;
            *stray = distance * distance;
        }
    }

    /// Scores every frozen forecast whose horizon has passed at `at`. `raw` is the measured offset and its variance *before* it
    /// entered the filters, `filtered` the estimate after, both in s relative to the bank's reference.
    pub fn score(&mut self, at: Timestamp<Local>, raw: (f64, f64), filtered: (f64, f64)) {
        let scale = self.scale;
        let mut shorter = self.prior;
        let mut k2 = 1.0;
        for node in &mut self.nodes {
            node.score(at, raw, filtered, scale);
            let lengthened = if node.horizon >= LATE * scale { UNFORESEEN } else { 1.0 };
            node.calibration.inherit(lengthened * k2);
            k2 = node.calibration.k2();
            node.weigh(&shorter, &self.handicap, &self.stray);
            shorter = node.log_weight;
        }
    }

    /// The fused forecast at `node` from the experts' predictions.
    pub fn fuse(&self, node: usize, predictions: &[Prediction; E]) -> Fused {
        self.nodes[node].fuse(predictions)
    }

    /// The fused forecasts at every horizon, `predict` being asked for those that have not been made since the last
    /// [`Fusion::forget_curve`].
    pub fn curve(&self, predict: impl Fn(f64) -> [Prediction; E]) -> &[Fused; K] {
        self.curve.get_or_init(|| {
            let mut widest = 0.0f64;
            core::array::from_fn(|node| {
                let mut fused = self.nodes[node].fuse(&predict(self.nodes[node].horizon));
                // Nobody knows the further future better than the nearer one.
                widest = widest.max(fused.half_width);
                fused.half_width = widest;
                fused
            })
        })
    }

    /// The experts have news: what was made of them is void.
    pub fn forget_curve(&mut self) {
        self.curve = OnceCell::new();
    }

    /// Whether node `node` wants a forecast frozen at `at`.
    pub fn wants(&self, node: usize, at: Timestamp<Local>) -> bool {
        self.nodes[node].wants(at)
    }

    /// Freezes the forecasts made at `at` for `node`.
    pub fn freeze(
        &mut self,
        node: usize,
        at: Timestamp<Local>,
        line: Line,
        predictions: &[Prediction; E],
        fused: &Fused,
    ) {
        self.nodes[node].freeze(at, line, predictions, fused);
    }

    /// The best of the first `count` experts at `node`.
    pub fn best_of(&self, node: usize, count: usize) -> usize {
        let weights = &self.nodes[node].log_weight[..count.min(E)];
        let best = (0..weights.len()).max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
        match best {
            // Nothing told them apart yet: the middle of the bank.
            Some(best) if weights.iter().any(|&w| w != weights[best]) => best,
            _ => weights.len() * 2 / 3,
        }
    }

    /// Whether expert `index` has been scored often enough at `node` to be heard.
    pub fn is_heard(&self, node: usize, index: usize) -> bool {
        self.nodes[node].skill[index].trials >= PROBATION
    }

    /// Drops the forecasts under test, whose future will not come: the skill stays.
    pub fn forget_frozen(&mut self) {
        for node in &mut self.nodes {
            node.frozen.clear();
        }
    }

    /// The bank's reference moved by `shift` s.
    pub fn rebase(&mut self, shift: f64) {
        for node in &mut self.nodes {
            for frozen in node.frozen.iter_mut() {
                frozen.line.x -= shift;
            }
        }
    }
}

#[allow(clippy::needless_range_loop, reason = "experts are one index into several arrays")]
#[allow(clippy::cast_possible_truncation, reason = "displacements and weights need no more than f32")]
impl<const E: usize, const P: usize, const C: usize> Node<E, P, C> {
    fn wants(&self, at: Timestamp<Local>) -> bool {
        match self.frozen.back() {
            None => true,
            Some(last) => at.since(last.at).as_secs_f64() >= self.horizon / (P as f64 / 4.0),
        }
    }

    fn freeze(&mut self, at: Timestamp<Local>, line: Line, predictions: &[Prediction; E], fused: &Fused) {
        if self.frozen.is_full() {
            self.frozen.pop_front();
        }
        self.claim = core::array::from_fn(|i| {
            if predictions[i].displacement.is_finite() { predictions[i].variance as f32 } else { f32::NAN }
        });
        self.judge();
        let _ = self.frozen.push_back(Frozen {
            at,
            line,
            displacement: core::array::from_fn(|i| predictions[i].displacement as f32),
            slope: core::array::from_fn(|i| predictions[i].slope as f32),
            fused: fused.displacement as f32,
            fused_slope: fused.slope as f32,
            deviation: fused.deviation as f32,
        });
    }

    fn score(&mut self, at: Timestamp<Local>, raw: (f64, f64), filtered: (f64, f64), scale: f64) {
        let mut scored = false;
        while let Some(frozen) = self.frozen.front() {
            let age = at.since(frozen.at).as_secs_f64();
            if age < self.horizon || age <= 0.0 {
                break;
            }
            // The slot is taken out even when it is too old to be a fair test of this horizon.
            let Some(frozen) = self.frozen.pop_front() else { break };
            if age > 2.0 * self.horizon + 256.0 * scale {
                continue;
            }
            self.score_one(at, &frozen, age, raw, filtered, scale);
            scored = true;
        }
        if scored {
            self.judge();
        }
    }

    fn score_one(
        &mut self,
        at: Timestamp<Local>,
        frozen: &Frozen<E>,
        age: f64,
        raw: (f64, f64),
        filtered: (f64, f64),
        scale: f64,
    ) {
        let extra = age - self.horizon;
        let (target, noise) = raw;
        // Long after the freeze the filtered estimate is the better witness of how wrong the forecast was.
        let late = self.horizon >= LATE * scale && filtered.1 < noise;
        let base = frozen.line.x + frozen.line.r * age - target;
        let mut square = [f32::NAN; E];
        let mut known: heapless::Vec<f32, E> = heapless::Vec::new();
        for i in 0..E {
            if frozen.displacement[i].is_finite() {
                let error = base + f64::from(frozen.displacement[i]) + f64::from(frozen.slope[i]) * extra;
                square[i] = (error * error) as f32;
                let _ = known.push(square[i]);
            }
        }
        if known.is_empty() {
            return;
        }
        let least = f64::from(known.iter().copied().fold(f32::INFINITY, f32::min));
        let middle = known.len() / 2;
        let (_, &mut median, _) = known.select_nth_unstable_by(middle, f32::total_cmp);
        // An exchange that contradicts all experts alike tells nothing about them.
        let median = f64::from(median);
        let usual = self.level.min(median);
        let typical = usual + noise;
        if self.level.is_finite() {
            self.level += (median.min(4.0 * self.level) - self.level) / 16.0;
        } else {
            self.level = median;
        }
        let elapsed = self.last_scored.map_or(0.0, |last| at.since(last).as_secs_f64());
        self.last_scored = Some(at);
        let keep = libm::exp(-elapsed / (MEMORY.0 * scale).max(MEMORY.1 * self.horizon));
        self.scored = self.scored * keep + 1.0;
        if elapsed > 0.0 {
            self.spacing += (elapsed - self.spacing) / self.scored.min(50.0);
        }
        let floor = if self.horizon >= FAR * scale { FAR_FLOOR * usual } else { 0.0 };
        // Nor does one that even the best expert is far from: a spike.
        let doubt = (least / (SPIKE * typical)).max(1.0);
        // And what was frozen in doubt, by a young clock, is no measure of the experts of today.
        let doubted = f64::from(frozen.deviation) * f64::from(frozen.deviation);
        let importance = 1.0 / ((noise + floor + doubted).max(1e-18) * doubt * doubt);
        for i in 0..E {
            let skill = &mut self.skill[i];
            skill.weight *= keep;
            if square[i].is_finite() {
                let capped = f64::from(square[i]).min(CAP * typical);
                let total = skill.weight + importance;
                skill.loss += (capped - skill.loss) * importance / total;
                skill.weight = total;
                if i == 0 {
                    self.noise += (noise - self.noise) * importance / total;
                }
                skill.trials = skill.trials.saturating_add(1);
            }
        }
        let error = base + f64::from(frozen.fused) + f64::from(frozen.fused_slope) * extra;
        let error = if late { error + target - filtered.0 } else { error };
        let noise = if late { filtered.1 } else { noise };
        let memory = (CALIBRATION_MEMORY.0 * scale).max(CALIBRATION_MEMORY.1 * self.horizon);
        let overlap = 1.0 + OVERLAP * self.horizon / self.spacing.max(1e-3);
        let deviation = f64::from(frozen.deviation);
        self.calibration.learn(error, deviation * deviation, noise, libm::exp(-elapsed / memory), overlap);
    }

    /// What this horizon's own forecasts say of the experts, and a little of what they say themselves.
    ///
    /// In a horizon's first forecasts luck tells more than skill: a loose filter is as likely to be close as a stiff one, while
    /// it claims far less. So each expert's claim counts as a fraction of one forecast, which favours the tightest
    /// claim that nothing has contradicted, and is forgotten once there are forecasts to judge by.
    fn judge(&mut self) {
        let overlap = 1.0 + OVERLAP * self.horizon / self.spacing.max(1e-3);
        self.evidence = (self.scored / overlap).min(MAX_EVIDENCE);
        let best = self.skill.iter().filter(|s| s.weight > 0.0).map(|s| s.loss).fold(f64::INFINITY, f64::min);
        let scored = best.is_finite();
        let most = self.skill.iter().map(|s| s.weight).fold(1e-30, f64::max);
        let mediocre = if scored { self.mediocre(best.max(1e-30)) } else { 0.0 };
        // Between two exchanges a claim is about another span than the one that is scored.
        let faith = if self.horizon < CLAIM_SPACINGS * self.spacing { 0.0 } else { CLAIM };
        let mut losses = [f64::NAN; E];
        for i in 0..E {
            let claim = f64::from(self.claim[i]) + self.noise;
            losses[i] = if self.skill[i].weight > 0.0 {
                // An expert that has been scored less than the others is taken to be mediocre where it was not.
                let known = (self.skill[i].weight / most).min(1.0);
                let loss = known * self.skill[i].loss + (1.0 - known) * mediocre;
                if claim.is_finite() { (self.evidence * loss + faith * claim) / (self.evidence + faith) } else { loss }
            } else if scored {
                f64::NAN
            } else {
                claim
            };
        }
        let least = losses.iter().copied().fold(f64::INFINITY, f64::min).max(1e-30);
        self.least = least as f32;
        let weight = -0.5 * (self.evidence + faith) as f32;
        for (own, loss) in self.own.iter_mut().zip(losses) {
            *own = if loss.is_finite() { weight * libm::logf((loss.max(1e-30) / least) as f32) } else { 0.0 };
        }
    }

    /// The log weights, with what the next shorter horizon and the present say.
    fn weigh(&mut self, shorter: &[f32; E], handicap: &[f32; E], stray: &[f32; E]) {
        let share = (NEIGHBOUR + (1.0 - NEIGHBOUR) / (1.0 + self.evidence / OWN)) as f32;
        let limit = -(NEIGHBOUR_LIMIT / (self.evidence + 0.3)) as f32;
        let mut highest = f32::NEG_INFINITY;
        let trials = (0.5 + 0.5 * self.evidence).min(STRAY_TRIALS) as f32;
        let tested = self.evidence.min(1.0) as f32;
        for i in 0..E {
            let mut log_weight = self.own[i] + handicap[i] + (share * shorter[i]).max(limit);
            if self.horizon > 0.0 {
                let ratio = (stray[i] / self.least).min(1e6);
                let far = (ratio - 1.0).clamp(0.0, STRAY_FAR);
                log_weight -= 0.5 * trials * ratio / (1.0 + ratio / STRAY_NEAR) + tested * far;
            }
            self.log_weight[i] = log_weight;
            highest = highest.max(self.log_weight[i]);
        }
        for weight in &mut self.log_weight {
            *weight -= highest;
        }
    }

    /// The median loss of those scored.
    fn mediocre(&self, best: f64) -> f64 {
        let mut losses: heapless::Vec<f64, E> = heapless::Vec::new();
        for skill in self.skill.iter().filter(|s| s.weight > 0.0) {
            let _ = losses.push(skill.loss);
        }
        if losses.is_empty() {
            return best;
        }
        let middle = losses.len() / 2;
        *losses.select_nth_unstable_by(middle, f64::total_cmp).1
    }

    fn fuse(&self, predictions: &[Prediction; E]) -> Fused {
        let mut order: heapless::Vec<(f64, f32, usize), E> = heapless::Vec::new();
        let speaks = |i: usize| {
            predictions[i].displacement.is_finite() && (i < self.unproven || self.skill[i].trials >= PROBATION)
        };
        let highest = (0..E).filter(|&i| speaks(i)).map(|i| self.log_weight[i]).fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for (i, prediction) in predictions.iter().enumerate() {
            let evidence = self.log_weight[i] - highest;
            if speaks(i) && evidence > NEGLIGIBLE {
                let weight = libm::expf(evidence);
                let _ = order.push((prediction.displacement, weight, i));
                total += weight;
            }
        }
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (low, high) = (TRIM * total, (1.0 - TRIM) * total);
        let (mut passed, mut mass, mut sum, mut slope, mut variance) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(value, weight, i) in &order {
            let inside = f64::from(((passed + weight).min(high) - passed.max(low)).max(0.0));
            passed += weight;
            mass += inside;
            sum += inside * value;
            slope += inside * predictions[i].slope;
            variance += inside * predictions[i].variance;
        }
        let displacement = sum / mass;
        let spread: f64 =
            order.iter().map(|&(v, w, _)| f64::from(w / total) * (v - displacement) * (v - displacement)).sum();
        let deviation = libm::sqrt(variance / mass + spread);
        Fused { displacement, slope: slope / mass, deviation, half_width: self.calibration.factor() * deviation }
    }
}
