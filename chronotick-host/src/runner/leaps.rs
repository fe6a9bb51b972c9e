//! Leap seconds: who announces one, when it comes, and what that means for what is served.

use chronotick_core::leap::{self, Announcement, LeapSecond, Policy};
use chronotick_core::selection::Verdict;
use chronotick_core::units::{Local, Timestamp, Utc};

use super::Runner;
use crate::ntp::packet::Leap;

impl Runner {
    /// Leap seconds that come and go. Returns whether there is something to publish.
    pub(super) fn look_for_leaps(&mut self, now: Timestamp<Local>) -> bool {
        let Some(utc) = self.continuous(now) else { return false };
        let pipeline = &self.pipeline;
        let event = self.leaps.advance(utc, |source| pipeline.verdict(source) == Some(Verdict::Selected));
        match event {
            None => return false,
            Some(leap::Event::Announced(kind)) => {
                tracing::info!(leap = kind.as_str(), policy = ?self.config.serve.leap, "a leap second ends this UTC day");
            }
            Some(leap::Event::Withdrawn(kind)) => {
                tracing::warn!(
                    leap = kind.as_str(),
                    "the leap second is announced by a majority no more: there will be none"
                );
            }
            Some(leap::Event::Happened(kind)) => {
                tracing::info!(leap = kind.as_str(), "leap second");
                if self.config.serve.leap == Policy::Utc {
                    self.publisher.step();
                }
            }
        }
        true
    }

    /// The estimate of now, on the scale that has no leap seconds.
    pub(super) fn continuous(&self, now: Timestamp<Local>) -> Option<Timestamp<Utc>> {
        let roughly = now.to_utc(self.pipeline.line_offset()?);
        let near = self.leaps.poll_timeout(roughly).is_some_and(|left| left < leap::LAST);
        if near { Some(now.to_utc(self.pipeline.estimate(now)?.offset)) } else { Some(roughly) }
    }

    /// The leap second that a chronyd is told of. With a smear there is nothing left to announce.
    pub(super) fn announcement(&self) -> Leap {
        match self.leaps.announced().filter(|_| self.config.serve.leap == Policy::Utc) {
            Some(LeapSecond::Insert) => Leap::Insert,
            Some(LeapSecond::Delete) => Leap::Delete,
            None => Leap::None,
        }
    }
}

/// What a source whose leap indicator is `leap`, if it has one, says of the end of this UTC day.
pub(super) fn heard(leap: Option<Leap>) -> Announcement {
    match leap {
        None | Some(Leap::Unsynchronised) => Announcement::Unknown,
        Some(Leap::None) => Announcement::NoLeap,
        Some(Leap::Insert) => Announcement::Leap(LeapSecond::Insert),
        Some(Leap::Delete) => Announcement::Leap(LeapSecond::Delete),
    }
}
