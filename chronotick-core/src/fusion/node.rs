//! One horizon: the forecasts under test there, what the experts' errors were, and what follows for their weights.

use super::noise::Noise;
use super::stack::{Share, without_little};
use super::{Fused, MODELS, MOST_EXPERTS, bank, stacked};
use crate::calibration::Calibration;
use crate::estimator::Line;
use crate::evidence;
use crate::opinions::Opinions;
use crate::rank::{greatest, ranked};
use crate::units::{Local, Span, Timestamp};

/// The most that evidence may count, in independent forecasts.
const MAX_EVIDENCE: f32 = 200.0;
/// How strongly overlapping forecasts are discounted.
const OVERLAP: f32 = 0.5;
/// Share of the next shorter horizon's log weight that is added; all of it while there is no evidence of one's own.
const NEIGHBOUR: f32 = 0.8;
/// Evidence at which that share has fallen half way.
const OWN: f32 = 8.0;
/// The neighbour's word is limited to this, divided by one's own evidence.
const NEIGHBOUR_LIMIT: f32 = 6.0;
/// What an expert's own claim counts for, in independent forecasts.
const CLAIM: f32 = 0.4;
/// Claims count from this many intervals between exchanges on.
const CLAIM_SPACINGS: f32 = 2.0;
/// The most forecasts that a stray present counts for.
const STRAY_TRIALS: f32 = 2.0;
/// Where that saturates, and how far what is beyond the best loss counts once the horizon has been tested, both as a share of
/// that loss.
const STRAY_NEAR: f32 = 8.0;
const STRAY_FAR: f32 = 50.0;
/// So many times the variance of the exchanges are added to it: what they cannot tell apart does not stray.
const STRAY_NOISE: f32 = 4.0;
/// Squared errors are capped at this multiple of the usual one.
const CAP: f32 = 20.0;
/// An exchange loses weight once the best expert's squared error is beyond this multiple of the usual one.
const SPIKE: f32 = 4.0;
/// A spike counts for no less than the inverse square of this, as against an exchange that is none.
const MOST_DOUBT: f32 = 1e6;
/// An expert that has been scored for this part of what the others have been is known as well as they.
const ENOUGH: f32 = 0.99;
/// Who is further from the others than so many times its claimed variance is far off, and how far is no measure of anybody's doubt.
const FARTHEST: f32 = 1600.0;
/// Log weights below this do not take part.
const NEGLIGIBLE: f32 = -6.0;
/// One of so many slots for frozen forecasts is in use when exchanges come regularly; twice as many where few pass, or where there
/// is but one.
const SPARE: i64 = 8;
/// The weighted distribution is trimmed to its middle, from this share to the rest.
const TRIM: f32 = 0.25;
/// Seconds over which skill forgets, and at least so many horizons.
const MEMORY: (f32, f32) = (14400.0, 20.0);
/// Seconds over which calibration forgets, and at least so many horizons.
const CALIBRATION_MEMORY: (f32, f32) = (86400.0, 10.0);
/// From this horizon on all exchanges tell alike, whatever their noise, s. Those of several servers do at every horizon: the one that claims
/// the least may be lying, and a few exchanges of it are not to outweigh all that the others tell for hours.
const FAR: f32 = 4000.0;
/// Share of the usual squared error that is added to the noise there.
const ALIKE: f32 = 0.1;
/// From this horizon on the filtered estimate is the better witness of the fused forecast's error, s.
const LATE: f32 = 1000.0;
/// And of the experts', where the forecast had claimed a variance of so many times that of the estimate.
const CLEARER: f32 = 12.0;
/// From this horizon on it is one more witness of the fused forecast's, s, where that had claimed twice its deviation.
const SOON: f32 = 200.0;
const CLEAR: f32 = 4.0;

