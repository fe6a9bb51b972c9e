//! The link between two processes: rings in shared memory, and an eventfd each way to wake a side that waits.

use std::io::{self, Stderr};
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Link, LinkError, Order, Reply, SendError};
use crate::shm::region::{Direction, PROTOCOL, Region, RegionError, SharedRing};
use crate::shm::ring::{Consumer, MAX_FRAME, Producer, PushError};

/// The service's end.
pub type ServiceEnd = End<Order, Reply>;
/// The worker's end.
pub type WorkerEnd = End<Reply, Order>;

/// One end of the link between processes.
#[derive(Debug)]
pub struct End<Out, In> {
    region: Region,
    outgoing: Producer<SharedRing>,
    incoming: Consumer<SharedRing>,
    wake_other: OwnedFd,
    wake_me: OwnedFd,
    /// Reused for every frame, so that a steady state allocates nothing.
    frame: Vec<u8>,
    expected_protocol: Option<u64>,
    /// Hangs up when the other side's process ends.
    lifeline: Option<Stderr>,
    hung_up: bool,
    messages: PhantomData<fn(Out) -> In>,
}

/// What the worker needs in order to attach: its descriptors, in the order of [`WorkerEnd::attach`].
#[derive(Debug)]
pub struct Handover {
    /// The shared memory.
    pub region: OwnedFd,
    /// Written to wake the worker.
    pub wake_worker: OwnedFd,
    /// Written to wake the service.
    pub wake_service: OwnedFd,
}

impl ServiceEnd {
    /// A fresh link and what its other end needs.
    pub fn create() -> Result<(Self, Handover), RegionError> {
        let (region, fd) = Region::create()?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let (wake_worker, wake_service) = (rustix::event::eventfd(0, flags)?, rustix::event::eventfd(0, flags)?);
        let copies = Handover {
            region: fd,
            wake_worker: wake_worker.try_clone().map_err(RegionError::Io)?,
            wake_service: wake_service.try_clone().map_err(RegionError::Io)?,
        };
        let end = Self::new(region, [Direction::ToWorker, Direction::FromWorker], wake_worker, wake_service);
        Ok((Self { expected_protocol: Some(PROTOCOL), ..end }, copies))
    }

    /// Readable when the worker may have sent something: for the service's own poll loop.
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.wake_me.as_fd()
    }
}

impl WorkerEnd {
    /// The worker's end, from the descriptors that it inherited.
    pub fn attach(handover: Handover) -> Result<Self, RegionError> {
        let region = Region::attach(&handover.region)?;
        let directions = [Direction::FromWorker, Direction::ToWorker];
        Ok(Self::new(region, directions, handover.wake_service, handover.wake_worker))
    }

    /// The link is closed when nobody reads this process's standard error any more: the service holds the only other end of
    /// that pipe, so it is gone, however it went.
    pub fn until_hung_up(self, stderr: Stderr) -> Self {
        Self { lifeline: Some(stderr), ..self }
    }
}

impl<Out, In> End<Out, In> {
    fn new(region: Region, [out, into]: [Direction; 2], wake_other: OwnedFd, wake_me: OwnedFd) -> Self {
        let (outgoing, incoming) = (Producer::new(region.ring(out)), Consumer::new(region.ring(into)));
        let frame = Vec::with_capacity(MAX_FRAME);
        Self {
            region,
            outgoing,
            incoming,
            wake_other,
            wake_me,
            frame,
            expected_protocol: None,
            lifeline: None,
            hung_up: false,
            messages: PhantomData,
        }
    }

    /// The shared memory under the link.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Sends without waking: for a peer that spins.
    pub fn send_quietly(&mut self, message: &Out) -> Result<(), SendError>
    where
        Out: Serialize,
    {
        self.frame.resize(MAX_FRAME, 0);
        // Every message fits by construction, so an encoding error is a frame that the ring could not take either.
        let used = postcard::to_slice(message, &mut self.frame).map_err(|_| SendError::Full)?;
        self.outgoing.push(used).map_err(|error| match error {
            PushError::Full | PushError::TooLong => SendError::Full,
            PushError::Broken(error) => SendError::Broken(LinkError::Ring(error)),
        })
    }
}

