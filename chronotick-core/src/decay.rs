//! How much of the past is forgotten.

/// `1 - exp(-elapsed / memory)`, for times in the same unit: the weight of what is new in an exponentially weighted mean.
///
/// In single precision: it is a few thousandths as a rule, so the seventh digit of it is the tenth of what is kept.
pub(crate) fn forgotten(elapsed: f32, memory: f32) -> f32 {
    -libm::expm1f(-elapsed / memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_an_exponential_forgets() {
        for (elapsed, memory) in [(0.0_f32, 1.0_f32), (1.0, 14_400.0), (16.0, 86_400.0), (3_600.0, 3_600.0), (1e9, 1.0)]
        {
            let exact = 1.0 - f64::exp(-f64::from(elapsed) / f64::from(memory));
            let error = f64::from(forgotten(elapsed, memory)) - exact;
            assert!(error.abs() <= 2e-7 * exact, "{elapsed} of {memory}");
        }
    }
}
