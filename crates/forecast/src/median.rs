//! Median of three: one wild value in a row never gets through.

/// The middle one of three.
pub fn of_three(a: f32, b: f32, c: f32) -> f32 {
    a.max(b).min(a.min(b).max(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_middle_one(a in -1e3f32..1e3, b in -1e3f32..1e3, c in -1e3f32..1e3) {
            let mut sorted = [a, b, c];
            sorted.sort_by(f32::total_cmp);
            prop_assert_eq!(of_three(a, b, c), sorted[1]);
        }
    }
}
