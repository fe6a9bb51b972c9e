//! The writing side of a clock page.
//!
//! A daemon that starts takes the file of the one before it over in place, so that readers stay attached: the record goes on,
//! under a new instance id, in the same sequence. It replaces the file (by a rename, so that nobody ever maps a half-made one)
//! only where it cannot be taken over: another boot, another layout, damage. Where the machine was suspended meanwhile the record
//! does not go on: its counter stood still, and it says nothing any more.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chronotick_core::clock_page::{ClockPage, CounterScale};
use chronotick_core::served::{self, ClockRecord, Served, Target};
use chronotick_core::{Reason, Span};
use rustix::fs::{FlockOperation, flock};

use super::atomic::{Ordering, fence};
use super::folder;
use super::identity::Identity;
use super::latch;
use super::map::Mapping;
use super::page::{
    FileId, MAGIC, PAGE_SIZE, Page, PageError, PageSettings, attach, counter_of, file_id, marks, no_follow, open,
    scale_count,
};
use crate::os::counter::{CounterKind, LocalClock, SystemCounter, suspended};
use crate::os::disruption::SUSPENSION;

/// The one writer of a page, held by a lock on `PATH.lock` (readers, who may lock what they can read, have no part in it).
#[derive(Debug)]
pub struct PageWriter {
    path: PathBuf,
    file: FileId,
    mapping: Mapping,
    identity: Identity,
    scale: CounterScale,
    marks: u8,
    last: Option<ClockPage>,
    epoch_before: Option<u16>,
    target_accuracy: Span,
    /// How long the machine had been suspended when somebody last looked for that.
    suspended: Span,
    /// What is published says nothing of the counter before this; 0: as far back as is known.
    holds_from: u64,
    lock: File,
    /// The folder was this user's alone: one that takes its place has to be so too.
    own_folder: bool,
    places_made: u64,
}

impl PageWriter {
    /// Takes the page at `path` over, or makes it, for records of `clock`. Its folder is made if it is missing, for everybody to
    /// read.
    pub fn create(path: &Path, settings: &PageSettings, clock: &dyn LocalClock) -> Result<Self, PageError> {
        spare(path)?;
        make_folder(path)?;
        let own_folder = folder_of(path).is_some_and(folder::is_own);
        let lock = lock(path)?;
        let identity = Identity::new(settings);
        let (mapping, file, taken_over) = match take_over(path) {
            Some((mapping, file)) => (mapping, file, true),
            None => {
                let (mapping, file) = make(path, &identity)?;
                (mapping, file, false)
            }
        };
        let (now, slept) = (clock.ticks().max(1), clock.suspended());
        let mut writer = Self {
            path: path.to_owned(),
            file,
            mapping,
            identity,
            scale: clock.scale(),
            // So that a reader that comes from another file hardly ever takes one scale for the other.
            marks: marks(clock.kind(), identity.instance().to_le_bytes()[1]),
            last: None,
            epoch_before: None,
            target_accuracy: settings.target_accuracy,
            suspended: slept,
            // Nobody knows whether it was before or after what a program has seen of the counter.
            holds_from: if slept.abs() > SUSPENSION { now } else { 0 },
            lock,
            own_folder,
            places_made: 0,
        };
        if taken_over {
            let before = writer.mapping.page().read(|_| 0);
            let record = before.record;
            let same_counter = counter_of(record.marks()) == Some(clock.kind());
            let step = u8::from(!same_counter || before.scale != writer.scale);
            writer.marks = marks(clock.kind(), scale_count(record.marks()).wrapping_add(step));
            writer.epoch_before = (!record.is_blank()).then(|| record.epoch());
            let unbroken = unbroken(writer.mapping.page(), writer.suspended);
            writer.last =
                Some(record.with_marks(writer.marks)).filter(|record| unbroken && same_counter && !record.is_blank());
            if !record.is_blank() {
                writer.holds_from = if writer.last.is_some() { before.holds_from } else { now };
            }
            if let Some(last) = &mut writer.last {
                // Readers go on with it, and are told what it is.
                *last = last.unconfirmed();
                let last = *last;
                writer.write(&last);
                writer.flip(last);
            }
            if let Some(epoch) = writer.epoch_before.filter(|_| !unbroken) {
                tracing::info!(
                    "suspended since the page was last written, as far as can be told: it is not gone on with"
                );
                // Before the count of suspended time is renewed, by which readers know that the old record is void.
                let record = Served::new(served::Config::default()).update(&raw(clock, Reason::Suspended));
                writer.publish(&ClockRecord { epoch: epoch.wrapping_add(1), ..record });
            }
        }
        writer.announce(clock);
        Ok(writer)
    }

