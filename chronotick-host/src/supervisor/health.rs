//! What the service knows of its worker, for `status` and metrics.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::link::ModelState;
use crate::os::sandbox::Sandbox;

/// Most different causes of restarts that are kept apart; the rest is counted together.
const MAX_CAUSES: usize = 32;
/// How many inference times the quantiles are taken from.
const WINDOW: usize = 256;

/// The worker's health.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WorkerHealth {
    /// Process id; absent while there is none, and in thread mode.
    pub pid: Option<u32>,
    /// Set up and giving signs of life.
    pub alive: bool,
    /// One line on what it is doing or why it is not.
    pub state: String,
    /// Restarts since the start.
    pub restarts: u64,
    /// How often for which reason.
    pub restart_reasons: BTreeMap<String, u64>,
    /// The newest of them.
    pub last_reason: Option<String>,
    /// Cores it may run on, read back from the kernel.
    pub cpu_affinity: Vec<usize>,
    /// What it could not do and goes on without.
    pub warnings: Vec<String>,
    /// What it can no longer do.
    pub sandbox: Sandbox,
    /// The models, by `Model::index`.
    pub models: [ModelState; 2],
    /// Resident memory, in MB (1e6 bytes).
    pub rss_mb: f64,
    /// Processor time since its start, in s.
    pub cpu_s: f64,
    /// The same as a share of one core since its start, in percent.
    pub cpu_percent: f64,
    /// Median time of an inference, in ms; 0 before the first.
    pub inference_ms_p50: f64,
    /// 99 % quantile, in ms.
    pub inference_ms_p99: f64,
    /// Questions put.
    pub submitted: u64,
    /// Forecasts delivered in time.
    pub answered: u64,
    /// Questions without an answer within the deadline.
    pub late: u64,
    /// Questions that the worker could not answer (a model is not usable).
    pub refused: u64,
    /// Why the newest of those was not answered.
    pub last_refusal: Option<String>,
    /// Links that a worker broke: impossible positions, lengths, checksums or messages.
    pub corrupt: u64,
    /// Forecasts delivered in time, as a share of the questions that are settled; 1 before the first.
    pub success_rate: f64,
}

/// The counters behind [`WorkerHealth`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) restarts: u64,
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) last_reason: Option<String>,
    pub(super) submitted: u64,
    pub(super) answered: u64,
    pub(super) late: u64,
    pub(super) refused: u64,
    pub(super) last_refusal: Option<String>,
    pub(super) corrupt: u64,
    inference_ns: Vec<u32>,
    next: usize,
}

impl Counters {
    pub(super) fn restarted(&mut self, kind: &str, reason: String) {
        self.restarts += 1;
        let kind = if self.reasons.len() < MAX_CAUSES || self.reasons.contains_key(kind) { kind } else { "other" };
        *self.reasons.entry(kind.to_owned()).or_default() += 1;
        self.last_reason = Some(reason);
    }

    pub(super) fn inference(&mut self, ns: u32) {
        if self.inference_ns.len() < WINDOW {
            self.inference_ns.push(ns);
        } else {
            self.inference_ns[self.next] = ns;
            self.next = (self.next + 1) % WINDOW;
        }
    }

    /// Median and 99 % quantile of the newest inferences, in ms.
    fn inference_ms(&self) -> (f64, f64) {
        let mut sorted = self.inference_ns.clone();
        sorted.sort_unstable();
        let quantile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(rank).map_or(0.0, |&ns| f64::from(ns) / 1e6)
        };
        (quantile(50), quantile(99))
    }

    pub(super) fn write(&self, health: &mut WorkerHealth) {
        health.restarts = self.restarts;
        health.restart_reasons.clone_from(&self.reasons);
        health.last_reason.clone_from(&self.last_reason);
        (health.inference_ms_p50, health.inference_ms_p99) = self.inference_ms();
        health.submitted = self.submitted;
        health.answered = self.answered;
        health.late = self.late;
        health.refused = self.refused;
        health.last_refusal.clone_from(&self.last_refusal);
        health.corrupt = self.corrupt;
        let settled = self.answered + self.late + self.refused;
        health.success_rate = if settled == 0 { 1.0 } else { self.answered as f64 / settled as f64 };
    }
}

/// Resident memory in MB and processor time in s of a process, as the kernel counts them. `None` when it is gone.
pub(crate) fn usage(pid: u32) -> Option<(f64, f64)> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let resident: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may contain anything; fields count from the closing parenthesis (state is field 3).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let rss_mb = resident as f64 * rustix::param::page_size() as f64 / 1e6;
    Some((rss_mb, ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_rates_come_from_the_counters() {
        let mut counters = Counters::default();
        let mut health = WorkerHealth::default();
        counters.write(&mut health);
        assert_eq!((health.inference_ms_p50, health.success_rate), (0.0, 1.0));
        (1..=1000u32).for_each(|n| counters.inference(n * 1000));
        (counters.answered, counters.late, counters.refused) = (97, 2, 1);
        counters.write(&mut health);
        assert_eq!((health.inference_ms_p50, health.inference_ms_p99), (0.872, 0.998));
        assert_eq!(health.success_rate, 0.97);
    }

    #[test]
    fn causes_without_end_do_not_grow_the_table() {
        let mut counters = Counters::default();
        (0..1000).for_each(|n| counters.restarted(&format!("cause {n}"), String::new()));
        assert_eq!(counters.reasons.len(), MAX_CAUSES + 1);
        assert_eq!(counters.reasons.values().sum::<u64>(), 1000);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage(std::process::id()).is_some_and(|(rss_mb, cpu_s)| rss_mb > 0.5 && cpu_s >= 0.0));
        assert_eq!(usage(u32::MAX), None);
    }
}
