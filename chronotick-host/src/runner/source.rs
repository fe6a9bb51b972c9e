//! What yields samples: one trait, and behind it whatever a clock can be compared with.
//!
//! A source owns its descriptors and decides when it wants to act. The runner waits for all of them together and calls
//! [`Source::drive`] on each; nothing a source does there may block.

use std::os::fd::BorrowedFd;

use chronotick_core::Sample;
use chronotick_core::units::{Local, Offset, Span, Timestamp};

use super::status::SourceStatus;
use crate::ntp::packet::Leap;
use crate::os::counter::LocalClock;

/// Something that yields samples.
pub trait Source: Send {
    /// Its name in the configuration, in logs and in `status`.
    fn name(&self) -> &str;
    /// What to wait for, if anything.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
    /// When [`Source::drive`] wants to be called even if nothing arrives. `None`: never.
    fn poll_timeout(&self, now: Timestamp<Local>) -> Option<Timestamp<Local>>;
    /// Does what is due and takes what has arrived; at most one sample a call.
    fn drive(&mut self, clock: &dyn LocalClock) -> Option<Sample>;
    /// How long from now the hard bound stays within its target.
    fn set_room(&mut self, room: Span);
    /// Whether what is known matters to what it reads next: [`Source::set_known`] is then called before each turn of
    /// [`Source::drive`].
    fn needs_known(&self) -> bool {
        false
    }
    /// What all sources together make of the present. `None`: nothing yet.
    fn set_known(&mut self, _known: Option<Known>) {}
    /// Whether its samples so far count no more, asked once for each time.
    fn take_void(&mut self) -> bool {
        false
    }
    /// Its newest leap announcement, if it knows of leap seconds.
    fn leap(&self) -> Option<Leap> {
        None
    }
    /// The local counter was disturbed: start over.
    fn restart(&mut self);
    /// For people.
    fn status(&self, now: Timestamp<Local>) -> SourceStatus;
}

/// What all sources together make of the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// UTC - local.
    pub offset: Offset,
    /// How far that can be off.
    pub half_width: Span,
}
