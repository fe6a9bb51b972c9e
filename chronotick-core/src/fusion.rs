//! Who is believed, and how far: experts weighted per horizon by the errors of their frozen forecasts.
//!
//! **Model.** For each of a few horizons the forecasts of all experts are frozen, and scored against what was measured when
//! that horizon has passed: nothing that was learned in between can flatter them. The errors at one horizon are taken as
//! Gaussian with an unknown scale per expert, which makes an expert's evidence `-(n/2) ln L` for a mean squared error `L` over
//! `n` independent forecasts; overlapping horizons count less. The next shorter horizon's evidence is added while there is
//! little of one's own: what is good at 256 s is probably not bad at 1,024 s, and speaks sooner. The errors are measured against
//! raw exchanges, weighted by their precision, within what errors are usual where there are several servers, of which the boldest may lie:
//! against the estimate itself, an expert that lags with it would look good. Forecasts of a young clock, all of whose experts are in doubt,
//! count for less; those that were made while the experts were far apart do not, since they tell who is right. Only
//! where the bank had claimed far to know less than the estimate does, a quarter of an hour ahead and more, is the estimate the witness:
//! of an oscillator that is far better than the exchanges are, these would never tell.
//!
//! **Strays.** An expert whose estimate of the *present* is off by `d` will be off by as much at every horizon, whatever its
//! past forecasts were like: `d^2` against the best loss there, and what exchanges tell, counts against it at once. It is how a step of
//! the rate is noticed at long horizons before they have passed.
//!
//! **Combination.** A weighted mean over the middle of the weighted distribution (25 to 75 %): robust against the one expert
//! that is suddenly far out.
//!
//! **Models.** They are not of the bank: nothing is weighed against them. They are told what the bank expects and say what is to be
//! added to it. Each moves the bank's forecast by a share of that, which its errors on this clock have earned. So does its claim,
//! in the logarithm. The daily pattern is one of the bank, in whose middle it is seldom heard, since all others go on as they are: where
//! days are alike it earns a share as well. So does a cycle, which says nothing most of the time and is of the bank no more than a model.
//!
//! **Calibration.** The fused forecast is frozen too, and its errors calibrate its claims: [`crate::calibration`]. How noisy the exchanges
//! are that reveal them is told by those that follow forecasts of the present. Some minutes ahead the estimate reveals them as well, where
//! far more had been in doubt than it is, and from a quarter of an hour on in place of the exchanges.
//!
//! **Numerics.** Instants, the base line and what is measured against it are f64; what is left, the experts' distances from that
//! line, their squares and their averages, are f32. An average that takes in a three-hundredth of each square is then good to
//! about five digits, and a weight that follows from two hundred of them to the third: a thousandth of a log weight.
//!
//! **Weaknesses.** A horizon that has not passed even once has no evidence of its own, only its shorter neighbours'.

mod node;
mod noise;
mod stack;

use core::cell::OnceCell;

use node::Node;
pub use node::Witness;
use noise::Noise;
use stack::Share;

use crate::calibration::{Scales, Surprise};
use crate::estimator::Line;
use crate::evidence;
use crate::opinions::Opinions;
use crate::units::{Local, Timestamp};

/// Exchanges over which their precision is averaged.
const LATEST: f32 = 32.0;
/// The models are the last so many experts.
const MODELS: usize = 2;
/// The cycle's number among those that are stacked upon the bank.
pub(crate) const CYCLE: usize = 3;

/// The expert that is number `slot` of `count` that are stacked upon the bank: the near and the far model, and then the daily pattern
/// and the cycle, which have their places before them.
const fn stacked<const E: usize>(slot: usize, count: usize) -> usize {
    if slot < MODELS { E - MODELS + slot } else { E - count + slot - MODELS }
}

/// How many of the experts are of the bank: all but the models and, if so many are `stacked` upon it, the cycle.
const fn bank<const E: usize>(stacked: usize) -> usize {
    E - MODELS - (stacked > CYCLE) as usize
}

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

