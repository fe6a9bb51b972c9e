//! A page to try the examples of this documentation on: no network, no daemon, one published record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chronotick_core::served::{self, Target};
use chronotick_core::{ErrorBound, Offset, PredictionInterval, Rate, Reason, Span, Tier};

use crate::clock::ChronoTick;
use crate::os::counter::{LocalClock, SystemCounter};
use crate::publisher::Publisher;
use crate::reader::Reader;
use crate::shm::page::PageSettings;

/// Stands for a daemon: its page goes when it is dropped.
pub struct Daemon {
    folder: PathBuf,
    path: PathBuf,
    publisher: Publisher,
}

/// A page whose clock agrees with the operating system's within 20 us at 95 %, 500 us at worst.
#[expect(clippy::expect_used, reason = "only examples and tests call this")]
pub fn daemon() -> Daemon {
    let folder = scratch();
    let path = folder.join("clock");
    let clock: Arc<dyn LocalClock> = Arc::new(SystemCounter::calibrate());
    let mut publisher = Publisher::open(&path, &PageSettings::default(), served::Config::default(), clock)
        .expect("the temporary folder can be written");
    publisher.publish(|at| Some(target(at))).expect("the page was just made");
    Daemon { folder, path, publisher }
}

/// A folder with a configuration that asks nobody and runs no model, for daemons that examples start themselves.
pub struct Offline(PathBuf);

/// See [`Offline`].
#[expect(clippy::expect_used, reason = "only examples and tests call this")]
pub fn offline() -> Offline {
    let folder = scratch();
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let offline = Offline(folder);
    let text =
        format!("[ntp]\nservers = []\n[worker]\nmode = \"off\"\n[page]\npath = \"{}\"\n", offline.page().display());
    std::fs::write(offline.config(), text).expect("the temporary folder can be written");
    offline
}

impl Offline {
    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.0.join("chronotick.toml")
    }

    /// Where its daemon puts the page.
    pub fn page(&self) -> PathBuf {
        self.0.join("clock")
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scratch() -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("chronotick-doc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(name)
}

fn target(at: chronotick_core::Timestamp<chronotick_core::Local>) -> Target {
    Target {
        at,
        offset: Offset::ZERO,
        rate: Rate::ZERO,
        interval: PredictionInterval::new(Span::from_micros(20)),
        interval_growth: Rate::from_ppb(20.0),
        bound: ErrorBound::new(Span::from_micros(500)),
        bound_growth: Rate::from_ppm(5.0),
        void_after: Span::from_secs(3600),
        tier: Tier::Filter,
        reason: Reason::WarmingUp,
    }
}

impl Daemon {
    /// Where the page is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A reader of it.
    #[expect(clippy::expect_used, reason = "only examples and tests call this")]
    pub fn attach(&self) -> Reader {
        Reader::attach(&self.path).expect("the page was just made")
    }

    /// A clock that reads it.
    #[expect(clippy::expect_used, reason = "only examples and tests call this")]
    pub fn clock(&self) -> ChronoTick {
        ChronoTick::builder().page(&self.path).attach().expect("the page was just made")
    }

    /// Publishes another record like the first.
    pub fn publish(&mut self) {
        let _ = self.publisher.publish(|at| Some(target(at)));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
