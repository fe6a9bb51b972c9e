//! How the core's types read in a log of a microcontroller (feature `defmt`).
//!
//! Text stays on the debugger's side; what is sent are integers, and strings where the core has them anyway.

use defmt::{Format, Formatter, write};

use crate::fallback::{Estimate, Reason, Tier};
use crate::interval::{ErrorBound, PredictionInterval};
use crate::sample::{Sample, SourceId};
use crate::served::Target;
use crate::units::{Offset, Rate, Span, Temperature, Timestamp};

impl<S> Format for Timestamp<S> {
    fn format(&self, f: Formatter) {
        write!(f, "{=i64} ns", self.as_nanos());
    }
}

impl Format for Span {
    fn format(&self, f: Formatter) {
        write!(f, "{=i64} ns", self.as_nanos());
    }
}

impl Format for Offset {
    fn format(&self, f: Formatter) {
        write!(f, "{=i64} ns", self.as_nanos());
    }
}

impl Format for Rate {
    fn format(&self, f: Formatter) {
        write!(f, "{=f64} ppb", self.value() * 1e9);
    }
}

impl Format for Temperature {
    fn format(&self, f: Formatter) {
        write!(f, "{=f64} C", self.value());
    }
}

impl Format for ErrorBound {
    fn format(&self, f: Formatter) {
        if self.is_bounded() {
            write!(f, "+- {}", self.half_width());
        } else {
            write!(f, "unbounded");
        }
    }
}

impl Format for PredictionInterval {
    fn format(&self, f: Formatter) {
        if self.is_known() {
            write!(f, "+- {} (95%)", self.half_width());
        } else {
            write!(f, "unknown (95%)");
        }
    }
}

impl Format for Tier {
    fn format(&self, f: Formatter) {
        write!(f, "{=str}", self.as_str());
    }
}

impl Format for Reason {
    fn format(&self, f: Formatter) {
        write!(f, "{=str}", self.as_str());
    }
}

impl Format for SourceId {
    fn format(&self, f: Formatter) {
        write!(f, "source {=u8}", self.0);
    }
}

impl Format for Sample {
    fn format(&self, f: Formatter) {
        write!(f, "{} at {}: {}, delay {}", self.source, self.local, self.offset, self.delay);
        if let Some(temperature) = self.temperature {
            write!(f, ", {}", temperature);
        }
    }
}

impl Format for Estimate {
    fn format(&self, f: Formatter) {
        write!(f, "{} {} {}, {}: {}", self.offset, self.bound, self.interval, self.tier, self.reason);
    }
}

impl Format for Target {
    fn format(&self, f: Formatter) {
        write!(f, "at {}: {} and {}, {} {}", self.at, self.offset, self.rate, self.bound, self.interval);
    }
}
