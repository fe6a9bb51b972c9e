//! A whole world under way: one machine, its oscillator and room, and the servers it asks.
//!
//! Time is local time, in steps of fixed length. The true offset is known at the end of every step and taken as linear in
//! between, also by the exchanges, so a truth file of all steps is exact for its trace.

use std::io::{self, Write};

use chronotick_core::sample::{Sample, SourceId};
use chronotick_core::units::{Local, Offset, Span, Temperature, Timestamp};

use super::network::{Server, ServerParams};
use super::oscillator::{Oscillator, OscillatorParams};
use super::stream;
use super::temperature::{Environment, EnvironmentParams, SensorParams};
use crate::trace::{TRUTH_HEADER, TraceWriter, push_integer};

/// Local time at which worlds start.
pub const START: Timestamp<Local> = Timestamp::from_nanos(1_000_000_000);

/// Everything that a world is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorldParams {
    /// The oscillator.
    pub oscillator: OscillatorParams,
    /// Its surroundings.
    pub environment: EnvironmentParams,
    /// The temperature sensor.
    pub sensor: SensorParams,
    /// The servers, by [`SourceId`]; at most 256.
    pub servers: Vec<ServerParams>,
    /// Length of a step, in s; 0 stands for 4 s.
    pub step: f64,
}

/// The truth at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// When, by the local clock.
    pub local: Timestamp<Local>,
    /// True reference - local, to the nearest nanosecond.
    pub offset: Offset,
    /// Its slope, in s/s.
    pub rate: f64,
}

/// A world under way.
#[derive(Clone, Debug)]
pub struct World {
    environment: Environment,
    oscillator: Oscillator,
    servers: Vec<Server>,
    step: f64,
    /// Steps done.
    steps: u32,
}

impl World {
    /// The world that `params` and `seed` make, at its start.
    pub fn new(params: &WorldParams, seed: u64) -> Self {
        let step = if params.step > 0.0 { params.step } else { 4.0 };
        let environment = Environment::new(params.environment, params.sensor, step, stream(seed, "temperature"));
        let oscillator = Oscillator::new(params.oscillator, environment.crystal(), step, stream(seed, "oscillator"));
        let server = |(i, &p)| Server::new(p, stream(seed, &format!("server {i}")));
        Self {
            environment,
            oscillator,
            servers: params.servers.iter().enumerate().map(server).collect(),
            step,
            steps: 0,
        }
    }

    /// The truth at the end of the step just done.
    pub fn truth(&self) -> Truth {
        Truth {
            local: local(self.elapsed()),
            offset: Offset::from_secs_f64(self.oscillator.offset()),
            rate: self.oscillator.rate(),
        }
    }

    /// Seconds since the start.
    pub fn elapsed(&self) -> f64 {
        self.step * f64::from(self.steps)
    }

    /// The error of one reading of the counter, in s.
    pub fn reading_jitter(&mut self) -> f64 {
        self.oscillator.reading_jitter()
    }

    /// What the temperature sensor says now, if anything.
    pub fn temperature(&mut self) -> Option<Temperature> {
        self.environment.reading().map(Temperature::new)
    }

    /// Lets one step pass. The exchanges made in it are appended to `samples`, ascending in local time.
    pub fn advance(&mut self, samples: &mut Vec<Sample>) -> Truth {
        let (from, before) = (self.elapsed(), self.oscillator.offset());
        self.environment.advance();
        self.oscillator.advance(self.environment.crystal());
        self.steps += 1;
        let (until, after) = (self.elapsed(), self.oscillator.offset());
        loop {
            let due = self.servers.iter().map(Server::next_poll).enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
            let Some((index, time)) = due.filter(|d| d.1 <= until) else { break };
            let jitter = [self.reading_jitter(), self.reading_jitter()];
            let Some(exchange) = self.servers[index].exchange(time, jitter) else { continue };
            let truth = before + (after - before) * (time - from) / self.step;
            let mut at = local(time);
            // Two servers asked in the same nanosecond would not be two rows of a trace.
            if let Some(last) = samples.last()
                && at <= last.local
            {
                at = last.local.saturating_add(Span::from_nanos(1));
            }
            samples.push(Sample {
                local: at,
                offset: Offset::from_secs_f64(truth + exchange.error),
                // Rounded up: the budget must hold in whole nanoseconds too.
                delay: Span::from_nanos(Span::from_secs_f64(exchange.delay).as_nanos() + 2),
                root_distance: Span::from_secs_f64(exchange.root_distance),
                temperature: self.temperature(),
                source: SourceId(u8::try_from(index).unwrap_or(u8::MAX)),
            });
        }
        self.truth()
    }

