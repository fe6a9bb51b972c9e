//! Taking the configuration again while running: what can change does, and what has been learned stays.

use chronotick_core::SourceId;

use super::{Runner, resolution, sources};
use crate::config::{Config, Reload};
use crate::supervisor::Supervisor;

impl Runner {
    /// Takes the configuration again, or keeps the old one and says why. What has been learned stays, so the served time goes
    /// on as it was.
    pub(super) fn reload(&mut self) {
        let Some(reread) = &self.service.reread else {
            tracing::warn!("there is no configuration to read again: this daemon was started by a program");
            return;
        };
        if let Some(manager) = &self.service.manager {
            manager.reloading();
        }
        let old = self.config.clone();
        match reread().and_then(|new| self.config.adopt(&new)) {
            Ok(reload) => self.apply(&old, &reload),
            Err(error) => tracing::error!(%error, "the configuration is not reloaded: the old one stays in force"),
        }
        if let Some(manager) = &self.service.manager {
            manager.ready();
        }
    }

    /// Says what of the configuration was taken, and follows it.
    fn apply(&mut self, old: &Config, reload: &Reload) {
        if !reload.left.is_empty() {
            tracing::warn!("these keys wait for a restart: {}", reload.left.join(", "));
        }
        if reload.taken.is_empty() {
            tracing::info!("reloaded: nothing changed");
        } else {
            tracing::info!("reloaded: {}", reload.taken.join(", "));
            self.renew(old);
        }
        // Also where nothing changed: an address that was busy may be free by now.
        self.service.telemetry.follow(&self.config.metrics, &self.path);
    }

    /// Sets up anew what differs from `old`.
    fn renew(&mut self, old: &Config) {
        if old.ntp != self.config.ntp {
            self.replace_sources(old);
        }
        self.pipeline.reconfigure(self.config.pipeline(resolution(&*self.clock)));
        self.publisher.set_target_accuracy(self.config.serve.target_accuracy);
        if old.supervisor() != self.config.supervisor() {
            self.worker = self.config.supervisor().map(Supervisor::start);
            self.asked = None;
        }
    }

    /// A source whose place and settings are the same goes on; another one starts at its place.
    fn replace_sources(&mut self, old: &Config) {
        // Each server as often as it has sources.
        let places = |config: &Config| -> Vec<crate::config::Server> {
            let servers = config.ntp.servers.iter();
            servers.flat_map(|server| std::iter::repeat_n(server.clone(), server.count())).collect()
        };
        let (were, are) = (places(old), places(&self.config));
        let same_settings = old.client() == self.config.client();
        let mut before: Vec<_> = std::mem::take(&mut self.sources).into_iter().map(Some).collect();
        self.sources = sources(&self.config, &self.claims, &self.stop);
        for index in 0..before.len().max(self.sources.len()) {
            let was = before.get_mut(index).and_then(Option::take);
            let place = self.sources.get_mut(index);
            let same = were.get(index) == are.get(index)
                && was.as_ref().map(|source| source.name()) == place.as_ref().map(|source| source.name());
            match (was, place) {
                (Some(was), Some(place)) if same && same_settings => *place = was,
                _ if same => {}
                _ => self.forget_source(index),
            }
        }
        self.pipeline.expect_sources(u8::try_from(self.config.voters()).unwrap_or(u8::MAX));
        self.silence_told = false;
    }

    /// What was heard from the source at this place counts no more.
    pub(super) fn forget_source(&mut self, index: usize) {
        self.pipeline.forget_source(SourceId(u8::try_from(index).unwrap_or(u8::MAX)));
        self.witness.forget(index);
    }
}
