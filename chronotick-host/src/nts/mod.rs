//! Network Time Security (RFC 8915): who the server is, and that its answers are its own.
//!
//! ```text
//! key_exchange.rs   once: certificates, TLS 1.3, keys, cookies   <- record.rs, what is said inside
//! session.rs        each exchange: a cookie out, a tag checked   <- extension.rs, the fields of a packet
//! ```
//!
//! `record.rs` and `extension.rs` are pure and meet bytes of anybody; the other two need the feature `nts`.

pub mod record;

pub mod extension;

#[cfg_attr(not(feature = "nts"), path = "absent.rs")]
pub mod session;

#[cfg(feature = "nts")]
pub mod key_exchange;

/// Bytes of a key of AEAD_AES_SIV_CMAC_256, the one algorithm that every server has.
pub const KEY: usize = 32;
/// Its number in the registry of AEAD algorithms.
pub const AES_SIV_CMAC_256: u16 = 15;
/// NTPv4's number in the registry of protocols.
pub const NTPV4: u16 = 0;
