//! An SLI's curve, drawn on the server: it needs no script, prints, and can be read aloud.

use maud::{Markup, html};

use super::parts;
use crate::{policy::Good, timestamp::Timestamp};

/// One curve.
pub(super) struct Curve {
    /// Unix seconds and value, oldest first.
    pub(super) points: Vec<(f64, f64)>,
    /// When a value is good.
    pub(super) good: Option<Good>,
    /// When something was done, and what.
    pub(super) marks: Vec<(f64, String)>,
    /// The query.
    pub(super) query: String,
}

/// Room for the drawing, in units of the view box.
struct Size {
    width: f64,
    height: f64,
    class: &'static str,
    ticks: usize,
}

/// Letters must be readable on a phone as well as at a desk: two drawings, of which the style sheet shows one.
const SIZES: [Size; 2] = [
    Size { width: 720.0, height: 240.0, class: "wide", ticks: 6 },
    Size { width: 320.0, height: 200.0, class: "narrow", ticks: 3 },
];

const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 24.0;

impl Curve {
    /// The drawing and its table; nothing where there is nothing to draw.
    pub(super) fn show(&self, id: &str) -> Markup {
        let points: Vec<_> = self.points.iter().copied().filter(|(t, v)| t.is_finite() && v.is_finite()).collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return html! { p.dim { "No samples." } };
        };
        let said = self.said(&points);
        html! {
            figure.chart {
                @for size in &SIZES { (self.draw(&points, size, id, &said)) }
                figcaption {
                    (said) " Query: " code { (self.query) }
                }
                details {
                    summary { "The same as a table" }
                    div.scroll tabindex="0" role="region" aria-label="Samples of the SLI" {
                        table {
                            caption.quiet { "Samples from " (at(first.0)) " to " (at(last.0)) }
                            thead { tr { th scope="col" { "Time (UTC)" } th scope="col" { "Value" } th scope="col" { "Good" } } }
                            tbody {
                                @for (t, v) in thinned(&points, 120) {
                                    tr {
                                        td { (at(t)) } td.num { (parts::number(v)) }
                                        td { @match self.good { Some(g) if g.accepts(v) => "yes", Some(_) => "no", None => "–" } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// The curve in a sentence.
    fn said(&self, points: &[(f64, f64)]) -> String {
        let must = self.good.map(|g| format!(" It must be {}.", good(g))).unwrap_or_default();
        let mark = self.marks.iter().map(|m| m.0).fold(f64::INFINITY, f64::min);
        let last = points.last().map_or(0.0, |p| p.1);
        // The side on which it is bad.
        let worse = |a: f64, b: f64| if matches!(self.good, Some(Good::Above(_))) { a.min(b) } else { a.max(b) };
        let worst = points.iter().filter(|(t, _)| *t < mark).map(|(_, v)| *v).reduce(worse);
        match worst.filter(|_| mark.is_finite()) {
            Some(worst) => format!(
                "At worst {} before the first action, {} at the end.{must}",
                parts::number(worst),
                parts::number(last)
            ),
            None => format!("{} at the end.{must}", parts::number(last)),
        }
    }

    fn draw(&self, points: &[(f64, f64)], size: &Size, id: &str, said: &str) -> Markup {
        let (from, to) = (points[0].0, points[points.len() - 1].0);
        let seconds = (to - from).max(1.0);
        let limit = self.good.map(|g| match g {
            Good::Below(l) | Good::Above(l) => l,
        });
        let values = points.iter().map(|p| p.1).chain(limit);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        // From zero where zero is near: a small wiggle should look like one.
        let low = if low >= 0.0 && low < high * 0.7 { 0.0 } else { low };
        let step = nice((high - low) / 3.0);
        let (low, high) = ((low / step).floor() * step, ((high / step).ceil() * step).max(low + step));
        let x = |t: f64| LEFT + (t - from) / seconds * (size.width - LEFT - RIGHT);
        let y = |v: f64| TOP + (high - v) / (high - low) * (size.height - TOP - BOTTOM);
        let shown = thinned(points, 400);
        let line = path(shown.iter().map(|(t, v)| (x(*t), y(*v))));
        let floor = y(low);
        let area = format!("{line}L{:.1} {floor:.1}L{:.1} {floor:.1}Z", x(to), x(from));
        let levels: Vec<f64> = {
            let count = ((high - low) / step).round() as usize;
            (0..=count.min(8)).map(|n| low + step * n as f64).collect()
        };
        let times: Vec<f64> = (0..size.ticks).map(|n| from + seconds * n as f64 / (size.ticks - 1) as f64).collect();
        let title = format!("{id}-{}", size.class);
        let f = |n: f64| format!("{n:.1}");
        html! {
            svg.plot.(size.class) viewBox=(format!("0 0 {} {}", size.width, size.height)) role="img"
                aria-labelledby=(format!("{title}-t {title}-d")) {
                title id=(format!("{title}-t")) { "The SLI before and after" }
                desc id=(format!("{title}-d")) { (said) }
                @for level in &levels {
                    line.grid x1=(f(LEFT)) x2=(f(size.width - RIGHT)) y1=(f(y(*level))) y2=(f(y(*level))) {}
                    text.tick x=(f(LEFT - 6.0)) y=(f(y(*level) + 4.0)) text-anchor="end" { (parts::number(*level)) }
                }
                @for (n, t) in times.iter().enumerate() {
                    text.tick x=(f(x(*t))) y=(f(size.height - 6.0))
                        text-anchor=(if n == 0 { "start" } else if n + 1 == times.len() { "end" } else { "middle" }) {
                        (at(*t))
                    }
                }
                path.area d=(area) {}
                @if let Some(limit) = limit.filter(|l| (low..=high).contains(l)) {
                    line.limit x1=(f(LEFT)) x2=(f(size.width - RIGHT)) y1=(f(y(limit))) y2=(f(y(limit))) {}
                    text.limit-text x=(f(size.width - RIGHT)) y=(f(if y(limit) > TOP + 18.0 { y(limit) - 5.0 } else { y(limit) + 14.0 }))
                        text-anchor="end" { "limit " (parts::number(limit)) }
                }
                path.line d=(line) {}
                @for (t, what) in self.marks.iter().filter(|(t, _)| (from..=to).contains(t)) {
                    line.mark x1=(f(x(*t))) x2=(f(x(*t))) y1=(f(TOP - 8.0)) y2=(f(floor)) {}
                    @let late = x(*t) > size.width * 0.7;
                    text.mark-text x=(f(x(*t) + if late { -4.0 } else { 4.0 })) y="14" text-anchor=(if late { "end" } else { "start" }) {
                        (what)
                    }
                }
            }
        }
    }
}

/// A condition, for people.
pub(super) fn good(good: Good) -> String {
    match good {
        Good::Below(limit) => format!("below {}", parts::number(limit)),
        Good::Above(limit) => format!("above {}", parts::number(limit)),
    }
}

fn at(seconds: f64) -> String {
    let text = Timestamp::from_millis((seconds * 1000.0) as i64).to_string();
    text.get(11..19).unwrap_or_default().to_owned()
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    points.enumerate().map(|(n, (x, y))| format!("{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' })).collect()
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice(rough: f64) -> f64 {
    if !rough.is_finite() || rough <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|n| n * power).into_iter().find(|step| *step >= rough * 0.999).unwrap_or(power * 10.0)
}

/// At most so many points, first and last among them.
fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most {
        return points.to_vec();
    }
    let step = (points.len() - 1) as f64 / (most - 1) as f64;
    (0..most).filter_map(|n| points.get((n as f64 * step).round() as usize).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: Vec<(f64, f64)>) -> Curve {
        Curve {
            points,
            good: Some(Good::Below(0.1)),
            marks: vec![(1_000_030.0, "restart".to_owned())],
            query: "rate(<b>)".to_owned(),
        }
    }

    #[test]
    fn a_curve_says_in_words_what_it_shows() {
        let drawn =
            curve((0..7).map(|n| (1_000_000.0 + f64::from(n) * 10.0, if n < 3 { 0.5 } else { 0.01 })).collect());
        let text = drawn.show("sli").into_string();
        assert!(
            text.contains("At worst 0.5 before the first action, 0.01 at the end. It must be below 0.1."),
            "{text}"
        );
        assert_eq!(text.matches("<svg").count(), 2);
        assert!(text.contains("role=\"img\"") && text.contains("restart") && text.contains("rate(&lt;b&gt;)"));
        assert_eq!(text.matches("<tr>").count(), 8);
        assert!(!text.contains("NaN") && !text.contains("style="));
    }

    #[test]
    fn odd_curves_are_drawn_all_the_same() {
        for points in [
            vec![],
            vec![(1.0, f64::NAN)],
            vec![(5.0, 1.0)],
            vec![(5.0, 0.0), (6.0, 0.0)],
            vec![(5.0, -3.0), (6.0, 1e12)],
            vec![(5.0, f64::INFINITY), (6.0, 2.0)],
        ] {
            let text = curve(points).show("sli").into_string();
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
    }

    #[test]
    fn steps_are_round() {
        for (rough, step) in [(0.03, 0.05), (0.2, 0.2), (3.3, 5.0), (7.0, 10.0), (0.0, 1.0)] {
            assert!((nice(rough) - step).abs() < 1e-9, "{rough}");
        }
    }
}
