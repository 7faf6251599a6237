//! From test cases written as phases to promtool's unit tests.
//!
//! A case says what the series do in each phase and in which state the alert is at the phase's
//! end. The same case serves both speeds, because phases are as long as the names they refer to.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::document::Version1;
use crate::names::{Context, SpanRef};
use crate::rules::{Compiled, CompiledAlert, document};
use crate::slo::short;
use crate::span::Span;
use crate::speed::{BySpeed, Speed};
use crate::{Error, Project, Source};

/// `prometheus/tests/src/*.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// Version of the form.
    pub version: Version1,
    /// Rule files the cases need; by default the one of the same name.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Distance of samples and evaluations.
    pub step: BySpeed<SpanRef>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One story told to the rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What happens, in words; unique in the file.
    pub name: String,
    /// The alert that is watched; none when only expressions are checked.
    pub alert: Option<String>,
    /// What happens after what.
    pub phases: Vec<Phase>,
    /// Input series: one value for all phases, or one a phase.
    pub series: BTreeMap<String, Values>,
    /// What the alert says while it fires.
    #[serde(default)]
    pub firing: Vec<Firing>,
}

/// A stretch of time and what holds at its end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// How long, a multiple of the step.
    pub lasts: BySpeed<SpanRef>,
    /// State of the alert at the end.
    pub then: Option<State>,
    /// Expressions and their values at the end.
    #[serde(default)]
    pub holds: Vec<Held>,
}

/// State of an alert.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Neither pending nor firing.
    Inactive,
    /// The condition holds, not yet for long enough.
    Pending,
    /// Firing.
    Firing,
}

/// An expression without labels and its value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Expression with `$names`.
    pub expr: String,
    /// Its one value.
    pub value: BySpeed<f64>,
}

/// One firing instance.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firing {
    /// Labels that come from the series.
    #[serde(default)]
    pub labels: BTreeMap<String, BySpeed<String>>,
    /// What `{{ $value … }}` is rendered to.
    pub value: Option<BySpeed<String>>,
}

impl Case {
    /// Does the alert reach this state at the end of some phase?
    #[must_use]
    pub fn reaches(&self, state: State) -> bool {
        self.phases.iter().any(|phase| phase.then == Some(state))
    }

    /// Is the alert inactive at the end of a phase that follows a firing one?
    #[must_use]
    pub fn resolves(&self) -> bool {
        self.phases
            .iter()
            .skip_while(|phase| phase.then != Some(State::Firing))
            .any(|phase| phase.then == Some(State::Inactive))
    }

    /// Does a series fall silent in some phase?
    #[must_use]
    pub fn has_absence(&self) -> bool {
        self.series.is_empty()
            || self.series.values().any(|values| match values {
                Values::Same(_) => false,
                Values::Each(list) => list.iter().any(|value| value == "_" || value == "stale"),
            })
    }
}

