//! Order statistics without sorting.

/// The value that `index` others are not above, by Hoare's selection (1961); the values are left in another order. None of them
/// may be NaN, and `index` must be below their number.
///
/// The standard library's selection is as good and ten times the size: a microcontroller has to carry it.
pub(crate) fn ranked(values: &mut [f32], index: usize) -> f32 {
    let (mut low, mut high) = (0, values.len() - 1);
    while low < high {
        let pivot = values[index];
        let (mut left, mut right) = (low, high);
        while left <= right {
            while values[left] < pivot {
                left += 1;
            }
            while pivot < values[right] {
                right -= 1;
            }
            if left <= right {
                values.swap(left, right);
                left += 1;
                // The pivot's own place stops the search to the left, so this is the only way below `low`.
                let Some(next) = right.checked_sub(1) else { break };
                right = next;
            }
        }
        if right < index {
            low = left;
        }
        if index < left {
            high = right;
        }
    }
    values[index]
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
            values in prop::collection::vec(-9i8..9, 1..40),
            index in any::<prop::sample::Index>(),
        ) {
            let index = index.index(values.len());
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let mut floats = [0.0; 40];
            for (float, &value) in floats.iter_mut().zip(&values) {
                *float = f32::from(value);
            }
            prop_assert_eq!(greatest(&floats[..values.len()]), f32::from(sorted[sorted.len() - 1]));
            prop_assert_eq!(ranked(&mut floats[..values.len()], index), f32::from(sorted[index]));
        }
    }
}
