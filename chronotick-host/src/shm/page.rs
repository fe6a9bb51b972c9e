//! The clock page: one file of 4096 bytes, one writer, any number of readers. docs/CLOCK_PAGE.md describes every byte.
//! This is its layout and its reading side; the writer is in [`super::writer`].

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chronotick_core::clock_page::{ClockPage, CounterScale, PageReading};
use chronotick_core::{Rate, Span};
use rustix::fs::OFlags;

use super::atomic::{AtomicU64, Ordering};
use super::identity::Identity;
use super::latch;
use super::map::Mapping;
use crate::error::{Error, Kind};
use crate::os::counter::CounterKind;
use crate::timestamp::Timestamp;

/// Size of the file and of the mapping, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// How often an identity is looked at before it is called damaged; a takeover writes it in some twenty nanoseconds.
const LOOKS: usize = 1_000;
/// Changes whenever a byte changes its meaning.
pub const ABI_VERSION: u32 = 2;
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
    /// Something else altogether.
    #[error("{path} is not a clock page: name the daemon's (`[page] path` or --page)")]
    NotAPage {
        /// What is there.
        path: PathBuf,
    },
    /// The file has the size and the magic of a page; the rest of its identity is wrong.
    #[error("{path} is a damaged clock page: remove it, the daemon makes a new one")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The daemon does not write over a file, folder or device that is no page.
    #[error("{path} is there already and no clock page: name another place for the page (`[page] path` or --page)")]
    Occupied {
        /// What is there.
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
    #[error("another daemon writes to {path}: stop it, or give this one's page a folder of its own")]
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
    /// This user may not read it.
    #[error("cannot read {path}: {}: {source}", READ_RIGHTS)]
    Denied {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The daemon may not make it.
    #[error("cannot make {path}: {}: {source}", WRITE_RIGHTS)]
    Unmakeable {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Somebody else made, or can change, the folder in which this user's page should lie.
    #[error(
        "{folder} does not belong to this user alone: remove it or `chmod go-w` it, or choose another place \
         (`[page] path` or CHRONOTICK_DIR)"
    )]
    Foreign {
        /// The folder.
        folder: PathBuf,
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

const READ_RIGHTS: &str = "its folders need `chmod a+rx` and the file `chmod a+r`, or run this as the daemon's user";
const WRITE_RIGHTS: &str =
    "let the daemon's user write to its folder, or choose another place (`[page] path` or CHRONOTICK_DIR)";

impl PageError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            _ => Self::Io { path, source },
        }
    }
}

impl From<PageError> for Error {
    fn from(cause: PageError) -> Self {
        let kind = match cause {
            PageError::Busy { .. } => Kind::AlreadyRunning,
            PageError::Missing { .. } => Kind::NotRunning,
            PageError::Foreign { .. } | PageError::Occupied { .. } | PageError::TooMany { .. } => Kind::System,
            _ => Kind::Incompatible,
        };
        let message = cause.to_string();
        match cause {
            PageError::Denied { path, source } => {
                Self::system(format!("cannot read {}: {READ_RIGHTS}", path.display()), source)
            }
            PageError::Unmakeable { path, source } => {
                Self::system(format!("cannot make {}: {WRITE_RIGHTS}", path.display()), source)
            }
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
pub(crate) struct Page {
    /// Who made it; see [`Identity`].
    pub(super) identity: [AtomicU64; 8],
    /// Its lowest bit names the current copy.
    pub(super) sequence: AtomicU64,
    pub(super) target_accuracy: AtomicU64,
    /// The [`CounterScale`] of each copy.
    pub(super) scales: [[AtomicU64; 3]; 2],
    pub(super) copies: [[AtomicU64; 8]; 2],
    /// The counter when the daemon was last seen.
    pub(super) heartbeat: AtomicU64,
    /// [`crate::os::counter::LocalClock::suspended`] of the daemon at the last record, in ns.
    pub(super) suspended: AtomicU64,
    /// The line says nothing of a counter before this: it was disturbed here, or is another one. 0: as far back as is known.
    holds_from: AtomicU64,
    reserved: [AtomicU64; 477],
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
    assert!(offset_of!(Page, holds_from) == 272);
    assert!(offset_of!(Page, reserved) == 280);
};

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// What the marks of a record stand for: its lowest three bits name the counter, and all of them together the scale. A reader that
/// has the scale of a record's marks need not load it again; nor the target, which follows at the next check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) marks: u8,
    pub(crate) scale: CounterScale,
    pub(crate) target_accuracy: i64,
}

const COUNTER_BITS: u32 = 3;
const _: () = assert!((CounterKind::Virtual as u8) < 1 << COUNTER_BITS);

/// The marks of records that count with `kind`; `scale_count` changes whenever their scale does.
pub(super) const fn marks(kind: CounterKind, scale_count: u8) -> u8 {
    kind as u8 | scale_count << COUNTER_BITS
}

/// The other part of [`marks`].
pub(super) const fn scale_count(marks: u8) -> u8 {
    marks >> COUNTER_BITS
}

/// What a record with these marks counts with.
#[inline(always)]
pub(crate) const fn counter_of(marks: u8) -> Option<CounterKind> {
    CounterKind::from_u8(marks & ((1 << COUNTER_BITS) - 1))
}

/// Everything that one read takes from the page, from one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) record: ClockPage,
    pub(crate) scale: CounterScale,
    pub(crate) target_accuracy: i64,
    pub(crate) holds_from: u64,
    pub(crate) counter: u64,
}

impl Snapshot {
    pub(crate) const fn known(&self) -> Known {
        Known { marks: self.record.marks(), scale: self.scale, target_accuracy: self.target_accuracy }
    }

