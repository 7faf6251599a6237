//! The distribution of Kolmogorov's statistic Dₙ, as exactly as doubles allow.
//!
//! Which way is taken where follows Simard and L'Ecuyer, *Computing the Two-Sided
//! Kolmogorov-Smirnov Distribution*, J. Stat. Software 39(11), 2011:
//!
//! - Durbin's matrix, computed as Marsaglia, Tsang and Wang do (J. Stat. Software 8(18), 2003),
//!   where n is small or D is;
//! - twice Smirnov's one-sided probability in the upper tail, where both sides cannot be
//!   crossed at once with any probability that shows;
//! - Pelz and Good's series (J. R. Stat. Soc. B 38(2), 1976) in between for large n.

use std::f64::consts::PI;

/// P(Dₙ ≥ d): what `scipy.stats.kstwo.sf(d, n)` gives. 1 for n = 0.
pub fn kstwo_sf(d: f64, n: u64) -> f64 {
    if n == 0 || d.is_nan() {
        return 1.0;
    }
    let size = n as f64;
    let t = size * d;
    if t <= 0.5 {
        return 1.0;
    }
    if d >= 1.0 {
        return 0.0;
    }
    let square = t * d;
    let probability = if d >= 0.5 || t >= size - 1.0 {
        2.0 * smirnov_sf(d, n)
    } else if n <= 140 {
        if square <= 4.0 { 1.0 - durbin(d, n) } else { 2.0 * smirnov_sf(d, n) }
    } else if square >= 370.0 {
        0.0
    } else if square >= 2.2 {
        2.0 * smirnov_sf(d, n)
    } else if n <= 100_000 && size * d.powf(1.5) <= 1.4 {
        1.0 - durbin(d, n)
    } else {
        1.0 - pelz_good(d, n)
    };
    probability.clamp(0.0, 1.0)
}

/// P(Dₙ⁺ ≥ d), one-sided, for 0 < d < 1 (Smirnov 1944; Birnbaum and Tingey 1951):
/// `Σ_v C(n,v) d (d + v/n)^(v−1) (1 − d − v/n)^(n−v)` over v from 0 to ⌊n(1−d)⌋.
pub fn smirnov_sf(d: f64, n: u64) -> f64 {
    if n > SUM_LIMIT { smirnov_integral(d, n) } else { smirnov_sum(d, n) }
}

/// Above this many terms the sum is taken as the integral that it then equals.
const SUM_LIMIT: u64 = 4_096;

fn smirnov_sum(d: f64, n: u64) -> f64 {
    let last = (n as f64 * (1.0 - d)).floor() as u64;
    let first = (n as f64 * (-d).ln_1p()).exp();
    first + (1..=last).map(|v| smirnov_term(d, n as f64, v as f64)).sum::<f64>()
}

/// The terms are a smooth function of v that vanishes with all derivatives at both ends where
/// n·d² is of order one or more, so that a sum over every h-th term times h converges faster
/// than any power of h (Euler-Maclaurin without a remainder).
fn smirnov_integral(d: f64, n: u64) -> f64 {
    const POINTS: u32 = 2_048;
    let step = n as f64 * (1.0 - d) / f64::from(POINTS);
    step * (0..POINTS).map(|j| smirnov_term(d, n as f64, step * (f64::from(j) + 0.5))).sum::<f64>()
}

/// A term is d/(d + v/n) times a binomial probability of v at p = d + v/n, which Loader's
/// saddle-point form gives without cancellation (C. Loader, *Fast and Accurate Computation
/// of Binomial Probabilities*, 2000).
fn smirnov_term(d: f64, n: f64, v: f64) -> f64 {
    let (nd, rest) = (n * d, n - v);
    if rest - nd <= 0.0 {
        return 0.0;
    }
    let log =
        stirling_error(n) - stirling_error(v) - stirling_error(rest) - deviance(v, v + nd) - deviance(rest, rest - nd);
    nd / (nd + v) * (n / (2.0 * PI * v * rest)).sqrt() * log.exp()
}

/// ln n! − ln(√(2πn) (n/e)ⁿ).
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        return libm::lgamma(n + 1.0) - (n + 0.5) * n.ln() + n - 0.5 * (2.0 * PI).ln();
    }
    let s = 1.0 / (n * n);
    (1.0 / 12.0 - s * (1.0 / 360.0 - s * (1.0 / 1_260.0 - s * (1.0 / 1_680.0 - s / 1_188.0)))) / n
}

