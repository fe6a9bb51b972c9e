//! Reading a PTP hardware clock (`/dev/ptpN`) beside the operating system's clock.
//!
//! Three requests do it, and a driver knows one, two or all of them. `PTP_SYS_OFFSET_PRECISE` has the hardware latch both
//! clocks at one instant. `PTP_SYS_OFFSET_EXTENDED` has the driver read the system clock right before and after the device;
//! `PTP_SYS_OFFSET` reads them in turn, farther apart. The best that the driver knows is found at the first reading and kept.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::path::Path;

use chronotick_core::units::{Span, Timestamp, Utc};

/// Readings per request, of which the tightest is used.
const READINGS: u8 = 9;
/// What is left open where the hardware latched both clocks: the system clock's own resolution in the kernel's conversion.
const LATCHED: Span = Span::from_nanos(50);

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrossReading {
    /// What the device's clock said, in ns since its own epoch.
    pub(crate) device: i64,
    /// `CLOCK_REALTIME` at the middle of the reading.
    pub(crate) system: Timestamp<Utc>,
    /// How long the reading took: the device was read at most half of it away from the middle.
    pub(crate) width: Span,
}

/// Something that can be read like a PTP hardware clock.
pub(crate) trait PtpDevice: Send {
    /// Both clocks now.
    fn read(&mut self) -> io::Result<CrossReading>;
}

/// An opened device.
#[derive(Debug)]
pub(crate) struct PtpClock {
    file: File,
    request: Request,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Precise,
    Extended,
    Plain,
}

impl PtpClock {
    /// Opens the device for reading.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, request: Request::Precise })
    }

    fn precise(&self) -> io::Result<CrossReading> {
        // SAFETY: the structure is plain integers, for which zeros are valid.
        let mut answer: libc::ptp_sys_offset_precise = unsafe { zeroed() };
        // SAFETY: the request writes one structure of the type that it is defined with, alive through the call.
        let status = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::PTP_SYS_OFFSET_PRECISE, &raw mut answer) };
        checked(status)?;
        let (device, system) = (nanos(answer.device), nanos(answer.sys_realtime));
        Ok(CrossReading { device, system: Timestamp::from_nanos(system), width: LATCHED })
    }

    fn extended(&self) -> io::Result<CrossReading> {
        // SAFETY: the structure is plain integers, for which zeros are valid.
        let mut answer: libc::ptp_sys_offset_extended = unsafe { zeroed() };
        answer.n_samples = READINGS.into();
        // SAFETY: the request reads and writes one structure of the type that it is defined with, alive through the call.
        let status = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::PTP_SYS_OFFSET_EXTENDED, &raw mut answer) };
        checked(status)?;
        let readings = answer.ts.iter().take(READINGS.into());
        tightest(readings.map(|[before, device, after]| [nanos(*before), nanos(*device), nanos(*after)]))
    }

    fn plain(&self) -> io::Result<CrossReading> {
        // SAFETY: the structure is plain integers, for which zeros are valid.
        let mut answer: libc::ptp_sys_offset = unsafe { zeroed() };
        answer.n_samples = READINGS.into();
        // SAFETY: the request reads and writes one structure of the type that it is defined with, alive through the call.
        let status = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::PTP_SYS_OFFSET, &raw mut answer) };
        checked(status)?;
        let times = answer.ts.windows(3).step_by(2).take(READINGS.into());
        tightest(times.filter_map(|window| <[_; 3]>::try_from(window).ok()).map(|window| window.map(nanos)))
    }
}

impl PtpDevice for PtpClock {
    fn read(&mut self) -> io::Result<CrossReading> {
        loop {
            let (reading, next) = match self.request {
                Request::Precise => (self.precise(), Some(Request::Extended)),
                Request::Extended => (self.extended(), Some(Request::Plain)),
                Request::Plain => (self.plain(), None),
            };
            match (reading, next) {
                (Err(cause), Some(next)) if is_unknown(&cause) => self.request = next,
                (reading, _) => return reading,
            }
        }
    }
}

/// Of readings "system clock, device, system clock" the one that took least.
fn tightest(readings: impl Iterator<Item = [i64; 3]>) -> io::Result<CrossReading> {
    let widths = readings.map(|[before, device, after]| (after.saturating_sub(before), before, device));
    let ordered = widths.filter(|(width, _, _)| *width >= 0).min();
    let (width, before, device) =
        ordered.ok_or_else(|| io::Error::other("the system clock was set back while it was read"))?;
    let system = Timestamp::from_nanos(before).saturating_add(Span::from_nanos(width / 2));
    Ok(CrossReading { device, system, width: Span::from_nanos(width) })
}

fn nanos(time: libc::ptp_clock_time) -> i64 {
    time.sec.saturating_mul(1_000_000_000).saturating_add(time.nsec.into())
}

fn checked(status: libc::c_int) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The driver or the kernel does not have this request.
fn is_unknown(cause: &io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_reading_counts_and_one_over_a_step_does_not() {
        let reading = tightest([[100, 7, 160], [200, 8, 210], [300, 9, 290]].into_iter()).expect("two are in order");
        assert_eq!((reading.device, reading.system.as_nanos(), reading.width.as_nanos()), (8, 205, 10));
        assert!(tightest([[300, 9, 290]].into_iter()).is_err());
    }

    #[test]
    fn a_file_that_is_no_clock_is_refused() {
        let mut device = PtpClock::open(Path::new("/dev/null")).expect("opens");
        assert!(device.read().is_err());
    }

    #[test]
    fn the_clocks_of_this_machine_if_it_has_any() {
        let Ok(mut device) = PtpClock::open(Path::new("/dev/ptp0")) else {
            println!("skipped: no /dev/ptp0 that can be read here");
            return;
        };
        let (first, second) = (device.read().expect("readable"), device.read().expect("readable"));
        assert!(second.device >= first.device && first.width >= Span::ZERO);
    }
}
