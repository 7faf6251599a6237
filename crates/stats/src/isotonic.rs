//! Isotonic regression: the non-decreasing steps nearest to what was seen.

use serde::{Deserialize, Serialize};

/// A fitted function, constant outside its knots and linear between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// Ascending.
    x: Vec<f64>,
    /// Not descending.
    y: Vec<f64>,
}

impl Isotonic {
    /// Fits by pooling adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman 1955): least
    /// squares among all non-decreasing functions. Equal x are averaged first. `None` without
    /// points or with a number that is not finite.
    pub fn fit(points: &[(f64, f64)]) -> Option<Self> {
        if points.is_empty() || points.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
            return None;
        }
        let mut points = points.to_vec();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Blocks of (first x, last x, sum of y, weight).
        let mut blocks: Vec<(f64, f64, f64, f64)> = Vec::new();
        for same in points.chunk_by(|a, b| a.0 == b.0) {
            let sum = same.iter().map(|(_, y)| y).sum::<f64>();
            let mut block = (same[0].0, same[0].0, sum, same.len() as f64);
            while let Some(last) = blocks.last()
                && last.2 / last.3 >= block.2 / block.3
            {
                block = (last.0, block.1, last.2 + block.2, last.3 + block.3);
                blocks.pop();
            }
            blocks.push(block);
        }
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (first, last, sum, weight) in blocks {
            x.push(first);
            y.push(sum / weight);
            if last > first {
                x.push(last);
                y.push(sum / weight);
            }
        }
        Some(Self { x, y })
    }

    /// The function's value.
    pub fn at(&self, x: f64) -> f64 {
        let above = self.x.partition_point(|k| *k < x);
        if above == 0 {
            return self.y.first().copied().unwrap_or(f64::NAN);
        }
        if above == self.x.len() {
            return self.y.last().copied().unwrap_or(f64::NAN);
        }
        let (x0, x1, y0, y1) = (self.x[above - 1], self.x[above], self.y[above - 1], self.y[above]);
        y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_never_falls_and_keeps_the_mean(points in proptest::collection::vec((0.0..1.0f64, 0.0..1.0f64), 1..80)) {
            let fit = Isotonic::fit(&points).unwrap();
            prop_assert!(fit.y.is_sorted() && fit.x.is_sorted_by(|a, b| a < b));
            let (mut given, mut fitted) = (0.0, 0.0);
            for (x, y) in &points {
                given += y;
                fitted += fit.at(*x);
            }
            prop_assert!((given - fitted).abs() < 1e-9);
        }
    }

    #[test]
    fn by_hand() {
        let fit = Isotonic::fit(&[(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 4.0)]).unwrap();
        assert_eq!([0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 9.0].map(|x| fit.at(x)), [1.0, 1.0, 2.5, 2.5, 2.5, 3.25, 4.0]);
        assert_eq!(Isotonic::fit(&[]), None);
        assert_eq!(Isotonic::fit(&[(f64::NAN, 1.0)]), None);
    }
}