/// Where what they say is put in order, an expert's index has six bits.
pub(crate) const MOST_EXPERTS: usize = 1 << 6;

/// The experts' weights and forecasts under test at every horizon: `E` experts, `K` horizons, `P` frozen forecasts and `C`
/// scores for calibration per horizon. `L` experts earn shares: the two models, and the daily pattern and the cycle where there are these.
#[derive(Clone, Debug)]
pub struct Fusion<const E: usize = 35, const K: usize = 7, const P: usize = 64, const C: usize = 96, const L: usize = 4>
{
    nodes: [Node<E, P, C, L>; K],
    /// The fused extrapolation, made when it is first asked for.
    curve: OnceCell<[Ahead; K]>,
    /// Log weights before anything is known.
    prior: [f32; E],
    /// What an expert's evidence must overcome at every horizon anew, as a log weight.
    handicap: [f32; E],
    /// Squared distance of each expert's present from the fused one, s^2.
    stray: [f32; E],
    /// Mean precision of the latest exchanges, s^-2, and how noisy they are against what they are taken to be.
    precision: f32,
    noise: Noise,
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
    /// How far it went the way to the models, the daily pattern and the cycle, from 0 to 1.
    pub moved: f32,
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
impl<const E: usize, const K: usize, const P: usize, const C: usize, const L: usize> Fusion<E, K, P, C, L> {
    /// Nothing is known but `prior`, the experts' log weights at the start, and `handicap`, what their evidence must overcome at
    /// every horizon. Those of the bank from `silent_from(h)` on have nothing to say `h` s ahead. `scale` stretches all horizons.
    pub fn new(prior: [f32; E], handicap: [f32; E], silent_from: impl Fn(f64) -> usize, scale: f64) -> Self {
        Self {
            nodes: horizons::<K>().map(|horizon| Node::new(horizon, scale, prior, silent_from(horizon))),
            curve: OnceCell::new(),
            prior,
            handicap,
            stray: [0.0; E],
            precision: 0.0,
            noise: Noise::default(),
            scale: scale as f32,
        }
    }

    /// The horizon of node `node`, s.
    pub fn horizon(&self, node: usize) -> f32 {
        self.nodes[node].horizon
    }

    /// The experts' weights at `node`, one in all: those of the bank, of which each of the stacked that is `heard` takes its share, the
    /// models first, then the daily pattern, then the cycle.
    pub fn weights(&self, node: usize, heard: [bool; L]) -> [f32; E] {
        let node = &self.nodes[node];
        let mut weights = [0.0; E];
        for (weight, &log) in weights.iter_mut().zip(&node.log_weight).take(bank::<E>(L)) {
            *weight = evidence::exp(log);
        }
        let total: f32 = weights.iter().sum();
        weights = weights.map(|weight| weight / total.max(f32::MIN_POSITIVE));
        for (slot, share) in node.shares.iter().enumerate().filter(|&(slot, _)| heard[slot]) {
            let share = share.towards(0.0);
            weights = weights.map(|weight| weight * (1.0 - share));
            weights[stacked::<E>(slot, L)] += share;
        }
        weights
    }

    /// Root mean squared error of expert `index` at `node`, in s, if it has been scored.
    pub fn skill(&self, node: usize, index: usize) -> Option<f64> {
        let skill = &self.nodes[node].skill[index];
        (skill.weight > 0.0).then(|| libm::sqrt(f64::from(skill.loss)))
    }

    /// Notes how far each expert's estimate of the present is from the `fused` one. Those without one follow the base line.
    pub fn mark_strays(&mut self, present: &Opinions<E>, fused: &Fused) {
        for (stray, displacement) in self.stray.iter_mut().zip(present.displacement) {
            let line = if displacement.is_finite() { displacement } else { 0.0 };
            let distance = line - fused.displacement;
            *stray = distance * distance;
        }
    }

