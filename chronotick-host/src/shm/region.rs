//! The memory that the service and its worker share: a sealed memfd with one ring in each direction.
//!
//! The service creates it, seals its size (a peer that truncated it would kill the service with SIGBUS) and hands the
//! descriptor over at spawn. Everything in it is an atomic word, so whatever the peer writes, reads stay defined.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::ring::Memory;

/// Version of the shared layout and of the messages in it. Both sides must speak the same.
pub const PROTOCOL: u64 = 1;
/// "CTWORKER" in memory order.
const MAGIC: u64 = u64::from_le_bytes(*b"CTWORKER");
/// Words of each ring: 64 KiB, a dozen of the longest frames.
const WORDS: usize = 8192;

/// A word on a cache line of its own (128 bytes: x86-64 prefetches lines in pairs, some aarch64 lines are that long).
#[repr(C, align(128))]
struct Line(AtomicU64);

#[repr(C)]
struct Ring {
    head: Line,
    tail: Line,
    words: [AtomicU64; WORDS],
}

#[repr(C)]
struct Layout {
    magic: Line,
    /// Written by the service.
    service_protocol: Line,
    /// Written by the worker before its first frame.
    worker_protocol: Line,
    to_worker: Ring,
    from_worker: Ring,
}

const _: () = assert!(WORDS.is_power_of_two());
const _: () = assert!(size_of::<Ring>() == 256 + 8 * WORDS);
const _: () = assert!(std::mem::offset_of!(Layout, to_worker) == 384);
const _: () = assert!(size_of::<Layout>() == 384 + 2 * size_of::<Ring>());

/// Which of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Orders.
    ToWorker,
    /// Replies.
    FromWorker,
}

/// The mapped region. Clones share the mapping; the last one unmaps it.
#[derive(Clone)]
pub struct Region(Arc<Mapping>);

struct Mapping(NonNull<Layout>);

// SAFETY: the mapping is plain shared memory made of atomics, valid until `Drop`, and owned by nobody's thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; every access goes through atomics.
unsafe impl Sync for Mapping {}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({:?})", self.0.0)
    }
}

/// Why a descriptor is not a region.
#[derive(Debug)]
pub enum RegionError {
    /// The kernel refused.
    Io(io::Error),
    /// Not a region of this kind.
    NotARegion,
    /// The service speaks another version.
    Protocol(u64),
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the shared memory cannot be used: {error}"),
            Self::NotARegion => f.write_str("the descriptor handed over is not the service's shared memory"),
            Self::Protocol(theirs) => write!(
                f,
                "the service speaks worker protocol {theirs}, this worker {PROTOCOL}: install both from one release"
            ),
        }
    }
}

impl std::error::Error for RegionError {}

impl From<rustix::io::Errno> for RegionError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Region {
    /// A fresh region and the descriptor to hand over. The descriptor is close-on-exec and its size is sealed.
    pub fn create() -> Result<(Self, OwnedFd), RegionError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know the flag that forbids executing the memory.
        let fd = rustix::fs::memfd_create("chronotick-worker", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| rustix::fs::memfd_create("chronotick-worker", flags))?;
        rustix::fs::ftruncate(&fd, size_of::<Layout>() as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let region = Self::map(&fd)?;
        region.layout().service_protocol.0.store(PROTOCOL, Ordering::Relaxed);
        region.layout().magic.0.store(MAGIC, Ordering::Release);
        Ok((region, fd))
    }

    /// The region behind a descriptor that was handed over, with the worker's version announced in it.
    pub fn attach(fd: impl AsFd) -> Result<Self, RegionError> {
        let stat = rustix::fs::fstat(&fd)?;
        let seals = rustix::fs::fcntl_get_seals(&fd).map_err(|_| RegionError::NotARegion)?;
        let sealed = seals.contains(SealFlags::SHRINK | SealFlags::GROW);
        if u64::try_from(stat.st_size) != Ok(size_of::<Layout>() as u64) || !sealed {
            return Err(RegionError::NotARegion);
        }
        let region = Self::map(fd)?;
        if region.layout().magic.0.load(Ordering::Acquire) != MAGIC {
            return Err(RegionError::NotARegion);
        }
        match region.layout().service_protocol.0.load(Ordering::Relaxed) {
            PROTOCOL => {}
            theirs => return Err(RegionError::Protocol(theirs)),
        }
        region.announce(PROTOCOL);
        Ok(region)
    }

