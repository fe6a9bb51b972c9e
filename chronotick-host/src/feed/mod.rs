//! This clock for a chronyd: its SOCK reference clock.
//!
//! chronyd makes a Unix datagram socket and takes samples from it: the system's time, and what has to be added to it. This end sends
//! what the page serves, once an interval, while the tier is fused or filter. chronyd then selects, combines and serves it to a
//! network of machines like any other reference clock.
//!
//! ```text
//! time     seconds and microseconds of CLOCK_REALTIME, each as wide as time_t
//! offset   f64, s: served UTC - CLOCK_REALTIME
//! pulse    i32: 0, this is no pulse per second
//! leap     i32: 0 none, 1 insert, 2 delete
//! padding  i32
//! magic    i32: 0x534f434b
//! ```

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use chronotick_core::Tier;
use chronotick_core::served::ClockRecord;
use chronotick_core::units::{Local, Span, Timestamp, Utc};

use crate::ntp::packet::Leap;
use crate::os::counter::LocalClock;
use crate::runner::status::FeedStatus;

/// "SOCK".
const MAGIC: i32 = 0x534f_434b;
/// A socket that is not there is looked for again after this.
const RETRY: Span = Span::from_secs(10);

/// One sample, as chronyd takes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SockSample {
    /// The system's time.
    pub system: Timestamp<Utc>,
    /// Served UTC - the system's time.
    pub offset: Span,
    /// The leap second that is announced.
    pub leap: Leap,
}

impl SockSample {
    /// Its bytes, in this machine's layout.
    pub fn encode(&self) -> Vec<u8> {
        let nanos = self.system.as_nanos();
        let (seconds, micros) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000) / 1_000);
        // The nanoseconds that are dropped change the instant and not the offset.
        let offset = self.offset.as_secs_f64();
        let leap: i32 = match self.leap {
            Leap::Insert => 1,
            Leap::Delete => 2,
            _ => 0,
        };
        let mut bytes = Vec::with_capacity(40);
        let time = |value: i64, bytes: &mut Vec<u8>| {
            #[allow(clippy::cast_possible_truncation, reason = "the width of time_t is the operating system's choice")]
            #[allow(clippy::unnecessary_cast, reason = "as above")]
            bytes.extend((value as libc::time_t).to_ne_bytes());
        };
        time(seconds, &mut bytes);
        time(micros, &mut bytes);
        bytes.extend(offset.to_ne_bytes());
        for word in [0, leap, 0, MAGIC] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }
}

/// Sends samples to one chronyd.
pub(crate) struct ChronySock {
    path: PathBuf,
    interval: Span,
    socket: Option<UnixDatagram>,
    due: Option<Timestamp<Local>>,
    sent: u64,
    failed: u64,
    trouble: Option<String>,
}

impl ChronySock {
    /// A feed to the socket at `path`.
    pub(crate) fn new(path: &Path, interval: Span) -> Self {
        Self { path: path.to_owned(), interval, socket: None, due: None, sent: 0, failed: 0, trouble: None }
    }

    /// When [`ChronySock::drive`] wants to be called.
    pub(crate) fn poll_timeout(&self, now: Timestamp<Local>) -> Timestamp<Local> {
        self.due.unwrap_or(now)
    }

    /// Sends what is served, if that is due and worth it.
    pub(crate) fn drive(&mut self, clock: &dyn LocalClock, served: Option<&ClockRecord>, leap: Leap) {
        let now = clock.now();
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        self.due = Some(now.saturating_add(self.interval));
        let Some(record) = served.filter(|record| matches!(record.tier, Tier::Fused | Tier::Filter)) else { return };
        let (ticks, system) = clock.realtime();
        let offset = record.utc_at(clock.scale().local(ticks)).since(system);
        let sample = SockSample { system, offset, leap };
        match self.send(&sample.encode()) {
            Ok(()) => {
                self.sent += 1;
                if self.trouble.take().is_some() || self.sent == 1 {
                    tracing::info!(socket = %self.path.display(), "chronyd takes samples");
                }
            }
            Err(cause) => {
                self.failed += 1;
                self.socket = None;
                self.due = Some(now.saturating_add(RETRY.max(self.interval)));
                let told = explain(&self.path, &cause);
                if self.trouble.as_ref() != Some(&told) {
                    tracing::warn!("{told}; tried again every {} s", RETRY.as_secs_f64());
                }
                self.trouble = Some(told);
            }
        }
    }