    /// Scores every frozen forecast whose horizon has passed.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn score(&mut self, witness: &Witness) {
        let at = witness.at;
        self.precision += (1.0 / witness.raw.1 - self.precision) / LATEST;
        let mut shorter = &self.prior;
        let at_first: [Share; L] = core::array::from_fn(Share::at_first);
        let mut shares = &at_first;
        for node in &mut self.nodes {
            node.score(witness, self.scale, &mut self.noise);
            if node.unjudged {
                node.judge();
                node.unjudged = false;
            }
            // Between two of its forecasts a horizon's weights are asked for only by a curve.
            node.outdated = !node.wants(at);
            if !node.outdated {
                node.log_weight = node.weighed(shorter, &self.handicap, &self.stray, self.precision);
            }
            node.settle_shares(shares);
            shares = &node.shares;
            shorter = &node.log_weight;
        }
    }

    /// The fused forecast at `node` from the experts' opinions.
    pub fn fuse(&self, node: usize, opinions: &Opinions<E>) -> Fused {
        let node = &self.nodes[node];
        node.fuse(&node.log_weight, opinions)
    }

    /// What the experts of the bank say together `h` s ahead, in their `opinions` of that instant.
    pub fn bank(&self, h: f32, opinions: &Opinions<E>) -> Fused {
        let node = self.nodes.iter().position(|node| node.horizon >= h).unwrap_or(K - 1);
        let node = &self.nodes[node];
        node.fuse_bank(&node.log_weight, opinions)
    }

    /// The fused forecasts for every horizon from the last sample on, which was at `at` and left the base line at `line`. `ask` is
    /// asked for the opinions that have not been heard since the last [`Fusion::forget_curve`].
    pub fn curve(&self, at: Timestamp<Local>, line: Line, ask: impl Fn(f32) -> Opinions<E>) -> &[Ahead; K] {
        self.curve.get_or_init(|| {
            let mut log_weight = self.prior;
            let fused: [Fused; K] = core::array::from_fn(|i| {
                let node = &self.nodes[i];
                log_weight = if node.outdated {
                    node.weighed(&log_weight, &self.handicap, &self.stray, self.precision)
                } else {
                    node.log_weight
                };
                node.frozen_at(at, line).unwrap_or_else(|| node.fuse(&log_weight, &ask(node.horizon)))
            });
            // What longer horizons have seen of each. Of the present more is told by its own exchanges.
            let mut longer = [Scales::ANY; K];
            for i in (1..K).rev() {
                let node = &self.nodes[i];
                longer[i - 1] = node.calibration.scales(&longer[i]).behind(node.horizon / self.scale);
            }
            longer[0] = longer[0].half();
            let mut scales = Scales::FIRST;
            let mut widest = 0.0f32;
            core::array::from_fn(|i| {
                let (node, fused) = (&self.nodes[i], &fused[i]);
                let horizon = node.horizon / self.scale;
                // Squared: a model that has a share before it has shown anything foresees less than it says.
                let surprise = Surprise::new(node.horizon, fused.deviation, fused.moved * fused.moved);
                if i > 0 {
                    scales = scales.ahead(horizon, surprise);
                }
                scales = node.calibration.scales(&scales);
                let factor = node.calibration.factor(&scales.and(&longer[i]).to_come(horizon, surprise));
                // Nobody knows the further future better than the nearer one, and what is no number is no width.
                let width = factor * fused.deviation;
                widest = if width < widest { widest } else { width };
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
    pub fn freeze(&mut self, node: usize, at: Timestamp<Local>, line: Line, opinions: &Opinions<E>, fused: &Fused) {
        self.nodes[node].freeze(at, line, opinions, fused);
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

    /// How far the forecast at `node` goes the way to model `slot`, from 0 to 1, as long as that is near.
    pub fn share(&self, node: usize, slot: usize) -> f32 {
        self.nodes[node].shares[slot].towards(0.0)
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
            node.rebase(shift);
        }
    }
}
