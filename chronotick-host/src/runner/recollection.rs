//! What a daemon leaves for its successor: the oscillator's rate, so that a clock is good after its first exchanges.
//!
//! The rate is against the local counter as it was scaled then. Another start of the machine may scale it otherwise, so the
//! scale is kept too and the rate is converted. How far an oscillator may have gone meanwhile is a random walk of frequency of
//! `WANDER`, which is more than most do, and a change of surroundings.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chronotick_core::pipeline::WarmStart;
use chronotick_core::units::{Rate, Timestamp, Utc};
use serde::{Deserialize, Serialize};

use crate::os::counter::{CounterKind, LocalClock};

/// How often it is written.
const EVERY: Duration = Duration::from_secs(300);
/// Random walk of the rate while nobody looks, (s/s)^2/s.
const WANDER: f64 = 1e-17;
/// What a restart itself may change, s/s: the temperature, mostly.
const RESTART: f64 = 1e-7;
/// A rate that is known no better than this is not worth keeping, s/s.
const VAGUE: f64 = 1e-6;

/// The file, and when it was last written.
#[derive(Debug)]
pub(super) struct Recollection {
    path: PathBuf,
    written: Instant,
    /// That it cannot be written has been told.
    told: bool,
}

/// What is in the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// What local time was counted with.
    counter: String,
    /// Nanoseconds per tick, Q16.48.
    mult: u64,
    rate_ppm: f64,
    deviation_ppm: f64,
    utc_ns: i64,
}

impl Recollection {
    /// Kept in `path`, or in `oscillator.json` of the folder that the service manager gives a service for its state.
    pub(super) fn new(path: Option<&Path>) -> Option<Self> {
        let of_service = || Some(PathBuf::from(std::env::var_os("STATE_DIRECTORY")?).join("oscillator.json"));
        let path = path.map(Path::to_path_buf).or_else(of_service)?;
        Some(Self { path, written: Instant::now(), told: false })
    }

    /// What was left, for a clock that counts as `clock` does. What cannot be used is said and left alone.
    pub(super) fn recall(&self, clock: &dyn LocalClock) -> Option<WarmStart> {
        match left_in(&self.path) {
            Ok(kept) => kept?.warm_start(clock.kind(), clock.scale().mult, clock.realtime().1),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot use what is there; starting afresh");
                None
            }
        }
    }

    /// Writes down what is `known` if it is time to, or at once.
    pub(super) fn keep(&mut self, known: Option<WarmStart>, clock: &dyn LocalClock, at_once: bool) {
        if !at_once && self.written.elapsed() < EVERY {
            return;
        }
        self.written = Instant::now();
        let Some(known) = known.filter(|known| known.deviation.value() < VAGUE) else { return };
        let kept = Kept {
            counter: format!("{:?}", clock.kind()),
            mult: clock.scale().mult,
            rate_ppm: known.rate.as_ppm(),
            deviation_ppm: known.deviation.as_ppm(),
            utc_ns: clock.realtime().1.as_nanos(),
        };
        match self.write(&kept) {
            Ok(()) => self.told = false,
            Err(error) if !self.told => {
                tracing::warn!(path = %self.path.display(), %error, "cannot keep the oscillator's rate for the next start");
                self.told = true;
            }
            Err(_) => {}
        }
    }

    /// A reader of the file, or a crash, meets the old one or the new one. Neither takes the place of anything else.
    fn write(&self, kept: &Kept) -> io::Result<()> {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        left_in(&self.path)?;
        left_in(new.as_ref())?;
        // An earlier run was stopped before it could rename it.
        let _ = fs::remove_file(&new);
        let mut file = fs::File::create_new(&new)?;
        let text = serde_json::to_string(kept)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.and_then(|()| fs::rename(&new, &self.path)).inspect_err(|_| {
            // Half of it would be taken for somebody else's.
            let _ = fs::remove_file(&new);
        })
    }
}

