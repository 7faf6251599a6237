//! Special functions behind the tests.

/// Relative accuracy at which series and fractions stop.
const EPSILON: f64 = 1e-16;
/// No argument that occurs here needs as many terms.
const MAX_TERMS: usize = 100_000;

/// ln Γ(x) for x > 0.
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// Regularised upper incomplete gamma function Q(a, x) for a > 0, x ≥ 0.
///
/// Series DLMF 8.7.1 below a + 1, continued fraction DLMF 8.9.2 above.
pub fn gamma_q(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    if !x.is_finite() {
        return 0.0;
    }
    let prefix = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 { 1.0 - prefix * lower_series(a, x) } else { prefix * upper_fraction(a, x) }
}

/// Σ xⁿ / (a (a+1) … (a+n)).
fn lower_series(a: f64, x: f64) -> f64 {
    let mut term = 1.0 / a;
    let mut sum = term;
    for n in 1..MAX_TERMS {
        term *= x / (a + n as f64);
        sum += term;
        if term < sum * EPSILON {
            break;
        }
    }
    sum
}

/// 1/(x+1−a− 1(1−a)/(x+3−a− …)), by Lentz's method.
fn upper_fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / b;
    let mut fraction = d;
    for n in 1..MAX_TERMS {
        let n = n as f64;
        let numerator = -n * (n - a);
        b += 2.0;
        let denominator = numerator * d + b;
        d = 1.0 / if denominator.abs() < TINY { TINY } else { denominator };
        c = b + numerator / c;
        if c.abs() < TINY {
            c = TINY;
        }
        let change = c * d;
        fraction *= change;
        if (change - 1.0).abs() < EPSILON * 4.0 {
            break;
        }
    }
    fraction
}

/// P(X ≥ x) of the χ² distribution with `dof` degrees of freedom; 1 without any.
pub fn chi2_sf(x: f64, dof: usize) -> f64 {
    if dof == 0 { 1.0 } else { gamma_q(dof as f64 / 2.0, x / 2.0).clamp(0.0, 1.0) }
}

/// The value that a χ² variable stays below with probability `p`; 0 without degrees of freedom.
pub fn chi2_quantile(p: f64, dof: usize) -> f64 {
    if dof == 0 || p <= 0.0 {
        return 0.0;
    }
    let upper = 1.0 - p;
    let (mut low, mut high) = (0.0, dof as f64 + 10.0);
    while chi2_sf(high, dof) > upper && high < 1e12 {
        high *= 2.0;
    }
    // Bisection down to neighbouring numbers: sixty halvings are quicker than they are elegant.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if chi2_sf(middle, dof) > upper { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Abramowitz and Stegun, table 26.8.
        for (p, dof, expected) in [(0.95, 1, 3.841_46), (0.95, 9, 16.919_0), (0.99, 30, 50.892_2), (0.5, 100, 99.334_1)]
        {
            let got = chi2_quantile(p, dof);
            assert!((got / expected - 1.0).abs() < 5e-6, "{p} {dof}: {got}");
            assert!((chi2_sf(got, dof) - (1.0 - p)).abs() < 1e-12);
        }
    }

    #[test]
    fn two_degrees_of_freedom_are_an_exponential() {
        for x in [0.0, 0.1, 1.0, 5.0, 40.0, 700.0] {
            let (got, expected) = (chi2_sf(x, 2), (-x / 2.0f64).exp());
            assert!((got - expected).abs() <= 1e-13 * expected, "{x}: {got} {expected}");
        }
        assert_eq!(chi2_sf(f64::INFINITY, 3), 0.0);
        assert_eq!((chi2_sf(1.0, 0), chi2_quantile(0.95, 0)), (1.0, 0.0));
    }
}
