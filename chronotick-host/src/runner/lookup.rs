//! Where a server is: its name's addresses, and its keys where its answers are to be authenticated.
//!
//! Both can take seconds, so they happen in a thread of their own, which wakes the runner when it is done.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::wake::Stop;
use crate::config::Server;
use crate::nts::session::Session;

/// A search under way.
pub(super) struct Lookup(Receiver<Result<Found, String>>);

/// What a search found.
pub(super) struct Found {
    /// Where packets go: any of these.
    pub(super) addresses: Vec<SocketAddr>,
    /// Keys and cookies, for an authenticated server.
    pub(super) session: Option<Session>,
}

impl Lookup {
    /// Starts to look for `server`, for another address than `silent` if it has one.
    pub(super) fn start(server: &Server, silent: Option<SocketAddr>, waker: &Stop) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (server, waker) = (server.clone(), waker.clone());
        thread::Builder::new().name("chronotick-look".to_owned()).spawn(move || {
            let found = if server.nts { agree(&server, silent) } else { resolve(&server) };
            // The runner may be gone by now, which is nobody's loss.
            let _ = sender.send(found);
            waker.wake();
        })?;
        Ok(Self(receiver))
    }

    /// What was found, or why nothing was; `None` while the search goes on.
    pub(super) fn poll(&self) -> Option<Result<Found, String>> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Disconnected) => Some(Err("the name cannot be resolved".to_owned())),
            Err(TryRecvError::Empty) => None,
        }
    }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port).to_socket_addrs().map_err(|cause| format!("the name cannot be resolved: {cause}"))?;
    let found: Vec<_> = found.collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

fn resolve(server: &Server) -> Result<Found, String> {
    let addresses = addresses(server.address.host(), server.address.port())?;
    Ok(Found { addresses, session: None })
}

#[cfg(feature = "nts")]
fn agree(server: &Server, silent: Option<SocketAddr>) -> Result<Found, String> {
    /// Where a server answers unless it says otherwise.
    const NTP_PORT: u16 = 123;

    let host = server.address.host();
    let mut places = addresses(host, server.address.port())?;
    // Stable: the address that has just been silent goes last.
    places.sort_by_key(|place| silent.is_some_and(|silent| silent.ip() == place.ip()));
    let mut trouble = String::new();
    for place in places {
        match crate::nts::key_exchange::agree(place, host, server.ca.as_deref()) {
            Ok(agreement) => {
                let port = agreement.port.unwrap_or(NTP_PORT);
                let addresses = match &agreement.server {
                    Some(other) => addresses(other, port)?,
                    None => vec![SocketAddr::new(place.ip(), port)],
                };
                return Ok(Found { addresses, session: Some(agreement.session) });
            }
            Err(cause) => trouble = cause.to_string(),
        }
    }
    Err(trouble)
}

#[cfg(not(feature = "nts"))]
fn agree(_: &Server, _: Option<SocketAddr>) -> Result<Found, String> {
    Err("this program was built without the feature `nts`".to_owned())
}

/// Which addresses of a pool are in use, shared by the associations of that pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<HashSet<IpAddr>>>);

impl Pool {
    /// Takes `address` unless another association has it.
    pub(super) fn claim(&self, address: IpAddr) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address)
    }

    /// Gives it back.
    pub(super) fn release(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_of_a_pool_is_used_twice() {
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let pool = Pool::default();
        let other = pool.clone();
        assert!(pool.claim(one) && !other.claim(one) && other.claim(two));
        pool.release(one);
        assert!(other.claim(one));
    }
}
