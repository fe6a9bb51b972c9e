//! Exponentials and logarithms of evidence, for many experts at once, and the tail of the normal distribution.
//!
//! Plain polynomials without a branch or a table: a compiler makes vectors of a loop over them, and where there is no floating
//! point in hardware they cost no more than the standard functions. Good to a millionth, where the third digit of a weight is
//! chance. A microcontroller has no vectors, and one copy of each is smaller.

use core::f32::consts::{LN_2, LOG2_E};

/// `exp(x)` for `x` from -87 to 87, to a few millionths of it; below, something just as negligible.
#[cfg_attr(not(target_os = "none"), inline)]
#[cfg_attr(target_os = "none", inline(never))]
pub(crate) fn exp(x: f32) -> f32 {
    /// Beyond the last bit of what is added to it there is no room: the sum is rounded to an integer, found in its lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const BIAS: u32 = 127;
    let x = if x > -87.0 { x } else { -87.0 };
    let rounded = x * LOG2_E + ROUND;
    let power = f32::from_bits((rounded.to_bits().wrapping_add(BIAS)) << 23);
    let r = x - (rounded - ROUND) * LN_2;
    let series = r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0)));
    power * (1.0 + r * (1.0 + r * (1.0 / 2.0 + r * (1.0 / 6.0 + series))))
}

/// The natural logarithm of a positive and normal `x`, to a millionth of it or of one.
#[cfg_attr(not(target_os = "none"), inline)]
#[cfg_attr(target_os = "none", inline(never))]
pub(crate) fn ln(x: f32) -> f32 {
    /// The bits of 2/3: the mantissa is taken from there to 4/3, so that its logarithm is about zero.
    const TWO_THIRDS: u32 = 0x3F2A_AAAB;
    let bits = x.to_bits();
    let exponent = bits.wrapping_sub(TWO_THIRDS).cast_signed() >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent << 23).cast_unsigned()));
    // 2 artanh t, of an argument within a fifth of zero.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let series = 1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0)));
    #[allow(clippy::cast_precision_loss, reason = "at most 128")]
    let exponent = exponent as f32;
    exponent * LN_2 + 2.0 * t * series
}

/// Mills's ratio: what of the standard normal distribution lies beyond `x >= 0`, over its density there. A rational function
/// fitted on 0 to 12, good to one part in a million; the tail that it is used for is zero beyond.
pub(crate) fn mills(x: f32) -> f32 {
    let above = 1.253_314_1 + x * (0.889_667_6 + x * (0.289_491_6 + x * 0.040_326_31));
    let below = 1.0 + x * (1.507_726 + x * (0.934_068_6 + x * (0.289_224_44 + x * 0.040_333_7)));
    above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_good_to_a_millionth() {
        for i in -87_000..=87_000_i32 {
            let x = i as f32 / 1000.0;
            let exact = f64::exp(f64::from(x));
            // The reduced argument loses digits with the number of halvings.
            let tolerance = 1e-6 * (1.0 + f64::from(x.abs()) / 20.0);
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < tolerance, "exp({x}) = {}", exp(x));
        }
        for x in [-88.0, -1e9, f32::NEG_INFINITY] {
            assert!((0.0..1e-37).contains(&exp(x)), "exp({x}) = {}", exp(x));
        }
    }

    #[test]
    fn logarithms_are_good_to_a_millionth() {
        let mut x = f32::MIN_POSITIVE;
        while x < 1e38 {
            let exact = f64::ln(f64::from(x));
            assert!((f64::from(ln(x)) - exact).abs() < 1e-6 * exact.abs().max(1.0), "ln({x}) = {}", ln(x));
            x *= 1.003;
        }
    }
}
