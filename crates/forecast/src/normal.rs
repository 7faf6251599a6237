//! The normal distribution.

/// P(X ≤ z) of the standard normal distribution, to 1e-7.
///
/// Abramowitz and Stegun, *Handbook of Mathematical Functions*, 26.2.17.
pub fn cdf(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - cdf(-z);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * z);
    let tail = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_53];
    let sum = tail.iter().fold(0.0, |sum, c| sum * t + c) * t;
    1.0 - (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_values_of_the_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_75), (-1.644_853_6, 0.05), (2.575_829_3, 0.995), (-9.0, 0.0)] {
            assert!((cdf(z) - p).abs() < 2e-7, "{z}: {}", cdf(z));
        }
    }
}
