//! What every expert says of the time ahead: the bank's own and the models, in the order of their indices.

use crate::estimator::{Bank, Prediction};
use crate::forecast::Active;

/// What every expert says about `h` seconds after the last sample, the models among them.
pub(crate) fn predict_all<const F: usize, const T: usize, const R: usize, const Y: usize, const E: usize>(
    bank: &Bank<F, T, R, Y>,
    active: &[Option<Active>; 2],
    h: f32,
) -> [Prediction; E] {
    core::array::from_fn(|index| predict::<F, T, R, Y, E>(bank, active, index, h))
}

/// What expert `index` says about `h` seconds after the last sample.
pub(crate) fn predict<const F: usize, const T: usize, const R: usize, const Y: usize, const E: usize>(
    bank: &Bank<F, T, R, Y>,
    active: &[Option<Active>; 2],
    index: usize,
    h: f32,
) -> Prediction {
    let Some(slot) = (index + 2).checked_sub(E) else { return bank.predict(index, h) };
    let change = active[slot].as_ref().and_then(|active| active.change(bank.at(), h, bank.line().r));
    let Some((displacement, slope, deviation)) = change else { return Prediction::NONE };
    #[allow(clippy::cast_possible_truncation, reason = "a claim needs no more than f32")]
    let variance = bank.line_variance().0 as f32 + deviation * deviation;
    Prediction { displacement, slope, variance }
}