    /// Whether the line reaches back to a counter reading. The difference wraps, as in the record's arithmetic.
    pub(crate) const fn holds_at(&self, counter: u64) -> bool {
        self.holds_from == 0 || counter.wrapping_sub(self.holds_from).cast_signed() >= 0
    }
}

impl Page {
    /// Nothing is published on it.
    pub(crate) fn blank() -> Self {
        fn words<const N: usize>() -> [AtomicU64; N] {
            [const { AtomicU64::new(0) }; N]
        }
        let [sequence, target_accuracy, heartbeat, suspended, holds_from] = words();
        Self {
            identity: words(),
            sequence,
            target_accuracy,
            scales: [words(), words()],
            copies: [words(), words()],
            heartbeat,
            suspended,
            holds_from,
            reserved: words(),
        }
    }

    /// Writes the copy that is not in use, and what goes with it. Then [`latch::flip`].
    pub(super) fn fill(&self, record: &ClockPage, scale: &CounterScale, holds_from: u64) {
        latch::fill(&self.sequence, |copy| {
            latch::store(&self.copies[copy], record.words());
            latch::store(&self.scales[copy], &[scale.ticks, scale.local.cast_unsigned(), scale.mult]);
            // There is one for both copies: who still reads the old record hears no more of its past than of the new one's.
            self.holds_from.store(holds_from, Ordering::Relaxed);
        });
    }

    /// Publishes what was read from another page. One thread at a time.
    pub(crate) fn keep(&self, snapshot: &Snapshot) {
        self.target_accuracy.store(snapshot.target_accuracy.cast_unsigned(), Ordering::Relaxed);
        self.fill(&snapshot.record, &snapshot.scale, snapshot.holds_from);
        latch::flip(&self.sequence);
    }

    /// Reads the record and, before it can be replaced, the counter that it names.
    pub(crate) fn read(&self, counter: impl Fn(u8) -> u64) -> Snapshot {
        latch::read(&self.sequence, |copy| {
            let record = ClockPage::from_words(latch::words(&self.copies[copy]));
            let counter = counter(record.marks());
            Snapshot {
                record,
                scale: self.scale(copy),
                target_accuracy: self.target_accuracy(),
                holds_from: self.holds_from.load(Ordering::Relaxed),
                counter,
            }
        })
    }

    /// The ordinary read: the time at the counter that `known` names, unless a check is `due` there. `None` when it is, when the
    /// record has other marks, or when it does not stand for itself any more.
    ///
    /// The words are loaded after the counter, so that the processor fetches them while its counter is being read.
    #[inline(always)]
    pub(crate) fn fresh<'a>(
        &self,
        known: impl Fn() -> &'a Known,
        counter: impl Fn() -> u64,
        due: impl Fn(u64) -> bool,
    ) -> Option<Timestamp> {
        latch::read(&self.sequence, |copy| {
            let counter = counter();
            let reading = PageReading::fresh(counter, |i| self.copies[copy][i].load(Ordering::Relaxed))?;
            let known = known();
            if reading.marks() != known.marks || due(counter) {
                return None;
            }
            let raw = known.scale.wrapping_local(counter).as_nanos();
            Some(Timestamp::new(reading, raw, known.target_accuracy))
        })
    }

