//! A PTP hardware clock: of a network card that ptp4l disciplines, or of the hypervisor (`ptp_kvm`, Hyper-V, Amazon's ENA).
//!
//! The device says what time it has and not how good it is. Its error budget is therefore configured, except where the driver
//! publishes one (ENA's `phc_error_bound`, in ns). Which timescale it counts is configured as well: hypervisors pass UTC on,
//! ptp4l keeps TAI. TAI - UTC is the kernel's, which its discipline keeps right over a leap second, else the configured.

use std::path::{Path, PathBuf};

use chronotick_core::units::{Span, Timestamp};

use super::{Answer, Bracket, Measured, Reference, Settings, Trouble};
use crate::os::counter::LocalClock;
use crate::os::kernel_clock::{KernelClock, ThisKernel};
use crate::os::ptp::{PtpClock, PtpDevice};
use crate::runner::source::Known;

/// A clock that says a year before this was never set: 2020-01-01.
const EARLIEST: i64 = 1_577_836_800_000_000_000;

/// A hardware clock.
pub(super) struct Ptp {
    path: PathBuf,
    tai: bool,
    error: Span,
    tai_offset: Span,
    /// Where the kernel describes its hardware clocks.
    classes: PathBuf,
    device: Option<Box<dyn PtpDevice>>,
    kernel: Box<dyn KernelClock>,
    /// Why the kernel could not be asked for TAI - UTC, so that the configured one is used.
    assumed: Option<String>,
}

impl Ptp {
    pub(super) fn new(path: PathBuf, tai: bool, settings: &Settings) -> Self {
        Self {
            path,
            tai,
            error: settings.ptp_error,
            tai_offset: settings.tai_offset,
            classes: PathBuf::from("/sys/class/ptp"),
            device: None,
            kernel: Box::new(ThisKernel),
            assumed: None,
        }
    }

    /// What the device counts beyond UTC.
    fn beyond_utc(&mut self) -> Span {
        if !self.tai {
            return Span::ZERO;
        }
        match self.kernel.state() {
            Ok(state) => {
                self.assumed = None;
                if state.tai_offset > Span::ZERO { state.tai_offset } else { self.tai_offset }
            }
            Err(cause) => {
                let seconds = self.tai_offset.as_secs_f64();
                let told =
                    format!("local.tai_offset, {seconds} s, is used: the kernel does not say TAI - UTC ({cause})");
                if self.assumed.as_ref() != Some(&told) {
                    tracing::warn!(device = %self.path.display(), "{told}; allow adjtimex, or keep it right over leap seconds");
                }
                self.assumed = Some(told);
                self.tai_offset
            }
        }
    }

    /// What the driver admits, else what is configured.
    fn budget(&self) -> Span {
        published_error(&self.classes, &self.path).unwrap_or(self.error)
    }
}

impl Reference for Ptp {
    fn kind(&self) -> &'static str {
        "ptp"
    }

    fn address(&self) -> Option<String> {
        let name = clock_name(&self.classes, &self.path);
        match &self.assumed {
            Some(assumed) => Some(format!("{}; {assumed}", name.unwrap_or_else(|| self.path.display().to_string()))),
            None => name,
        }
    }

    fn ask(&mut self, clock: &dyn LocalClock, _: Option<&Known>) -> Result<Answer, Trouble> {
        let missing = |path: &Path, cause| Trouble::Missing(format!("cannot read {}: {cause}", path.display()));
        if self.device.is_none() {
            let opened = PtpClock::open(&self.path).map_err(|cause| missing(&self.path, cause))?;
            self.device = Some(Box::new(opened));
        }
        let Some(device) = &mut self.device else { return Ok(Answer::NotYet) };
        let (bracket, reading) = Bracket::around(clock, || device.read());
        let reading = match reading {
            Ok(reading) => reading,
            Err(cause) => {
                self.device = None;
                return Err(missing(&self.path, cause));
            }
        };
        if reading.device < EARLIEST {
            return Err(Trouble::Useless(format!("{} was never set", self.path.display())));
        }
        let (local, slack) = bracket.local(reading.system)?;
        let utc = Timestamp::from_nanos(reading.device).saturating_sub(self.beyond_utc());
        Ok(Answer::Measured(Measured {
            local,
            offset: utc.offset_from(local),
            delay: reading.width.saturating_add(slack).saturating_add(slack),
            root_distance: self.budget(),
            leap: None,
            stratum: None,
        }))
    }
}

