//! When a datagram arrived and when one left, as the kernel saw it (`SO_TIMESTAMPING`, in software).
//!
//! A reading taken after the process was woken is late by the scheduler's whim, and one taken before a send is early by the
//! way through the kernel; the kernel's own are neither. They are readings of `CLOCK_REALTIME`; the caller maps them to the
//! counter and decides whether to believe them.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use chronotick_core::units::{Timestamp, Utc};

/// One datagram taken from a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes of it in the buffer; the rest of a longer one is lost.
    pub(crate) length: usize,
    /// When it arrived, if the kernel noted it.
    pub(crate) arrival: Option<Timestamp<Utc>>,
    /// Who sent it, if from an IPv4 address.
    pub(crate) sender: Option<SocketAddrV4>,
}

/// Asks the kernel to note the arrival and the departure of every datagram. Where it refuses, nothing is noted.
pub(crate) fn enable(socket: &UdpSocket) -> io::Result<()> {
    let flags: libc::c_uint = libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_RX_SOFTWARE
        | libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    // SAFETY: the option's value is an int that lives through the call, and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            socklen(size_of::<libc::c_uint>()),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes one datagram, without waiting.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    message(socket, buffer, libc::MSG_DONTWAIT)
}

/// When the newest datagram left that has not been asked for yet, if the kernel noted one.
pub(crate) fn departure(socket: &UdpSocket) -> Option<Timestamp<Utc>> {
    let mut newest = None;
    while let Ok(note) = message(socket, &mut [], libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE) {
        newest = note.arrival.or(newest);
    }
    newest
}

fn message(socket: &UdpSocket, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Received> {
    /// Room for the timestamps (three `timespec`s), an extended error with its address, and their headers, aligned as
    /// control messages must be.
    #[repr(C, align(8))]
    struct Control([u8; 256]);

    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a `sockaddr_in` of zeros is valid: no family, no address.
    let mut sender: libc::sockaddr_in = unsafe { zeroed() };
    // SAFETY: a `msghdr` of zeros is valid: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut sender).cast();
    message.msg_namelen = socklen(size_of::<libc::sockaddr_in>());
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: `message` points at the buffer, the control area and the sender's address, all of the lengths it gives, alive
    // and unaliased; a longer address is cut short.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;

    let mut arrival = None;
    // SAFETY: the kernel has filled `message`; the macros stay within `msg_controllen` of the control area.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: a header that the macros return is null or lies whole in the control area.
    while let Some(current) = unsafe { header.as_ref() } {
        if current.cmsg_level == libc::SOL_SOCKET && current.cmsg_type == libc::SCM_TIMESTAMPING {
            // SAFETY: a message of this type carries three `timespec`s, possibly unaligned; the first is the software's.
            let time = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
            #[allow(clippy::useless_conversion, reason = "the width of time_t and long depends on the target")]
            let nanos = i64::from(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec));
            arrival = (nanos > 0).then(|| Timestamp::from_nanos(nanos));
        }
        // SAFETY: `header` came from these macros over the same message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    let v4 = libc::c_int::from(sender.sin_family) == libc::AF_INET;
    let sender = v4.then(|| {
        let address = Ipv4Addr::from(u32::from_be(sender.sin_addr.s_addr));
        SocketAddrV4::new(address, u16::from_be(sender.sin_port))
    });
    Ok(Received { length, arrival, sender })
}

#[expect(clippy::cast_possible_truncation, reason = "the size of a small type")]
const fn socklen(size: usize) -> libc::socklen_t {
    size as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn ago(instant: Option<Timestamp<Utc>>) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        now.abs_diff(Duration::from_nanos(instant.expect("a timestamp").as_nanos().unsigned_abs()))
    }

    #[test]
    fn the_kernel_notes_departure_and_arrival() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
        enable(&receiver).expect("SO_TIMESTAMPING");
        enable(&sender).expect("SO_TIMESTAMPING");
        let mut buffer = [0; 8];
        let nothing = receive(&receiver, &mut buffer).expect_err("nothing has arrived");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(departure(&sender), None);
        let port = sender.local_addr().expect("address").port();
        // The kernel begins to take timestamps a moment after it is asked to, when nobody has asked it before.
        let both_known = (0..1000).find_map(|_| {
            sender.send_to(b"twelve bytes", receiver.local_addr().expect("address")).expect("send");
            let received = receive(&receiver, &mut buffer).expect("arrived");
            assert_eq!((received.length, &buffer), (8, b"twelve b"));
            assert_eq!(received.sender, Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)));
            let left = departure(&sender);
            let known = received.arrival.is_some() && left.is_some();
            if !known {
                std::thread::sleep(Duration::from_millis(1));
            }
            known.then_some((received, left))
        });
        let (received, left) = both_known.expect("timestamps within a second");
        assert!(ago(received.arrival) < Duration::from_secs(5) && ago(left) < Duration::from_secs(5));
        assert!(left <= received.arrival);
    }
}
