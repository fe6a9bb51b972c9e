//! Messages on a byte stream that may lose, add or change bytes, such as a serial line.
//!
//! ```text
//! frame = COBS(postcard(message), CRC-32 of it in little-endian order), 0x00
//! ```
//!
//! A zero byte ends every frame and occurs nowhere else (consistent overhead byte stuffing, Cheshire and Baker 1999), so a
//! reader that starts or gets lost in the middle finds the next frame by itself. The CRC (ISO-HDLC) catches what the line
//! changed; a frame that fails it is dropped whole.

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};
use embedded_io_async::{Read, Write};
use postcard::ser_flavors::{Cobs, Flavor, Slice};
use serde::{Serialize, de::DeserializeOwned};

/// Without a table: a frame comes once in seconds, and 1 KiB of flash is worth more.
static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// Why no message was read or written. `E` is the stream's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FrameError<E> {
    /// The stream failed.
    Stream(E),
    /// The stream has ended.
    Closed,
    /// The message does not fit the buffer. The reader has skipped it.
    TooLong,
    /// Not a frame, a wrong checksum, or not a message of this type. The reader has skipped it.
    Corrupt,
}

impl<E> FrameError<E> {
    /// Whether the stream itself is lost, so that reading on is pointless.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Stream(_) | Self::Closed)
    }
}

/// `message` as a frame at the start of `buffer`; the frame. [`FrameError::TooLong`] if it does not fit.
pub fn encode<'b, T: Serialize + ?Sized>(
    message: &T,
    buffer: &'b mut [u8],
) -> Result<&'b mut [u8], FrameError<core::convert::Infallible>> {
    let cobs = Cobs::try_new(Slice::new(buffer)).map_err(|_| FrameError::TooLong)?;
    let summed = Summed { inner: cobs, digest: CRC.digest() };
    postcard::serialize_with_flavor(message, summed).map_err(|_| FrameError::TooLong)
}

/// The message in `frame` (with or without its final zero), which is decoded in place.
pub fn decode<T: DeserializeOwned>(frame: &mut [u8]) -> Result<T, FrameError<core::convert::Infallible>> {
    let end = frame.iter().position(|&byte| byte == 0).unwrap_or(frame.len());
    let length = cobs::decode_in_place(&mut frame[..end]).map_err(|_| FrameError::Corrupt)?;
    decode_content(&frame[..length]).ok_or(FrameError::Corrupt)
}

/// Writes messages to a stream through a buffer of `N` bytes, the longest frame.
#[derive(Debug)]
pub struct FrameWriter<W, const N: usize> {
    stream: W,
    buffer: [u8; N],
    /// A frame was begun and not ended.
    cut: bool,
}

impl<W: Write, const N: usize> FrameWriter<W, N> {
    /// A writer to `stream`.
    pub const fn new(stream: W) -> Self {
        Self { stream, buffer: [0; N], cut: false }
    }

    /// Writes one message and flushes. What a dropped future has left half written does not spoil the next message.
    pub async fn write<T: Serialize + ?Sized>(&mut self, message: &T) -> Result<(), FrameError<W::Error>> {
        let frame = encode(message, &mut self.buffer).map_err(|_| FrameError::TooLong)?;
        if self.cut {
            self.stream.write_all(&[0]).await.map_err(FrameError::Stream)?;
        }
        self.cut = true;
        self.stream.write_all(frame).await.map_err(FrameError::Stream)?;
        self.stream.flush().await.map_err(FrameError::Stream)?;
        self.cut = false;
        Ok(())
    }
}

/// Reads messages from a stream through a buffer of `N` bytes, the longest frame.
#[derive(Debug)]
pub struct FrameReader<R, const N: usize> {
    stream: R,
    buffer: [u8; N],
    /// Bytes at the start of `buffer` that were already handed out.
    used: usize,
    /// Bytes of `buffer` that hold something.
    filled: usize,
    /// A frame has outgrown the buffer and is skipped to its end.
    skipping: bool,
}

impl<R: Read, const N: usize> FrameReader<R, N> {
    /// A reader of `stream`.
    pub const fn new(stream: R) -> Self {
        Self { stream, buffer: [0; N], used: 0, filled: 0, skipping: false }
    }

    /// The next message. After an error that is not [final](FrameError::is_final) the reader stands at the next frame.
    ///
    /// Dropping the future loses nothing that has been read.
    pub async fn read<T: DeserializeOwned>(&mut self) -> Result<T, FrameError<R::Error>> {
        loop {
            self.buffer.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
            if let Some(end) = self.buffer[..self.filled].iter().position(|&byte| byte == 0) {
                self.used = end + 1;
                if core::mem::take(&mut self.skipping) {
                    return Err(FrameError::TooLong);
                }
                if end == 0 {
                    continue; // a lone zero: whoever starts sending may clear the line with it
                }
                return decode(&mut self.buffer[..end]).map_err(|_| FrameError::Corrupt);
            }
            if self.filled == N {
                self.filled = 0;
                self.skipping = true;
            }
            match self.stream.read(&mut self.buffer[self.filled..]).await {
                Ok(0) => return Err(FrameError::Closed),
                Ok(count) => self.filled += count.min(N - self.filled),
                Err(error) => return Err(FrameError::Stream(error)),
            }
        }
    }
}