/// x ln(x/m) + m − x.
fn deviance(x: f64, m: f64) -> f64 {
    let difference = x - m;
    if difference.abs() >= 0.1 * (x + m) {
        return x * (x / m).ln() - difference;
    }
    let ratio = difference / (x + m);
    let mut sum = difference * ratio;
    let mut power = 2.0 * x * ratio;
    let square = ratio * ratio;
    for j in 1..1_000 {
        power *= square;
        let next = sum + power / f64::from(2 * j + 1);
        if next == sum {
            break;
        }
        sum = next;
    }
    sum
}

/// P(Dₙ < d) by the middle element of the n-th power of Durbin's matrix.
fn durbin(d: f64, n: u64) -> f64 {
    const SCALE_BITS: i32 = 128;
    let scale = libm::ldexp(1.0, SCALE_BITS);
    let t = n as f64 * d;
    let k = t.ceil() as usize;
    let h = k as f64 - t;
    let m = 2 * k - 1;
    let mut base = durbin_matrix(m, h);
    let mut power: Vec<f64> = (0..m * m).map(|i| if i % (m + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let middle = (k - 1) * m + k - 1;
    let (mut power_bits, mut base_bits, mut left) = (0i32, 0i32, n);
    while left > 0 {
        if left % 2 == 1 {
            power = multiply(&power, &base, m);
            power_bits += base_bits;
            if power[middle] > scale {
                power.iter_mut().for_each(|x| *x /= scale);
                power_bits += SCALE_BITS;
            }
        }
        left /= 2;
        if left > 0 {
            base = multiply(&base, &base, m);
            base_bits *= 2;
            if base[middle] > scale {
                base.iter_mut().for_each(|x| *x /= scale);
                base_bits += SCALE_BITS;
            }
        }
    }
    // Times n!/nⁿ.
    let mut p = power[middle];
    for i in 1..=n {
        p *= i as f64 / n as f64;
        if p < 1.0 / scale {
            p *= scale;
            power_bits -= SCALE_BITS;
        }
    }
    libm::ldexp(p, power_bits).clamp(0.0, 1.0)
}

fn durbin_matrix(m: usize, h: f64) -> Vec<f64> {
    let mut inverse_factorials = vec![1.0; m + 1];
    for j in 1..=m {
        inverse_factorials[j] = inverse_factorials[j - 1] / j as f64;
    }
    let mut edge: Vec<f64> = (1..=m).map(|j| (1.0 - h.powi(j as i32)) * inverse_factorials[j]).collect();
    let corner = (2.0 * h - 1.0).max(0.0).powi(m as i32) - 2.0 * h.powi(m as i32);
    edge[m - 1] = (1.0 + corner) * inverse_factorials[m];
    let mut matrix = vec![0.0; m * m];
    for row in 0..m {
        for column in 1..m.min(row + 2) {
            matrix[row * m + column] = inverse_factorials[row + 1 - column];
        }
    }
    for i in 0..m {
        matrix[i * m] = edge[i];
        matrix[(m - 1) * m + i] = edge[m - 1 - i];
    }
    matrix
}

fn multiply(a: &[f64], b: &[f64], m: usize) -> Vec<f64> {
    let mut product = vec![0.0; m * m];
    for (out, row) in product.chunks_exact_mut(m).zip(a.chunks_exact(m)) {
        for (factor, line) in row.iter().zip(b.chunks_exact(m)) {
            for (o, x) in out.iter_mut().zip(line) {
                *o += factor * x;
            }
        }
    }
    product
}

/// P(Dₙ < d) by the first four terms of the expansion in 1/√n.
fn pelz_good(d: f64, n: u64) -> f64 {
    let root = (n as f64).sqrt();
    let z = root * d;
    let z2 = z * z;
    let log_q = -PI * PI / (8.0 * z2);
    if log_q < -708.0 {
        return 0.0;
    }
    let (z4, z6, z8) = (z2 * z2, z2 * z2 * z2, z2 * z2 * z2 * z2);
    let (p2, p4, p6) = (PI.powi(2), PI.powi(4), PI.powi(6));
    let terms = (16.0 * z / PI).ceil() as i32;
    let mut k = [0.0f64; 4];
    for i in 1..=terms {
        let odd = f64::from(2 * i - 1);
        let (m2, m4, m6) = (odd.powi(2), odd.powi(4), odd.powi(6));
        let q = (log_q * m2).exp();
        k[0] += q;
        k[1] += q * (p2 / 4.0 * m2 - z2);
        k[2] += q * (6.0 * z6 + 2.0 * z4 + p2 / 4.0 * (2.0 * z4 - 5.0 * z2) * m2 + p4 / 16.0 * (1.0 - 2.0 * z2) * m4);
        k[3] += q
            * (-30.0 * z6 - 90.0 * z8
                + p2 / 4.0 * (135.0 * z4 - 96.0 * z6) * m2
                + p4 / 16.0 * (212.0 * z4 - 60.0 * z2) * m4
                + p6 / 64.0 * (5.0 - 30.0 * z2) * m6);
    }
    let root_2pi = (2.0 * PI).sqrt();
    k[0] *= root_2pi / z;
    k[1] *= root_2pi / (6.0 * z4);
    k[2] *= root_2pi / (72.0 * z.powi(7));
    k[3] *= root_2pi / (6_480.0 * z.powi(10));
    for i in 1..=terms {
        let square = f64::from(i).powi(2);
        let q = (4.0 * log_q * square).exp();
        k[2] -= q * square * p2 * root_2pi / (36.0 * z.powi(3));
        k[3] += q * square * (3.0 * z2 - p2 * square) * p2 * root_2pi / (216.0 * z6);
    }
    k[0] + k[1] / root + k[2] / (root * root) + k[3] / (root * root * root)
}

/// P(D ≥ h/n) for two samples of the same size n, exactly (Gnedenko and Korolyuk 1951):
/// `2 Σ (−1)^(k−1) C(2n, n − kh)/C(2n, n)` over k ≥ 1 with kh ≤ n.
pub fn equal_sizes_sf(h: u64, n: u64) -> f64 {
    if h == 0 || n == 0 {
        return 1.0;
    }
    // C(2n, n − j)/C(2n, n) = Π (n − j + i)/(n + i) over i from 1 to j.
    let ratio = |j: u64| (1..=j).map(|i| (n - j + i) as f64 / (n + i) as f64).product::<f64>();
    let mut sum = 0.0;
    for k in (1..=n / h).rev() {
        sum += if k % 2 == 1 { ratio(k * h) } else { -ratio(k * h) };
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, expected: f64, relative: f64) {
        assert!((got - expected).abs() <= relative * expected.abs(), "{got} is not {expected}");
    }

    #[test]
    fn the_ways_agree_where_they_meet() {
        for n in [20u64, 60, 140] {
            for d in [0.1, 0.15, 0.2] {
                let square = n as f64 * d * d;
                if (2.5..4.0).contains(&square) {
                    close(1.0 - durbin(d, n), 2.0 * smirnov_sum(d, n), 1e-4);
                }
            }
        }
        for n in [300u64, 500, 1_000] {
            let d = (1.2 / n as f64).sqrt();
            close(pelz_good(d, n), durbin(d, n), 1e-5);
        }
    }

    #[test]
    fn the_sum_is_the_integral() {
        for n in [5_000u64, 20_000] {
            for square in [2.2f64, 5.0, 50.0, 300.0] {
                let d = (square / n as f64).sqrt();
                close(smirnov_integral(d, n), smirnov_sum(d, n), 1e-10);
            }
        }
    }

    #[test]
    fn values_from_the_literature() {
        // Marsaglia, Tsang and Wang 2003: P(D₁₀ < 0.274) and P(D₂₀₀₀ < 0.04).
        close(durbin(0.274, 10), 0.628_479_615_456_504_3, 1e-13);
        close(1.0 - kstwo_sf(0.04, 2_000), 0.996_769_431_917_136_8, 1e-10);
        // n = 1: D is uniform on (1/2, 1).
        close(kstwo_sf(0.75, 1), 0.5, 1e-14);
    }

    #[test]
    fn it_falls_from_one_to_zero() {
        for n in [1u64, 5, 30, 140, 141, 1_000, 100_000, 1_000_000_000] {
            let mut last = 1.0;
            for i in 0..=100 {
                let p = kstwo_sf(f64::from(i) / 100.0, n);
                assert!((0.0..=1.0).contains(&p) && p <= last + 1e-9, "n {n} d {i}/100: {p} after {last}");
                last = p;
            }
            assert_eq!((kstwo_sf(0.0, n), kstwo_sf(1.0, n)), (1.0, 0.0));
        }
        assert_eq!((kstwo_sf(0.5, 0), kstwo_sf(f64::NAN, 5)), (1.0, 1.0));
    }

    #[test]
    fn two_small_samples_are_counted_out() {
        // n = 3: of the C(6,3) = 20 orders, D = 1 in 2, D ≥ 2/3 in 12.
        close(equal_sizes_sf(3, 3), 0.1, 1e-14);
        close(equal_sizes_sf(2, 3), 0.6, 1e-14);
        close(equal_sizes_sf(1, 3), 1.0, 1e-14);
    }
}
