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
//! **Numerics.** Instants, the base line and what is measured against it are f64; what is left, the experts' distances from that
//! line, their squares and their averages, are f32. An average that takes in a three-hundredth of each square is then good to
//! about five digits, and a weight that follows from two hundred of them to the third: a thousandth of a log weight.
//!
//! **Weaknesses.** A horizon that has not passed even once has no evidence of its own, only its shorter neighbours'.

use core::cell::OnceCell;

use crate::calibration::Calibration;
use crate::decay::forgotten;
use crate::estimator::{Line, Prediction};
use crate::rank::ranked;
use crate::units::{Local, Span, Timestamp};

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
const MAX_EVIDENCE: f32 = 200.0;
/// How strongly overlapping forecasts are discounted.
const OVERLAP: f32 = 0.5;
/// Share of the next shorter horizon's log weight that is added; all of it while there is no evidence of one's own.
const NEIGHBOUR: f32 = 0.8;
/// Evidence at which that share has fallen half way.
const OWN: f32 = 8.0;
/// The neighbour's word is limited to this, divided by one's own evidence.
const NEIGHBOUR_LIMIT: f32 = 5.0;
/// What an expert's own claim counts for, in independent forecasts.
const CLAIM: f32 = 0.5;
/// Claims count from this many intervals between exchanges on.
const CLAIM_SPACINGS: f32 = 2.0;
/// The most forecasts that a stray present counts for.
const STRAY_TRIALS: f32 = 2.0;
/// Where that saturates, and how far what is beyond the best loss counts once the horizon has been tested, both as a share of
/// that loss.
const STRAY_NEAR: f32 = 8.0;
const STRAY_FAR: f32 = 50.0;
/// Squared errors are capped at this multiple of the usual one.
const CAP: f32 = 400.0;
/// An exchange loses weight once the best expert's squared error is beyond this multiple of the usual one.
const SPIKE: f32 = 4.0;
/// A spike counts for no less than the inverse square of this, as against an exchange that is none.
const MOST_DOUBT: f32 = 1e6;
/// Log weights below this do not take part.
const NEGLIGIBLE: f32 = -6.0;
/// Forecasts of a model that must have been scored at a horizon before it is heard there.
const PROBATION: u8 = 24;
/// One of so many slots for frozen forecasts is in use when exchanges come regularly.
const SPARE: i64 = 4;
/// The weighted distribution is trimmed to its middle, from this share to the rest.
const TRIM: f32 = 0.3;
/// Seconds over which skill forgets, and at least so many horizons.
const MEMORY: (f32, f32) = (14400.0, 20.0);
/// Seconds over which calibration forgets, and at least so many horizons.
const CALIBRATION_MEMORY: (f32, f32) = (86400.0, 10.0);
/// From this horizon on the filtered estimate is the better witness of the fused forecast's error, s.
const LATE: f32 = 1000.0;
/// From there on a claim that has not been tested yet is widened by this against the next shorter horizon's, as a variance:
/// rooms and days, which a random walk knows nothing of, come in here.
const UNFORESEEN: f32 = 3.0;
/// And at least by this.
const AT_FIRST: f32 = 4.0;
/// From this horizon on all exchanges tell alike, whatever their noise, s.
const FAR: f32 = 4000.0;
/// Share of the usual squared error that is added to the noise there.
const FAR_FLOOR: f32 = 0.1;

/// The experts' weights and forecasts under test at every horizon: `E` experts, `K` horizons, `P` frozen forecasts and `C`
/// scores for calibration per horizon.
#[derive(Clone, Debug)]
pub struct Fusion<const E: usize = 36, const K: usize = 7, const P: usize = 64, const C: usize = 96> {
    nodes: [Node<E, P, C>; K],
    /// The fused extrapolation, made when it is first asked for.
    curve: OnceCell<[Ahead; K]>,
    /// Log weights before anything is known.
    prior: [f32; E],
    /// What an expert's evidence must overcome at every horizon anew, as a log weight.
    handicap: [f32; E],
    /// Squared distance of each expert's present from the fused one, s^2.
    stray: [f32; E],
    scale: f32,
}