    /// The record that readers of the previous instance are being served, on this instance's local time. `None` when there
    /// was none or its counter was another; the operating system's clock in a new epoch where the machine was suspended.
    pub fn inherited(&self) -> Option<ClockRecord> {
        self.last?.decode(&self.scale)
    }

    /// The epoch that readers of the previous instance are in, also where its record cannot be gone on with.
    pub fn epoch_before(&self) -> Option<u16> {
        self.epoch_before
    }

    /// Fills the copy that is not in use. Nothing changes for readers until [`PageWriter::flip`]. Within an epoch the record
    /// never starts below the last one.
    pub fn fill(&mut self, record: &ClockRecord) -> ClockPage {
        let mut page = ClockPage::encode(record, &self.scale).with_marks(self.marks);
        if let Some(last) = self.last.filter(|last| last.epoch() == page.epoch()) {
            let start = self.scale.ticks(record.at);
            page = page.not_before(start, last.utc_at(start));
        }
        self.write(&page);
        page
    }

    /// Makes what was filled in the current record.
    pub fn flip(&mut self, filled: ClockPage) {
        latch::flip(&self.mapping.page().sequence);
        self.last = Some(filled);
    }

    /// Fills and flips.
    pub fn publish(&mut self, record: &ClockRecord) {
        let filled = self.fill(record);
        self.flip(filled);
    }

    /// Says that the daemon is alive, and how long the machine had been suspended when it last looked. Makes the file again if
    /// somebody removed, replaced or cut it, and the folder and the lock with it.
    pub fn heartbeat(&mut self, clock: &dyn LocalClock) -> Result<(), PageError> {
        self.stamp(clock);
        let intact = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file_id(&file) == self.file && file.len() == PAGE_SIZE as u64);
        if intact && self.mapping.page().identity() == self.identity {
            return Ok(());
        }
        self.hold_place()?;
        (self.mapping, self.file) = make(&self.path, &self.identity)?;
        self.announce(clock);
        if let Some(last) = self.last {
            self.write(&last);
            latch::flip(&self.mapping.page().sequence);
        }
        Ok(())
    }

    /// Makes the folder and the lock again where they are gone. Without the lock another daemon could start beside this one.
    fn hold_place(&mut self) -> Result<(), PageError> {
        let there = fs::symlink_metadata(beside(&self.path, ".lock"));
        if there.is_ok_and(|there| self.lock.metadata().is_ok_and(|held| file_id(&held) == file_id(&there))) {
            return Ok(());
        }
        make_folder(&self.path)?;
        if let Some(folder) = folder_of(&self.path).filter(|folder| self.own_folder && !folder::is_own(folder)) {
            return Err(PageError::Foreign { folder: folder.to_owned() });
        }
        self.lock = lock(&self.path)?;
        self.places_made += 1;
        tracing::warn!(page = %self.path.display(), "the page's folder or lock was removed: made again");
        Ok(())
    }

    /// How often the page's folder or its lock was removed and made again: what else lay there is gone too.
    pub fn places_made(&self) -> u64 {
        self.places_made
    }

    /// The machine had been suspended so long when somebody last looked; what was published until then knows of it.
    pub fn looked(&mut self, suspended: Span) {
        self.suspended = suspended;
    }

    /// The counter was disturbed before `counter`: what is published from here on says nothing of its past.
    pub fn break_off(&mut self, counter: u64) {
        self.holds_from = counter.max(1);
    }

    /// Another target for the bound; see [`PageSettings`].
    pub fn set_target_accuracy(&mut self, target: Span) {
        self.target_accuracy = target;
        self.mapping.page().target_accuracy.store(target.as_nanos().cast_unsigned(), Ordering::Relaxed);
    }

    /// Where the page is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The random number that names this run of the daemon.
    pub fn instance(&self) -> u64 {
        self.identity.instance()
    }

    /// Writes the copy that is not in use, and the scale that goes with it.
    fn write(&self, page: &ClockPage) {
        self.mapping.page().fill(page, &self.scale, self.holds_from);
    }

    /// Writes who this is. Readers take nothing from it that a record depends on.
    fn announce(&self, clock: &dyn LocalClock) {
        let page = self.mapping.page();
        page.target_accuracy.store(self.target_accuracy.as_nanos().cast_unsigned(), Ordering::Relaxed);
        self.stamp(clock);
        // Who knows this daemon also has its count of suspended time, which another time namespace begins elsewhere.
        fence(Ordering::Release);
        latch::store(&page.identity, &self.identity.words);
    }

    fn stamp(&self, clock: &dyn LocalClock) {
        let page = self.mapping.page();
        page.heartbeat.store(clock.ticks(), Ordering::Relaxed);
        // Who reads the count before a record, and knows it, reads no record from before it.
        page.suspended.store(self.suspended.as_nanos().cast_unsigned(), Ordering::Release);
    }
}

