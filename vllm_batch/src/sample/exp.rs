//! The exponential, with the same bits on every machine.

/// Below this the result counts as zero: it is less than half of the smallest weight that is kept.
const LEAST: f32 = -30.0;
/// Adding and subtracting 1.5 · 2²³ rounds a small number to an integer, which is in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// (eʳ - 1 - r) / r² for |r| ≤ ln 2 / 2, highest power first.
const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];

/// eˣ for x ≤ 0, to about one part in 10⁷; e⁻³⁰ below -30, and for NaN. The platform's own exponential would differ
/// from machine to machine, and would not be computed for several numbers at a time.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    let x = if x > LEAST { x } else { LEAST };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let exponent = shifted - ROUNDER;
    let r = (x - exponent * LN_2_HIGH) - exponent * LN_2_LOW;
    let sum = POLYNOMIAL.iter().skip(1).fold(POLYNOMIAL[0], |sum, coefficient| sum * r + coefficient);
    let power = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127) << 23;
    ((sum * r) * r + r + 1.0) * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exponential() {
        let mut last = 0.0;
        for step in 0..=3_000_000 {
            let x = step as f32 / 100_000.0 - 30.0;
            let (actual, expected) = (exp(x), f64::from(x).exp());
            assert!((f64::from(actual) / expected - 1.0).abs() < 2e-7, "exp({x}) is {expected}, not {actual}");
            assert!(actual >= last, "it falls at {x}");
            last = actual;
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn extreme_arguments_are_the_least_weight() {
        for x in [-30.1, -1e30, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(exp(x), exp(-30.0));
        }
    }
}
