//! Waking the runner out of its wait: to stop it, to make it read its configuration again, or because an address was resolved.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// A handle on a running daemon loop; clones wake the same loop.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stopped: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    reader: UnixStream,
    writer: UnixStream,
}

impl Stop {
    /// A handle that nobody has used yet.
    ///
    /// # Errors
    /// When the operating system has no descriptors left.
    pub fn new() -> Result<Self, Error> {
        let pair = || -> io::Result<(UnixStream, UnixStream)> {
            let (reader, writer) = UnixStream::pair()?;
            reader.set_nonblocking(true)?;
            writer.set_nonblocking(true)?;
            Ok((reader, writer))
        };
        let (reader, writer) = pair().map_err(|cause| Error::system("cannot create a wake-up channel", cause))?;
        let (stopped, reload) = (Arc::default(), Arc::default());
        Ok(Self { shared: Arc::new(Shared { stopped, reload, reader, writer }) })
    }

    /// Makes the loop end soon.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the loop was told to end.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Makes the loop read its configuration again, if it has been told how.
    pub fn reload(&self) {
        self.shared.reload.store(true, Ordering::Release);
        self.wake();
    }

    /// SIGTERM and SIGINT end the loop. A second one ends the process the hard way, should the loop hang. SIGHUP makes it read
    /// its configuration again.
    ///
    /// # Errors
    /// When the operating system refuses the handlers.
    pub fn on_signals(&self) -> Result<(), Error> {
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            let register = || -> io::Result<()> {
                let stopped = || Arc::clone(&self.shared.stopped);
                // The order matters: the first signal finds the flag down, raises it, and wakes the loop.
                signal_hook::flag::register_conditional_shutdown(signal, 1, stopped())?;
                signal_hook::flag::register(signal, stopped())?;
                signal_hook::low_level::pipe::register(signal, self.shared.writer.try_clone()?)?;
                Ok(())
            };
            register().map_err(|cause| Error::system("cannot handle signals", cause))?;
        }
        let hangup = || -> io::Result<()> {
            signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&self.shared.reload))?;
            signal_hook::low_level::pipe::register(signal_hook::consts::SIGHUP, self.shared.writer.try_clone()?)?;
            Ok(())
        };
        hangup().map_err(|cause| Error::system("cannot handle signals", cause))
    }

    /// Whether the configuration is to be read again, asked once for each time.
    pub(crate) fn take_reload(&self) -> bool {
        self.shared.reload.swap(false, Ordering::AcqRel)
    }

    /// Interrupts the wait without ending the loop.
    pub(crate) fn wake(&self) {
        // A full channel wakes as well.
        let _ = (&self.shared.writer).write(&[1]);
    }

    /// Readable when there is a reason to wake.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.shared.reader.as_fd()
    }

    /// Forgets the wake-ups so far.
    pub(crate) fn drain(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.shared.reader).read(&mut bytes), Ok(count) if count > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_stop_the_same_loop() {
        let stop = Stop::new().expect("descriptors");
        let clone = stop.clone();
        clone.wake();
        assert!(!stop.is_stopped());
        clone.stop();
        assert!(stop.is_stopped());
        let mut byte = [0; 2];
        assert_eq!((&stop.shared.reader).read(&mut byte).expect("woken"), 2);
        stop.drain();
        assert!((&stop.shared.reader).read(&mut byte).is_err());
    }
}
