//! Order statistics without sorting.

/// The value that `index` others are not above, of `values` none of which is below zero; what is not a number stands last. Good to
/// half a hundredth, rounded down.
///
/// The bits of such numbers are in the order of the numbers, so that the answer is found bit by bit, by counting: a loop without
/// a branch, which a compiler makes vectors of, and which is as quick for any order of them.
#[inline(never)]
pub(crate) fn ranked(values: &[f32], index: usize) -> f32 {
    /// Bits of the mantissa that do not matter.
    const COARSE: u32 = 15;
    // Signed, for that is what vectors compare.
    let mut found = 0_i32;
    for bit in (COARSE..i32::BITS - 1).rev() {
        let limit = found | (1 << bit);
        let below: u32 = values.iter().map(|value| u32::from(value.abs().to_bits().cast_signed() < limit)).sum();
        found = if below as usize <= index { limit } else { found };
    }
    f32::from_bits(found.cast_unsigned())
}

/// The greatest of them; none may be NaN. Eight at a time, which a compiler cannot do by itself: it would have to know that there
/// are no two zeros of different signs.
pub(crate) fn greatest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, larger);
    let mut lanes = [rest; 8];
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    lanes.into_iter().fold(rest, larger)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_value_at_that_place_in_order(
            values in prop::collection::vec(0.0_f32..9.0, 1..40),
            scale in -30_i32..30,
            absent in 0_usize..9,
            index in any::<prop::sample::Index>(),
        ) {
            let index = index.index(values.len());
            let mut said = [f32::NAN; 50];
            let (known, rest) = said.split_at_mut(values.len());
            for (said, value) in known.iter_mut().zip(values) {
                *said = value * libm::powf(10.0, scale as f32);
            }
            for (rest, absent) in rest.iter_mut().zip([f32::INFINITY, -f32::NAN, f32::NAN].into_iter().cycle().take(absent)) {
                *rest = absent;
            }
            let mut sorted = [0.0; 50];
            let sorted = &mut sorted[..known.len()];
            sorted.copy_from_slice(known);
            sorted.sort_unstable_by(f32::total_cmp);
            prop_assert_eq!(greatest(known), sorted[sorted.len() - 1]);
            let (found, exact) = (ranked(&said, index), sorted[index]);
            // Eight bits of the mantissa; of what is next to nothing, fewer.
            prop_assert!(found <= exact && exact - found <= 4e-3 * exact + 1e-38, "{found} of {exact}");
        }
    }
}
