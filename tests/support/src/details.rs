//! Where a campaign's pooled laws come from: coverage with its standard errors family by family, and the runs in which some
//! single expert would have been better than the fusion.
//!
//! **Regret** is the root-mean-square error of the fused forecasts over that of one expert's, both frozen at the same instants of
//! the run (every 256 s, the first half hour left out) and judged by the truth at the target. *The run's best* is the expert
//! that hindsight picks for that run and horizon: among 34 of them some are lucky, the more so the fewer independent forecasts
//! a run holds (a day holds six at 14,400 s). *The best of all* is the one expert that is best for the whole family: what
//! somebody would get who shipped that expert alone.

use std::fmt::Write;

use chronotick_core::pipeline::{Config, Pipeline};

use crate::campaign::{Campaign, Cell};
use crate::outcome::{EXPERTS, HORIZONS, Tally};
use crate::scenario::Family;

/// One run and horizon, and the expert that was best there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regret {
    /// Fused over the best expert's RMS error.
    pub ratio: f64,
    /// The run's family.
    pub family: Family,
    /// The run's seed.
    pub seed: u64,
    /// Index into [`HORIZONS`].
    pub horizon: usize,
    /// Forecasts judged.
    pub count: u32,
    /// Fused RMS error, s.
    pub error: f64,
    /// Index of the best expert.
    pub expert: usize,
}

impl Regret {
    /// What `tally` says. `None`: too few forecasts.
    pub fn of(family: Family, seed: u64, horizon: usize, tally: &Tally) -> Option<Self> {
        let (expert, best) = tally.best()?;
        let error = (tally.squares / f64::from(tally.count)).sqrt();
        Some(Self { ratio: (tally.squares / best).sqrt(), family, seed, horizon, count: tally.count, error, expert })
    }
}

/// Markdown: coverage and width, regret against the run's best and against the best of all, and the `worst` runs.
pub fn details(campaign: &Campaign, worst: usize) -> String {
    let mut text = String::new();
    table(&mut text, campaign, "Inside the 95 % interval, % +- standard error", |cell| {
        let (share, error) = cell.coverage();
        format!("{:.1} +- {:.1}", 100.0 * share, 100.0 * error)
    });
    table(&mut text, campaign, "Error over the run's best expert's", |cell| format!("{:.3}", cell.regret()));
    table(&mut text, campaign, "Error over that of the one expert that is best for the family", |cell| {
        let (expert, ratio) = cell.best_of_all();
        format!("{ratio:.3} ({})", name(expert))
    });
    text.push_str("\nHow often an expert is the run's best\n\n| expert |");
    for h in HORIZONS {
        let _ = write!(text, " {h} s |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(HORIZONS.len()));
    for expert in 0..EXPERTS {
        let wins = |horizon| campaign.regrets.iter().filter(|r| r.expert == expert && r.horizon == horizon).count();
        let _ = write!(text, "| {} |", name(expert));
        for horizon in 0..HORIZONS.len() {
            let _ = write!(text, " {} |", wins(horizon));
        }
        text.push('\n');
    }
    let mut regrets = campaign.regrets.clone();
    regrets.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    text.push_str("\n| family | seed | horizon | forecasts | fused RMSE | over the best | the best expert |\n|---|---|---|---|---|---|---|\n");
    for r in regrets.iter().take(worst) {
        let _ = writeln!(
            text,
            "| {} | {} | {} s | {} | {:.2} us | {:.2} | {} |",
            r.family.name(),
            r.seed,
            HORIZONS[r.horizon],
            r.count,
            r.error * 1e6,
            r.ratio,
            name(r.expert)
        );
    }
    text
}

fn table(text: &mut String, campaign: &Campaign, title: &str, show: impl Fn(&Cell) -> String) {
    let _ = write!(text, "\n{title}\n\n| scenario | runs |");
    for h in HORIZONS {
        let _ = write!(text, " {h} s |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(HORIZONS.len()));
    let plain = campaign.plain();
    let rows = campaign.cells().map(|(family, cells)| (family.name(), cells));
    for (name, cells) in rows.chain([("honest and held-out", &plain)]) {
        let _ = write!(text, "| {name} | {} |", cells[0].runs());
        for cell in cells {
            let shown = if cell.runs() == 0 { "-".to_owned() } else { show(cell) };
            let _ = write!(text, " {shown} |");
        }
        text.push('\n');
    }
}

/// Its index and kind.
fn name(expert: usize) -> String {
    let pipeline: Box<Pipeline> = Box::new(Pipeline::new(Config::default()));
    format!("{expert} {}", pipeline.family(expert).as_str())
}