/// The state of one horizon.
#[derive(Clone, Debug)]
pub(super) struct Node<const E: usize, const P: usize, const C: usize, const L: usize> {
    pub(super) horizon: f32,
    /// The same.
    reach: Span,
    /// One of so many slots is in use, see [`SPARE`].
    spare: i64,
    pub(super) frozen: heapless::Deque<Frozen<E>, P>,
    pub(super) skill: [Skill; E],
    /// What the median expert's squared error usually is, s^2.
    level: f32,
    /// Discounted number of scored forecasts, and the interval between them.
    scored: f32,
    spacing: f32,
    last_scored: Option<Timestamp<Local>>,
    /// What each stacked expert adds to the bank.
    pub(super) shares: [Share; L],
    /// Log weights, zero for the best.
    pub(super) log_weight: [f32; E],
    /// Whether they are those of an earlier sample.
    pub(super) outdated: bool,
    /// The variance that each expert claims of late, s^2.
    claim: [f32; E],
    /// None of the bank from here on has ever something to say so near.
    silent_from: usize,
    /// Mean variance of the witnesses that scored, s^2.
    noise: f32,
    /// The least loss of any expert, s^2.
    least: f32,
    /// The part of them that this horizon's own forecasts tell, and for how many forecasts they count.
    own: [f32; E],
    evidence: f32,
    /// Whether `own` waits for what has been learned since.
    pub(super) unjudged: bool,
    pub(super) calibration: Calibration<C>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Skill {
    pub(super) loss: f32,
    pub(super) weight: f32,
}

#[derive(Clone, Debug)]
pub(super) struct Frozen<const E: usize> {
    at: Timestamp<Local>,
    line: Line,
    displacement: [f32; E],
    slope: [f32; E],
    fused: Fused,
    /// What the bank alone said.
    bank: Fused,
    /// The least variance that any expert of it claimed, s^2.
    boldest: f32,
}

/// What a sample says of the forecasts under test: see [`super::Fusion::score`].
#[derive(Clone, Copy, Debug)]
pub struct Witness {
    /// When it was taken.
    pub at: Timestamp<Local>,
    /// The measured offset *before* it entered the filters, s relative to the bank's reference, and its variance, s^2.
    pub raw: (f64, f32),
    /// The estimate after it has.
    pub filtered: (f64, f32),
    /// Whether it is one of several servers'.
    pub several: bool,
    /// It and the estimate cannot both be true.
    pub contradicts: bool,
    /// How far apart samples are, s.
    pub spacing: f32,
}

#[allow(clippy::needless_range_loop, reason = "experts are one index into several arrays")]
#[allow(clippy::cast_possible_truncation, reason = "what is said under Numerics")]
impl<const E: usize, const P: usize, const C: usize, const L: usize> Node<E, P, C, L> {
    /// Experts of the bank.
    const BANK: usize = bank::<E>(L);
    /// So few of them are asked whether they say something or not: to leave some out would be more code than it saves.
    const FEW: usize = 12;

    /// How many experts of the bank to ask.
    const fn heard(&self) -> usize {
        if Self::BANK <= Self::FEW || self.silent_from > Self::BANK { Self::BANK } else { self.silent_from }
    }

    /// A horizon of `horizon` s in units of the time `scale`, at which nothing is known but `prior`, the experts' log weights, and that
    /// those of the bank from `silent_from` on have nothing to say.
    pub(super) fn new(horizon: f64, scale: f64, prior: [f32; E], silent_from: usize) -> Self {
        Self {
            horizon: (horizon * scale) as f32,
            reach: Span::from_secs_f64(horizon * scale),
            spare: if horizon < f64::from(LATE) && P > 1 { SPARE } else { SPARE / 2 },
            frozen: heapless::Deque::new(),
            skill: [Skill::default(); E],
            level: f32::INFINITY,
            scored: 0.0,
            spacing: 16.0,
            last_scored: None,
            shares: [Share::default(); L],
            log_weight: prior,
            outdated: false,
            claim: [f32::NAN; E],
            silent_from,
            noise: 0.0,
            least: f32::INFINITY,
            own: [0.0; E],
            evidence: 0.0,
            unjudged: true,
            calibration: Calibration::new(),
        }
    }

