//! What yields samples on a microcontroller.

use core::future::Future;

use chronotick_core::Sample;

/// Something that exchanges times with a reference: a gateway on a serial line, a radio, a network stack, a receiver with
/// a pulse per second.
pub trait SampleSource {
    /// Why an exchange yielded nothing.
    type Error;

    /// One exchange. The future may take as long as the exchange does; it should give up by itself, and dropping it must
    /// be harmless.
    fn sample(&mut self) -> impl Future<Output = Result<Sample, Self::Error>>;
}