/// Appends the checksum to what passes through. Postcard's own flavor insists on a table.
struct Summed<B> {
    inner: B,
    digest: crc::Digest<'static, u32, NoTable>,
}

impl<B: Flavor> Flavor for Summed<B> {
    type Output = B::Output;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.digest.update(&[byte]);
        self.inner.try_push(byte)
    }

    fn finalize(mut self) -> postcard::Result<Self::Output> {
        self.inner.try_extend(&self.digest.finalize().to_le_bytes())?;
        self.inner.finalize()
    }
}

fn decode_content<T: DeserializeOwned>(content: &[u8]) -> Option<T> {
    let (body, sum) = content.split_last_chunk::<4>()?;
    if CRC.checksum(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Some(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use embassy_futures::block_on;
    use proptest::prelude::*;
    use std::vec::Vec;

    type Message = (u32, i64, [u8; 3]);

    fn framed(message: &Message) -> Vec<u8> {
        let mut buffer = [0; 64];
        encode(message, &mut buffer).unwrap().to_vec()
    }

    fn read_all<const N: usize>(mut bytes: &[u8]) -> Vec<Result<Message, FrameError<core::convert::Infallible>>> {
        let mut reader = FrameReader::<_, N>::new(&mut bytes);
        let mut all = Vec::new();
        loop {
            match block_on(reader.read()) {
                Err(error) if error.is_final() => return all,
                result => all.push(result),
            }
        }
    }

    #[test]
    fn a_known_message_has_known_bytes() {
        // Postcard: varint 1, zigzag varint -1, three bytes; then the CRC-32 of those five, computed bit by bit from its
        // definition and not by the crate that is used above.
        let body = [1, 1, 7, 0, 9];
        let mut sum = u32::MAX;
        for byte in body {
            sum ^= u32::from(byte);
            for _ in 0..8 {
                sum = (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1));
            }
        }
        let mut content = body.to_vec();
        content.extend((!sum).to_le_bytes());
        assert!(!content[5..].contains(&0), "the expected frame below has one zero to stuff");
        let mut expected = Vec::from([4, 1, 1, 7, 6, 9]);
        expected.extend(&content[5..]);
        expected.push(0);
        assert_eq!(framed(&(1, -1, [7, 0, 9])), expected);
    }

    #[test]
    fn a_reader_finds_its_way_after_noise_and_overlong_frames() {
        let message = (7, -3, [0, 1, 0]);
        let mut bytes = Vec::from([9, 9, 9, 0, 0]);
        bytes.extend(framed(&message));
        bytes.extend([5; 100]);
        bytes.push(0);
        bytes.extend(framed(&message));
        assert_eq!(
            read_all::<32>(&bytes),
            [Err(FrameError::Corrupt), Ok(message), Err(FrameError::TooLong), Ok(message)]
        );
    }

    #[test]
    fn a_message_that_was_cut_off_does_not_spoil_the_next() {
        use embassy_futures::select::{Either, select};
        use embassy_sync::blocking_mutex::raw::NoopRawMutex;
        use embassy_sync::pipe::Pipe;
        let message = (7, -3, [0, 1, 0]);
        // A line that takes five bytes and then no more for a while.
        let line = Pipe::<NoopRawMutex, 5>::new();
        let mut writer = FrameWriter::<_, 64>::new(&line);
        let given_up = block_on(select(writer.write(&message), async {}));
        assert!(matches!(given_up, Either::Second(())));
        let mut bytes = Vec::new();
        let mut drain = || {
            let mut some = [0; 64];
            while let Ok(count) = line.try_read(&mut some) {
                bytes.extend(&some[..count]);
            }
        };
        drain();
        let mut again = core::pin::pin!(writer.write(&message));
        while block_on(select(again.as_mut(), async {})).is_second() {
            drain();
        }
        drain();
        assert_eq!(read_all::<64>(&bytes), [Err(FrameError::Corrupt), Ok(message)]);
    }

    #[test]
    fn a_message_that_does_not_fit_is_refused() {
        let mut buffer = [0; 8];
        assert_eq!(encode(&(1_u32, i64::MAX, [1_u8, 2, 3]), &mut buffer), Err(FrameError::TooLong));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in proptest::collection::vec(any::<Message>(), 0..8)) {
            let mut bytes = [0; 8 * 64];
            let mut free = &mut bytes[..];
            for message in &messages {
                block_on(FrameWriter::<_, 64>::new(&mut free).write(message)).unwrap();
            }
            let written = 8 * 64 - free.len();
            let expected: Vec<_> = messages.into_iter().map(Ok).collect();
            prop_assert_eq!(read_all::<64>(&bytes[..written]), expected);
        }

        #[test]
        fn one_changed_bit_never_yields_another_message(message in any::<Message>(), position in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut bytes = framed(&message);
            let position = position.index(bytes.len());
            bytes[position] ^= 1_u8 << bit;
            bytes.push(0);
            for result in read_all::<64>(&bytes) {
                prop_assert!(result.is_err(), "{:?}", result);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read_all::<32>(&bytes);
        }
    }
}