    pub(super) fn wants(&self, at: Timestamp<Local>) -> bool {
        match self.frozen.back() {
            None => true,
            Some(last) => at.since(last.at).saturating_mul(const { slots(P) }) >= self.reach.saturating_mul(self.spare),
        }
    }

    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn freeze(&mut self, at: Timestamp<Local>, line: Line, opinions: &Opinions<E>, fused: &Fused) {
        let bank = if fused.moved > 0.0 { self.fuse_bank(&self.log_weight, opinions) } else { *fused };
        if self.frozen.is_full() {
            self.frozen.pop_front();
        }
        for i in 0..E {
            self.claim[i] = if opinions.displacement[i].is_finite() { opinions.variance[i] } else { f32::NAN };
        }
        let boldest = self.claim[..self.heard()].iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a });
        self.unjudged = true;
        let (mut displacement, mut slope) = (opinions.displacement, opinions.slope);
        for i in E - MODELS..E {
            displacement[i] += bank.displacement;
            slope[i] += bank.slope;
        }
        let _ = self.frozen.push_back(Frozen { at, line, displacement, slope, fused: *fused, bank, boldest });
    }

    /// The fused forecast that was frozen at `at` beyond `line`, if one was.
    pub(super) fn frozen_at(&self, at: Timestamp<Local>, line: Line) -> Option<Fused> {
        let newest = self.frozen.back().filter(|frozen| frozen.at == at && frozen.line == line)?;
        Some(newest.fused)
    }

    /// The bank's reference moved by `shift` s.
    pub(super) fn rebase(&mut self, shift: f64) {
        for frozen in self.frozen.iter_mut() {
            frozen.line.x -= shift;
        }
    }

    /// Whether a frozen forecast's horizon has passed.
    pub(super) fn is_due(&self, at: Timestamp<Local>) -> bool {
        self.frozen.front().is_some_and(|frozen| {
            let age = at.since(frozen.at);
            age >= self.reach && age > Span::ZERO
        })
    }

    pub(super) fn score(&mut self, witness: &Witness, scale: f32, seen: &mut Noise) {
        let at = witness.at;
        // What is found so long after twice its horizon is no fair test of it; but a horizon between two exchanges has no other.
        let late = (256.0 * scale).max(2.0 * witness.spacing);
        while self.is_due(at) {
            // The slot is taken out even when it is too old to be a fair test of this horizon.
            let Some(frozen) = self.frozen.pop_front() else { break };
            let age = at.since(frozen.at).as_secs_f64();
            if age as f32 > 2.0 * self.horizon + late {
                continue;
            }
            self.score_one(&frozen, age, witness, scale, seen);
            self.unjudged = true;
        }
    }

    fn score_one(&mut self, frozen: &Frozen<E>, age: f64, witness: &Witness, scale: f32, seen: &mut Noise) {
        let &Witness { at, raw, filtered, several, contradicts, .. } = witness;
        let extra = age as f32 - self.horizon;
        let doubted = frozen.bank.deviation * frozen.bank.deviation;
        // Long after the freeze the filtered estimate is the better witness of how wrong the forecast was. Experts that lag with
        // it look better by it than they are, so that they are judged by it only where all were in far more doubt than it is.
        let late = self.horizon >= LATE * scale && filtered.1 < raw.1;
        let clear = late && doubted > CLEARER * filtered.1;
        let noise = if clear { filtered.1 } else { raw.1 };
        // What the line missed the exchange by, and how far the estimate is below that.
        let missed = (frozen.line.x + frozen.line.r * age - raw.0) as f32;
        let apart = (raw.0 - filtered.0) as f32;
        let base = if clear { missed + apart } else { missed };
        let mut square = [f32::NAN; E];
        for i in 0..E {
            let error = base + frozen.displacement[i] + frozen.slope[i] * extra;
            square[i] = error * error;
        }
        // The bank's level is its own.
        let bank = &square[..self.heard()];
        let known = bank.iter().filter(|square| square.is_finite()).count();
        if known == 0 {
            return;
        }
        let least = bank.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a });
        // An exchange that contradicts all experts alike tells nothing about them.
        let median = ranked(bank, known / 2);
        let usual = self.level.min(median);
        let typical = usual + noise;
        if self.level.is_finite() {
            self.level += (median.min(4.0 * self.level) - self.level) / 16.0;
        } else {
            self.level = median;
        }
        // A counter that has jumped back is no older than it was.
        let elapsed = self.last_scored.map_or(0.0, |last| at.since(last).as_secs_f64() as f32).max(0.0);
        self.last_scored = Some(at);
        let keep = evidence::exp(-elapsed / (MEMORY.0 * scale).max(MEMORY.1 * self.horizon));
        self.scored = self.scored * keep + 1.0;
        if elapsed > 0.0 {
            self.spacing += (elapsed - self.spacing) / self.scored.min(50.0);
        }
        let floor = if several || self.horizon >= FAR * scale { ALIKE * usual } else { 0.0 };
        // Nor does one that even the best expert is far from: a spike.
        let plausible = SPIKE * typical;
        let doubt = if least > plausible { (least / plausible).min(MOST_DOUBT) } else { 1.0 };
        // And what was frozen in doubt, by a young clock, is no measure of the experts of today. That they were far apart is another doubt:
        // after a step of the rate it is this very forecast that tells who was right.
        let young = doubted.min(frozen.boldest + self.least);
        let weighed = |doubted: f32| 1.0 / ((noise + floor + doubted).max(1e-18) * doubt * doubt);
        let importance = weighed(young);
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
        }
        let bank = base + frozen.bank.displacement + frozen.bank.slope * extra;
        self.learn_shares(
            bank,
            frozen.bank.deviation,
            |i| base + frozen.displacement[i] + frozen.slope[i] * extra,
            // A regression weighs by what it cannot explain, and that is the bank's own error.
            weighed(doubted),
            keep,
        );
        // A step of the reference is nobody's error, and some of them would be most of what is remembered.
        if contradicts {
            return;
        }
        let said = frozen.fused.displacement + frozen.fused.slope * extra;
        let memory = (CALIBRATION_MEMORY.0 * scale).max(CALIBRATION_MEMORY.1 * self.horizon);
        let keep = evidence::exp(-elapsed / memory);
        let claimed = frozen.fused.deviation * frozen.fused.deviation;
        if self.horizon == 0.0 {
            seen.learn(missed + said, claimed, raw.1, keep);
        }
        let overlap = self.overlap();
        let (by_exchange, by_estimate) = ((missed + said, raw.1 * seen.ratio()), (missed + apart + said, filtered.1));
        let (error, noise) = if late { by_estimate } else { by_exchange };
        self.calibration.learn(error, claimed, noise, keep, overlap);
        if !late && self.horizon >= SOON * scale && claimed > CLEAR * by_estimate.1 {
            // Of the same instant: what was to be forgotten is.
            self.calibration.learn(by_estimate.0, claimed, by_estimate.1, 1.0, overlap);
        }
    }

    /// The bank was wrong by `error` s, having claimed a `deviation`, s, and expert `i` by `errors(i)`: what would the stacked ones have
    /// added, [one after the other](Self::in_turn)?
    fn learn_shares(
        &mut self,
        mut error: f32,
        deviation: f32,
        errors: impl Fn(usize) -> f32,
        importance: f32,
        keep: f32,
    ) {
        for slot in Self::in_turn() {
            let share = &mut self.shares[slot];
            let away = errors(stacked::<E>(slot, L)) - error;
            let away = if slot < MODELS { without_little(away, deviation) } else { away };
            if away.is_finite() {
                share.learn(-error, away, importance, keep);
                error += share.share * away;
            }
        }
    }

    /// The stacked experts in the order in which they add to the bank. The models come last: whatever they say, a pattern and a cycle
    /// have the share that they have without them.
    fn in_turn() -> impl Iterator<Item = usize> {
        (MODELS..L).chain(0..MODELS)
    }

    /// The shares, with what those of the next shorter horizon say.
    pub(super) fn settle_shares(&mut self, shorter: &[Share; L]) {
        let overlap = self.overlap();
        for (slot, (share, shorter)) in self.shares.iter_mut().zip(shorter).enumerate() {
            share.settle(slot, shorter, overlap);
        }
    }

    /// What this horizon's own forecasts say of the experts, and a little of what they say themselves.
    ///
    /// In a horizon's first forecasts luck tells more than skill: a loose filter is as likely to be close as a stiff one, while
    /// it claims far less. So each expert's claim counts as a fraction of one forecast, which favours the tightest
    /// claim that nothing has contradicted, and is forgotten once there are forecasts to judge by.
    pub(super) fn judge(&mut self) {
        self.evidence = (self.scored / self.overlap()).min(MAX_EVIDENCE);
        let heard = self.heard();
        let (mut best, mut most, mut fewest) = (f32::INFINITY, 1e-30, f32::INFINITY);
        for skill in self.skill[..heard].iter().filter(|skill| skill.weight > 0.0) {
            best = if skill.loss < best { skill.loss } else { best };
            most = if skill.weight > most { skill.weight } else { most };
            fewest = if skill.weight < fewest { skill.weight } else { fewest };
        }
        let scored = best.is_finite();
        let mediocre = if fewest < ENOUGH * most { self.mediocre() } else { best };
        // Between two exchanges a claim is about another span than the one that is scored.
        let faith = if self.horizon < CLAIM_SPACINGS * self.spacing { 0.0 } else { CLAIM };
        let (told, said) = (self.evidence / (self.evidence + faith), faith / (self.evidence + faith));
        let mut losses = [f32::NAN; E];
        for i in 0..heard {
            let Skill { loss, weight, .. } = self.skill[i];
            let claims = self.claim[i].is_finite();
            losses[i] = if weight > 0.0 {
                // An expert that has been scored less than the others is taken to be mediocre where it was not.
                let loss = if weight < ENOUGH * most { partly_known(loss, weight, most, mediocre) } else { loss };
                if claims && faith > 0.0 { told * loss + said * (self.claim[i] + self.noise) } else { loss }
            } else if claims && !scored {
                self.claim[i] + self.noise
            } else {
                f32::NAN
            };
        }
        let losses = if Self::BANK <= Self::FEW { &losses[..] } else { &losses[..heard] };
        let least = losses.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a }).max(1e-30);
        self.least = least;
        let (weight, scale) = (-0.5 * (self.evidence + faith), 1.0 / least);
        for (own, &loss) in self.own.iter_mut().zip(losses) {
            *own = if loss > least { weight * evidence::ln(loss * scale) } else { 0.0 };
        }
    }

    /// The log weights, with what the next shorter horizon and the present say. Exchanges are of this `precision`, s^-2.
    pub(super) fn weighed(
        &self,
        shorter: &[f32; E],
        handicap: &[f32; E],
        stray: &[f32; E],
        precision: f32,
    ) -> [f32; E] {
        let evidence = self.evidence;
        let share = NEIGHBOUR + (1.0 - NEIGHBOUR) / (1.0 + evidence / OWN);
        let limit = -NEIGHBOUR_LIMIT / (evidence + 0.3);
        let trials = (0.5 + 0.5 * evidence).min(STRAY_TRIALS);
        let tested = evidence.min(1.0);
        let told = 1.0 / (self.least + STRAY_NOISE / precision);
        let mut log_weights = [0.0; E];
        for i in 0..E {
            let said = share * shorter[i];
            let mut log_weight = self.own[i] + handicap[i] + if said > limit { said } else { limit };
            if self.horizon > 0.0 {
                let ratio = (stray[i] * told).min(1e6);
                let far = (ratio - 1.0).clamp(0.0, STRAY_FAR);
                log_weight -= 0.5 * trials * ratio / (1.0 + ratio / STRAY_NEAR) + tested * far;
            }
            log_weights[i] = log_weight;
        }
        // The models, whose losses do not enter, stand here for experts of which nothing is known.
        let highest = greatest(&log_weights);
        log_weights.map(|weight| weight - highest)
    }

    /// How many forecasts of this horizon are worth one independent one. Out of line: a micro-controller has no room for it three times.
    #[inline(never)]
    fn overlap(&self) -> f32 {
        if self.horizon > 0.0 { 1.0 + OVERLAP * self.horizon / self.spacing.max(1e-3) } else { 1.0 }
    }

    /// The median loss of those scored.
    fn mediocre(&self) -> f32 {
        let mut losses = [f32::INFINITY; E];
        let mut scored = 0;
        for (loss, skill) in losses.iter_mut().zip(&self.skill[..Self::BANK]).filter(|(_, skill)| skill.weight > 0.0) {
            *loss = skill.loss;
            scored += 1;
        }
        ranked(&losses, scored / 2)
    }

    /// What the bank says, by these log weights of its experts, moved by what the stacked ones add.
    pub(super) fn fuse(&self, log_weight: &[f32; E], opinions: &Opinions<E>) -> Fused {
        let bank = self.fuse_bank(log_weight, opinions);
        let mut fused = bank;
        for slot in Self::in_turn() {
            let share = &self.shares[slot];
            let (i, is_model) = (stacked::<E>(slot, L), slot < MODELS);
            // Models speak of what is to be added to the bank.
            let from = if is_model { (bank.displacement, bank.slope) } else { (0.0, 0.0) };
            let away = opinions.displacement[i] + from.0 - fused.displacement;
            let away = if is_model { without_little(away, bank.deviation) } else { away };
            let w = share.towards(away / fused.deviation);
            if away.is_finite() && w > 0.0 {
                fused.displacement += w * away;
                fused.slope += w * (opinions.slope[i] + from.1 - fused.slope);
                fused.moved += w * (1.0 - fused.moved);
                let claims = (opinions.variance[i].max(f32::MIN_POSITIVE), fused.deviation.max(f32::MIN_POSITIVE));
                let wider = 0.5 * evidence::ln(claims.0) - evidence::ln(claims.1);
                // A pattern's claim is that of the filter whose line it bends. Who foresees the day is not in more doubt for it.
                fused.deviation *= evidence::exp(w * if is_model { wider } else { wider.min(0.0) });
            }
        }
        fused
    }

    pub(super) fn fuse_bank(&self, log_weight: &[f32; E], opinions: &Opinions<E>) -> Fused {
        let said = &opinions.displacement;
        // The log weights of those who speak.
        let count = if Self::BANK <= Self::FEW { E } else { self.heard() };
        let mut heard = [f32::NEG_INFINITY; E];
        for i in 0..count.min(Self::BANK) {
            heard[i] = if said[i].is_finite() { log_weight[i] } else { f32::NEG_INFINITY };
        }
        let highest = greatest(&heard[..count]);
        // Those whose word counts have a weight, and all have a place in the order of what they say.
        let (mut weights, mut places) = ([0.0_f32; E], [0; E]);
        for i in 0..count {
            let evidence = heard[i] - highest;
            weights[i] = if evidence > NEGLIGIBLE { evidence::exp(evidence) } else { 0.0 };
            places[i] = place(said[i], i);
        }
        // The weight of all that say less: one comparison for each two of them, which is quicker than to sort.
        let mut below = [0.0_f32; E];
        let mut total = 0.0;
        for j in 0..count {
            if weights[j] > 0.0 {
                total += weights[j];
                for i in 0..count {
                    below[i] += if places[j] < places[i] { weights[j] } else { 0.0 };
                }
            }
        }
        let (low, high) = (TRIM * total, (1.0 - TRIM) * total);
        let (mut mass, mut sum, mut slope) = (0.0_f32, 0.0, 0.0);
        for i in 0..count {
            let (from, to) = (below[i], below[i] + weights[i]);
            let inside = if to < high { to } else { high } - if from > low { from } else { low };
            if inside > 0.0 {
                mass += inside;
                sum += inside * said[i];
                slope += inside * opinions.slope[i];
            }
        }
        let scale = 1.0 / mass;
        let displacement = sum * scale;
        let mut logs = [0.0_f32; E];
        for (log, &variance) in logs.iter_mut().zip(&opinions.variance).take(count) {
            *log = evidence::ln(if variance > f32::MIN_POSITIVE { variance } else { f32::MIN_POSITIVE });
        }
        // Claims are decades apart, and the boldest and the most timid of them count alike: their geometric mean.
        let (mut spread, mut claims) = (0.0_f32, 0.0);
        for i in 0..count {
            if weights[i] > 0.0 {
                let away = said[i] - displacement;
                let (square, most) = (away * away, FARTHEST * opinions.variance[i]);
                spread += weights[i] * if square < most { square } else { most };
                claims += weights[i] * logs[i];
            }
        }
        let scatter = 1.0 / total;
        let variance = evidence::exp(claims * scatter) + spread * scatter;
        Fused { displacement, slope: slope * scale, deviation: libm::sqrtf(variance), moved: 0.0 }
    }
}

/// A number that is in the same order as `displacement`, and never the same for two experts: the last bits of the mantissa give way
/// to the `index`.
#[allow(clippy::cast_possible_truncation, reason = "an index below MOST_EXPERTS")]
const fn place(displacement: f32, index: usize) -> i32 {
    const INDEX: u32 = MOST_EXPERTS as u32 - 1;
    let bits = displacement.to_bits();
    // Of negative numbers, the order of the bits is the other way round.
    let ordered = bits ^ ((bits.cast_signed() >> 31).cast_unsigned() >> 1);
    ((ordered & !INDEX) | index as u32).cast_signed()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_what_is_said() {
        let said = [f32::NEG_INFINITY, -3e-4, -2e-9, -1e-30, 0.0, 1e-30, 2e-9, 3e-4, f32::INFINITY];
        for pair in said.windows(2) {
            // Whatever the indices are.
            assert!(place(pair[0], 63) < place(pair[1], 0), "{pair:?}");
            assert!(place(pair[0], 1) < place(pair[0], 2), "{pair:?}");
        }
    }
}