    /// For people.
    pub(crate) fn status(&self) -> FeedStatus {
        let Self { path, sent, failed, trouble, .. } = self;
        FeedStatus { socket: path.clone(), sent: *sent, failed: *failed, reason: trouble.clone() }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            self.socket = Some(socket);
        }
        let Some(socket) = &self.socket else { return Ok(()) };
        // By name each time: a chronyd that was started again has made a new socket.
        let length = socket.send_to(bytes, &self.path)?;
        if length == bytes.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::WriteZero)) }
    }
}

fn explain(path: &Path, cause: &io::Error) -> String {
    let path = path.display();
    match cause.kind() {
        io::ErrorKind::NotFound => format!("no socket at {path}: add `refclock SOCK {path}` to chrony.conf"),
        io::ErrorKind::ConnectionRefused => format!("nobody listens at {path}: start chronyd"),
        io::ErrorKind::PermissionDenied => format!("may not write to {path}: run as the owner of that socket"),
        _ => format!("cannot send to {path}: {cause}"),
    }
}

#[cfg(test)]
mod tests {
    use chronotick_core::served::{Config, Served, Target};
    use chronotick_core::units::{Offset, Rate};
    use chronotick_core::{ErrorBound, PredictionInterval, Reason};

    use super::*;
    use crate::local::fake::{Clock, START};

    #[test]
    #[cfg(all(target_pointer_width = "64", target_endian = "little"))]
    fn the_layout_is_chronyds() {
        let sample = SockSample {
            system: Timestamp::from_nanos(1_700_000_000_123_456_789),
            offset: Span::from_micros(-1_500),
            leap: Leap::Insert,
        };
        let bytes = sample.encode();
        assert_eq!(bytes.len(), 40);
        assert_eq!(bytes[..8], 1_700_000_000i64.to_le_bytes());
        assert_eq!(bytes[8..16], 123_456i64.to_le_bytes());
        assert_eq!(bytes[16..24], (-0.001_5f64).to_le_bytes());
        assert_eq!(bytes[24..], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x4b, 0x43, 0x4f, 0x53]);
    }

    fn record(clock: &Clock, tier: Tier) -> ClockRecord {
        let target = Target {
            at: clock.now(),
            offset: Offset::from_nanos(START),
            rate: Rate::ZERO,
            interval: PredictionInterval::new(Span::from_micros(10)),
            interval_growth: Rate::ZERO,
            bound: ErrorBound::new(Span::from_millis(1)),
            bound_growth: Rate::ZERO,
            void_after: Span::from_secs(3600),
            tier,
            reason: Reason::Nominal,
        };
        Served::new(Config::default()).update(&target)
    }

    #[test]
    fn what_is_served_is_sent_while_it_is_synchronised_and_somebody_listens() {
        let clock = Clock::new();
        clock.pass(Span::from_secs(1));
        let path = std::env::temp_dir().join(format!("chronotick-sock-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut feed = ChronySock::new(&path, Span::from_secs(1));
        feed.drive(&clock, Some(&record(&clock, Tier::Filter)), Leap::None);
        let status = feed.status();
        assert_eq!((status.sent, status.failed), (0, 1));
        assert!(status.reason.is_some_and(|reason| reason.contains("refclock SOCK")));
        assert_eq!(feed.poll_timeout(clock.now()).since(clock.now()), RETRY);

        let chronyd = UnixDatagram::bind(&path).expect("temporary socket");
        chronyd.set_nonblocking(true).expect("socket");
        let mut buffer = [0; 128];
        clock.pass(RETRY);
        feed.drive(&clock, Some(&record(&clock, Tier::Holdover)), Leap::None);
        feed.drive(&clock, None, Leap::None);
        assert!(chronyd.recv(&mut buffer).is_err(), "not synchronised");
        clock.pass(Span::from_secs(1));
        feed.drive(&clock, Some(&record(&clock, Tier::Fused)), Leap::None);
        let length = chronyd.recv(&mut buffer).expect("a sample");
        // The fake system clock is 3 ms ahead.
        let offset = f64::from_ne_bytes(buffer[length - 24..length - 16].try_into().expect("eight bytes"));
        assert!((offset + 0.003).abs() < 2e-9, "{offset}");
        assert_eq!((feed.status().sent, feed.status().reason), (1, None));
        std::fs::remove_file(&path).expect("temporary socket");
    }
}
