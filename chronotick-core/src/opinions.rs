//! What every expert says of one instant ahead: the bank's own and the models, in the order of their indices.
//!
//! The bank's experts say where the offset will be, the models what is to be added to what the bank as a whole says.

use crate::estimator::{Bank, Prediction};
use crate::forecast::Active;

/// What every expert says: one array for each number, so that what is done to all of them is done to several at once.
#[derive(Clone, Debug)]
pub struct Opinions<const E: usize> {
    /// Beyond the base line, a model's beyond what the bank says, s. NaN: this expert has nothing to say.
    pub displacement: [f32; E],
    /// Slope beyond that, s/s.
    pub slope: [f32; E],
    /// Claimed variance, s^2.
    pub variance: [f32; E],
}

impl<const E: usize> Opinions<E> {
    /// What they say about `h` seconds after the last sample.
    pub(crate) fn ahead<const F: usize, const T: usize, const R: usize, const Y: usize, const W: usize>(
        bank: &Bank<F, T, R, Y, W>,
        active: &[Option<Active>; 2],
        h: f32,
    ) -> Self {
        let mut opinions = Self { displacement: [f32::NAN; E], slope: [0.0; E], variance: [0.0; E] };
        bank.extrapolate(h, |index, said| opinions.set(index, said));
        for (slot, active) in active.iter().enumerate() {
            let correction = active.as_ref().and_then(|active| active.correction(bank.at(), h));
            if let Some((displacement, slope, deviation)) = correction {
                #[allow(clippy::cast_possible_truncation, reason = "a claim needs no more than f32")]
                let variance = bank.line_variance().0 as f32 + deviation * deviation;
                opinions.set(E - 2 + slot, Prediction { displacement, slope, variance });
            }
        }
        opinions
    }

    fn set(&mut self, index: usize, said: Prediction) {
        self.displacement[index] = said.displacement;
        self.slope[index] = said.slope;
        self.variance[index] = said.variance;
    }
}