/// The counter and scale of a page that a daemon can go on with: same boot, same layout, no suspension since, and the counter
/// is still the machine's choice. A daemon that uses it keeps the local time of the one before.
pub fn inherited_counter(path: &Path) -> Option<SystemCounter> {
    let (mapping, _) = attach(path).ok()?;
    let page = mapping.page();
    let snapshot = page.read(|_| 0);
    let kind = counter_of(snapshot.record.marks())?;
    let usable = page.identity().is_this_boot()
        && unbroken(page, suspended())
        && kind == CounterKind::detect()
        && !snapshot.record.is_blank();
    usable.then(|| SystemCounter::with_scale(kind, snapshot.scale))
}

/// The operating system's clock, on the counter's local time.
pub(crate) fn raw(clock: &dyn LocalClock, reason: Reason) -> Target {
    let (ticks, utc) = clock.realtime();
    let local = clock.scale().local(ticks);
    Target { reason, ..Target::raw(local, utc.offset_from(local)) }
}

/// Whether the machine was not suspended since the page was last written; it cannot be told from another time namespace.
fn unbroken(page: &Page, suspended: Span) -> bool {
    page.identity().is_this_time_namespace() && suspended.saturating_sub(page.suspended()).abs() <= SUSPENSION
}

fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

fn make_folder(path: &Path) -> Result<(), PageError> {
    let Some(folder) = folder_of(path) else { return Ok(()) };
    folder::make(folder).map_err(|source| PageError::Unmakeable { path: folder.to_owned(), source })
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn lock(path: &Path) -> Result<File, PageError> {
    let lock_path = beside(path, ".lock");
    let io = |source| PageError::Unmakeable { path: lock_path.clone(), source };
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(&lock_path)
        .map_err(io)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(PageError::Busy { path: path.to_owned() }),
        Err(error) => Err(io(error.into())),
    }
}

/// The existing page, writable, if a daemon of this boot and layout made it.
fn take_over(path: &Path) -> Option<(Mapping, FileId)> {
    let file = open(path, true).ok()?;
    let id = file_id(&file.metadata().ok()?);
    let mapping = Mapping::new(&file, true).ok()?;
    let identity = mapping.page().identity();
    (identity.check(path).is_ok() && identity.is_this_boot()).then_some((mapping, id))
}

