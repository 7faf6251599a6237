//! Error codes of a machine.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    gaps::Reason,
    machine::{DAMAGING_VIBRATION, Phase, State},
};

/// What a machine's controller reports; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 0.
    None,
    /// 101: hotter than 85 °C.
    TemperatureHigh,
    /// 102: stopped by the thermal protection.
    TemperatureTrip,
    /// 201: vibration in zone D of ISO 10816-3.
    VibrationHigh,
    /// 202: a bearing has seized.
    BearingSeized,
    /// 301: no supply.
    PowerLoss,
    /// 401: a sensor repeats itself.
    SensorFault,
    /// 501: jammed material.
    MaterialJam,
}

/// Warns from here, °C …
const HIGH_FROM: f64 = 85.0;
/// … and until it is cooler than this.
const HIGH_UNTIL: f64 = 82.0;
/// The vibration code ends below this, mm/s RMS.
const VIBRATION_UNTIL: f64 = 6.0;

impl ErrorCode {
    /// All but none.
    pub const ALL: [Self; 7] = [
        Self::TemperatureHigh,
        Self::TemperatureTrip,
        Self::VibrationHigh,
        Self::BearingSeized,
        Self::PowerLoss,
        Self::SensorFault,
        Self::MaterialJam,
    ];

    /// As in a reading.
    pub fn number(self) -> i32 {
        match self {
            Self::None => 0,
            Self::TemperatureHigh => 101,
            Self::TemperatureTrip => 102,
            Self::VibrationHigh => 201,
            Self::BearingSeized => 202,
            Self::PowerLoss => 301,
            Self::SensorFault => 401,
            Self::MaterialJam => 501,
        }
    }

    /// As a label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "0",
            Self::TemperatureHigh => "101",
            Self::TemperatureTrip => "102",
            Self::VibrationHigh => "201",
            Self::BearingSeized => "202",
            Self::PowerLoss => "301",
            Self::SensorFault => "401",
            Self::MaterialJam => "501",
        }
    }

    /// The code with this number; none if it is none of ours.
    pub fn from_number(number: i32) -> Self {
        Self::ALL.into_iter().find(|c| c.number() == number).unwrap_or(Self::None)
    }

    /// The gravest code that fits; `before` gives the thresholds their hysteresis.
    pub fn of(state: &State, before: Self, gap: Option<Reason>) -> Self {
        let above = |value: f64, from: f64, until: f64, code: Self| value >= if before == code { until } else { from };
        if !state.powered {
            Self::PowerLoss
        } else if state.seized() {
            Self::BearingSeized
        } else if state.tripped {
            Self::TemperatureTrip
        } else if above(state.temperature, HIGH_FROM, HIGH_UNTIL, Self::TemperatureHigh) {
            Self::TemperatureHigh
        } else if above(state.vibration, DAMAGING_VIBRATION, VIBRATION_UNTIL, Self::VibrationHigh) {
            Self::VibrationHigh
        } else if gap == Some(Reason::SensorStuck) {
            Self::SensorFault
        } else if state.phase == Phase::Jammed {
            Self::MaterialJam
        } else {
            Self::None
        }
    }
}

/// How often each code was reported.
#[derive(Clone, Debug, Default)]
pub struct CodeCounts([u32; ErrorCode::ALL.len()]);

impl CodeCounts {
    /// Once more.
    pub fn count(&mut self, code: ErrorCode) {
        if let Some(i) = ErrorCode::ALL.iter().position(|c| *c == code) {
            self.0[i] += 1;
        }
    }

    /// So far.
    pub fn get(&self, code: ErrorCode) -> u64 {
        ErrorCode::ALL.iter().position(|c| *c == code).map_or(0, |i| u64::from(self.0[i]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Model;

    #[test]
    fn number_and_label_agree() {
        for code in ErrorCode::ALL {
            assert_eq!(
                (code.number().to_string().as_str(), ErrorCode::from_number(code.number())),
                (code.label(), code)
            );
        }
    }

    #[test]
    fn the_gravest_code_wins_and_thresholds_do_not_flutter() {
        let calm = State::cold(&Model::draw(1, 1), 0);
        let of = |state: &State, before| ErrorCode::of(state, before, None);
        assert_eq!(of(&calm, ErrorCode::None), ErrorCode::None);
        let hot = State { temperature: 84.0, ..calm.clone() };
        assert_eq!(of(&hot, ErrorCode::None), ErrorCode::None);
        assert_eq!(of(&hot, ErrorCode::TemperatureHigh), ErrorCode::TemperatureHigh);
        let tripped = State { temperature: 96.0, tripped: true, vibration: 9.0, ..calm.clone() };
        assert_eq!(of(&tripped, ErrorCode::None), ErrorCode::TemperatureTrip);
        assert_eq!(of(&State { vibration: 9.0, ..calm.clone() }, ErrorCode::None), ErrorCode::VibrationHigh);
        assert_eq!(of(&State { powered: false, ..tripped }, ErrorCode::None), ErrorCode::PowerLoss);
        assert_eq!(ErrorCode::of(&calm, ErrorCode::None, Some(Reason::SensorStuck)), ErrorCode::SensorFault);
        assert_eq!(of(&State { phase: Phase::Jammed, ..calm }, ErrorCode::None), ErrorCode::MaterialJam);
    }
}
