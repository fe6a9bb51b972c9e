//! A chronyd on this machine as a reference: what it thinks of the system's clock, right now.
//!
//! chronyd reports how far it believes the system's clock to be off, with the error budget of what it follows. The system's clock
//! is read beside the counter before the question and after the answer; the sample is that reading plus the correction. While
//! chronyd slews the clock (by up to 10 %, more than anything else does) the correction ages between its reading and ours: that
//! part of the round trip is added to the budget.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use chronotick_core::units::Span;

use super::candm::{self, NotTracking, Tracking};
use super::{Answer, ChronydAddress, Measured, Pair, Reference, Trouble, pair};
use crate::ntp::packet::Leap;
use crate::os::counter::LocalClock;
use crate::runner::source::Known;

/// The largest part of the time that chronyd slews by.
const MAX_SLEW: i64 = 10;

/// A chronyd.
pub(super) struct Chronyd {
    address: ChronydAddress,
    socket: Option<Socket>,
    asked: Option<Asked>,
}

struct Asked {
    sequence: u32,
    before: Pair,
}

impl Chronyd {
    pub(super) fn new(address: ChronydAddress) -> Self {
        Self { address, socket: None, asked: None }
    }

    fn missing(&mut self, cause: &io::Error) -> Trouble {
        self.socket = None;
        self.asked = None;
        let advice = match cause.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ": is it running?",
            io::ErrorKind::PermissionDenied => ": ask its UDP port instead (\"chronyd\")",
            _ => "",
        };
        Trouble::Missing(format!("cannot ask chronyd ({cause}){advice}"))
    }

    fn measured(tracking: &Tracking, before: Pair, after: Pair) -> Result<Answer, Trouble> {
        let useless = |why: &str| Trouble::Useless(format!("chronyd {why}"));
        if !tracking.is_synchronised() {
            return Err(useless("is not synchronised"));
        }
        let distance = tracking.root_distance().ok_or_else(|| useless("claims an error that is no number"))?;
        let correction = tracking.correction;
        if !correction.is_finite() || correction.abs() > 1e9 {
            return Err(useless("claims a correction that is no number"));
        }
        let took = after.0.since(before.0);
        let aged = Span::from_nanos(took.as_nanos() / MAX_SLEW + 1);
        // chronyd slews faster than a bracket allows: only a step is looked for.
        let stepped = after.1.since(before.1).saturating_sub(took).abs() > aged.saturating_add(Span::from_micros(1));
        if stepped {
            return Err(Trouble::Spoilt("the system's clock was set while chronyd was asked".to_owned()));
        }
        let utc = after.1.saturating_add(Span::from_secs_f64(correction));
        // Single precision, of the correction and of everything in the budget.
        let rounding = Span::from_secs_f64(correction.abs() * 1e-7);
        Ok(Answer::Measured(Measured {
            local: after.0,
            offset: utc.offset_from(after.0),
            delay: Span::from_nanos(1),
            root_distance: distance.saturating_add(aged).saturating_add(rounding),
            leap: Some(match tracking.leap {
                1 => Leap::Insert,
                2 => Leap::Delete,
                _ => Leap::None,
            }),
            stratum: u8::try_from(tracking.stratum).ok(),
        }))
    }
}

impl Reference for Chronyd {
    fn kind(&self) -> &'static str {
        "chronyd"
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn ask(&mut self, clock: &dyn LocalClock, _: Option<&Known>) -> Result<Answer, Trouble> {
        if self.socket.is_none() {
            self.socket = Some(Socket::open(&self.address).map_err(|cause| self.missing(&cause))?);
        }
        let sequence = rand::random();
        let before = pair(clock);
        let sent = self.socket.as_ref().map_or(Ok(0), |socket| socket.send(&candm::request(sequence)));
        sent.map_err(|cause| self.missing(&cause))?;
        self.asked = Some(Asked { sequence, before });
        Ok(Answer::Awaited)
    }

