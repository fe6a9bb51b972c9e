//! The link between two threads of one process: values move through `rtrb`, nothing is encoded.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Link, LinkError, Order, Reply, SendError};

/// Messages that fit each way.
const CAPACITY: usize = 16;

/// The service's end.
pub type ServiceEnd = End<Order, Reply>;
/// The worker's end.
pub type WorkerEnd = End<Reply, Order>;

/// One end of the link between threads.
#[derive(Debug)]
pub struct End<Out, In> {
    outgoing: rtrb::Producer<Out>,
    incoming: rtrb::Consumer<In>,
    wake_other: Arc<Bell>,
    wake_me: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    fn wait(&self, timeout: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) =
            self.changed.wait_timeout_while(rung, timeout, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

/// Both ends of a fresh link.
pub fn pair() -> (ServiceEnd, WorkerEnd) {
    let (to_worker, from_service) = rtrb::RingBuffer::new(CAPACITY);
    let (to_service, from_worker) = rtrb::RingBuffer::new(CAPACITY);
    let (worker, service) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
    (
        End { outgoing: to_worker, incoming: from_worker, wake_other: worker.clone(), wake_me: service.clone() },
        End { outgoing: to_service, incoming: from_service, wake_other: service, wake_me: worker },
    )
}

impl<Out, In> Link for End<Out, In> {
    type Out = Out;
    type In = In;

    fn send(&mut self, message: Out) -> Result<(), SendError> {
        if self.outgoing.is_abandoned() {
            return Err(SendError::Broken(LinkError::Closed));
        }
        self.outgoing.push(message).map_err(|_| SendError::Full)?;
        self.wake_other.ring();
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<In>, LinkError> {
        // Asked before looking: what the other side sent before it went away is still delivered.
        let abandoned = self.incoming.is_abandoned();
        match self.incoming.pop() {
            Ok(message) => Ok(Some(message)),
            Err(_) if abandoned => Err(LinkError::Closed),
            Err(_) => Ok(None),
        }
    }

    fn wait(&mut self, timeout: Duration) {
        self.wake_me.wait(timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cross_and_the_end_is_noticed() {
        let (mut service, mut worker) = pair();
        let echo = std::thread::spawn(move || {
            loop {
                match worker.receive() {
                    Ok(Some(Order::Ping(n))) => assert_eq!(worker.send(Reply::Pong(n)), Ok(())),
                    Ok(Some(_)) | Err(_) => return,
                    Ok(None) => worker.wait(Duration::from_secs(5)),
                }
            }
        });
        for n in 0..100 {
            assert_eq!(service.send(Order::Ping(n)), Ok(()));
            loop {
                match service.receive() {
                    Ok(None) => service.wait(Duration::from_secs(5)),
                    reply => break assert_eq!(reply, Ok(Some(Reply::Pong(n)))),
                }
            }
        }
        assert_eq!(service.send(Order::Stop), Ok(()));
        assert!(echo.join().is_ok());
        assert_eq!(service.receive(), Err(LinkError::Closed));
        assert_eq!(service.send(Order::Ping(0)), Err(SendError::Broken(LinkError::Closed)));
    }
}
