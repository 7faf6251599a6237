//! Docker Engine API versions, `1.NN`.

use std::{fmt, str::FromStr};

/// An API version with major number 1; the field is the minor one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u16);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

impl FromStr for ApiVersion {
    type Err = ();

    /// Accepts exactly `1.` and one to three digits.
    fn from_str(s: &str) -> Result<Self, ()> {
        let minor = s.strip_prefix("1.").ok_or(())?;
        if minor.is_empty() || minor.len() > 3 || !minor.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        minor.parse().map(Self).map_err(drop)
    }
}

/// Versions that can be used, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// Oldest.
    pub min: ApiVersion,
    /// Newest.
    pub max: ApiVersion,
}

impl VersionRange {
    /// The versions whose published endpoints this guard's allow-list was
    /// written from: Engine 20.10 (1.41) to Engine 29 (1.55).
    pub const GUARD: Self = Self { min: ApiVersion(41), max: ApiVersion(55) };

    /// The versions that both sides speak, if there are any.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    /// Whether `version` lies inside.
    pub fn contains(self, version: ApiVersion) -> bool {
        self.min <= version && version <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_plain_form_is_a_version() {
        assert_eq!("1.41".parse(), Ok(ApiVersion(41)));
        for bad in ["", "1", "1.", "2.41", "1.4a", "1.+4", "1.41.0", "1.1234", " 1.41", "1.-1"] {
            assert_eq!(bad.parse::<ApiVersion>(), Err(()), "{bad}");
        }
        assert_eq!(ApiVersion(41).to_string(), "1.41");
    }

    #[test]
    fn ranges_meet_or_do_not() {
        let range = |min, max| VersionRange { min: ApiVersion(min), max: ApiVersion(max) };
        // Engine 20.10, Engine 29, and one that is too old or too new to talk to.
        assert_eq!(VersionRange::GUARD.intersect(range(12, 41)), Some(range(41, 41)));
        assert_eq!(VersionRange::GUARD.intersect(range(44, 53)), Some(range(44, 53)));
        assert_eq!(VersionRange::GUARD.intersect(range(44, 70)), Some(range(44, 55)));
        assert_eq!(VersionRange::GUARD.intersect(range(12, 40)), None);
        assert_eq!(VersionRange::GUARD.intersect(range(60, 70)), None);
    }
}