    /// Writes the worker's protocol version.
    pub fn announce(&self, protocol: u64) {
        self.layout().worker_protocol.0.store(protocol, Ordering::Release);
    }

    /// The worker's protocol version; 0 until it has announced one.
    pub fn worker_protocol(&self) -> u64 {
        self.layout().worker_protocol.0.load(Ordering::Acquire)
    }

    /// The memory of one of the rings.
    pub fn ring(&self, direction: Direction) -> SharedRing {
        SharedRing { region: self.clone(), direction }
    }

    fn map(fd: impl AsFd) -> Result<Self, RegionError> {
        // SAFETY: a new mapping at an address of the kernel's choice, of a file whose size is at least that of `Layout`
        // and sealed (set in `create`, checked in `attach`), so that every access stays inside the file.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size_of::<Layout>(),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd,
                0,
            )?
        };
        NonNull::new(address.cast()).map(|layout| Self(Arc::new(Mapping(layout)))).ok_or(RegionError::NotARegion)
    }

    fn layout(&self) -> &Layout {
        // SAFETY: page-aligned, mapped for the life of `Mapping`, at least as long as `Layout`, and made of atomics alone,
        // for which any bytes are valid and concurrent changes by the peer are defined.
        unsafe { self.0.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `Region::map`, of the same length, and nobody holds a reference any more.
        // An error would mean that it was not mapped: nothing to do about it here.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), size_of::<Layout>()) };
    }
}

/// One ring of a [`Region`].
#[derive(Clone, Debug)]
pub struct SharedRing {
    region: Region,
    direction: Direction,
}

impl SharedRing {
    #[inline]
    fn ring(&self) -> &Ring {
        match self.direction {
            Direction::ToWorker => &self.region.layout().to_worker,
            Direction::FromWorker => &self.region.layout().from_worker,
        }
    }
}

impl Memory for SharedRing {
    fn words(&self) -> usize {
        WORDS
    }
    #[inline]
    fn head(&self) -> u64 {
        self.ring().head.0.load(Ordering::Acquire)
    }
    #[inline]
    fn set_head(&self, count: u64) {
        self.ring().head.0.store(count, Ordering::Release);
    }
    #[inline]
    fn tail(&self) -> u64 {
        self.ring().tail.0.load(Ordering::Acquire)
    }
    #[inline]
    fn set_tail(&self, count: u64) {
        self.ring().tail.0.store(count, Ordering::Release);
    }
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.ring().words[index % WORDS].load(Ordering::Relaxed)
    }
    #[inline]
    fn set_word(&self, index: usize, value: u64) {
        self.ring().words[index % WORDS].store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::ring::{Consumer, Producer};

    #[test]
    fn two_mappings_of_one_region_exchange_frames() {
        let (service, fd) = Region::create().unwrap();
        assert_eq!(service.worker_protocol(), 0);
        let worker = Region::attach(&fd).unwrap();
        assert_eq!(service.worker_protocol(), PROTOCOL);
        let mut producer = Producer::new(service.ring(Direction::ToWorker));
        let mut consumer = Consumer::new(worker.ring(Direction::ToWorker));
        let mut payload = Vec::new();
        for n in 0..10_000u32 {
            producer.push(&n.to_le_bytes()).unwrap();
            assert!(consumer.pop(&mut payload).unwrap());
            assert_eq!(payload, n.to_le_bytes());
        }
    }

    #[test]
    fn the_size_is_sealed_and_strangers_are_refused() {
        let (_region, fd) = Region::create().unwrap();
        assert!(rustix::fs::ftruncate(&fd, 0).is_err());
        let stranger = rustix::fs::memfd_create("stranger", MemfdFlags::CLOEXEC).unwrap();
        assert!(matches!(Region::attach(&stranger), Err(RegionError::NotARegion)));
    }

    #[test]
    fn another_protocol_is_named() {
        let (region, fd) = Region::create().unwrap();
        region.layout().service_protocol.0.store(9, Ordering::Relaxed);
        let refused = Region::attach(&fd).unwrap_err();
        assert!(refused.to_string().contains("protocol 9"), "{refused}");
    }
}
