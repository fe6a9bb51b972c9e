//! The temperature near the oscillator, where a board can measure it.

use core::future::Future;

use chronotick_core::units::Temperature;

/// Something that measures the temperature near the oscillator.
pub trait Thermometer {
    /// The temperature now, or `None` when the sensor does not answer. A sample without one is used all the same.
    fn temperature(&mut self) -> impl Future<Output = Option<Temperature>>;
}

/// A board without a sensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoThermometer;

impl Thermometer for NoThermometer {
    async fn temperature(&mut self) -> Option<Temperature> {
        None
    }
}

/// One channel of an analogue-to-digital converter.
pub trait AdcChannel {
    /// What a conversion can fail with.
    type Error;

    /// One conversion, in millivolts.
    fn millivolts(&mut self) -> impl Future<Output = Result<f32, Self::Error>>;
}

/// A sensor whose voltage is a straight line over temperature: most on-chip diodes and analogue sensors.
#[derive(Clone, Copy, Debug)]
pub struct LinearSensor<A> {
    adc: A,
    millivolts_at_25: f32,
    millivolts_per_degree: f32,
}

impl<A: AdcChannel> LinearSensor<A> {
    /// A sensor that gives `millivolts_at_25` at 25 degrees Celsius and changes by `millivolts_per_degree` (negative for
    /// most diodes). Both stand in the chip's data sheet; the slope must not be zero.
    pub const fn new(adc: A, millivolts_at_25: f32, millivolts_per_degree: f32) -> Self {
        Self { adc, millivolts_at_25, millivolts_per_degree }
    }
}

impl<A: AdcChannel> Thermometer for LinearSensor<A> {
    async fn temperature(&mut self) -> Option<Temperature> {
        let millivolts = self.adc.millivolts().await.ok()?;
        let degrees = 25.0 + (millivolts - self.millivolts_at_25) / self.millivolts_per_degree;
        Some(Temperature::new(f64::from(degrees))).filter(|temperature| temperature.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embassy_futures::block_on;

    struct Fixed(Result<f32, ()>);

    impl AdcChannel for Fixed {
        type Error = ();
        async fn millivolts(&mut self) -> Result<f32, ()> {
            self.0
        }
    }

    #[test]
    fn a_diode_reads_backwards() {
        let mut sensor = LinearSensor::new(Fixed(Ok(680.0)), 700.0, -2.0);
        assert_eq!(block_on(sensor.temperature()), Some(Temperature::new(35.0)));
    }

    #[test]
    fn a_failed_or_senseless_conversion_is_no_temperature() {
        assert_eq!(block_on(LinearSensor::new(Fixed(Err(())), 700.0, -2.0).temperature()), None);
        assert_eq!(block_on(LinearSensor::new(Fixed(Ok(f32::NAN)), 700.0, -2.0).temperature()), None);
        assert_eq!(block_on(LinearSensor::new(Fixed(Ok(1.0)), 700.0, 0.0).temperature()), None);
    }
}