/// A file that no daemon has made is kept, whatever slip has named it. A page that has lost its content is empty or all zeros.
fn spare(path: &Path) -> Result<(), PageError> {
    let is_page = |there: &fs::Metadata| {
        let sized = there.is_file() && [0, PAGE_SIZE as u64].contains(&there.len());
        let made = |bytes: Vec<u8>| bytes.starts_with(&MAGIC.to_le_bytes()) || bytes.iter().all(|&byte| byte == 0);
        there.is_symlink() || sized && fs::read(path).is_ok_and(made)
    };
    match fs::symlink_metadata(path) {
        Ok(there) if !is_page(&there) => Err(PageError::Occupied { path: path.to_owned() }),
        _ => Ok(()),
    }
}

/// A new page in the place of whatever is there.
fn make(path: &Path, identity: &Identity) -> Result<(Mapping, FileId), PageError> {
    let fresh = beside(path, ".new");
    let io = |source| PageError::Unmakeable { path: fresh.clone(), source };
    // Only a daemon that was stopped at this may have left one.
    spare(&fresh)?;
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .mode(0o644)
        .custom_flags(no_follow())
        .open(&fresh)
        .map_err(io)?;
    let mut bytes = vec![0; PAGE_SIZE];
    for (to, word) in bytes.chunks_exact_mut(8).zip(identity.words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    file.write_all(&bytes).map_err(io)?;
    // Readers are other users: the umask does not apply.
    file.set_permissions(fs::Permissions::from_mode(0o644)).map_err(io)?;
    let id = file_id(&file.metadata().map_err(io)?);
    let mapping = Mapping::new(&file, true).map_err(io)?;
    fs::rename(&fresh, path).map_err(|source| PageError::Unmakeable { path: path.to_owned(), source })?;
    Ok((mapping, id))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use chronotick_core::{ErrorBound, PredictionInterval, Rate, Reason, Tier, Timestamp};

    use super::*;
    use crate::doc;
    use crate::reader::Reader;
    use crate::shm::scratch;

    #[test]
    fn one_writer_at_a_time() {
        let daemon = doc::daemon();
        let clock = SystemCounter::calibrate();
        let second = PageWriter::create(daemon.path(), &PageSettings::default(), &clock);
        assert!(matches!(second, Err(PageError::Busy { .. })), "{second:?}");
    }

    /// Every byte of the file that does not name this run, this boot or this moment.
    #[test]
    fn golden_bytes() {
        let path = scratch("golden");
        let scale = CounterScale { ticks: 5_000_000_000, local: 1_799_999_999_000_000_000, mult: 0x6276_2762_7627 };
        let clock = SystemCounter::with_scale(CounterKind::MonotonicRaw, scale);
        let mut writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        writer.publish(&ClockRecord {
            at: Timestamp::from_nanos(1_800_000_000_000_000_000),
            utc: Timestamp::from_nanos(1_800_000_000_123_456_789),
            rate: Rate::from_ppm(12.5),
            slew: Rate::from_ppm(-500.0),
            slew_span: Span::from_millis(20),
            interval: PredictionInterval::new(Span::from_micros(12)),
            interval_growth: Rate::from_ppb(20.0),
            bound: ErrorBound::new(Span::from_micros(350)),
            bound_growth: Rate::from_ppm(5.0),
            void_after: Span::from_secs(3600),
            tier: Tier::Fused,
            reason: Reason::Nominal,
            epoch: 7,
        });
        let bytes = fs::read(&path).unwrap();
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(bytes.len(), 4096);
        assert_eq!(&bytes[..16], b"CTCKPAGE\x02\x00\x00\x00\x00\x10\x00\x00");
        assert_eq!(word(16), writer.instance());
        assert_eq!(bytes[40..44], std::process::id().to_le_bytes());
        // 500 ppm and 50 ppm in 2^-32, rounded up.
        assert_eq!(bytes[48..56], [0x9c, 0xc4, 0x20, 0x00, 0xdd, 0x46, 0x03, 0x00]);
        assert_eq!(bytes[56..60], crc32fast::hash(&bytes[..56]).to_le_bytes());
        assert_eq!(bytes[60..64], [0; 4]);
        // The first record is the second copy; the first copy was never written.
        assert_eq!((word(64), word(72)), (1, 1_000_000));
        assert_eq!(bytes[80..104], [0; 24]);
        assert_eq!([104, 112, 120].map(word), [5_000_000_000, 1_799_999_999_000_000_000, 0x6276_2762_7627]);
        assert_eq!(bytes[128..192], [0; 64]);
        // As in the core's own test, but for the marks: the counter in bits 0 to 2 of the last, and a count that differs from
        // file to file.
        assert_eq!(
            [192, 200, 208, 216, 224, 232, 240, 248].map(|at| word(at) & if at == 248 { !0xF8 } else { u64::MAX }),
            [
                0x0000_0001_c4f4_659a,
                0x18fa_e276_9b0b_a602,
                0x000c_4ecf_016a_f7eb,
                0xdf3b_645a_0000_4d4b,
                0x0000_0000_0005_57b7,
                0x0000_0000_0000_2f67,
                0x0000_0056_0000_53e3,
                0x0088_3447_0007_0003,
            ]
        );
        assert!(word(256) > 0, "the heartbeat");
        // On a machine that was suspended since it started, nobody knows about the counter before.
        assert_eq!(word(272) != 0, suspended().abs() > SUSPENSION);
        assert!(bytes[280..].iter().all(|&byte| byte == 0));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn another_scale_shows_in_uncorrected_time_at_once() {
        let path = scratch("scale");
        let clock = SystemCounter::calibrate_kind(CounterKind::MonotonicRaw);
        let second = chronotick_core::Span::from_secs(1);
        let mut served = chronotick_core::served::Served::new(chronotick_core::served::Config::default());
        let mut target = chronotick_core::served::Target::raw(clock.now(), chronotick_core::Offset::ZERO);
        target.tier = Tier::Filter;
        let mut reader = None;
        for later in 0..3 {
            let scale = clock.scale();
            let scale = CounterScale { local: scale.local + second.saturating_mul(later).as_nanos(), ..scale };
            let clock = SystemCounter::with_scale(CounterKind::MonotonicRaw, scale);
            let mut writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
            target.at = clock.now();
            writer.publish(&served.update(&target));
            let reader = reader.get_or_insert_with(|| Reader::attach(&path).unwrap());
            let (before, now, after) = (clock.now().as_nanos(), reader.now().raw().as_nanos(), clock.now().as_nanos());
            assert!(before <= now + 1 && now <= after, "scale {later}: {before} {now} {after}");
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_successor_goes_on_with_time_and_scale() {
        let path = scratch("successor");
        let clock = SystemCounter::calibrate();
        let mut first = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        let mut served = chronotick_core::served::Served::new(chronotick_core::served::Config::default());
        let mut target = chronotick_core::served::Target::raw(clock.now(), chronotick_core::Offset::from_nanos(77));
        target.tier = chronotick_core::Tier::Filter;
        first.publish(&served.update(&target));
        let (instance, reader) = (first.instance(), Reader::attach(&path).unwrap());
        drop(first);
        let again = inherited_counter(&path).unwrap();
        assert_eq!(again.scale(), clock.scale());
        let second = PageWriter::create(&path, &PageSettings::default(), &again).unwrap();
        let inherited = second.inherited().unwrap();
        assert_eq!(inherited.utc.since(inherited.at.to_utc(chronotick_core::Offset::ZERO)), Span::from_nanos(77));
        assert_ne!(second.instance(), instance);
        assert_eq!(reader.instance(), second.instance(), "the reader stayed attached");
        // Local and served time are each rounded down to a nanosecond.
        let offset = reader.now().offset().as_nanos();
        assert!((76..=78).contains(&offset), "{offset} ns");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    fn measured(clock: &SystemCounter) -> ClockRecord {
        let target = Target { tier: Tier::Filter, ..Target::raw(clock.now(), chronotick_core::Offset::ZERO) };
        Served::new(served::Config::default()).update(&target)
    }

    #[test]
    fn what_is_no_page_is_not_written_over() {
        let path = scratch("occupied");
        let clock = SystemCounter::calibrate();
        let create = || PageWriter::create(&path, &PageSettings::default(), &clock);
        fs::write(&path, "[ntp]\n").unwrap();
        assert!(matches!(create(), Err(PageError::Occupied { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "[ntp]\n");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(create(), Err(PageError::Occupied { .. })));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir(&path).unwrap();
        let foreign = vec![b'\n'; PAGE_SIZE];
        fs::write(&path, &foreign).unwrap();
        assert!(matches!(create(), Err(PageError::Occupied { .. })), "as long as a page, and none");
        fs::remove_file(&path).unwrap();
        let fresh = beside(&path, ".new");
        fs::write(&fresh, &foreign).unwrap();
        assert!(matches!(create(), Err(PageError::Occupied { path }) if path == fresh));
        assert!(fs::read(&fresh).unwrap() == foreign && !path.exists());
        // What daemons leave behind is no obstacle.
        fs::write(&path, "").unwrap();
        fs::write(&fresh, "").unwrap();
        assert!(create().is_ok() && !fresh.exists());
        fs::rename(&path, &fresh).unwrap();
        fs::write(&path, vec![0; PAGE_SIZE]).unwrap();
        assert!(create().is_ok() && !fresh.exists());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_scale_is_not_gone_on_with_over_a_suspension() {
        let path = scratch("slept");
        let clock = SystemCounter::calibrate();
        let mut writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        writer.publish(&measured(&clock));
        assert!(inherited_counter(&path).is_some());
        let slept = suspended().saturating_sub(Span::from_secs(3600)).as_nanos().cast_unsigned();
        writer.mapping.page().suspended.store(slept, Ordering::Relaxed);
        assert!(inherited_counter(&path).is_none());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_file_of_the_same_number_on_another_device_is_not_the_page() {
        let path = scratch("writer-device");
        let clock = SystemCounter::calibrate();
        let mut writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        let made = writer.file;
        writer.heartbeat(&clock).unwrap();
        assert_eq!(writer.file, made);
        writer.file.0 += 1;
        writer.heartbeat(&clock).unwrap();
        assert_eq!((writer.file.0, writer.file.1 != made.1), (made.0, true), "made again");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_folder_that_was_removed_is_made_again_with_page_and_lock() {
        let path = scratch("removed").with_file_name("run").join("clock");
        let folder = path.parent().unwrap();
        let clock = SystemCounter::calibrate();
        let mut writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        writer.publish(&measured(&clock));
        assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o755);
        fs::remove_dir_all(folder).unwrap();
        writer.heartbeat(&clock).unwrap();
        assert_eq!((writer.places_made(), Reader::attach(&path).unwrap().now().tier()), (1, Tier::Filter));
        let second = PageWriter::create(&path, &PageSettings::default(), &clock);
        assert!(matches!(second, Err(PageError::Busy { .. })), "the new lock is held: {second:?}");

        // Somebody else was quicker.
        fs::remove_dir_all(folder).unwrap();
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        let foreign = writer.heartbeat(&clock);
        assert!(matches!(foreign, Err(PageError::Foreign { .. })), "{foreign:?}");

        // A file in the folder's place cannot be helped.
        fs::remove_dir_all(folder).unwrap();
        fs::write(folder, "").unwrap();
        let told = writer.heartbeat(&clock).unwrap_err().to_string();
        assert!(told.contains("CHRONOTICK_DIR") && told.lines().count() == 1, "{told}");
        fs::remove_dir_all(folder.parent().unwrap()).unwrap();
    }
}
