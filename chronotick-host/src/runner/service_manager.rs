//! What a service manager (systemd, `Type=notify`) is told: ready, reloading, stopping, one line of status, and a sign of life
//! from the loop itself, so that a loop that hangs is restarted.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The service manager that started this process, if one did.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// How often it wants a sign of life, and when it had the last.
    watchdog: Option<(Duration, Instant)>,
}

impl ServiceManager {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`.
    pub(super) fn of_this_process() -> Self {
        // A third of the time leaves room for a machine that is slow for a moment.
        let watchdog = sd_notify::watchdog_enabled().map(|limit| (limit / 3, Instant::now()));
        Self { watchdog }
    }

    /// Readers can attach.
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The configuration is being read again; [`ServiceManager::ready`] ends it.
    pub(super) fn reloading(&self) {
        // The time is what newer versions of systemd insist on.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The loop has ended.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self, line: &str) {
        tell(&[NotifyState::Status(line)]);
    }

    /// A turn of the loop has ended.
    pub(super) fn alive(&mut self) {
        if let Some((every, last)) = &mut self.watchdog
            && last.elapsed() >= *every
        {
            *last = Instant::now();
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // Without a manager this does nothing; one that does not listen is not worth ending for.
    if let Err(cause) = sd_notify::notify(states) {
        tracing::debug!(%cause, "the service manager was not told");
    }
}
