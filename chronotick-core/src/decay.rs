//! How much of the past is forgotten.

use crate::evidence;

/// `1 - exp(-elapsed / memory)`, for times in the same unit: the weight of what is new in an exponentially weighted mean.
///
/// In single precision: it is a few thousandths as a rule, so the seventh digit of it is the tenth of what is kept. For short times
/// it is the series, which loses no digits however short they are.
pub(crate) fn forgotten(elapsed: f32, memory: f32) -> f32 {
    const SHORT: f32 = 0.5;
    let x = elapsed / memory;
    if x < SHORT {
        // x - x^2 / 2! + x^3 / 3! - ... + x^7 / 7!
        let mut series = 1.0;
        for share in [1.0 / 7.0, 1.0 / 6.0, 1.0 / 5.0, 1.0 / 4.0, 1.0 / 3.0, 1.0 / 2.0] {
            series = 1.0 - x * share * series;
        }
        x * series
    } else {
        1.0 - evidence::exp(-x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_an_exponential_forgets() {
        for (elapsed, memory) in [
            (0.0_f32, 1.0_f32),
            (1.0, 14_400.0),
            (16.0, 86_400.0),
            (1_799.0, 3_600.0),
            (1_801.0, 3_600.0),
            (3_600.0, 3_600.0),
            (1e9, 1.0),
        ] {
            let exact = 1.0 - f64::exp(-f64::from(elapsed) / f64::from(memory));
            let error = f64::from(forgotten(elapsed, memory)) - exact;
            // The series ends where its next term is as large, and the exponential is good to a millionth.
            assert!(error.abs() <= 2e-6 * exact, "{elapsed} of {memory}");
        }
    }
}