#[derive(Clone, Debug)]
struct Node<const E: usize, const P: usize, const C: usize> {
    horizon: f32,
    /// The same.
    reach: Span,
    frozen: heapless::Deque<Frozen<E>, P>,
    skill: [Skill; E],
    /// What the median expert's squared error usually is, s^2.
    level: f32,
    /// Discounted number of scored forecasts, and the interval between them.
    scored: f32,
    spacing: f32,
    last_scored: Option<Timestamp<Local>>,
    /// Experts from this index on are on probation: they are scored before they are heard.
    unproven: usize,
    /// Log weights, zero for the best.
    log_weight: [f32; E],
    /// The variance that each expert claims of late, s^2.
    claim: [f32; E],
    /// Mean variance of the exchanges that scored, s^2.
    noise: f32,
    /// The least loss of any expert, s^2.
    least: f32,
    /// The part of them that this horizon's own forecasts tell, and for how many forecasts they count.
    own: [f32; E],
    evidence: f32,
    /// Whether `own` waits for what has been learned since.
    unjudged: bool,
    calibration: Calibration<C>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Skill {
    loss: f32,
    weight: f32,
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

/// What a sample says of the forecasts under test: see [`Fusion::score`].
#[derive(Clone, Copy, Debug)]
struct Witness {
    at: Timestamp<Local>,
    /// Offset, s, and variance, s^2.
    raw: (f64, f32),
    filtered: (f64, f32),
    scale: f32,
}

/// The fused forecast at one horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fused {
    /// Beyond the base line, s.
    pub displacement: f32,
    /// Slope beyond the base line's, s/s.
    pub slope: f32,
    /// Claimed standard deviation before calibration, s.
    pub deviation: f32,
}

/// The fused extrapolation at one horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ahead {
    /// Beyond the base line, s.
    pub displacement: f32,
    /// Half-width of the calibrated 95 % interval, s.
    pub half_width: f32,
}

#[allow(clippy::cast_possible_truncation, reason = "what is said under Numerics")]
impl<const E: usize, const K: usize, const P: usize, const C: usize> Fusion<E, K, P, C> {
    /// Nothing is known but `prior`, the experts' log weights at the start, and `handicap`, what their evidence must overcome at
    /// every horizon. `scale` stretches all horizons.
    pub fn new(prior: [f32; E], handicap: [f32; E], scale: f64) -> Self {
        Self {
            nodes: horizons::<K>().map(|horizon| Node {
                horizon: (horizon * scale) as f32,
                reach: Span::from_secs_f64(horizon * scale),
                frozen: heapless::Deque::new(),
                skill: [Skill::default(); E],
                level: f32::INFINITY,
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
                unjudged: true,
                calibration: Calibration::new(),
            }),
            curve: OnceCell::new(),
            prior,
            handicap,
            stray: [0.0; E],
            scale: scale as f32,
        }
    }

    /// The horizon of node `node`, s.
    pub fn horizon(&self, node: usize) -> f32 {
        self.nodes[node].horizon
    }

    /// The logarithms of the experts' weights at `node`, zero for the best.
    pub fn log_weights(&self, node: usize) -> &[f32; E] {
        &self.nodes[node].log_weight
    }

    /// Root mean squared error of expert `index` at `node`, in s, if it has been scored.
    pub fn skill(&self, node: usize, index: usize) -> Option<f64> {
        let skill = &self.nodes[node].skill[index];
        (skill.weight > 0.0).then(|| libm::sqrt(f64::from(skill.loss)))
    }

    /// Notes how far each expert's estimate of the present is from the `fused` one. Those without one follow the base line.
    pub fn mark_strays(&mut self, present: &[Prediction; E], fused: &Fused) {
        for (stray, prediction) in self.stray.iter_mut().zip(present) {
            let line = if prediction.displacement.is_finite() { prediction.displacement } else { 0.0 };
            let distance = line - fused.displacement;
            *stray = distance * distance;
        }
    }

    /// Scores every frozen forecast whose horizon has passed at `at`. `raw` is the measured offset and its variance *before* it
    /// entered the filters, `filtered` the estimate after, both in s relative to the bank's reference.
    pub fn score(&mut self, at: Timestamp<Local>, raw: (f64, f64), filtered: (f64, f64)) {
        let single = |(offset, variance): (f64, f64)| (offset, variance as f32);
        let witness = Witness { at, raw: single(raw), filtered: single(filtered), scale: self.scale };
        let inherited = if self.nodes.iter().skip(1).any(|node| node.is_due(at)) { self.inherited() } else { [1.0; K] };
        let mut shorter = &self.prior;
        for (node, inherited) in self.nodes.iter_mut().zip(inherited) {
            node.score(&witness, inherited);
            if node.unjudged {
                node.judge();
                node.unjudged = false;
            }
            node.weigh(shorter, &self.handicap, &self.stray);
            shorter = &node.log_weight;
        }
    }

