/// What the forecaster goes by. [`Settings::default`] is what the service and the command use
/// and what the evaluation measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Overheated from here, °C.
    pub limit: f64,
    /// Alarm from here whatever the trend is, °C.
    pub high: f64,
    /// How far ahead the probability looks, s. Longer than the ten minutes' warning that is
    /// wanted: a filter needs some of it to see a ramp at all.
    pub horizon: f64,
    /// Alarm from this probability …
    pub alarm_from: f64,
    /// … until this one.
    pub alarm_until: f64,
    /// The probability must persist for this long, s …
    pub persist: f64,
    /// … or, without a load, this long.
    pub persist_blind: f64,
    /// No trend is believed before this much has been seen, s; without a load twice as much.
    pub warm_up: f64,
    /// The residual must be this far above where it usually is, K.
    pub margin: f64,
    /// Without a load a slope is expected to last this long, s: a load step looks like a ramp at first.
    pub blind_reach: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limit: 95.0,
            high: 90.0,
            horizon: 1_200.0,
            alarm_from: 0.5,
            alarm_until: 0.2,
            persist: 60.0,
            persist_blind: 90.0,
            warm_up: 900.0,
            margin: 1.0,
            blind_reach: 1_800.0,
        }
    }
}
