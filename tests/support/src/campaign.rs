//! Many seeds, two at a time, and the tables that come of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::details::Regret;
use crate::laws::{Law, Violation};
use crate::outcome::{EXPERTS, HORIZONS, Outcome, Tally};
use crate::run::run;
use crate::scenario::{Family, Scenario};

/// What became of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Campaign {
    rows: BTreeMap<Family, Row>,
    /// Broken laws with their seeds.
    pub violations: Vec<(u64, Violation)>,
    /// All broken laws, counted.
    pub violated: u64,
    /// Virtual seconds.
    pub seconds: f64,
    /// Exchanges.
    pub samples: u64,
    /// The largest error with fresh measurements, as a share of what its exchanges allow, and the seed of that run.
    pub strain: (f64, u64),
    /// Of every run in which errors say something, by horizon.
    pub regrets: Vec<Regret>,
}

/// Between these the 95 % interval has to cover, by horizon, in the families where nothing is hidden from an estimator. The aim
/// is 93 to 97 %; above that the limits hold what is reached.
pub const COVERAGE: [(f64, f64); HORIZONS.len()] =
    [(0.93, 0.98), (0.93, 0.985), (0.93, 0.985), (0.93, 0.98), (0.93, 0.985), (0.93, 0.985)];
/// And at least, in runs shorter than three times the horizon: nobody has seen a forecast as long come true when these are made, and
/// half of the worlds are beyond what anybody expects of one.
pub const UNTESTED: f64 = 0.84;
/// So much larger than that of one expert alone, the best one for all runs, may the error be there.
pub const ALONE: f64 = 1.05;
/// And so much larger than that of the best expert of each run and horizon, picked with hindsight: ceilings over what is reached.
/// The aim is 1.05.
pub const REGRET: [f64; HORIZONS.len()] = [1.3, 1.3, 1.3, 1.3, 1.3, 1.4];
/// And so much in a single run.
pub const WORST: f64 = 32.0;
/// Fewer runs than this say nothing of either.
const ENOUGH: u32 = 30;

#[derive(Clone, Debug, Default)]
struct Row {
    seeds: u32,
    violated: u64,
    horizons: [Cell; HORIZONS.len()],
}

/// What the runs of a family have shown at one horizon.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    count: u64,
    inside: u64,
    /// Sums over runs of the logarithms of RMSE, of width / RMSE and of RMSE / best expert's.
    error: f64,
    width: f64,
    regret: f64,
    runs: u32,
    /// Sums over runs of what the error of a share needs: inside^2, inside x count, count^2.
    moments: [f64; 3],
    /// Sums over runs of the logarithms of RMSE / each expert's.
    experts: [f64; EXPERTS],
}

/// Runs the seeds from `first` on, on two threads. The result does not depend on their timing.
pub fn campaign(first: u64, seeds: u64, scenario: impl Fn(u64) -> Scenario + Sync) -> Campaign {
    let next = AtomicU64::new(first);
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let outcome = run(&scenario(seed));
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.insert(seed, outcome);
                    }
                }
            });
        }
    });
    let mut campaign = Campaign::default();
    for (seed, outcome) in outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        campaign.add(seed, outcome);
    }
    campaign
}

