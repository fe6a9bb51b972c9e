//! What comes in: samples of the sources, answers of the worker, disturbances of the counter.

use std::time::Instant;

use chronotick_core::Sample;
use chronotick_core::units::{Local, Span, Timestamp};

use super::Runner;
use super::journal::{self, Event};
use super::leaps::heard;
use super::source::Known;
use crate::error::Error;
use crate::os::disruption::Disruption;

impl Runner {
    pub(super) fn handle_sample(&mut self, index: usize, mut sample: Sample) -> bool {
        self.temperature = (self.thermometer)();
        sample.temperature = self.temperature;
        let now = self.clock.now();
        let first = self.pipeline.counts().samples_accepted == 0;
        let predicted = self.pipeline.estimate(sample.local);
        self.leaps.hear(sample.source, heard(self.sources[index].leap()));
        let expected = predicted.as_ref().map(|predicted| predicted.offset);
        sample.offset = self.leaps.normalise(sample.local, sample.offset, expected);
        self.witness.observe(&sample, predicted.as_ref());
        let outcome = self.pipeline.handle_sample(now, &sample);
        let refused = outcome.as_ref().err().map(ToString::to_string);
        let name = self.sources[index].name();
        self.journal.push(Event::Exchange(journal::Exchange::new(&sample, name, predicted.as_ref(), refused)));
        match outcome {
            Ok(()) => {
                if let Some(estimate) = self.pipeline.estimate(sample.local) {
                    self.stability.observe(sample.local, estimate.offset);
                }
                if first {
                    let source = self.sources[index].name();
                    tracing::info!(source, offset_ns = sample.offset.as_nanos(), "first sample");
                }
                let room = self.room(now);
                self.sources.iter_mut().for_each(|source| source.set_room(room));
                true
            }
            Err(error) => {
                tracing::debug!(source = self.sources[index].name(), %error, "sample refused");
                false
            }
        }
    }

    /// How long the hard bound stays within the target accuracy if nothing more arrives.
    fn room(&self, now: Timestamp<Local>) -> Span {
        let Some(target) = self.pipeline.target(now) else { return Span::ZERO };
        let slack = self.config.serve.target_accuracy.saturating_sub(target.bound.half_width()).as_secs_f64();
        let growth = target.bound_growth.value();
        if growth > 0.0 { Span::from_secs_f64(slack.max(0.0) / growth) } else { Span::ZERO }
    }

    /// What the sources together make of the present.
    pub(super) fn known(&self) -> Option<Known> {
        let estimate = self.pipeline.estimate(self.clock.now())?;
        let offset = estimate.offset.saturating_add(self.leaps.utc_less_continuous());
        Some(Known { offset, half_width: estimate.bound.half_width() })
    }

    /// Answers and signs of life. Returns whether a forecast came.
    pub(super) fn look_after_worker(&mut self) -> bool {
        let Some(worker) = &mut self.worker else { return false };
        let mut news = false;
        while let Some(forecast) = worker.poll(Instant::now()) {
            self.asked = None;
            match self.pipeline.handle_forecast(self.clock.now(), &forecast) {
                Ok(()) => news = true,
                Err(error) => tracing::debug!(model = ?forecast.model, %error, "forecast refused"),
            }
        }
        self.pipeline.set_worker_alive(worker.answering());
        news
    }

    /// Puts the questions that are due.
    pub(super) fn ask_worker(&mut self, now: Timestamp<Local>) {
        while let Some(request) = self.pipeline.poll_request(now) {
            let Some(worker) = &mut self.worker else { break };
            match worker.submit(&request) {
                Ok(()) => self.asked = Some(Instant::now()),
                Err(backlog) => tracing::debug!(%backlog, "question not put"),
            }
        }
    }

    pub(super) fn look_for_disruptions(&mut self) -> Result<(), Error> {
        let Some(disruption) = self.publisher.disruption() else { return Ok(()) };
        self.disruptions += 1;
        tracing::warn!(?disruption, "the counter was disturbed: starting over");
        let (ticks, utc) = self.clock.realtime();
        self.journal.push(Event::Disruption(journal::Disrupted {
            local_ns: self.clock.scale().local(ticks).as_nanos(),
            utc_ns: utc.as_nanos(),
            what: disruption.to_string(),
        }));
        self.pipeline.handle_discontinuity();
        self.stability.break_off();
        self.leaps.reset();
        self.sources.iter_mut().for_each(|source| source.restart());
        self.counter_distrusted = disruption == Disruption::CounterDistrusted;
        Ok(())
    }
}