impl<Out: Serialize, In: DeserializeOwned> Link for End<Out, In> {
    type Out = Out;
    type In = In;

    fn send(&mut self, message: Out) -> Result<(), SendError> {
        match self.send_quietly(&message) {
            // Nobody reads any more: without this a sender would try for ever.
            Err(SendError::Full) if self.pause(Duration::ZERO) => return Err(SendError::Broken(LinkError::Closed)),
            sent => sent?,
        }
        // The only error is a counter at its maximum, which wakes as well.
        let _ = rustix::io::write(&self.wake_other, &1u64.to_ne_bytes());
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<In>, LinkError> {
        if !self.incoming.pop(&mut self.frame).map_err(LinkError::Ring)? {
            return if self.hung_up { Err(LinkError::Closed) } else { Ok(None) };
        }
        if let Some(expected) = self.expected_protocol {
            match self.region.worker_protocol() {
                theirs if theirs == expected => {}
                theirs => return Err(LinkError::Protocol(theirs)),
            }
        }
        match postcard::take_from_bytes(&self.frame) {
            Ok((message, [])) => Ok(Some(message)),
            _ => Err(LinkError::Undecodable),
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.hung_up = self.pause(timeout);
        self.drain();
    }
}

impl<Out, In> End<Out, In> {
    /// Takes note of wake-ups so far. What was sent before them is in the ring already.
    pub fn drain(&mut self) {
        let mut count = [0; 8];
        // The descriptor does not block: nothing to read is fine.
        let _: Result<usize, io::Error> = rustix::io::read(&self.wake_me, &mut count).map_err(Into::into);
    }

    /// Waits for a wake-up or the end of the other side; whether it was its end.
    fn pause(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).ok();
        // Without a lifeline there is nothing that the second could report beyond the first.
        let lifeline = self.lifeline.as_ref().map_or(self.wake_me.as_fd(), AsFd::as_fd);
        let mut watched =
            [PollFd::new(&self.wake_me, PollFlags::IN), PollFd::from_borrowed_fd(lifeline, PollFlags::empty())];
        // An error (a signal) counts as a wake-up: the caller looks and waits again.
        let _ = rustix::event::poll(&mut watched, timeout.as_ref());
        !watched[1].revents().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cross_and_wake() {
        let (mut service, handover) = ServiceEnd::create().unwrap();
        let worker = std::thread::spawn(move || {
            let mut end = WorkerEnd::attach(handover).unwrap();
            loop {
                match end.receive().unwrap() {
                    Some(Order::Ping(n)) => end.send(Reply::Pong(n)).unwrap(),
                    Some(_) => return,
                    None => end.wait(Duration::from_secs(5)),
                }
            }
        });
        for n in 0..100 {
            service.send(Order::Ping(n)).unwrap();
            let reply = loop {
                match service.receive().unwrap() {
                    Some(reply) => break reply,
                    None => service.wait(Duration::from_secs(5)),
                }
            };
            assert_eq!(reply, Reply::Pong(n));
        }
        service.send(Order::Stop).unwrap();
        worker.join().unwrap();
    }

    #[test]
    fn another_version_and_nonsense_are_named() {
        let (mut service, handover) = ServiceEnd::create().unwrap();
        let mut worker = WorkerEnd::attach(handover).unwrap();
        worker.outgoing.push(&[250, 1, 2]).unwrap();
        assert_eq!(service.receive(), Err(LinkError::Undecodable));
        worker.region.announce(7);
        worker.send(Reply::Pong(1)).unwrap();
        assert_eq!(service.receive(), Err(LinkError::Protocol(7)));
    }

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let (mut service, handover) = ServiceEnd::create().unwrap();
        let mut worker = WorkerEnd::attach(handover).unwrap();
        let mut sent = 0;
        while service.send(Order::Ping(sent)).is_ok() {
            sent += 1;
        }
        assert_eq!(service.send(Order::Ping(sent)), Err(SendError::Full));
        for expected in 0..sent {
            assert_eq!(worker.receive(), Ok(Some(Order::Ping(expected))));
        }
        service.send(Order::Stop).unwrap();
        assert_eq!(worker.receive(), Ok(Some(Order::Stop)));
    }
}
