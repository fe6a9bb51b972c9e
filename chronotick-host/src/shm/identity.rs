//! Who made a clock page: eight words under a checksum, in the first line of the file.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use chronotick_core::clock_page::WidestGrowth;

use super::page::{ABI_VERSION, MAGIC, PageError, PageSettings};

/// Who made the page, under a checksum.
///
/// | word | content |
/// |---|---|
/// | 0 | magic |
/// | 1 | ABI version (low half), size of the page (high half) |
/// | 2 | instance id |
/// | 3, 4 | boot id of the kernel |
/// | 5 | process id of the daemon (low), inode of its time namespace (high, its lower 32 bits) |
/// | 6 | widest growth of the hard bound (low) and of the 95 % half-width (high), 2^-32 |
/// | 7 | CRC-32 (IEEE) of words 0 to 6 (low), flags (high, 0) |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) words: [u64; 8],
}

impl Identity {
    pub(crate) fn new(settings: &PageSettings) -> Self {
        let widest = WidestGrowth::new(settings.max_bound_growth, settings.max_interval_growth);
        let boot = boot_id();
        let mut words = [
            MAGIC,
            joined(ABI_VERSION, 4096),
            new_instance(),
            low_word(boot),
            low_word(boot >> 64),
            joined(std::process::id(), time_namespace()),
            joined(widest.bound, widest.interval),
            0,
        ];
        words[7] = u64::from(checksum(&words));
        Self { words }
    }

    /// Whether this is a page that this release understands; `path` is for the message.
    pub(crate) fn check(&self, path: &Path) -> Result<(), PageError> {
        let path = || path.to_owned();
        if self.words[0] != MAGIC {
            return Err(PageError::NotAPage { path: path() });
        }
        if low_half(self.words[1]) != ABI_VERSION {
            return Err(PageError::AbiVersion { path: path(), found: low_half(self.words[1]) });
        }
        if high_half(self.words[1]) != 4096 || low_half(self.words[7]) != checksum(&self.words) {
            return Err(PageError::Damaged { path: path() });
        }
        Ok(())
    }

    pub(crate) const fn instance(&self) -> u64 {
        self.words[2]
    }
    pub(crate) const fn pid(&self) -> u32 {
        low_half(self.words[5])
    }
    pub(crate) const fn widest(&self) -> WidestGrowth {
        WidestGrowth { bound: low_half(self.words[6]), interval: high_half(self.words[6]) }
    }
    /// An id that cannot be read, here or there, is taken as the same.
    pub(crate) fn is_this_boot(&self) -> bool {
        let (there, here) = (u128::from(self.words[3]) | u128::from(self.words[4]) << 64, boot_id());
        there == here || there == 0 || here == 0
    }
    pub(crate) fn is_this_time_namespace(&self) -> bool {
        let (there, here) = (high_half(self.words[5]), time_namespace());
        there == here || there == 0 || here == 0
    }
}

/// Not 0, and not twice: the standard library's per-process randomness over the process id.
fn new_instance() -> u64 {
    RandomState::new().hash_one(std::process::id()) | 1
}

/// The kernel's boot id; 0 when it cannot be read.
fn boot_id() -> u128 {
    static BOOT_ID: OnceLock<u128> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
    })
}

/// Names the time namespace that this process is in; 0 when it cannot be told.
fn time_namespace() -> u32 {
    static NAMESPACE: OnceLock<u32> = OnceLock::new();
    *NAMESPACE.get_or_init(|| fs::metadata("/proc/self/ns/time").map_or(0, |file| low_half(file.ino())))
}

fn checksum(words: &[u64; 8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for word in &words[..7] {
        hasher.update(&word.to_le_bytes());
    }
    hasher.finalize()
}

const fn joined(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}
#[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
const fn low_half(word: u64) -> u32 {
    word as u32
}
const fn high_half(word: u64) -> u32 {
    low_half(word >> 32)
}
#[expect(clippy::cast_possible_truncation, reason = "the low half is asked for")]
const fn low_word(wide: u128) -> u64 {
    wide as u64
}
