//! One machine, one vote: which source measures which server, shared by all NTP sources of a daemon.
//!
//! Names say little of who is behind them: two may be aliases, pools overlap, and a server can be listed with and without
//! authentication. What counts is the address that answers. A source claims it for its measurements to count; whoever comes
//! second is told who was first. Only a source that authenticates takes the place of one that does not: otherwise whoever
//! spoils the plain one's name could make it stand where the authenticated one is about to be heard.

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chronotick_core::SourceId;

/// Who has claimed what; clones are the same list.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<Mutex<Vec<Claim>>>);

/// A source and the machine that it measures.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) by: SourceId,
    pub(super) name: String,
    /// Its answers are authenticated.
    pub(super) authenticated: bool,
    pub(super) address: SocketAddr,
}

impl Claims {
    /// Makes `claim` instead of any earlier one of the same source.
    ///
    /// # Errors
    /// The name of the source that has this machine already; the earlier claim stays.
    pub(super) fn make(&self, claim: Claim) -> Result<(), String> {
        let mut claims = self.lock();
        let other =
            claims.iter().find(|other| other.by != claim.by && machine(other.address) == machine(claim.address));
        if let Some(other) = other.filter(|other| other.authenticated || !claim.authenticated) {
            return Err(other.name.clone());
        }
        let goes = |other: &Claim| other.by == claim.by || machine(other.address) == machine(claim.address);
        claims.retain(|other| !goes(other));
        claims.push(claim);
        Ok(())
    }

    /// Gives up what `source` has claimed.
    pub(super) fn release(&self, source: SourceId) {
        self.lock().retain(|claim| claim.by != source);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Claim>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What two addresses of one machine have in common: all but the port and how they are written. On loopback everything is one
/// machine, and ports tell apart the servers that are simulated or relayed there.
fn machine(address: SocketAddr) -> SocketAddr {
    let ip = address.ip().to_canonical();
    let port = if ip.is_loopback() { address.port() } else { 0 };
    match address {
        // A link-local address means another machine on each link.
        SocketAddr::V6(v6) if ip.is_ipv6() => SocketAddrV6::new(*v6.ip(), port, 0, v6.scope_id()).into(),
        _ => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(by: u8, address: &str) -> Claim {
        let address = address.parse().expect("an address");
        Claim { by: SourceId(by), name: format!("source {by}"), authenticated: false, address }
    }

    #[test]
    fn a_machine_is_claimed_once_however_it_is_written() {
        let claims = Claims::default();
        let other = claims.clone();
        assert_eq!(claims.make(claim(0, "192.0.2.1:123")), Ok(()));
        for address in ["192.0.2.1:123", "192.0.2.1:4123", "[::ffff:192.0.2.1]:123"] {
            assert_eq!(other.make(claim(1, address)), Err("source 0".to_owned()), "{address}");
        }
        assert_eq!(claims.make(claim(0, "192.0.2.1:123")), Ok(()), "its own");
        // Who moves on leaves the place to others.
        assert_eq!(claims.make(claim(0, "192.0.2.2:123")), Ok(()));
        assert_eq!(other.make(claim(1, "192.0.2.1:123")), Ok(()));
        claims.release(SourceId(1));
        assert_eq!(claims.make(claim(2, "192.0.2.1:123")), Ok(()));
    }

    #[test]
    fn ports_on_loopback_and_links_tell_machines_apart() {
        let claims = Claims::default();
        let addresses = ["127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "[fe80::1%1]:123", "[fe80::1%2]:123"];
        for (by, address) in (0..).zip(addresses) {
            assert_eq!(claims.make(claim(by, address)), Ok(()), "{address}");
        }
        assert!(claims.make(claim(9, "127.0.0.1:1")).is_err());
    }

    #[test]
    fn an_authenticated_source_takes_the_place_of_a_plain_one_and_not_the_other_way_round() {
        let claims = Claims::default();
        assert_eq!(claims.make(claim(0, "192.0.2.1:123")), Ok(()));
        assert_eq!(claims.make(Claim { authenticated: true, ..claim(1, "192.0.2.1:123") }), Ok(()));
        assert!(claims.make(claim(0, "192.0.2.1:123")).is_err());
        assert!(claims.make(Claim { authenticated: true, ..claim(2, "192.0.2.1:123") }).is_err());
    }
}