/// Values of a series over the phases.
///
/// `5` stays at five; `+2/s` counts up by two a second, `90 -2/s` falls from ninety; `+3 once` jumps
/// by three at the start of the phase; `time` is the time of the sample; `_` has no samples; `stale`
/// ends the series as Prometheus does when a target goes.
#[derive(Debug)]
pub enum Values {
    /// The same in all phases.
    Same(String),
    /// One a phase.
    Each(Vec<String>),
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;
        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = Values;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list with one value a phase")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
                Ok(Values::Same(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Values, E> {
                Ok(Values::Same(number.to_string()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Values, E> {
                Ok(Values::Same(number.to_string()))
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Values, E> {
                Ok(Values::Same(number.to_string()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Values, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = seq.next_element::<BySpeed<String>>()? {
                    list.push(value.demo);
                }
                Ok(Values::Each(list))
            }
        }
        deserializer.deserialize_any(ValuesVisitor)
    }
}

// --- promtool's form -----------------------------------------------------------------------------

#[derive(Serialize)]
struct TestFile {
    rule_files: Vec<String>,
    evaluation_interval: String,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: String,
    input_series: Vec<InputSeries>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    alert_rule_test: Vec<AlertTest>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    promql_expr_test: Vec<ExprTest>,
}

#[derive(Serialize)]
struct InputSeries {
    series: String,
    values: String,
}

#[derive(Serialize)]
struct AlertTest {
    eval_time: String,
    alertname: String,
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Serialize)]
struct ExpectedAlert {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct ExprTest {
    expr: String,
    eval_time: String,
    exp_samples: Vec<ExpectedSample>,
}

#[derive(Serialize)]
struct ExpectedSample {
    labels: String,
    value: f64,
}

/// The test files of one speed: path and text.
pub(crate) fn files(project: &Project, compiled: &Compiled, speed: Speed) -> Result<Vec<(String, String)>, Error> {
    let mut out = Vec::new();
    for (source, file) in &project.cases {
        let own = [format!("{}.yaml", source.stem())];
        let rules = if file.rules.is_empty() { &own[..] } else { &file.rules[..] };
        let builder = Builder {
            source,
            compiled,
            speed,
            step: compiled
                .names
                .span(file.step.at(speed))
                .map_err(|message| Error::within(source, "step:", "step", message))?,
        };
        let mut tests = Vec::new();
        for case in &file.cases {
            tests.push(builder.test(case)?);
        }
        let document_out = TestFile {
            rule_files: rules.iter().map(|name| format!("../../rules/{}/{name}", speed.name())).collect(),
            evaluation_interval: builder.step.to_string(),
            tests,
        };
        out.push((
            format!("prometheus/tests/{}/{}.yaml", speed.name(), source.stem()),
            document(std::slice::from_ref(&source.path), &document_out),
        ));
    }
    Ok(out)
}

struct Builder<'a> {
    source: &'a Source,
    compiled: &'a Compiled,
    speed: Speed,
    step: Span,
}

impl Builder<'_> {
    fn test(&self, case: &Case) -> Result<Test, Error> {
        let alert = case
            .alert
            .as_ref()
            .map(|name| {
                let known = self.compiled.alerts.get(name);
                known
                    .map(|alert| (name.as_str(), alert))
                    .ok_or_else(|| self.wrong(case, name, format!("there is no alert `{name}`")))
            })
            .transpose()?;
        let samples = self.samples(case)?;
        let mut test = Test {
            name: case.name.clone(),
            interval: self.step.to_string(),
            input_series: Vec::new(),
            alert_rule_test: Vec::new(),
            promql_expr_test: Vec::new(),
        };
        for (series, values) in &case.series {
            test.input_series
                .push(InputSeries { series: series.clone(), values: self.values(case, series, values, &samples)? });
        }
        let mut end = 0;
        for (phase, count) in case.phases.iter().zip(&samples) {
            end += count;
            let eval_time = Span::from_secs(end * self.step.as_millis() / 1000).to_string();
            if let Some(state) = phase.then {
                let Some((name, alert)) = alert else {
                    let message = "a phase has `then`, but the case names no alert";
                    return Err(self.wrong(case, "then", message.to_owned()));
                };
                self.expect(case, name, alert, state, &eval_time, &mut test)?;
            }
            for held in &phase.holds {
                test.promql_expr_test.push(ExprTest {
                    expr: self
                        .compiled
                        .names
                        .expand(&held.expr, Context::Expression)
                        .map_err(|(needle, message)| self.wrong(case, &needle, message))?,
                    eval_time: eval_time.clone(),
                    exp_samples: vec![ExpectedSample { labels: "{}".to_owned(), value: *held.value.at(self.speed) }],
                });
            }
        }
        Ok(test)
    }

    /// Number of samples of each phase.
    fn samples(&self, case: &Case) -> Result<Vec<u64>, Error> {
        case.phases
            .iter()
            .map(|phase| {
                let lasts = self
                    .compiled
                    .names
                    .span(phase.lasts.at(self.speed))
                    .map_err(|message| self.wrong(case, "lasts", message))?;
                let (lasts_ms, step_ms) = (lasts.as_millis(), self.step.as_millis());
                if lasts_ms < step_ms || !lasts_ms.is_multiple_of(step_ms) {
                    let message =
                        format!("a phase of {lasts} is no multiple of the step {} ({})", self.step, self.speed.name());
                    return Err(self.wrong(case, "lasts", message));
                }
                Ok(lasts_ms / step_ms)
            })
            .collect()
    }

    fn expect(
        &self,
        case: &Case,
        name: &str,
        alert: &CompiledAlert,
        state: State,
        eval_time: &str,
        test: &mut Test,
    ) -> Result<(), Error> {
        if state == State::Pending && alert.pending.is_none() {
            let message = format!("`{name}` has no `for`, it is never pending");
            return Err(self.wrong(case, "pending", message));
        }
        let mut exp_alerts = Vec::new();
        if state == State::Firing {
            if case.firing.is_empty() {
                let message = "a phase ends firing: say in `firing` with which labels";
                return Err(self.wrong(case, "firing", message.to_owned()));
            }
            for firing in &case.firing {
                exp_alerts.push(self.expected(case, alert, firing)?);
            }
        }
        test.alert_rule_test.push(AlertTest {
            eval_time: eval_time.to_owned(),
            alertname: name.to_owned(),
            exp_alerts,
        });
        // promtool's alert test cannot tell pending from inactive; the ALERTS series can.
        #[allow(clippy::cast_precision_loss)] // a handful of instances
        let pending = match state {
            State::Pending => vec![ExpectedSample { labels: "{}".to_owned(), value: case.firing.len().max(1) as f64 }],
            State::Inactive | State::Firing => Vec::new(),
        };
        test.promql_expr_test.push(ExprTest {
            expr: format!("count(ALERTS{{alertname=\"{name}\", alertstate=\"pending\"}})"),
            eval_time: eval_time.to_owned(),
            exp_samples: pending,
        });
        Ok(())
    }

    fn expected(&self, case: &Case, alert: &CompiledAlert, firing: &Firing) -> Result<ExpectedAlert, Error> {
        let series: BTreeMap<String, String> =
            firing.labels.iter().map(|(key, value)| (key.clone(), value.at(self.speed).clone())).collect();
        let mut labels = series.clone();
        for (key, value) in &alert.labels {
            // What a template makes of the series' labels, the case has to say.
            let said = value.contains("{{") && labels.contains_key(key);
            if !said {
                labels.insert(key.clone(), value.clone());
            }
        }
        if alert.team_by_owner {
            let service = labels.get("service").cloned().unwrap_or_default();
            labels.insert("team".to_owned(), self.compiled.owner(&service).to_owned());
        }
        for key in ["severity", "team", "service"] {
            if !labels.contains_key(key) {
                let message = format!("the alert would fire without the label `{key}`");
                return Err(self.wrong(case, "firing", message));
            }
        }
        let value = firing.value.as_ref().map(|value| value.at(self.speed).as_str());
        let mut annotations = BTreeMap::new();
        for (key, template) in &alert.annotations {
            let text =
                render(template, &series, &labels, value).map_err(|message| self.wrong(case, "firing", message))?;
            annotations.insert(key.clone(), text);
        }
        Ok(ExpectedAlert { exp_labels: labels, exp_annotations: annotations })
    }

    fn values(&self, case: &Case, series: &str, values: &Values, samples: &[u64]) -> Result<String, Error> {
        let each: Vec<&str> = match values {
            Values::Same(value) => vec![value.as_str(); samples.len()],
            Values::Each(list) if list.len() == samples.len() => list.iter().map(String::as_str).collect(),
            Values::Each(list) => {
                let message = format!("{} values for {} phases", list.len(), samples.len());
                return Err(self.wrong(case, series, message));
            }
        };
        notation(&each, samples, self.step.as_secs_f64()).map_err(|message| self.wrong(case, series, message))
    }

    fn wrong(&self, case: &Case, needle: &str, message: String) -> Error {
        Error::within(self.source, &format!("name: {}", case.name), needle, message)
    }
}

/// Values of one series in promtool's notation. The first sample lies at time zero, before the
/// first phase's own samples.
fn notation(values: &[&str], samples: &[u64], step: f64) -> Result<String, String> {
    let mut parts: Vec<String> = Vec::new();
    let mut last = 0.0_f64;
    let mut elapsed = 0.0_f64;
    for (index, (text, count)) in values.iter().zip(samples).enumerate() {
        let more = count - 1;
        let first = index == 0;
        match PhaseValue::parse(text)? {
            PhaseValue::Absent => parts.push(format!("_x{}", if first { count + 1 } else { *count })),
            PhaseValue::Stale => {
                parts.push("stale".to_owned());
                let rest = if first { *count } else { more };
                if rest > 0 {
                    parts.push(format!("_x{rest}"));
                }
            }
            PhaseValue::Constant(value) => {
                parts.push(format!("{}+0x{}", short(value), if first { *count } else { more }));
                last = value;
            }
            PhaseValue::Jump(by) => {
                if first {
                    parts.push(short(last));
                }
                last += by;
                parts.push(format!("{}+0x{more}", short(last)));
            }
            PhaseValue::Slope { from, rate } => {
                last = match from {
                    From::Last => last,
                    From::Value(value) => value,
                    From::Time => elapsed,
                };
                if first {
                    parts.push(short(last));
                }
                let increment = rate * step;
                let sign = if increment < 0.0 { '-' } else { '+' };
                let start = last + increment;
                parts.push(format!("{}{sign}{}x{more}", short(start), short(increment.abs())));
                last += increment * as_f64(*count);
            }
        }
        elapsed += as_f64(*count) * step;
    }
    Ok(parts.join(" "))
}

#[allow(clippy::cast_precision_loss)] // sample counts stay small
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Where a slope begins.
enum From {
    Last,
    Value(f64),
    Time,
}

enum PhaseValue {
    Constant(f64),
    Slope { from: From, rate: f64 },
    Jump(f64),
    Absent,
    Stale,
}

impl PhaseValue {
    fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim().parse::<f64>().map_err(|_| {
                format!("`{text}` is none of NUMBER, +NUMBER/s, NUMBER +NUMBER/s, +NUMBER once, time, _, stale")
            })
        };
        match text.trim() {
            "_" => Ok(Self::Absent),
            "stale" => Ok(Self::Stale),
            "time" => Ok(Self::Slope { from: From::Time, rate: 1.0 }),
            text => {
                if let Some(slope) = text.strip_suffix("/s") {
                    let (from, rate) = match slope.split_once(' ') {
                        Some((from, rate)) => (From::Value(number(from)?), rate),
                        None => (From::Last, slope),
                    };
                    Ok(Self::Slope { from, rate: number(rate)? })
                } else if let Some(jump) = text.strip_suffix(" once") {
                    number(jump).map(Self::Jump)
                } else {
                    number(text).map(Self::Constant)
                }
            }
        }
    }
}

/// Renders the two actions that annotations may use.
fn render(
    template: &str,
    series: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    value: Option<&str>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, tail) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        let action = action.trim();
        if let Some(name) = action.strip_prefix("$labels.") {
            // $labels are those of the series; what the rule adds is not among them.
            let text = series.get(name).or_else(|| {
                // An unset label renders as nothing, a label that only the rule adds too.
                labels.get(name).map(|_| &EMPTY)
            });
            out.push_str(
                text.ok_or_else(|| format!("the annotations use the label `{name}`, which the case does not give"))?,
            );
        } else {
            out.push_str(value.ok_or("the annotations show the value: say it in `value`")?);
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

static EMPTY: String = String::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_become_promtools_notation() {
        // 5 s steps; two phases of 2 and 3 samples, one sample at zero before them.
        assert_eq!(notation(&["1", "0"], &[2, 3], 5.0).unwrap(), "1+0x2 0+0x2");
        assert_eq!(notation(&["+1/s", "+0/s"], &[2, 3], 5.0).unwrap(), "0 5+5x1 10+0x2");
        assert_eq!(notation(&["_", "+2 once"], &[2, 3], 5.0).unwrap(), "_x3 2+0x2");
        assert_eq!(notation(&["7", "stale"], &[2, 3], 5.0).unwrap(), "7+0x2 stale _x2");
        assert!(notation(&["fast"], &[2], 5.0).is_err());
    }

    #[test]
    fn a_label_that_the_case_does_not_give_is_an_error() {
        let given = BTreeMap::from([("a".to_owned(), "x".to_owned())]);
        assert_eq!(render("{{ $labels.a }}: {{ $value | f }}", &given, &given, Some("5%")).unwrap(), "x: 5%");
        assert!(render("{{ $labels.b }}", &given, &given, None).is_err());
        assert!(render("{{ $value }}", &given, &given, None).is_err());
    }
}
