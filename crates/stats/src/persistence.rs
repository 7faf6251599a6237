//! Drift that stays: k of the last n verdicts.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The last n verdicts, true if at least k of them are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    k: usize,
    n: usize,
    last: VecDeque<bool>,
}

impl Persistence {
    /// `k` of `n`; both at least 1, k not above n.
    pub fn new(k: usize, n: usize) -> Self {
        let n = n.max(1);
        Self { k: k.clamp(1, n), n, last: VecDeque::with_capacity(n) }
    }

    /// Takes the next verdict and tells whether drift stays.
    pub fn observe(&mut self, drifted: bool) -> bool {
        if self.last.len() == self.n {
            self.last.pop_front();
        }
        self.last.push_back(drifted);
        self.holds()
    }

    /// At least k of the last n.
    pub fn holds(&self) -> bool {
        self.last.iter().filter(|d| **d).count() >= self.k
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_is_none_and_two_of_three_are() {
        let mut p = Persistence::new(2, 3);
        let said: Vec<bool> = [true, false, false, true, true, false, false, true].map(|d| p.observe(d)).to_vec();
        assert_eq!(said, [false, false, false, false, true, true, false, false]);
        assert!(Persistence::new(9, 0).observe(true), "limits are brought into range");
    }
}
