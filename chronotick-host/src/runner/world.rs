//! What a daemon is made of besides its configuration: the real machine, or a simulated one.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronotick_core::units::Temperature;

use crate::config::Config;
use crate::os::counter::{LocalClock, SystemCounter};
use crate::shm::writer::inherited_counter;

/// Reads the temperature near the oscillator, if it can.
pub type Thermometer = Box<dyn Fn() -> Option<Temperature> + Send>;

/// What a daemon is made of besides its configuration: the real machine, or a simulated one.
pub struct World {
    /// The local counter.
    pub clock: Arc<dyn LocalClock>,
    /// The sensor.
    pub thermometer: Thermometer,
}

impl World {
    /// This machine, as `config` describes it. The counter of a page that is still good is gone on with.
    pub fn of_this_machine(config: &Config) -> Self {
        let counter = inherited_counter(&config.page.path_for_daemon()).unwrap_or_else(SystemCounter::calibrate);
        let file = config.oscillator.temperature.clone();
        let thermometer = file.map_or_else(|| Box::new(|| None) as Thermometer, thermometer_in);
        Self { clock: Arc::new(counter), thermometer }
    }
}

/// The thermometer in a file. That it says nothing is told once, and once that it speaks again.
fn thermometer_in(file: PathBuf) -> Thermometer {
    let silent = Cell::new(false);
    Box::new(move || {
        let read = read_thermometer(&file);
        if silent.replace(read.is_none()) != read.is_none() {
            match read {
                Some(_) => tracing::info!(file = %file.display(), "the thermometer can be read again"),
                None => tracing::warn!(
                    file = %file.display(),
                    "oscillator.temperature: no thousandths of a degree can be read there; going on without"
                ),
            }
        }
        read
    })
}

/// Thousandths of a degree in text; anything else, and what no machine survives, is no reading.
fn read_thermometer(path: &Path) -> Option<Temperature> {
    let thousandths: i32 = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (-100_000..=200_000).contains(&thousandths).then(|| Temperature::new(f64::from(thousandths) / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thermometer_in_thousandths() {
        let path = std::env::temp_dir().join(format!("chronotick-thermometer-{}", std::process::id()));
        let thermometer = thermometer_in(path.clone());
        for (text, celsius) in [("42500\n", Some(42.5)), ("-3000", Some(-3.0)), ("hot", None), ("999999999", None)] {
            std::fs::write(&path, text).expect("temporary file");
            assert_eq!(thermometer().map(Temperature::value), celsius, "{text}");
        }
        std::fs::remove_file(&path).expect("temporary file");
        assert_eq!(thermometer(), None);
    }
}
