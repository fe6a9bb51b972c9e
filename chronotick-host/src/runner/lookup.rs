//! Where a server is: its name's addresses, and its keys where its answers are to be authenticated.
//!
//! Both can take seconds, so they happen in a thread of their own, which wakes the runner when it is done.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use super::wake::Stop;
use crate::config::Server;
use crate::nts::session::Session;

/// A search under way.
pub(super) struct Lookup(Receiver<Result<Found, Nothing>>);

/// What a search found.
pub(super) struct Found {
    /// Where packets go: any of these.
    pub(super) addresses: Vec<SocketAddr>,
    /// Keys and cookies, for an authenticated server.
    pub(super) session: Option<Session>,
}

/// Why a search found nothing.
pub(super) struct Nothing {
    /// For people.
    pub(super) told: String,
    /// A server was troubled with it, and is not to be again too soon.
    pub(super) asked: bool,
}

impl Lookup {
    /// Starts to look for `server`, preferably where nobody is known to be [`Silent`].
    pub(super) fn start(server: &Server, silent: &Silent, waker: &Stop) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let (server, silent, waker) = (server.clone(), silent.clone(), waker.clone());
        thread::Builder::new().name("chronotick-look".to_owned()).spawn(move || {
            let found = if server.nts { agree(&server, &silent) } else { resolve(&server) };
            // The runner may be gone by now, which is nobody's loss.
            let _ = sender.send(found);
            waker.wake();
        })?;
        Ok(Self(receiver))
    }

    /// What was found, or why nothing was; `None` while the search goes on.
    pub(super) fn poll(&self) -> Option<Result<Found, Nothing>> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Disconnected) => {
                Some(Err(Nothing { told: "the name cannot be resolved".to_owned(), asked: false }))
            }
            Err(TryRecvError::Empty) => None,
        }
    }
}

/// The addresses that did not answer, the one that has been silent for longest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Silent(Vec<IpAddr>);

impl Silent {
    /// More than one name has; beyond that the oldest is forgotten.
    const MOST: usize = 16;

    /// `address` has not answered.
    pub(super) fn note(&mut self, address: IpAddr) {
        self.0.retain(|known| *known != address);
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        self.0.push(address);
    }

    /// Somebody answers: whoever was silent may be back as well.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// In the order to try them: those that were not silent as they stand, then the others, so that each gets its turn.
    pub(super) fn last(&self, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        addresses.sort_by_key(|address| self.0.iter().position(|silent| *silent == address.ip()));
        addresses
    }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = (host, port).to_socket_addrs().map_err(|cause| format!("the name cannot be resolved: {cause}"))?;
    let found: Vec<_> = found.collect();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

fn resolve(server: &Server) -> Result<Found, Nothing> {
    let addresses = addresses(server.address.host(), server.address.port());
    let addresses = addresses.map_err(|told| Nothing { told, asked: false })?;
    Ok(Found { addresses, session: None })
}

#[cfg(feature = "nts")]
fn agree(server: &Server, silent: &Silent) -> Result<Found, Nothing> {
    /// Where a server answers unless it says otherwise.
    const NTP_PORT: u16 = 123;

    let host = server.address.host();
    let places = addresses(host, server.address.port()).map_err(|told| Nothing { told, asked: false })?;
    let mut nothing = Nothing { told: String::new(), asked: false };
    for place in silent.last(places) {
        match crate::nts::key_exchange::agree(place, host, server.ca.as_deref()) {
            Ok(agreement) => {
                let port = agreement.port.unwrap_or(NTP_PORT);
                let addresses = match &agreement.server {
                    Some(other) => addresses(other, port).map_err(|told| Nothing { told, asked: true })?,
                    None => vec![SocketAddr::new(place.ip(), port)],
                };
                return Ok(Found { addresses, session: Some(agreement.session) });
            }
            Err(cause) => {
                nothing = Nothing { told: cause.to_string(), asked: nothing.asked || cause.left_this_machine() };
            }
        }
    }
    Err(nothing)
}

#[cfg(not(feature = "nts"))]
fn agree(_: &Server, _: &Silent) -> Result<Found, Nothing> {
    Err(Nothing { told: "this program was built without the feature `nts`".to_owned(), asked: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_gets_its_turn_before_a_silent_one_gets_its_second() {
        let addresses: Vec<_> = (1..=3).map(|host| SocketAddr::from(([192, 0, 2, host], 123))).collect();
        let mut silent = Silent::default();
        let turns: Vec<_> = (0..7)
            .filter_map(|_| {
                let next = *silent.last(addresses.clone()).first()?;
                silent.note(next.ip());
                addresses.iter().position(|address| *address == next)
            })
            .collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2, 0]);
        silent.forget();
        assert_eq!(silent.last(addresses.clone()), addresses);
        (0..=255).for_each(|host| silent.note(IpAddr::from([192, 0, 2, host])));
        assert_eq!(silent.0.len(), Silent::MOST);
    }
}