    /// What each horizon's calibration starts from: [`Calibration::k2`] of the next shorter one.
    fn inherited(&self) -> [f32; K] {
        let mut k2 = 1.0;
        core::array::from_fn(|i| {
            let node = &self.nodes[i];
            let inherited = if node.horizon >= LATE * self.scale { (UNFORESEEN * k2).max(AT_FIRST) } else { k2 };
            if i + 1 < K {
                k2 = node.calibration.k2(inherited);
            }
            inherited
        })
    }

    /// The fused forecast at `node` from the experts' predictions.
    pub fn fuse(&self, node: usize, predictions: &[Prediction; E]) -> Fused {
        self.nodes[node].fuse(predictions)
    }

    /// The fused forecasts at every horizon, `predict` being asked for those that have not been made since the last
    /// [`Fusion::forget_curve`].
    pub fn curve(&self, predict: impl Fn(f32) -> [Prediction; E]) -> &[Ahead; K] {
        self.curve.get_or_init(|| {
            let inherited = self.inherited();
            let mut widest = 0.0f32;
            core::array::from_fn(|i| {
                let node = &self.nodes[i];
                let fused = node.fuse(&predict(node.horizon));
                let factor = node.calibration.factor(node.calibration.k2(inherited[i]));
                // Nobody knows the further future better than the nearer one.
                widest = widest.max(factor * fused.deviation);
                Ahead { displacement: fused.displacement, half_width: widest }
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
#[allow(clippy::cast_possible_truncation, reason = "what is said under Numerics")]
impl<const E: usize, const P: usize, const C: usize> Node<E, P, C> {
    fn wants(&self, at: Timestamp<Local>) -> bool {
        match self.frozen.back() {
            None => true,
            Some(last) => at.since(last.at).saturating_mul(const { slots(P) }) >= self.reach.saturating_mul(SPARE),
        }
    }

    fn freeze(&mut self, at: Timestamp<Local>, line: Line, predictions: &[Prediction; E], fused: &Fused) {
        if self.frozen.is_full() {
            self.frozen.pop_front();
        }
        self.claim = core::array::from_fn(|i| {
            if predictions[i].displacement.is_finite() { predictions[i].variance } else { f32::NAN }
        });
        self.unjudged = true;
        let _ = self.frozen.push_back(Frozen {
            at,
            line,
            displacement: core::array::from_fn(|i| predictions[i].displacement),
            slope: core::array::from_fn(|i| predictions[i].slope),
            fused: fused.displacement,
            fused_slope: fused.slope,
            deviation: fused.deviation,
        });
    }

    /// Whether a frozen forecast's horizon has passed.
    fn is_due(&self, at: Timestamp<Local>) -> bool {
        self.frozen.front().is_some_and(|frozen| {
            let age = at.since(frozen.at);
            age >= self.reach && age > Span::ZERO
        })
    }

    fn score(&mut self, witness: &Witness, inherited: f32) {
        let at = witness.at;
        while self.is_due(at) {
            // The slot is taken out even when it is too old to be a fair test of this horizon.
            let Some(frozen) = self.frozen.pop_front() else { break };
            let age = at.since(frozen.at).as_secs_f64();
            if age as f32 > 2.0 * self.horizon + 256.0 * witness.scale {
                continue;
            }
            self.score_one(&frozen, age, witness, inherited);
            self.unjudged = true;
        }
    }

    fn score_one(&mut self, frozen: &Frozen<E>, age: f64, witness: &Witness, inherited: f32) {
        let &Witness { at, raw, filtered, scale } = witness;
        let extra = age as f32 - self.horizon;
        let (target, noise) = raw;
        // Long after the freeze the filtered estimate is the better witness of how wrong the forecast was.
        let late = self.horizon >= LATE * scale && filtered.1 < noise;
        let base = (frozen.line.x + frozen.line.r * age - target) as f32;
        let mut square = [f32::NAN; E];
        let mut known: heapless::Vec<f32, E> = heapless::Vec::new();
        for i in 0..E {
            if frozen.displacement[i].is_finite() {
                let error = base + frozen.displacement[i] + frozen.slope[i] * extra;
                square[i] = error * error;
                let _ = known.push(square[i]);
            }
        }
        if known.is_empty() {
            return;
        }
        let least = known.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a });
        let middle = known.len() / 2;
        // An exchange that contradicts all experts alike tells nothing about them.
        let median = ranked(&mut known, middle);
        let usual = self.level.min(median);
        let typical = usual + noise;
        if self.level.is_finite() {
            self.level += (median.min(4.0 * self.level) - self.level) / 16.0;
        } else {
            self.level = median;
        }
        let elapsed = self.last_scored.map_or(0.0, |last| at.since(last).as_secs_f64() as f32);
        self.last_scored = Some(at);
        let keep = 1.0 - forgotten(elapsed, (MEMORY.0 * scale).max(MEMORY.1 * self.horizon));
        self.scored = self.scored * keep + 1.0;
        if elapsed > 0.0 {
            self.spacing += (elapsed - self.spacing) / self.scored.min(50.0);
        }
        let floor = if self.horizon >= FAR * scale { FAR_FLOOR * usual } else { 0.0 };
        // Nor does one that even the best expert is far from: a spike.
        let plausible = SPIKE * typical;
        let doubt = if least > plausible { (least / plausible).min(MOST_DOUBT) } else { 1.0 };
        // And what was frozen in doubt, by a young clock, is no measure of the experts of today.
        let doubted = frozen.deviation * frozen.deviation;
        let importance = 1.0 / ((noise + floor + doubted).max(1e-18) * doubt * doubt);
        let cap = CAP * typical;
        // Experts that have always been scored together have the same weight, so what follows from it is worked out once.
        let (mut weight, mut kept, mut total, mut gain) = (f32::NAN, 0.0, 0.0, 0.0);
        for (i, (skill, &square)) in self.skill.iter_mut().zip(&square).enumerate() {
            if skill.weight != weight {
                weight = skill.weight;
                kept = weight * keep;
                total = kept + importance;
                gain = importance / total;
            }
            if !square.is_finite() {
                skill.weight = kept;
                continue;
            }
            skill.loss += (if square > cap { cap } else { square } - skill.loss) * gain;
            skill.weight = total;
            if i == 0 {
                self.noise += (noise - self.noise) * gain;
            }
            skill.trials = skill.trials.saturating_add(1);
        }
        let error = base + frozen.fused + frozen.fused_slope * extra;
        let error = if late { error + (target - filtered.0) as f32 } else { error };
        let noise = if late { filtered.1 } else { noise };
        let memory = (CALIBRATION_MEMORY.0 * scale).max(CALIBRATION_MEMORY.1 * self.horizon);
        let keep = 1.0 - forgotten(elapsed, memory);
        self.calibration.learn(error, doubted, noise, keep, self.overlap(), inherited);
    }

    /// What this horizon's own forecasts say of the experts, and a little of what they say themselves.
    ///
    /// In a horizon's first forecasts luck tells more than skill: a loose filter is as likely to be close as a stiff one, while
    /// it claims far less. So each expert's claim counts as a fraction of one forecast, which favours the tightest
    /// claim that nothing has contradicted, and is forgotten once there are forecasts to judge by.
    fn judge(&mut self) {
        self.evidence = (self.scored / self.overlap()).min(MAX_EVIDENCE);
        let (mut best, mut most, mut fewest) = (f32::INFINITY, 1e-30, f32::INFINITY);
        for skill in self.skill.iter().filter(|skill| skill.weight > 0.0) {
            best = if skill.loss < best { skill.loss } else { best };
            most = if skill.weight > most { skill.weight } else { most };
            fewest = if skill.weight < fewest { skill.weight } else { fewest };
        }
        let scored = best.is_finite();
        let mediocre = if fewest < most { self.mediocre(best) } else { best };
        // Between two exchanges a claim is about another span than the one that is scored.
        let faith = if self.horizon < CLAIM_SPACINGS * self.spacing { 0.0 } else { CLAIM };
        let (told, said) = (self.evidence / (self.evidence + faith), faith / (self.evidence + faith));
        let mut losses = [f32::NAN; E];
        for i in 0..E {
            let Skill { loss, weight, .. } = self.skill[i];
            let claims = self.claim[i].is_finite();
            losses[i] = if weight > 0.0 {
                // An expert that has been scored less than the others is taken to be mediocre where it was not.
                let loss = if weight < most { partly_known(loss, weight, most, mediocre) } else { loss };
                if claims && faith > 0.0 { told * loss + said * (self.claim[i] + self.noise) } else { loss }
            } else if claims && !scored {
                self.claim[i] + self.noise
            } else {
                f32::NAN
            };
        }
        let least = losses.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a }).max(1e-30);
        self.least = least;
        let (weight, scale) = (-0.5 * (self.evidence + faith), 1.0 / least);
        for (own, loss) in self.own.iter_mut().zip(losses) {
            *own = if loss > least { weight * libm::logf(loss * scale) } else { 0.0 };
        }
    }

    /// The log weights, with what the next shorter horizon and the present say.
    fn weigh(&mut self, shorter: &[f32; E], handicap: &[f32; E], stray: &[f32; E]) {
        let evidence = self.evidence;
        let share = NEIGHBOUR + (1.0 - NEIGHBOUR) / (1.0 + evidence / OWN);
        let limit = -NEIGHBOUR_LIMIT / (evidence + 0.3);
        let mut highest = f32::NEG_INFINITY;
        let trials = (0.5 + 0.5 * evidence).min(STRAY_TRIALS);
        let tested = evidence.min(1.0);
        for i in 0..E {
            let said = share * shorter[i];
            let mut log_weight = self.own[i] + handicap[i] + if said > limit { said } else { limit };
            if self.horizon > 0.0 {
                let ratio = (stray[i] / self.least).min(1e6);
                let far = (ratio - 1.0).clamp(0.0, STRAY_FAR);
                log_weight -= 0.5 * trials * ratio / (1.0 + ratio / STRAY_NEAR) + tested * far;
            }
            self.log_weight[i] = log_weight;
            highest = if log_weight > highest { log_weight } else { highest };
        }
        for weight in &mut self.log_weight {
            *weight -= highest;
        }
    }

    /// How many forecasts of this horizon are worth one independent one.
    fn overlap(&self) -> f32 {
        if self.horizon > 0.0 { 1.0 + OVERLAP * self.horizon / self.spacing.max(1e-3) } else { 1.0 }
    }

    /// The median loss of those scored.
    fn mediocre(&self, best: f32) -> f32 {
        let mut losses: heapless::Vec<f32, E> = heapless::Vec::new();
        for skill in self.skill.iter().filter(|s| s.weight > 0.0) {
            let _ = losses.push(skill.loss);
        }
        let middle = losses.len() / 2;
        if losses.is_empty() { best } else { ranked(&mut losses, middle) }
    }

    fn fuse(&self, predictions: &[Prediction; E]) -> Fused {
        let speaks = |i: usize| {
            predictions[i].displacement.is_finite() && (i < self.unproven || self.skill[i].trials >= PROBATION)
        };
        let mut highest = f32::NEG_INFINITY;
        for i in (0..E).filter(|&i| speaks(i)) {
            highest = if self.log_weight[i] > highest { self.log_weight[i] } else { highest };
        }
        // Those whose word counts with their weights, in the order of what they say.
        let mut order: heapless::Vec<(f32, f32, usize), E> = heapless::Vec::new();
        let mut total = 0.0;
        for (i, &Prediction { displacement, .. }) in predictions.iter().enumerate() {
            let evidence = self.log_weight[i] - highest;
            if speaks(i) && evidence > NEGLIGIBLE {
                let weight = libm::expf(evidence);
                total += weight;
                let at = order.partition_point(|other| other.0 <= displacement);
                let _ = order.insert(at, (displacement, weight, i));
            }
        }
        let (low, high) = (TRIM * total, (1.0 - TRIM) * total);
        let (mut passed, mut mass, mut sum, mut slope, mut variance) = (0.0_f32, 0.0, 0.0, 0.0, 0.0);
        for &(value, weight, i) in &order {
            let from = if passed > low { passed } else { low };
            passed += weight;
            let to = if passed < high { passed } else { high };
            if to > from {
                let inside = to - from;
                mass += inside;
                sum += inside * value;
                slope += inside * predictions[i].slope;
                variance += inside * predictions[i].variance;
            }
        }
        let scale = 1.0 / mass;
        let displacement = sum * scale;
        let mut spread = 0.0_f32;
        for &(value, weight, _) in &order {
            let away = value - displacement;
            spread += weight / total * away * away;
        }
        Fused { displacement, slope: slope * scale, deviation: libm::sqrtf(variance * scale + spread) }
    }
}

/// A small number as the other type.
const fn slots(count: usize) -> i64 {
    assert!(count < 1 << 16, "far more forecasts than memory");
    #[allow(clippy::cast_possible_wrap, reason = "just checked")]
    let slots = count as i64;
    slots
}

/// A loss that is known with a weight of `weight` out of `most`. Out of line, or the compiler works it out for every expert and
/// then throws it away.
#[cold]
#[inline(never)]
fn partly_known(loss: f32, weight: f32, most: f32, otherwise: f32) -> f32 {
    otherwise + (loss - otherwise) * (weight / most)
}
