//! The newest pulse of a kernel PPS device (`/dev/ppsN`, RFC 2783).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use chronotick_core::units::{Timestamp, Utc};

/// A pulse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// Counts the pulses.
    pub(crate) sequence: u32,
    /// `CLOCK_REALTIME` when it came, as the kernel noted it in its interrupt.
    pub(crate) at: Timestamp<Utc>,
}

/// Something that pulses.
pub(crate) trait PpsDevice: Send {
    /// The newest pulse; `None` before the first. Does not wait.
    fn fetch(&mut self) -> io::Result<Option<Pulse>>;
}

/// An opened device. Pulses are taken at the edge that the driver calls "assert".
#[derive(Debug)]
pub(crate) struct PpsClock {
    file: File,
}

impl PpsClock {
    /// Opens the device.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }
}

/// `struct pps_ktime`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Time {
    sec: i64,
    nsec: i32,
    flags: u32,
}

/// `struct pps_fdata`: what was captured, and how long to wait (not at all).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Fetch {
    assert_sequence: u32,
    clear_sequence: u32,
    assert_time: Time,
    clear_time: Time,
    current_mode: libc::c_int,
    timeout: Time,
}

/// `_IOWR('p', 0xa4, struct pps_fdata *)`: the size in the request is a pointer's.
const FETCH: libc::Ioctl = libc::_IOWR::<*mut Fetch>(b'p' as u32, 0xa4);

impl PpsDevice for PpsClock {
    fn fetch(&mut self) -> io::Result<Option<Pulse>> {
        let mut fetch = Fetch::default();
        // SAFETY: the request reads and writes one structure laid out as the kernel's, alive through the call.
        let status = unsafe { libc::ioctl(self.file.as_raw_fd(), FETCH, &raw mut fetch) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        let Time { sec, nsec, .. } = fetch.assert_time;
        let at = Timestamp::from_nanos(sec.saturating_mul(1_000_000_000).saturating_add(nsec.into()));
        Ok((fetch.assert_sequence > 0).then_some(Pulse { sequence: fetch.assert_sequence, at }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!((size_of::<Time>(), align_of::<Time>() <= 8), (16, true));
        if cfg!(target_pointer_width = "64") {
            assert_eq!(size_of::<Fetch>(), 64);
            assert_eq!(FETCH, 0xc008_70a4);
        }
    }

    #[test]
    fn a_file_that_is_no_pulse_is_refused() {
        let mut device = PpsClock::open(Path::new("/dev/null")).expect("opens");
        assert!(device.fetch().is_err());
    }

    #[test]
    fn the_pulse_of_this_machine_if_it_has_one() {
        match PpsClock::open(Path::new("/dev/pps0")) {
            Ok(mut device) => println!("{:?}", device.fetch().expect("readable")),
            Err(cause) => println!("skipped: no /dev/pps0 that can be read here ({cause})"),
        }
    }
}