/// What the driver publishes of a device: ENA its error, in ns.
fn published_error(classes: &Path, device: &Path) -> Option<Span> {
    let text = std::fs::read_to_string(classes.join(device.file_name()?).join("device/phc_error_bound")).ok()?;
    let nanos: u32 = text.trim().parse().ok()?;
    (nanos > 0 && nanos < u32::MAX).then(|| Span::from_nanos(nanos.into()))
}

fn clock_name(classes: &Path, device: &Path) -> Option<String> {
    let text = std::fs::read_to_string(classes.join(device.file_name()?).join("clock_name")).ok()?;
    Some(text.trim().to_owned())
}

/// The devices of this machine that are known to count UTC: those of hypervisors, and those that publish their error.
pub(super) fn of_hypervisors(classes: &Path) -> Vec<PathBuf> {
    const NAMES: [&str; 3] = ["KVM virtual PTP", "hyperv", "vmclock"];
    let entries = std::fs::read_dir(classes).into_iter().flatten().flatten();
    let devices = entries.map(|entry| Path::new("/dev").join(entry.file_name()));
    let counts_utc = |device: &PathBuf| {
        published_error(classes, device).is_some()
            || clock_name(classes, device).is_some_and(|name| NAMES.contains(&name.as_str()))
    };
    let mut devices: Vec<_> = devices.filter(counts_utc).collect();
    devices.sort();
    devices
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::super::fake::{Clock, START};
    use super::*;
    use crate::os::kernel_clock::KernelState;
    use crate::os::ptp::CrossReading;

    /// Counts the truth and `ahead` more, read 10 us into a reading of 20 us.
    struct Card {
        clock: Arc<Clock>,
        ahead: Span,
        /// Somebody sets the system's clock while the card is read.
        meddled: Span,
    }

    impl PtpDevice for Card {
        fn read(&mut self) -> io::Result<CrossReading> {
            self.clock.pass(Span::from_micros(10));
            let device = self.clock.truth().saturating_add(self.ahead).as_nanos();
            let system = self.clock.realtime().1;
            self.clock.set_system(self.meddled);
            self.clock.pass(Span::from_micros(10));
            Ok(CrossReading { device, system, width: Span::from_micros(20) })
        }
    }

    struct Tai(i64);

    impl KernelClock for Tai {
        fn state(&mut self) -> io::Result<KernelState> {
            let zero = Span::ZERO;
            let tai_offset = Span::from_secs(self.0);
            let max_error = Span::from_secs(16);
            Ok(KernelState {
                synchronised: false,
                insert: false,
                delete: false,
                max_error,
                remaining: zero,
                tai_offset,
            })
        }
    }

    const SETTINGS: Settings = Settings {
        poll: Span::from_secs(1),
        ptp_error: Span::from_micros(5),
        tai_offset: Span::from_secs(37),
        pps_error: Span::from_micros(20),
    };

    fn ptp(clock: &Arc<Clock>, tai: bool, ahead: Span, meddled: Span, kernel_tai: i64) -> Ptp {
        let card = Card { clock: Arc::clone(clock), ahead, meddled };
        let kernel = Box::new(Tai(kernel_tai));
        let classes = PathBuf::from("/nonexistent");
        Ptp { device: Some(Box::new(card)), kernel, classes, ..Ptp::new("/dev/ptp9".into(), tai, &SETTINGS) }
    }

    fn measured(ptp: &mut Ptp, clock: &Clock) -> Measured {
        match ptp.ask(clock, None) {
            Ok(Answer::Measured(measured)) => measured,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn utc_and_tai_give_the_same_sample_whatever_the_system_clock_says() {
        let clock = Arc::new(Clock::new());
        clock.pass(Span::from_secs(9));
        for (tai, ahead, kernel) in [(false, 0, 0), (true, 37, 0), (true, 38, 38)] {
            let mut ptp = ptp(&clock, tai, Span::from_secs(ahead), Span::ZERO, kernel);
            let sample = measured(&mut ptp, &clock);
            assert_eq!(sample.offset.as_nanos(), START, "the counter starts at the truth's START");
            assert_eq!(sample.root_distance, Span::from_micros(5));
            assert!(
                sample.delay >= Span::from_micros(20) && sample.delay < Span::from_micros(21),
                "{:?}",
                sample.delay
            );
            // Somebody sets the system's clock, and nothing changes.
            clock.set_system(Span::from_secs(-1_000));
            assert_eq!(measured(&mut ptp, &clock).offset.as_nanos(), START);
        }
    }

    #[test]
    fn a_kernel_that_refuses_to_say_how_far_tai_is_ahead_is_mentioned() {
        struct Refuses;
        impl KernelClock for Refuses {
            fn state(&mut self) -> io::Result<KernelState> {
                Err(io::Error::from(io::ErrorKind::PermissionDenied))
            }
        }
        let clock = Arc::new(Clock::new());
        let mut ptp = ptp(&clock, true, Span::from_secs(37), Span::ZERO, 38);
        ptp.kernel = Box::new(Refuses);
        assert_eq!(measured(&mut ptp, &clock).offset.as_nanos(), START);
        let told = ptp.address().expect("something is to be said");
        assert!(told.starts_with("/dev/ptp9; ") && told.contains("local.tai_offset, 37 s"), "{told}");
        // Now it says.
        ptp.kernel = Box::new(Tai(37));
        assert_eq!((measured(&mut ptp, &clock).offset.as_nanos(), ptp.address()), (START, None));
    }

    #[test]
    fn a_clock_set_during_the_reading_spoils_it() {
        let clock = Arc::new(Clock::new());
        let mut ptp = ptp(&clock, false, Span::ZERO, Span::from_micros(50), 0);
        assert!(matches!(ptp.ask(&*clock, None), Err(Trouble::Spoilt(_))));
    }

    #[test]
    fn a_missing_device_and_one_that_was_never_set() {
        let clock = Arc::new(Clock::new());
        let mut missing = Ptp::new("/nonexistent/ptp0".into(), false, &SETTINGS);
        let Err(Trouble::Missing(told)) = missing.ask(&*clock, None) else { panic!("missing") };
        assert!(told.starts_with("cannot read /nonexistent/ptp0: "), "{told}");
        let mut unset = ptp(&clock, false, Span::from_secs(-1_790_000_000), Span::ZERO, 0);
        assert!(matches!(unset.ask(&*clock, None), Err(Trouble::Useless(_))));
    }

    #[test]
    fn what_drivers_publish() {
        let classes = std::env::temp_dir().join(format!("chronotick-ptp-{}", std::process::id()));
        for (name, clock, error) in [
            ("ptp0", "KVM virtual PTP\n", None),
            ("ptp1", "mlx5_ptp\n", None),
            ("ptp2", "ena-ptp-05\n", Some("28000\n")),
        ] {
            let folder = classes.join(name);
            std::fs::create_dir_all(folder.join("device")).expect("temporary folder");
            std::fs::write(folder.join("clock_name"), clock).expect("temporary file");
            if let Some(error) = error {
                std::fs::write(folder.join("device/phc_error_bound"), error).expect("temporary file");
            }
        }
        assert_eq!(of_hypervisors(&classes), [PathBuf::from("/dev/ptp0"), PathBuf::from("/dev/ptp2")]);
        let mut ptp = Ptp::new("/dev/ptp2".into(), false, &SETTINGS);
        ptp.classes.clone_from(&classes);
        assert_eq!((ptp.budget(), ptp.address().as_deref()), (Span::from_micros(28), Some("ena-ptp-05")));
        std::fs::remove_dir_all(&classes).expect("temporary folder");
        assert_eq!(ptp.budget(), Span::from_micros(5));
    }
}