    fn hear(&mut self, clock: &dyn LocalClock) -> Result<Answer, Trouble> {
        let mut buffer = [0; 512];
        loop {
            let (Some(socket), Some(asked)) = (&self.socket, &self.asked) else { return Ok(Answer::Awaited) };
            let length = match socket.receive(&mut buffer) {
                Ok(length) => length,
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(Answer::Awaited),
                Err(cause) => return Err(self.missing(&cause)),
            };
            match candm::parse(&buffer[..length], asked.sequence) {
                Ok(tracking) => {
                    let before = asked.before;
                    self.asked = None;
                    return Self::measured(&tracking, before, pair(clock));
                }
                Err(NotTracking::Foreign) => {}
                Err(NotTracking::Refused(status)) => {
                    self.asked = None;
                    return Err(Trouble::Useless(format!("chronyd refuses to say how it tracks (status {status})")));
                }
            }
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(Socket::fd)
    }

    fn restart(&mut self) {
        self.asked = None;
    }
}

enum Socket {
    Udp(UdpSocket),
    Unix { socket: UnixDatagram, path: PathBuf },
}

impl Socket {
    fn open(address: &ChronydAddress) -> io::Result<Self> {
        match address {
            ChronydAddress::Udp(address) => {
                let any: IpAddr =
                    if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                let socket = UdpSocket::bind((any, 0))?;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Udp(socket))
            }
            ChronydAddress::Unix(server) => {
                // chronyd answers to a path, which its own user has to be able to reach.
                let folder = server.parent().unwrap_or(Path::new("/"));
                let path = folder.join(format!("chronotick.{}.{:08x}.sock", std::process::id(), rand::random::<u32>()));
                let socket = Self::Unix { socket: UnixDatagram::bind(&path)?, path };
                if let Self::Unix { socket, path } = &socket {
                    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
                    socket.connect(server)?;
                    socket.set_nonblocking(true)?;
                }
                Ok(socket)
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.send(bytes),
            Self::Unix { socket, .. } => socket.send(bytes),
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(buffer),
            Self::Unix { socket, .. } => socket.recv(buffer),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix { socket, .. } => socket.as_fd(),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // Gone already: as wished.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags};

    use super::super::fake::{Clock, START};
    use super::*;

    const TRACKING: Tracking = Tracking {
        reference_id: 0x0A00_0001,
        stratum: 3,
        leap: 0,
        correction: -0.003,
        root_delay: 0.001,
        root_dispersion: 0.000_2,
    };

    #[test]
    fn the_correction_is_added_to_the_system_clock() {
        let clock = Clock::new();
        clock.pass(Span::from_secs(3));
        let before = pair(&clock);
        clock.pass(Span::from_micros(200));
        let Ok(Answer::Measured(measured)) = Chronyd::measured(&TRACKING, before, pair(&clock)) else {
            panic!("synchronised")
        };
        // The fake system clock is 3 ms ahead, and this chronyd knows it.
        assert!((measured.offset.as_nanos() - START).abs() <= 1, "{measured:?}");
        // Root distance 700 us, and a tenth of the 200 us.
        let distance = measured.root_distance.as_nanos();
        assert!((720_000..720_010).contains(&distance), "{distance}");
        clock.set_system(Span::from_millis(1));
        assert!(matches!(Chronyd::measured(&TRACKING, before, pair(&clock)), Err(Trouble::Spoilt(_))));
    }

    #[test]
    fn a_chronyd_that_follows_nobody_is_refused() {
        let now = pair(&Clock::new());
        for tracking in [
            Tracking { leap: 3, ..TRACKING },
            Tracking { correction: f64::NAN, ..TRACKING },
            Tracking { root_dispersion: f64::INFINITY, ..TRACKING },
        ] {
            assert!(matches!(Chronyd::measured(&tracking, now, now), Err(Trouble::Useless(_))));
        }
    }

    #[test]
    fn nobody_there() {
        let clock = Clock::new();
        let nobody = UdpSocket::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
        let mut chronyd = Chronyd::new(ChronydAddress::Udp(nobody));
        assert_eq!(chronyd.ask(&clock, None), Ok(Answer::Awaited));
        // The kernel bounces the question.
        let bounced = |chronyd: &Chronyd| {
            let fd = chronyd.fd().expect("a socket");
            let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
            rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&patience))
        };
        assert_eq!(bounced(&chronyd), Ok(1));
        let heard = chronyd.hear(&clock);
        assert!(matches!(&heard, Err(Trouble::Missing(told)) if told.ends_with("is it running?")), "{heard:?}");
        let mut chronyd = Chronyd::new(ChronydAddress::Unix("/nonexistent/chronyd.sock".into()));
        assert!(matches!(chronyd.ask(&clock, None), Err(Trouble::Missing(_))));
    }
}