impl Campaign {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        let row = self.rows.entry(outcome.scenario.family).or_default();
        row.seeds += 1;
        row.violated += u64::from(outcome.violated);
        // Where no bound is promised the truth is out of reach, and errors say nothing.
        if outcome.scenario.promised {
            for (horizon, (cell, tally)) in row.horizons.iter_mut().zip(&outcome.tallies).enumerate() {
                cell.add(tally);
                self.regrets.extend(Regret::of(outcome.scenario.family, seed, horizon, tally));
            }
        }
        self.violated += u64::from(outcome.violated);
        self.seconds += outcome.scenario.seconds;
        self.samples += outcome.samples;
        if outcome.strain > self.strain.0 {
            self.strain = (outcome.strain, seed);
        }
        self.violations.extend(outcome.violations.into_iter().map(|v| (seed, v)));
    }

    /// Laws broken, with how many seeds broke each and one of them.
    pub fn laws(&self) -> BTreeMap<Law, (usize, u64)> {
        let mut laws = BTreeMap::new();
        for (seed, violation) in &self.violations {
            laws.entry(violation.law).or_insert((0, *seed)).0 += 1;
        }
        laws
    }

    /// The laws of whole campaigns, over the families where nothing is hidden: each broken one in a line. A share that is off
    /// by less than two of its standard errors (runs are independent, predictions within one are not) is not held against it.
    pub fn broken(&self) -> Vec<(Law, String)> {
        let mut broken = Vec::new();
        for r in self.regrets.iter().filter(|r| r.family.is_plain() && r.ratio > WORST) {
            let Regret { ratio, family, seed, .. } = r;
            let detail = format!("{ratio:.1} times the best at {} s in {} {seed}", HORIZONS[r.horizon], family.name());
            broken.push((Law::Regret, detail));
        }
        for ((horizon, h), cell) in HORIZONS.iter().enumerate().zip(self.plain()) {
            if cell.runs < ENOUGH {
                continue;
            }
            let (share, error) = cell.coverage();
            let (mut low, high) = COVERAGE[horizon];
            if self.hours() < 3.0 * h / 3600.0 {
                low = UNTESTED;
            }
            if share + 2.0 * error < low || share - 2.0 * error > high {
                let [share, error, low, high] = [share, error, low, high].map(|x| 100.0 * x);
                let detail = format!("{share:.1} +- {error:.1} % inside at {h} s, not {low:.0} to {high:.0} %");
                broken.push((Law::Coverage, detail));
            }
            let regret = cell.regret();
            if regret > REGRET[horizon] {
                broken.push((Law::Regret, format!("{regret:.2} times the best at {h} s, not {}", REGRET[horizon])));
            }
            let (_, alone) = cell.best_of_all();
            if alone > ALONE {
                broken.push((Law::Regret, format!("{alone:.2} times one expert alone at {h} s, not {ALONE}")));
            }
        }
        broken
    }

    /// The length of its runs.
    fn hours(&self) -> f64 {
        let runs: u32 = self.rows.values().map(|row| row.seeds).sum();
        self.seconds / 3600.0 / f64::from(runs.max(1))
    }

    /// The families by name, and what they have shown by horizon.
    pub fn cells(&self) -> impl Iterator<Item = (Family, &[Cell; HORIZONS.len()])> {
        self.rows.iter().map(|(family, row)| (*family, &row.horizons))
    }

    /// The families together in which nothing is hidden.
    pub fn plain(&self) -> [Cell; HORIZONS.len()] {
        std::array::from_fn(|horizon| {
            let plain = self.cells().filter(|(family, _)| family.is_plain());
            plain.map(|(_, cells)| cells[horizon]).fold(Cell::default(), Cell::with)
        })
    }

    /// Markdown: a row a family, and for each horizon the error, the coverage, the width and the regret.
    pub fn table(&self) -> String {
        let mut text = String::from("| scenario | seeds | broken laws |");
        for h in HORIZONS {
            let _ = write!(text, " {h} s |");
        }
        text.push_str("\n|---|---|---|");
        text.push_str(&"---|".repeat(HORIZONS.len()));
        text.push('\n');
        for (family, row) in &self.rows {
            let _ = write!(text, "| {} | {} | {} |", family.name(), row.seeds, row.violated);
            for cell in &row.horizons {
                if cell.runs == 0 {
                    text.push_str(" - |");
                    continue;
                }
                let mean = |sum: f64| (sum / f64::from(cell.runs)).exp();
                let _ = write!(
                    text,
                    " {} / {:.0} % / {:.1} / {:.2} |",
                    microseconds(mean(cell.error)),
                    100.0 * cell.inside as f64 / cell.count as f64,
                    mean(cell.width),
                    mean(cell.regret)
                );
            }
            text.push('\n');
        }
        text
    }
}

impl Default for Cell {
    fn default() -> Self {
        let (error, width, regret) = (0.0, 0.0, 0.0);
        Self { count: 0, inside: 0, error, width, regret, runs: 0, moments: [0.0; 3], experts: [0.0; EXPERTS] }
    }
}

impl Cell {
    fn add(&mut self, tally: &Tally) {
        let Some((_, best)) = tally.best() else { return };
        let n = f64::from(tally.count);
        let rmse = (tally.squares / n).sqrt();
        self.count += u64::from(tally.count);
        self.inside += u64::from(tally.inside);
        self.error += rmse.ln();
        self.width += (tally.width / n / rmse).ln();
        self.regret += 0.5 * (tally.squares / best).ln();
        self.runs += 1;
        for (sum, expert) in self.experts.iter_mut().zip(tally.experts) {
            *sum += 0.5 * (tally.squares / expert.max(1e-30)).ln();
        }
        let (inside, count) = (f64::from(tally.inside), f64::from(tally.count));
        self.moments =
            [self.moments[0] + inside * inside, self.moments[1] + inside * count, self.moments[2] + count * count];
    }

    fn with(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            inside: self.inside + other.inside,
            error: self.error + other.error,
            width: self.width + other.width,
            regret: self.regret + other.regret,
            runs: self.runs + other.runs,
            moments: std::array::from_fn(|i| self.moments[i] + other.moments[i]),
            experts: std::array::from_fn(|i| self.experts[i] + other.experts[i]),
        }
    }

    /// Runs that say something at this horizon.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// Error over that of each run's best expert, geometric mean over runs.
    pub fn regret(&self) -> f64 {
        (self.regret / f64::from(self.runs)).exp()
    }

    /// The expert that is best for all runs alike, and the error over its.
    pub fn best_of_all(&self) -> (usize, f64) {
        let (expert, sum) =
            self.experts.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or((0, 0.0), |(i, s)| (i, *s));
        (expert, (sum / f64::from(self.runs)).exp())
    }

    /// The share inside, and its standard error as a ratio of sums over independent runs.
    pub fn coverage(&self) -> (f64, f64) {
        let share = self.inside as f64 / self.count as f64;
        let [inside2, both, count2] = self.moments;
        let squares = inside2 - 2.0 * share * both + share * share * count2;
        (share, squares.max(0.0).sqrt() / self.count as f64)
    }
}

/// Two significant digits: the table is read, not computed with.
fn microseconds(seconds: f64) -> String {
    let us = seconds * 1e6;
    let digits = 10f64.powf(us.abs().max(1e-6).log10().floor() - 1.0);
    let rounded = (us / digits).round() * digits;
    if rounded >= 10.0 { format!("{rounded:.0} us") } else { format!("{rounded:.1} us") }
}
