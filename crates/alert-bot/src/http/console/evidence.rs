//! What was found out about an incident, read from its timeline.

use maud::{Markup, html};
use serde_json::Value;

use super::{chart::Curve, parts};
use crate::{engine::Incident, http::view::IncidentDetail, timestamp::Timestamp};

/// Everything that the lines of kind `evidence` hold.
#[derive(Default)]
pub(super) struct Evidence {
    curves: Vec<(String, Vec<(f64, f64)>)>,
    logs: Vec<Logs>,
    findings: Vec<Finding>,
    traces: Vec<String>,
}

struct Logs {
    at: Timestamp,
    about: String,
    lines: Vec<String>,
}

struct Finding {
    what: String,
    value: String,
    detail: String,
}

impl Evidence {
    /// Of a timeline, oldest first.
    pub(super) fn of(detail: &IncidentDetail) -> Self {
        let mut found = Self::default();
        for entry in &detail.timeline {
            let data = &entry.data;
            if let Some(lines) = data.get("logs").and_then(Value::as_array) {
                let lines = lines.iter().filter_map(Value::as_str).map(str::to_owned).collect();
                found.logs.push(Logs { at: entry.at, about: entry.text.clone(), lines });
            }
            if let Some(sli) = data.get("sli").filter(|s| s.get("points").is_some()) {
                found.add_curve(sli);
            }
            for finding in data.get("findings").and_then(Value::as_array).into_iter().flatten() {
                found.findings.push(Finding::of(finding));
            }
            if let Some(url) = data.get("traces_url").and_then(Value::as_str) {
                found.traces.push(url.to_owned());
            }
        }
        found.traces.dedup();
        found
    }

    /// Pieces of the same curve are put together.
    fn add_curve(&mut self, sli: &Value) {
        let query = sli.get("query").and_then(Value::as_str).unwrap_or_default();
        let points = sli.get("points").and_then(Value::as_array).into_iter().flatten().filter_map(|pair| {
            let number = |v: &Value| v.as_f64().or_else(|| v.as_str().and_then(|t| t.parse().ok()));
            Some((number(pair.get(0)?)?, number(pair.get(1)?)?))
        });
        let known = self.curves.iter_mut().find(|(q, _)| q == query);
        let curve = match known {
            Some((_, curve)) => curve,
            None => {
                self.curves.push((query.to_owned(), Vec::new()));
                let Some((_, curve)) = self.curves.last_mut() else { return };
                curve
            }
        };
        curve.extend(points);
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        // What was measured later counts.
        curve.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
    }

    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.curves.is_empty() && self.logs.is_empty() && self.findings.is_empty() && self.traces.is_empty()
    }

    /// For the page.
    pub(super) fn show(&self, incident: &Incident, detail: &IncidentDetail) -> Markup {
        let good = incident.rule.as_ref().and_then(|r| r.heal()).map(|h| h.verify.good);
        let marks: Vec<_> = detail
            .actions
            .iter()
            .filter(|a| a.status != "not_performed")
            .map(|a| (a.finished_at.unwrap_or(a.intended_at).millis() as f64 / 1000.0, a.verb.replace('_', " ")))
            .collect();
        html! {
            @for (n, (query, points)) in self.curves.iter().enumerate() {
                section.card aria-labelledby=(format!("curve-{n}")) {
                    h2 id=(format!("curve-{n}")) { "The indicator before and after" }
                    (Curve { points: points.clone(), good, marks: marks.clone(), query: query.clone() }.show(&format!("sli-{n}")))
                }
            }
            @if !self.findings.is_empty() {
                section.card aria-labelledby="findings" {
                    h2 id="findings" { "Findings" }
                    div.scroll tabindex="0" role="region" aria-labelledby="findings" {
                        table {
                            thead { tr { th scope="col" { "What" } th scope="col" { "Value" } th scope="col" { "Detail" } } }
                            tbody {
                                @for finding in &self.findings {
                                    tr { td { (finding.what) } td.num { (finding.value) } td { (finding.detail) } }
                                }
                            }
                        }
                    }
                }
            }
            @if !self.logs.is_empty() {
                section.card aria-labelledby="logs" {
                    h2 id="logs" { "Last log lines" }
                    @for (n, logs) in self.logs.iter().enumerate() {
                        @let id = format!("logs-{n}");
                        p.dim id=(id) { (logs.about) ", " (parts::time(logs.at)) }
                        @if logs.lines.is_empty() { p { "None." } } @else {
                            pre.logs tabindex="0" role="region" aria-labelledby=(id) { (logs.lines.join("\n")) }
                        }
                    }
                }
            }
            @for url in self.traces.iter().filter(|u| u.starts_with("http://") || u.starts_with("https://")) {
                p { a href=(url) rel="noreferrer" { "Traces of the requests that failed" } }
            }
        }
    }
}

impl Finding {
    fn of(value: &Value) -> Self {
        let text = |field: &str| match value.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(n)) => n.as_f64().map_or_else(|| n.to_string(), parts::number),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        };
        let value_text = [text("value"), text("unit")].iter().filter(|t| !t.is_empty()).cloned().collect::<Vec<_>>();
        Self { what: text("what"), value: value_text.join(" "), detail: text("detail") }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_of_a_curve_are_put_together_and_the_later_look_counts() {
        let mut evidence = Evidence::default();
        evidence.add_curve(&json!({ "query": "q", "points": [[2, 0.5], [1, "0.25"], [3, null]] }));
        evidence.add_curve(&json!({ "query": "q", "points": [[2, 0.75], [4, 1]] }));
        evidence.add_curve(&json!({ "query": "other", "points": "none" }));
        assert_eq!(evidence.curves[0].1, [(1.0, 0.25), (2.0, 0.75), (4.0, 1.0)]);
        assert_eq!(evidence.curves.len(), 2);
    }

    #[test]
    fn a_finding_has_its_unit() {
        let found = Finding::of(&json!({ "what": "locks", "value": 3.5, "unit": "s", "detail": "pid 12" }));
        assert_eq!((found.what.as_str(), found.value.as_str(), found.detail.as_str()), ("locks", "3.5 s", "pid 12"));
    }
}
