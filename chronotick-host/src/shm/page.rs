//! The clock page: one file of 4096 bytes, one writer, any number of readers. docs/CLOCK_PAGE.md describes every byte.
//!
//! A daemon that starts takes the file of the one before it over in place, so that readers stay attached: the record goes on,
//! under a new instance id, in the same sequence. It replaces the file (by a rename, so that nobody ever maps a half-made one)
//! only where it cannot be taken over: another boot, another layout, damage.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem::offset_of;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chronotick_core::clock_page::{ClockPage, CounterScale, PageReading};
use chronotick_core::served::ClockRecord;
use chronotick_core::{Rate, Span};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::atomic::{AtomicU64, Ordering};
use super::identity::Identity;
use super::latch;
use super::map::Mapping;
use crate::error::{Error, Kind};
use crate::os::counter::{CounterKind, LocalClock, SystemCounter};
use crate::timestamp::Timestamp;

/// Size of the file and of the mapping, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Changes whenever a byte changes its meaning.
pub const ABI_VERSION: u32 = 1;
/// The first eight bytes of the file.
pub const MAGIC: u64 = u64::from_le_bytes(*b"CTCKPAGE");

/// Why a page cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// No daemon has made a page there.
    #[error("no clock page at {path}: start the daemon (`chronotick run`), or mount its directory here")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is short, damaged, or something else altogether.
    #[error("{path} is not a clock page: remove it, the daemon makes a new one")]
    NotAPage {
        /// The file.
        path: PathBuf,
    },
    /// The page was made by a daemon of another layout.
    #[error(
        "{path} has layout version {found}, this program reads version {ABI_VERSION}: use the same release of both"
    )]
    AbiVersion {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        found: u32,
    },
    /// The page counts with a counter that this program does not have.
    #[error("{path} counts with {found:?}, which this program cannot read: attach with the clock that made it")]
    Counter {
        /// The file.
        path: PathBuf,
        /// What it counts with; `None` when unknown.
        found: Option<CounterKind>,
    },
    /// CLOCK_MONOTONIC_RAW starts elsewhere in another time namespace.
    #[error("{path} counts CLOCK_MONOTONIC_RAW of another time namespace: run the reader in the daemon's")]
    TimeNamespace {
        /// The file.
        path: PathBuf,
    },
    /// Another daemon is writing to it.
    #[error("another daemon writes to {path}: stop it, or give this one another path")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// More pages than one program can start a clock on.
    #[error("{path} is one page too many for this program: use `ChronoTick` handles for many clocks")]
    TooMany {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl PageError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            _ => Self::Io { path, source },
        }
    }
}

impl From<PageError> for Error {
    fn from(cause: PageError) -> Self {
        let kind = match cause {
            PageError::Busy { .. } => Kind::AlreadyRunning,
            PageError::Missing { .. } => Kind::NotRunning,
            PageError::Io { .. } | PageError::TooMany { .. } => Kind::System,
            _ => Kind::Incompatible,
        };
        let message = cause.to_string();
        match cause {
            PageError::Io { path, source } => Self::system(format!("cannot use {}", path.display()), source),
            _ => Self::new(kind, message),
        }
    }
}

/// What a daemon promises for the whole of its run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageSettings {
    /// The widest growth of the hard bound that the configuration allows.
    pub max_bound_growth: Rate,
    /// The widest growth of the 95 % half-width that the configuration allows.
    pub max_interval_growth: Rate,
    /// The error that users can live with: what [`crate::Timestamp::confidence`] is about.
    pub target_accuracy: Span,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self {
            max_bound_growth: Rate::from_ppm(500.0),
            max_interval_growth: Rate::from_ppm(50.0),
            target_accuracy: Span::from_millis(1),
        }
    }
}

/// The file, as mapped.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Page {
    /// Who made it; see [`Identity`].
    identity: [AtomicU64; 8],
    /// Its lowest bit names the current copy.
    sequence: AtomicU64,
    target_accuracy: AtomicU64,
    /// The [`CounterScale`] of each copy.
    scales: [[AtomicU64; 3]; 2],
    copies: [[AtomicU64; 8]; 2],
    /// The counter when the daemon was last seen.
    heartbeat: AtomicU64,
    /// [`LocalClock::suspended`] of the daemon at the last record, in ns.
    suspended: AtomicU64,
    reserved: [AtomicU64; 478],
}

