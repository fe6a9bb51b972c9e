//! Many seeds, two at a time, and the tables that come of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::laws::{Law, Violation};
use crate::run::{EXPERTS, HORIZONS, Outcome, Tally, run};
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
}

#[derive(Clone, Debug, Default)]
struct Row {
    seeds: u32,
    violated: u64,
    horizons: [Cell; HORIZONS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    count: u64,
    inside: u64,
    /// Sums over runs of the logarithms of RMSE, of width / RMSE and of RMSE / best expert's.
    error: f64,
    width: f64,
    regret: f64,
    runs: u32,
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
            for (cell, tally) in row.horizons.iter_mut().zip(&outcome.tallies) {
                cell.add(tally);
            }
        }
        self.violated += u64::from(outcome.violated);
        self.seconds += outcome.scenario.seconds;
        self.samples += outcome.samples;
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

    /// Share of predictions inside the 95 % interval at `horizon`, over all families where one is promised.
    pub fn coverage(&self, horizon: usize) -> f64 {
        let cells = self.rows.values().map(|r| r.horizons[horizon]);
        let (inside, count) = cells.fold((0, 0), |(i, n), c| (i + c.inside, n + c.count));
        inside as f64 / count as f64
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

impl Cell {
    fn add(&mut self, tally: &Tally) {
        if tally.count < 4 || tally.squares <= 0.0 {
            return;
        }
        let n = f64::from(tally.count);
        let rmse = (tally.squares / n).sqrt();
        let best = (0..EXPERTS).map(|i| tally.experts[i]).filter(|s| s.is_finite()).fold(f64::INFINITY, f64::min);
        self.count += u64::from(tally.count);
        self.inside += u64::from(tally.inside);
        self.error += rmse.ln();
        self.width += (tally.width / n / rmse).ln();
        self.regret += 0.5 * (tally.squares / best.max(1e-30)).ln();
        self.runs += 1;
    }
}

/// Two significant digits: the table is read, not computed with.
fn microseconds(seconds: f64) -> String {
    let us = seconds * 1e6;
    let digits = 10f64.powf(us.abs().max(1e-6).log10().floor() - 1.0);
    let rounded = (us / digits).round() * digits;
    if rounded >= 10.0 { format!("{rounded:.0} us") } else { format!("{rounded:.1} us") }
}