    fn scale(&self, copy: usize) -> CounterScale {
        let [ticks, local, mult] = latch::words(&self.scales[copy]);
        CounterScale { ticks, local: local.cast_signed(), mult }
    }

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
        Span::from_nanos(self.suspended.load(Ordering::Acquire).cast_signed())
    }
}

/// Which file it is: device and inode. A file system that is mounted again numbers its files from the start.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(file: &Metadata) -> FileId {
    (file.dev(), file.ino())
}

/// Opens the file for reading and checks that it is a page; maps it.
pub(crate) fn attach(path: &Path) -> Result<(Mapping, FileId), PageError> {
    let file = open(path, false)?;
    let id = file_id(&file.metadata().map_err(PageError::io(path))?);
    let mapping = Mapping::new(&file, false).map_err(PageError::io(path))?;
    settled(path, || mapping.page().identity())?;
    Ok((mapping, id))
}

/// Whether it is a page, looked at again while its checksum is wrong: a daemon may be taking it over at this instant, and the
/// identity is not latched.
fn settled(path: &Path, identity: impl Fn() -> Identity) -> Result<(), PageError> {
    let settled = (1..LOOKS).find_map(|_| identity().check(path).ok());
    settled.map_or_else(|| identity().check(path), Ok)
}

pub(super) fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed()
}

pub(super) fn open(path: &Path, write: bool) -> Result<File, PageError> {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::reader::Reader;
    use crate::shm::scratch;
    use crate::shm::writer::PageWriter;

    #[test]
    fn what_is_not_a_page_is_refused_with_what_to_do() {
        let path = scratch("refused");
        let missing = Reader::attach(&path).unwrap_err();
        assert!(matches!(missing, PageError::Missing { .. }), "{missing}");
        for bytes in [vec![], vec![0; PAGE_SIZE], vec![0xA5; PAGE_SIZE], vec![0xFF; 100]] {
            fs::write(&path, &bytes).unwrap();
            let error = Reader::attach(&path).unwrap_err();
            assert!(matches!(error, PageError::NotAPage { .. }), "{} bytes: {error}", bytes.len());
            assert!(!error.to_string().contains("remove"), "it may be anything: {error}");
        }
        let folder = Reader::attach(path.parent().unwrap()).unwrap_err();
        assert!(matches!(folder, PageError::NotAPage { .. }), "{folder}");
        let mut other = vec![0; PAGE_SIZE];
        other[..8].copy_from_slice(&MAGIC.to_le_bytes());
        other[8] = 2;
        fs::write(&path, &other).unwrap();
        let damaged = Reader::attach(&path).unwrap_err();
        assert!(matches!(damaged, PageError::Damaged { .. }) && damaged.to_string().contains("remove"), "{damaged}");
        other[8] = 9;
        fs::write(&path, &other).unwrap();
        assert!(matches!(Reader::attach(&path).unwrap_err(), PageError::AbiVersion { found: 9, .. }));
        // The daemon replaces all of them.
        let clock = crate::os::counter::SystemCounter::calibrate();
        let writer = PageWriter::create(&path, &PageSettings::default(), &clock).unwrap();
        assert!(Reader::attach(&path).is_ok() && writer.inherited().is_none());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn an_identity_that_is_being_written_is_looked_at_again() {
        let path = Path::new("clock");
        let whole = Identity::new(&PageSettings::default());
        let mut torn = whole;
        torn.words[2] ^= 1;
        let looks = std::cell::Cell::new(0);
        let settles = settled(path, || {
            looks.set(looks.get() + 1);
            if looks.get() < 5 { torn } else { whole }
        });
        assert!(settles.is_ok() && looks.get() == 5);
        assert!(matches!(settled(path, || torn), Err(PageError::Damaged { .. })));
    }

    #[test]
    fn a_page_that_may_not_be_read_says_what_to_do() {
        let refused = || PageError::io(Path::new("/run/x/clock"))(io::ErrorKind::PermissionDenied.into());
        assert!(matches!(refused(), PageError::Denied { .. }));
        let error = Error::from(refused());
        for told in [refused().to_string(), error.to_string()] {
            assert!(told.contains("/run/x/clock") && told.contains("chmod a+rx"), "{told}");
            assert_eq!(told.matches("permission denied").count(), 1, "{told}");
        }
        assert!(error.is_system());
    }
}