const _: () = {
    assert!(cfg!(target_endian = "little"), "the page is little-endian");
    assert!(size_of::<Page>() == PAGE_SIZE && align_of::<Page>() == 64);
    assert!(offset_of!(Page, identity) == 0);
    assert!(offset_of!(Page, sequence) == 64);
    assert!(offset_of!(Page, target_accuracy) == 72);
    assert!(offset_of!(Page, scales) == 80);
    assert!(offset_of!(Page, copies) == 128 && size_of::<[AtomicU64; 8]>() == 64);
    assert!(offset_of!(Page, heartbeat) == 256);
    assert!(offset_of!(Page, suspended) == 264);
    assert!(offset_of!(Page, reserved) == 272);
};

/// Everything that one read takes from the page, from one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) record: ClockPage,
    pub(crate) scale: CounterScale,
    pub(crate) target_accuracy: i64,
    pub(crate) counter: u64,
}

impl Page {
    /// Reads the record and, before it can be replaced, the counter that it names.
    pub(crate) fn read(&self, counter: impl Fn(u8) -> u64) -> Snapshot {
        latch::read(&self.sequence, |copy| {
            let record = ClockPage::from_words(latch::words(&self.copies[copy]));
            let counter = counter(record.marks());
            Snapshot { record, scale: self.scale(copy), target_accuracy: self.target_accuracy(), counter }
        })
    }

    /// The ordinary read: the time at a counter that the caller believes to be the right one (compared unless it is `None`),
    /// and at which no check was due. `None` when it is not, or when the record does not stand for itself any more.
    ///
    /// The words are loaded after the counter, so that the processor fetches them while its counter is being read.
    #[inline(always)]
    pub(crate) fn fresh(
        &self,
        kind: Option<CounterKind>,
        counter: impl Fn() -> u64,
        check_at: u64,
    ) -> Option<Timestamp> {
        latch::read(&self.sequence, |copy| {
            let counter = counter();
            let reading = PageReading::fresh(counter, |i| self.copies[copy][i].load(Ordering::Relaxed))?;
            if kind.is_some_and(|kind| reading.marks() != kind as u8) || counter >= check_at {
                return None;
            }
            let raw = self.scale(copy).wrapping_local(counter).as_nanos();
            Some(Timestamp::new(reading, raw, self.target_accuracy()))
        })
    }

    #[inline(always)]
    fn scale(&self, copy: usize) -> CounterScale {
        let [ticks, local, mult] = latch::words(&self.scales[copy]);
        CounterScale { ticks, local: local.cast_signed(), mult }
    }

    #[inline(always)]
    fn target_accuracy(&self) -> i64 {
        self.target_accuracy.load(Ordering::Relaxed).cast_signed()
    }
    pub(crate) fn identity(&self) -> Identity {
        Identity { words: latch::words(&self.identity) }
    }
    pub(crate) fn heartbeat(&self) -> u64 {
        self.heartbeat.load(Ordering::Relaxed)
    }
    pub(crate) fn suspended(&self) -> Span {
        Span::from_nanos(self.suspended.load(Ordering::Relaxed).cast_signed())
    }
}

/// Opens the file for reading and checks that it is a page; maps it.
pub(crate) fn attach(path: &Path) -> Result<(Mapping, u64), PageError> {
    let file = open(path, false)?;
    let inode = file.metadata().map_err(PageError::io(path))?.ino();
    let mapping = Mapping::new(&file, false).map_err(PageError::io(path))?;
    mapping.page().identity().check(path)?;
    Ok((mapping, inode))
}

