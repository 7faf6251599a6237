//! Recording rules for service-level objectives, under sloth's names.
//!
//! Sloth averages the 5-minute ratios over the long windows, which gives a quiet night the weight
//! of a busy day. Here the rates of bad and of all events are recorded, and the windows of six
//! hours and more divide the sums of the two: each *event* counts once, and evaluating thirty days
//! still reads two series only.
//!
//! The names keep sloth's nominal windows at both speeds, so that dashboards and alerts are the
//! same; the label `sloth_window` says how long the window really is.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{SloFile, SloSource};
use crate::names::{Context, Names};
use crate::rules::{GroupOut, RuleOut};
use crate::span::Span;
use crate::speed::Speed;
use crate::{Error, Project, Source};

/// Nominal windows, their real length, and whether they are computed from raw series.
fn windows(project: &Project, speed: Speed) -> [(&'static str, Span, bool); 8] {
    let windows = &project.speeds.1.slo_windows;
    [
        ("5m", *windows.m5.at(speed), true),
        ("30m", *windows.m30.at(speed), true),
        ("1h", *windows.h1.at(speed), true),
        ("2h", *windows.h2.at(speed), true),
        ("6h", *windows.h6.at(speed), false),
        ("1d", *windows.d1.at(speed), false),
        ("3d", *windows.d3.at(speed), false),
        ("30d", *windows.d30.at(speed), false),
    ]
}

/// One group an objective.
pub(crate) fn groups(project: &Project, names: &Names, speed: Speed) -> Result<Vec<GroupOut>, Error> {
    let mut groups = Vec::new();
    for (source, file) in &project.slos {
        let mut seen = BTreeSet::new();
        for slo in &file.slos {
            let anchor = format!("name: {}", slo.name);
            if !seen.insert(&slo.name) {
                let message = format!("there are two objectives called `{}`", slo.name);
                return Err(Error::within(source, &anchor, "", message));
            }
            if !(slo.objective > 0.0 && slo.objective < 100.0) {
                let message = format!(
                    "objective {} is not between 0 and 100: without an error budget nothing can burn",
                    slo.objective
                );
                return Err(Error::within(source, &anchor, "objective", message));
            }
            groups.push(group(project, names, speed, source, file, slo)?);
        }
    }
    Ok(groups)
}

fn group(
    project: &Project,
    names: &Names,
    speed: Speed,
    source: &Source,
    file: &SloFile,
    slo: &SloSource,
) -> Result<GroupOut, Error> {
    let id = format!("{}-{}", file.service, slo.name);
    let identity: BTreeMap<String, String> = [
        ("sloth_id", id.as_str()),
        ("sloth_service", &file.service),
        ("sloth_slo", &slo.name),
        ("service", &file.service),
        ("team", &file.team),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let windowed = |window: Span| {
        let mut labels = identity.clone();
        labels.insert("sloth_window".to_owned(), window.to_string());
        labels
    };
    let select = |metric: &str| format!("{metric}{{sloth_id=\"{id}\"}}");
    let rule = |record: &str, expr: String, labels: BTreeMap<String, String>| RuleOut {
        record: Some(record.to_owned()),
        expr,
        labels,
        ..RuleOut::default()
    };
    // Bad and all events over a window; no bad event yet is zero, not absence.
    let rates = |window: Span| -> Result<(String, String), Error> {
        let mut names = names.clone();
        names.set("window", window);
        let expand = |text: &str, key: &str| {
            names
                .expand(text.trim(), Context::Expression)
                .map_err(|(_, message)| Error::within(source, &format!("name: {}", slo.name), key, message))
        };
        let total = expand(&slo.sli.total, "total")?;
        let errors = expand(&slo.sli.errors, "errors")?;
        Ok((format!("({errors}) or 0 * ({total})"), total))
    };

    let interval = names
        .span(&crate::names::SpanRef::Name("slo_tick".to_owned()))
        .map_err(|message| Error::within(&project.speeds.0, "durations:", "", message))?;

    let windows = windows(project, speed);
    let mut rules = Vec::new();
    let (bad, all) = rates(windows[0].1)?;
    rules.push(rule("slo:sli_bad:rate5m", bad, identity.clone()));
    rules.push(rule("slo:sli_total:rate5m", all, identity.clone()));
    for (nominal, window, from_raw) in windows {
        let expr = if nominal == "5m" {
            format!("{} / ({} > 0)", select("slo:sli_bad:rate5m"), select("slo:sli_total:rate5m"))
        } else if from_raw {
            let (bad, all) = rates(window)?;
            format!("({bad})\n/\n(({all}) > 0)")
        } else {
            format!(
                "sum_over_time({}[{window}])\n/\n(sum_over_time({}[{window}]) > 0)",
                select("slo:sli_bad:rate5m"),
                select("slo:sli_total:rate5m"),
            )
        };
        rules.push(rule(&format!("slo:sli_error:ratio_rate{nominal}"), expr, windowed(window)));
    }
    let objective = slo.objective / 100.0;
    let days = windows[7].1.as_secs_f64() / 86_400.0;
    rules.push(rule("slo:objective:ratio", format!("vector({})", short(objective)), identity.clone()));
    rules.push(rule("slo:error_budget:ratio", format!("vector({})", short(1.0 - objective)), identity.clone()));
    rules.push(rule("slo:time_period:days", format!("vector({})", short(days)), identity.clone()));
    for (record, nominal) in [("slo:current_burn_rate:ratio", "5m"), ("slo:period_burn_rate:ratio", "30d")] {
        let ratio = select(&format!("slo:sli_error:ratio_rate{nominal}"));
        let budget = select("slo:error_budget:ratio");
        rules.push(rule(
            record,
            format!("max without (sloth_window) ({ratio})\n/ on (sloth_id) group_left ()\n{budget}"),
            identity.clone(),
        ));
    }
    rules.push(rule(
        "slo:period_error_budget_remaining:ratio",
        format!("1 - {}", select("slo:period_burn_rate:ratio")),
        identity.clone(),
    ));
    let mut info = identity;
    info.insert("objective".to_owned(), slo.objective.to_string());
    rules.push(rule("sloth_slo_info", "vector(1)".to_owned(), info));

    Ok(GroupOut { name: format!("slo-{id}"), interval: interval.to_string(), rules })
}

/// A number without the noise of binary fractions: 1 − 0.995 is 0.005.
pub(crate) fn short(number: f64) -> String {
    let text = format!("{number:.9}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_written_without_noise() {
        assert_eq!(short(1.0 - 0.995), "0.005");
        assert_eq!(short(30.0), "30");
        assert_eq!(short(0.25), "0.25");
    }
}
