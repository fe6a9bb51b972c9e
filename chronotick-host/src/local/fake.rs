//! A counter and a system clock that tests move.

use std::sync::Mutex;

use chronotick_core::clock_page::CounterScale;
use chronotick_core::units::{Local, Span, Timestamp, Utc};

use crate::os::counter::{CounterKind, LocalClock};

/// The true time when a [`Clock`] starts, in ns since 1970.
pub(crate) const START: i64 = 1_800_000_000_000_000_000;

/// A counter of nanoseconds that starts at 0, and a system clock that starts 3 ms ahead of the truth.
pub(crate) struct Clock(Mutex<State>);

struct State {
    counter: i64,
    system_ahead: i64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { counter: 0, system_ahead: 3_000_000 }))
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, span: Span) {
        self.0.lock().expect("one thread").counter += span.as_nanos();
    }

    /// Somebody sets the system's clock forward.
    pub(crate) fn set_system(&self, by: Span) {
        self.0.lock().expect("one thread").system_ahead += by.as_nanos();
    }

    /// The true time.
    pub(crate) fn truth(&self) -> Timestamp<Utc> {
        Timestamp::from_nanos(START + self.now().as_nanos())
    }
}

impl LocalClock for Clock {
    fn ticks(&self) -> u64 {
        self.0.lock().expect("one thread").counter.unsigned_abs()
    }
    fn scale(&self) -> CounterScale {
        CounterScale::NANOS
    }
    fn kind(&self) -> CounterKind {
        CounterKind::Virtual
    }
    fn realtime(&self) -> (u64, Timestamp<Utc>) {
        let state = self.0.lock().expect("one thread");
        let utc = Timestamp::from_nanos(START + state.counter + state.system_ahead);
        (state.counter.unsigned_abs(), utc)
    }
    fn now(&self) -> Timestamp<Local> {
        Timestamp::from_nanos(self.0.lock().expect("one thread").counter)
    }
}
