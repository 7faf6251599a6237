//! Latencies in constant memory: 32 buckets for each power of two, so a quantile is at most 1/32 too high.

const STEPS: u64 = 32;
const STEP_BITS: u32 = 5;

/// Counts of microseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        let bucket = index(value);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest bucket edge that at least this share of the values does not exceed; 0 when empty.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(bucket).min(self.max);
            }
        }
        self.max
    }
}

// Values below 32 have a bucket each; above, the five bits after the leading one choose it.
fn index(value: u64) -> usize {
    if value < STEPS {
        return usize::try_from(value).unwrap_or(0);
    }
    let shift = value.ilog2() - STEP_BITS;
    let block = u64::from(shift) + 1;
    usize::try_from(block * STEPS + ((value >> shift) - STEPS)).unwrap_or(usize::MAX)
}

fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    (((bucket % STEPS) + STEPS + 1) << shift).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_one_says_zero() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }

    proptest! {
        #[test]
        fn quantiles_are_at_most_a_bucket_off(
            mut values in proptest::collection::vec(0u64..60_000_000, 1..300),
            quantile in 0.01f64..1.0,
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            let told = histogram.quantile(quantile);
            prop_assert!(told >= exact && told as f64 <= exact as f64 * (1.0 + 1.0 / 32.0) + 1.0, "{told} for {exact}");
        }
    }
}