/// The counter and scale of a page that a daemon can go on with: same boot, same layout, and the counter is still the
/// machine's choice. A daemon that uses it keeps the local time of the one before.
pub fn inherited_counter(path: &Path) -> Option<SystemCounter> {
    let (mapping, _) = attach(path).ok()?;
    let page = mapping.page();
    let snapshot = page.read(|_| 0);
    let kind = CounterKind::from_u8(snapshot.record.marks())?;
    let usable = page.identity().is_this_boot()
        && page.identity().is_this_time_namespace()
        && kind == CounterKind::detect()
        && !snapshot.record.is_blank();
    usable.then(|| SystemCounter::with_scale(kind, snapshot.scale))
}

/// The one writer of a page, held by a lock on `PATH.lock` (readers, who may lock what they can read, have no part in it).
#[derive(Debug)]
pub struct PageWriter {
    path: PathBuf,
    inode: u64,
    mapping: Mapping,
    identity: Identity,
    scale: CounterScale,
    kind: CounterKind,
    last: Option<ClockPage>,
    target_accuracy: Span,
    _lock: File,
}

impl PageWriter {
    /// Takes the page at `path` over, or makes it, for records of `clock`. Its folder is made if it is missing.
    pub fn create(path: &Path, settings: &PageSettings, clock: &dyn LocalClock) -> Result<Self, PageError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|source| PageError::Io { path: folder.to_owned(), source })?;
        }
        let lock = lock(path)?;
        let identity = Identity::new(settings);
        let (mapping, inode, taken_over) = match take_over(path) {
            Some((mapping, inode)) => (mapping, inode, true),
            None => {
                let (mapping, inode) = make(path, &identity)?;
                (mapping, inode, false)
            }
        };
        let mut writer = Self {
            path: path.to_owned(),
            inode,
            mapping,
            identity,
            scale: clock.scale(),
            kind: clock.kind(),
            last: None,
            target_accuracy: settings.target_accuracy,
            _lock: lock,
        };
        if taken_over {
            writer.last = writer.inherit();
        }
        writer.announce(clock);
        Ok(writer)
    }

    /// The record that readers of the previous instance are being served, on this instance's local time. `None` when there
    /// was none or its counter was another.
    pub fn inherited(&self) -> Option<ClockRecord> {
        self.last?.decode(&self.scale)
    }

    /// Fills the copy that is not in use. Nothing changes for readers until [`PageWriter::flip`]. Within an epoch the record
    /// never starts below the last one.
    pub fn fill(&mut self, record: &ClockRecord) -> ClockPage {
        let mut page = ClockPage::encode(record, &self.scale).with_marks(self.kind as u8);
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
    /// somebody removed, replaced or cut it.
    pub fn heartbeat(&mut self, clock: &dyn LocalClock) -> Result<(), PageError> {
        self.stamp(clock);
        let intact = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.ino() == self.inode && file.len() == PAGE_SIZE as u64);
        if intact && self.mapping.page().identity() == self.identity {
            return Ok(());
        }
        (self.mapping, self.inode) = make(&self.path, &self.identity)?;
        self.announce(clock);
        if let Some(last) = self.last {
            self.write(&last);
            latch::flip(&self.mapping.page().sequence);
        }
        Ok(())
    }

    /// Another target for the bound; see [`PageSettings`].
    pub fn set_target_accuracy(&mut self, target: Span) {
        self.target_accuracy = target;
        self.mapping.page().target_accuracy.store(target.as_nanos().cast_unsigned(), Ordering::Relaxed);
    }

    /// Goes on with another counter, after the kernel has stopped trusting the one in use. The next record uses it.
    pub fn recount(&mut self, clock: &dyn LocalClock) {
        (self.scale, self.kind) = (clock.scale(), clock.kind());
        self.last = None;
        self.announce(clock);
    }

    /// Where the page is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The random number that names this run of the daemon.
    pub fn instance(&self) -> u64 {
        self.identity.instance()
    }

    /// The previous instance's record, if its counter is ours.
    fn inherit(&self) -> Option<ClockPage> {
        let record = self.mapping.page().read(|_| 0).record;
        (record.marks() == self.kind as u8 && !record.is_blank()).then_some(record)
    }

    /// Writes the copy that is not in use, and the scale that goes with it.
    fn write(&self, page: &ClockPage) {
        let at = self.mapping.page();
        latch::fill(&at.sequence, |copy| {
            latch::store(&at.copies[copy], page.words());
            let scale = [self.scale.ticks, self.scale.local.cast_unsigned(), self.scale.mult];
            latch::store(&at.scales[copy], &scale);
        });
    }

    /// Writes who this is. Readers take nothing from it that a record depends on.
    fn announce(&self, clock: &dyn LocalClock) {
        let page = self.mapping.page();
        page.target_accuracy.store(self.target_accuracy.as_nanos().cast_unsigned(), Ordering::Relaxed);
        latch::store(&page.identity, &self.identity.words);
        self.stamp(clock);
    }

    fn stamp(&self, clock: &dyn LocalClock) {
        let page = self.mapping.page();
        page.heartbeat.store(clock.ticks(), Ordering::Relaxed);
        page.suspended.store(clock.suspended().as_nanos().cast_unsigned(), Ordering::Relaxed);
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn lock(path: &Path) -> Result<File, PageError> {
    let lock_path = beside(path, ".lock");
    let io = |source| PageError::Io { path: lock_path.clone(), source };
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

fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed()
}

fn open(path: &Path, write: bool) -> Result<File, PageError> {
    // Non-blocking, so that a FIFO in its place is refused rather than waited for.
    let flags = if write { no_follow() } else { (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed() };
    let file =
        OpenOptions::new().read(true).write(write).custom_flags(flags).open(path).map_err(PageError::io(path))?;
    let metadata = file.metadata().map_err(PageError::io(path))?;
    if metadata.is_file() && metadata.len() == PAGE_SIZE as u64 {
        Ok(file)
    } else {
        Err(PageError::NotAPage { path: path.to_owned() })
    }
}

/// The existing page, writable, if a daemon of this boot and layout made it.
fn take_over(path: &Path) -> Option<(Mapping, u64)> {
    let file = open(path, true).ok()?;
    let inode = file.metadata().ok()?.ino();
    let mapping = Mapping::new(&file, true).ok()?;
    let identity = mapping.page().identity();
    (identity.check(path).is_ok() && identity.is_this_boot()).then_some((mapping, inode))
}

/// A new page in the place of whatever is there.
fn make(path: &Path, identity: &Identity) -> Result<(Mapping, u64), PageError> {
    let fresh = beside(path, ".new");
    let io = |source| PageError::Io { path: fresh.clone(), source };
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
    let inode = file.metadata().map_err(io)?.ino();
    let mapping = Mapping::new(&file, true).map_err(io)?;
    fs::rename(&fresh, path).map_err(|source| PageError::Io { path: path.to_owned(), source })?;
    Ok((mapping, inode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc;
    use crate::reader::Reader;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chronotick-page-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder.join("clock")
    }

    #[test]
    fn one_writer_at_a_time() {
        let daemon = doc::daemon();
        let clock = SystemCounter::calibrate();
        let second = PageWriter::create(daemon.path(), &PageSettings::default(), &clock);
        assert!(matches!(second, Err(PageError::Busy { .. })), "{second:?}");
    }

    #[test]
    fn what_is_not_a_page_is_refused_with_what_to_do() {
        let path = scratch("refused");
        let missing = Reader::attach(&path).unwrap_err();
        assert!(matches!(missing, PageError::Missing { .. }), "{missing}");
        for bytes in [vec![], vec![0; PAGE_SIZE], vec![0xA5; PAGE_SIZE], vec![0xFF; 100]] {
            fs::write(&path, &bytes).unwrap();
            let error = Reader::attach(&path).unwrap_err();
            assert!(matches!(error, PageError::NotAPage { .. }), "{} bytes: {error}", bytes.len());
        }
        let mut other = vec![0; PAGE_SIZE];
        other[..8].copy_from_slice(&MAGIC.to_le_bytes());
        other[8] = 9;
        fs::write(&path, &other).unwrap();
        assert!(matches!(Reader::attach(&path).unwrap_err(), PageError::AbiVersion { found: 9, .. }));
        // The daemon replaces all of them.
        let clock = SystemCounter::calibrate();
        let writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        assert!(Reader::attach(&path).is_ok() && writer.inherited().is_none());
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
}
