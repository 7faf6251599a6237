//! A series through the forecaster, as the service would have seen it.

use std::{collections::HashMap, io::BufRead};

use forecast::{Cause, Forecaster, Sample, Settings};

use super::csv::{BadInput, Row, Rows, Written};

/// An alarm as it is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// Which machine.
    pub machine_id: String,
    /// When, as the file writes instants.
    pub time: Written,
    /// Seconds since 1970.
    pub seconds: f64,
    /// Seconds until the limit, at most [`FARTHEST`].
    pub eta_seconds: f64,
    /// That the limit is reached within the horizon.
    pub probability: f64,
    /// Why.
    pub cause: Cause,
}

/// The ETA of a machine that is hot but not on its way to the limit, s.
pub const FARTHEST: f64 = 21_600.0;

/// What a replay brought.
#[derive(Debug, Default)]
pub struct Replayed {
    /// In the order of time.
    pub alarms: Vec<Raised>,
    /// Readings.
    pub rows: u64,
    /// Machines.
    pub machines: usize,
}

/// Above this a load is not a share, but in some unit: the machine's highest is full load then.
const HIGHEST_SHARE: f64 = 1.2;

/// What a first look at the whole file tells.
#[derive(Debug, Default)]
pub struct Survey {
    last: HashMap<String, Seen>,
    rows: u64,
    /// The load column is a share of the maximum load.
    share: bool,
}

#[derive(Debug)]
struct Seen {
    seconds: f64,
    line: u64,
    highest_load: f64,
}

impl Survey {
    /// Reads to the end, so that nothing is told of a file that is not sound as a whole.
    ///
    /// # Errors
    /// The first thing that makes no sense: a field, a time that is not later than the
    /// machine's one before, no row at all or only one.
    pub fn of<R: BufRead>(mut rows: Rows<R>) -> Result<Self, BadInput> {
        let mut survey = Self { share: true, ..Self::default() };
        while let Some(row) = rows.next_row()? {
            survey.rows += 1;
            let load = row.load.unwrap_or(0.0);
            survey.share &= load <= HIGHEST_SHARE;
            let Some(seen) = survey.last.get_mut(&row.machine_id) else {
                let seen = Seen { seconds: row.seconds, line: row.line, highest_load: load };
                survey.last.insert(row.machine_id, seen);
                continue;
            };
            if row.seconds <= seen.seconds {
                let what = if row.seconds == seen.seconds { "is a duplicate" } else { "goes backwards" };
                let reason =
                    format!("{} {what}: {:?} has that or a later time on line {}", row.time, row.machine_id, seen.line);
                return Err(rows.at_time(&reason));
            }
            *seen = Seen { seconds: row.seconds, line: row.line, highest_load: seen.highest_load.max(load) };
        }
        match survey.rows {
            0 => Err(rows.at(None, "the file ends after its header: there are no rows")),
            1 => Err(rows.at(None, "is the only row: a forecast needs at least two readings of a machine")),
            _ => Ok(survey),
        }
    }

    /// The load has a unit of its own.
    pub fn load_has_unit(&self) -> bool {
        !self.share
    }

    fn share_of(&self, row: &Row) -> Option<f64> {
        let load = row.load?;
        let full = self.last.get(&row.machine_id).map_or(0.0, |s| s.highest_load);
        Some(if self.share || full <= 0.0 { load } else { load / full })
    }
}

/// Puts each row through the forecaster of its machine.
///
/// # Errors
/// As [`Survey::of`]; the file may have changed since.
pub fn replay<R: BufRead>(mut rows: Rows<R>, survey: &Survey, settings: &Settings) -> Result<Replayed, BadInput> {
    let mut forecasters: HashMap<String, Forecaster> = HashMap::with_capacity(survey.last.len());
    let mut replayed = Replayed::default();
    while let Some(row) = rows.next_row()? {
        replayed.rows += 1;
        let sample = Sample { time: row.seconds, temperature: row.temperature, load: survey.share_of(&row) };
        let alarm = match forecasters.get_mut(&row.machine_id) {
            Some(forecaster) => forecaster.observe(sample, settings),
            None => forecasters.entry(row.machine_id.clone()).or_default().observe(sample, settings),
        };
        if let Some(alarm) = alarm {
            replayed.alarms.push(Raised {
                machine_id: row.machine_id,
                time: row.time,
                seconds: row.seconds,
                eta_seconds: alarm.eta_seconds.unwrap_or(FARTHEST).min(FARTHEST),
                probability: alarm.probability,
                cause: alarm.cause,
            });
        }
    }
    replayed.machines = forecasters.len();
    replayed.alarms.sort_by(|a, b| a.seconds.total_cmp(&b.seconds).then_with(|| a.machine_id.cmp(&b.machine_id)));
    Ok(replayed)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn rows(text: &str) -> Rows<&[u8]> {
        Rows::new("f.csv", text.as_bytes(), None).unwrap()
    }

    fn run(text: &str) -> Result<Vec<Raised>, String> {
        let survey = Survey::of(rows(text)).map_err(|e| e.to_string())?;
        Ok(replay(rows(text), &survey, &Settings::default()).map_err(|e| e.to_string())?.alarms)
    }

    /// Two machines at 60 °C; `hot` begins to rise by a degree a minute after an hour.
    fn series(load: &str) -> String {
        let mut text = "time,machine_id,temperature,load\n".to_owned();
        for i in 0..570u32 {
            let rise = (f64::from(i) - 360.0).max(0.0) / 6.0;
            let wobble = f64::from(i * 7_919 % 13) / 40.0;
            let _ = writeln!(text, "{},calm,{},{load}", i * 10, 60.0 + wobble);
            let _ = writeln!(text, "{},hot,{},{load}", i * 10, 60.0 + rise + wobble);
        }
        text
    }

    #[test]
    fn the_machine_that_overheats_is_named_in_time() {
        for load in ["0.6", "60", ""] {
            let alarms = run(&series(load)).unwrap();
            assert_eq!(alarms.len(), 1, "{alarms:?}");
            assert_eq!((alarms[0].machine_id.as_str(), alarms[0].cause), ("hot", Cause::Trend));
            assert!(alarms[0].seconds <= 3_600.0 + 25.0 * 60.0, "load {load:?}: {}", alarms[0].seconds);
        }
    }

    #[test]
    fn the_unit_of_the_load_does_not_matter() {
        let share = run(&series("1.0")).unwrap();
        assert_eq!(run(&series("7500")).unwrap(), share);
    }

    #[test]
    fn order_and_count_of_rows_are_checked() {
        let head = "time,machine_id,temperature\n";
        for (text, expected) in [
            ("", "f.csv, line 1: the file ends after its header: there are no rows"),
            ("1,a,50\n", "f.csv, line 2: is the only row: a forecast needs at least two readings of a machine"),
            (
                "2,a,50\n1,a,50\n",
                "f.csv, line 3, column \"time\": 1 goes backwards: \"a\" has that or a later time on line 2",
            ),
            (
                "2,a,50\n1,b,5\n2,a,51\n",
                "f.csv, line 4, column \"time\": 2 is a duplicate: \"a\" has that or a later time on line 2",
            ),
        ] {
            assert_eq!(run(&format!("{head}{text}")).unwrap_err(), expected);
        }
        assert_eq!(
            run(&format!("{head}1,a,50\n1,b,50\n2,a,50\n2,b,51\n")).unwrap(),
            [],
            "machines have their own time"
        );
    }
}
