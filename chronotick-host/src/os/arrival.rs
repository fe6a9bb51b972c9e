//! When a datagram arrived, as the kernel saw it (`SO_TIMESTAMPNS`).
//!
//! A reading taken after the process was woken is late by the scheduler's whim; the kernel's is not. It is a reading of
//! `CLOCK_REALTIME`; the caller maps it to the counter and decides whether to believe it.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use chronotick_core::units::{Timestamp, Utc};

/// Asks the kernel to note the arrival of every datagram. Where it refuses, [`receive`] has no arrival time.
pub(crate) fn enable(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that lives through the call, and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            socklen(size_of::<libc::c_int>()),
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes one datagram: its length (the rest of a longer one is lost) and, if known, when it arrived.
pub(crate) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<Timestamp<Utc>>)> {
    receive_from(socket, buffer).map(|(length, arrival, _)| (length, arrival))
}

/// The same, with the sender if it has an IPv4 address.
pub(crate) fn receive_from(
    socket: &UdpSocket,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<Timestamp<Utc>>, Option<SocketAddrV4>)> {
    /// Room for one timestamp and its header, aligned as control messages must be.
    #[repr(C, align(8))]
    struct Control([u8; 64]);

    let mut control = Control([0; 64]);
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
    // SAFETY: `message` points at the buffer, the control area and the sender's address, all
    // of the lengths it gives, alive and unaliased; a longer address is cut short.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;

    let mut arrival = None;
    // SAFETY: the kernel has filled `message`; the macros stay within `msg_controllen` of the control area.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: a header that the macros return is null or lies whole in the control area.
    while let Some(current) = unsafe { header.as_ref() } {
        if current.cmsg_level == libc::SOL_SOCKET && current.cmsg_type == libc::SCM_TIMESTAMPNS {
            // SAFETY: a message of this type carries a `timespec`, possibly unaligned.
            let time = unsafe { libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned() };
            #[allow(clippy::useless_conversion, reason = "the width of time_t and long depends on the target")]
            let nanos = i64::from(time.tv_sec).saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec));
            arrival = Some(Timestamp::from_nanos(nanos));
        }
        // SAFETY: `header` came from these macros over the same message.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    let v4 = libc::c_int::from(sender.sin_family) == libc::AF_INET;
    let sender = v4.then(|| {
        let address = Ipv4Addr::from(u32::from_be(sender.sin_addr.s_addr));
        SocketAddrV4::new(address, u16::from_be(sender.sin_port))
    });
    Ok((length, arrival, sender))
}

#[expect(clippy::cast_possible_truncation, reason = "the size of an int")]
const fn socklen(size: usize) -> libc::socklen_t {
    size as libc::socklen_t
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_kernel_notes_the_arrival() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("bind");
        enable(&receiver).expect("SO_TIMESTAMPNS");
        let mut buffer = [0; 8];
        let nothing = receive(&receiver, &mut buffer).expect_err("nothing has arrived");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        sender.send_to(b"twelve bytes", receiver.local_addr().expect("address")).expect("send");
        let (length, arrival, from) = receive_from(&receiver, &mut buffer).expect("arrived");
        let port = sender.local_addr().expect("address").port();
        assert_eq!(from, Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)));
        assert_eq!((length, &buffer), (8, b"twelve b"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let arrival = Duration::from_nanos(arrival.expect("a timestamp").as_nanos().unsigned_abs());
        assert!(now.abs_diff(arrival) < Duration::from_secs(5), "{arrival:?}");
    }
}