    /// Runs for `seconds` and keeps everything.
    pub fn record(mut self, seconds: f64) -> Recording {
        let mut recording = Recording { samples: Vec::new(), truth: vec![self.truth()] };
        while self.elapsed() < seconds {
            let truth = self.advance(&mut recording.samples);
            recording.truth.push(truth);
        }
        recording
    }
}

/// What a world did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The exchanges, ascending in local time.
    pub samples: Vec<Sample>,
    /// The truth at the ends of all steps.
    pub truth: Vec<Truth>,
}

impl Recording {
    /// The true offset at `at`, in s relative to `base`, linear between steps; `None` outside the recording.
    pub fn offset_since(&self, base: Offset, at: Timestamp<Local>) -> Option<f64> {
        let next = self.truth.partition_point(|t| t.local < at);
        let after = self.truth.get(next)?;
        let value = after.offset.since(base).as_secs_f64();
        if after.local == at {
            return Some(value);
        }
        let before = &self.truth[next.checked_sub(1)?];
        let share = at.since(before.local).as_secs_f64() / after.local.since(before.local).as_secs_f64();
        let start = before.offset.since(base).as_secs_f64();
        Some(start + (value - start) * share)
    }

    /// Writes the trace: what an estimator may see.
    pub fn write_trace<W: Write>(&self, out: W, comments: &[&str]) -> io::Result<W> {
        let mut writer = TraceWriter::new(out, comments)?;
        let several = self.samples.iter().any(|s| s.source.0 > 0);
        for sample in &self.samples {
            if several {
                writer.write(sample, &format!("server{}", sample.source.0))?;
            } else {
                writer.write(sample, "")?;
            }
        }
        writer.finish()
    }

    /// Writes the truth: `local_ns,truth_offset_ns`.
    pub fn write_truth<W: Write>(&self, mut out: W) -> io::Result<W> {
        writeln!(out, "{TRUTH_HEADER}")?;
        let mut line = Vec::with_capacity(64);
        for truth in &self.truth {
            line.clear();
            push_integer(&mut line, truth.local.as_nanos());
            line.push(b',');
            push_integer(&mut line, truth.offset.as_nanos());
            line.push(b'\n');
            out.write_all(&line)?;
        }
        out.flush()?;
        Ok(out)
    }
}

fn local(seconds: f64) -> Timestamp<Local> {
    START.saturating_add(Span::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::kinds::{Kind, Split};

    #[test]
    fn a_seed_is_a_world() {
        let params = Kind::Random(Split::Training).params(5);
        let once = World::new(&params, 5).record(20_000.0);
        assert_eq!(once, World::new(&params, 5).record(20_000.0));
        assert_ne!(once, World::new(&params, 6).record(20_000.0));
    }

    #[test]
    fn every_measurement_is_within_its_budget() {
        for kind in Kind::ALL {
            for seed in 0..20 {
                let recording = World::new(&kind.params(seed), seed).record(6.0 * 3600.0);
                assert!(recording.samples.len() > 20, "{} seed {seed}", kind.name());
                assert!(recording.samples.is_sorted_by(|a, b| a.local < b.local));
                for sample in &recording.samples {
                    let error = recording.offset_since(sample.offset, sample.local).expect("inside the recording");
                    let bound = sample.error_bound().as_secs_f64();
                    assert!(error.abs() <= bound, "{} seed {seed}: {sample:?} is off by {error:e} s", kind.name());
                }
            }
        }
    }

    #[test]
    fn another_network_leaves_the_oscillator_alone() {
        let mut params = Kind::Random(Split::Training).params(9);
        let once = World::new(&params, 9).record(5000.0);
        params.servers[0].loss = 0.5;
        assert_eq!(once.truth, World::new(&params, 9).record(5000.0).truth);
    }
}