/// What an earlier run left in the file at `path`: nothing where there is none, or one that has lost its content. Anything else
/// that a slip has named is an error.
fn left_in(path: &Path) -> io::Result<Option<Kept>> {
    let foreign = || {
        let name = path.file_name().unwrap_or(path.as_os_str()).display();
        let told =
            format!("{name} is not from an earlier run and is kept: move it, or name another file (oscillator.state)");
        io::Error::new(io::ErrorKind::InvalidData, told)
    };
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => return Err(foreign()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let bytes = fs::read(path)?;
    // An object with nothing in it is what a service is set up with.
    if bytes.iter().all(|&byte| byte == 0) || bytes.trim_ascii() == b"{}" {
        return Ok(None);
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|_| foreign())
}

impl Kept {
    fn warm_start(&self, kind: CounterKind, mult: u64, now: Timestamp<Utc>) -> Option<WarmStart> {
        let finite = (self.rate_ppm + self.deviation_ppm).is_finite() && self.deviation_ppm >= 0.0;
        // Only a hardware counter counts alike after the machine was started anew.
        let hardware = matches!(kind, CounterKind::Tsc | CounterKind::Cntvct);
        if self.counter != format!("{kind:?}") || !hardware || self.mult == 0 || !finite {
            return None;
        }
        // A longer tick makes local time faster, and the offset grow by as much less.
        let faster = (mult as f64 - self.mult as f64) / self.mult as f64;
        // The operating system's clock may be anywhere before it is set: a year at most, and no time before the file.
        let elapsed = now.since(Timestamp::from_nanos(self.utc_ns)).as_secs_f64().clamp(0.0, 3.2e7);
        let deviation = self.deviation_ppm * 1e-6;
        let variance = deviation * deviation + RESTART * RESTART + WANDER * elapsed;
        Some(WarmStart { rate: Rate::new(self.rate_ppm * 1e-6 - faster), deviation: Rate::new(variance.sqrt()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000_000_000;

    fn kept() -> Kept {
        Kept { counter: "Tsc".to_owned(), mult: 1 << 47, rate_ppm: 12.5, deviation_ppm: 0.01, utc_ns: NOW }
    }

    #[test]
    fn the_rate_follows_the_scale_and_its_deviation_grows_with_time() {
        let soon = kept().warm_start(CounterKind::Tsc, 1 << 47, Timestamp::from_nanos(NOW)).unwrap();
        assert!((soon.rate.as_ppm() - 12.5).abs() < 1e-9 && soon.deviation.as_ppm() < 0.11, "{soon:?}");
        // Local time runs 10 ppm faster: the offset grows by 10 ppm less.
        let mult = (1 << 47) + ((1u64 << 47) / 100_000);
        let later = Timestamp::from_nanos(NOW + 86_400_000_000_000);
        let scaled = kept().warm_start(CounterKind::Tsc, mult, later).unwrap();
        assert!((scaled.rate.as_ppm() - 2.5).abs() < 1e-3, "{scaled:?}");
        assert!(scaled.deviation.as_ppm() > 0.5 && scaled.deviation.as_ppm() < 2.0, "{scaled:?}");
    }

    #[test]
    fn what_does_not_apply_is_not_used() {
        let at = Timestamp::from_nanos(NOW);
        assert_eq!(kept().warm_start(CounterKind::MonotonicRaw, 1 << 47, at), None);
        assert_eq!(Kept { rate_ppm: f64::NAN, ..kept() }.warm_start(CounterKind::Tsc, 1 << 47, at), None);
        assert_eq!(Kept { mult: 0, ..kept() }.warm_start(CounterKind::Tsc, 1 << 47, at), None);
    }

    #[test]
    fn a_file_is_kept_and_recalled() {
        let folder = std::env::temp_dir().join(format!("chronotick-recollection-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut recollection = Recollection::new(Some(&folder.join("oscillator.json"))).unwrap();
        let clock = crate::os::counter::SystemCounter::calibrate();
        let known = WarmStart { rate: Rate::from_ppm(3.0), deviation: Rate::from_ppm(0.02) };
        assert_eq!(recollection.recall(&clock), None);
        recollection.keep(Some(known), &clock, false);
        assert!(!recollection.path.exists(), "it is not time yet");
        recollection.keep(Some(known), &clock, true);
        let recalled = recollection.recall(&clock);
        if clock.kind() == CounterKind::MonotonicRaw {
            assert_eq!(recalled, None);
        } else {
            let recalled = recalled.unwrap();
            assert!((recalled.rate.as_ppm() - 3.0).abs() < 1e-6, "{recalled:?}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_no_earlier_run_left_is_kept() {
        let folder = std::env::temp_dir().join(format!("chronotick-foreign-state-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, beside) = (folder.join("notes.txt"), folder.join("notes.txt.new"));
        let mut recollection = Recollection::new(Some(&path)).unwrap();
        let clock = crate::os::counter::SystemCounter::calibrate();
        let known = Some(WarmStart { rate: Rate::from_ppm(3.0), deviation: Rate::from_ppm(0.02) });
        for foreign in [&b"{"[..], b"buy milk", b"\xff"] {
            fs::write(&path, foreign).unwrap();
            assert_eq!(recollection.recall(&clock), None);
            recollection.keep(known, &clock, true);
            assert_eq!(fs::read(&path).unwrap(), foreign);
        }
        fs::remove_file(&path).unwrap();
        fs::write(&beside, "buy milk").unwrap();
        recollection.keep(known, &clock, true);
        assert!(!path.exists() && fs::read(&beside).unwrap() == b"buy milk");
        // What a run that was stopped has left is in nobody's way, nor is an empty file, nor a neighbour.
        fs::write(&beside, serde_json::to_string(&kept()).unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        fs::write(folder.join("notes.new"), "buy milk").unwrap();
        recollection.keep(known, &clock, true);
        assert!(left_in(&path).unwrap().is_some() && !beside.exists());
        assert_eq!(fs::read(folder.join("notes.new")).unwrap(), b"buy milk");
        assert!(left_in(Path::new("/dev/null")).is_err(), "a device is nobody's file");
        fs::remove_dir_all(&folder).unwrap();
    }
}
