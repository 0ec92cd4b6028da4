//! The exponential function, the same bits on every instruction set.

/// `e^x` to about 2 units in the last place for `x` in [-87, 88]; exactly 0 below and at minus infinity, exactly 1 at 0,
/// and the value at 88 above.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`; `e^r` by the degree-6 Taylor polynomial in Horner form.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer
    const LN2_HIGH: f32 = 0.693_359_4; // few bits, so that n · LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut sum = 1.0 / 720.0;
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = r.mul_add(sum, coefficient);
    }
    // The integer sits in the low bits of `rounded`; shifted into the exponent it multiplies by 2ⁿ.
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { sum * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_close_to_the_exact_value() {
        for step in 0..=1_750_000 {
            let x = -87.0 + step as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
    }

    #[test]
    fn the_ends_are_exact() {
        let cases = [(0.0, 1.0), (-0.0, 1.0), (f32::NEG_INFINITY, 0.0), (-87.5, 0.0), (f32::INFINITY, exp(88.0))];
        for (x, expected) in cases {
            assert_eq!(exp(x), expected, "exp({x})");
        }
    }
}
