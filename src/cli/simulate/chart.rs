//! Pictures over time as SVG: one time axis for all of them, labels at the ends of lines.

use std::fmt::Write as _;

/// Width of a picture, and of what stands left and right of its axes.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 120.0;

/// Height of a picture, and of what stands above and below its axes.
const HEIGHT: f64 = 150.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// Least distance of two labels at the ends of lines.
const LABEL: f64 = 15.0;

/// Text that means nothing in markup.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A line over time.
pub struct Curve {
    /// CSS class: `old`, `new` or `bound`.
    pub class: &'static str,
    /// What stands at its end.
    pub label: String,
    /// Seconds and values; absent ones leave a gap.
    pub points: Vec<(u64, Option<f64>)>,
    /// Whether the value stays until the next one.
    pub steps: bool,
}

/// What all pictures of a release share: its length and what is told at each moment.
pub struct Axis {
    /// Seconds at the right end.
    pub seconds: u64,
    /// Moments and what the reader is told when pointing at them.
    pub hints: Vec<(u64, String)>,
    /// Moments that matter in each picture.
    pub marks: Vec<u64>,
}

impl Axis {
    #[allow(clippy::cast_precision_loss, reason = "hours have few seconds")]
    fn x(&self, second: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * second as f64 / self.seconds.max(1) as f64
    }

    /// Seconds between two ticks.
    fn tick(&self) -> u64 {
        let steps = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
        steps
            .into_iter()
            .find(|step| self.seconds / step <= 9)
            .unwrap_or(7200)
    }

    fn begin(&self, title: &str, height: f64) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
            escape(title)
        );
        let low = height - BOTTOM;
        let tick = self.tick();
        let mut at = 0;
        // Writing to a string does not fail, here and below.
        while at <= self.seconds {
            let x = self.x(at);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{low}\"/><text x=\"{x:.1}\" y=\"{:.1}\" class=\"tick mid\">{}:{:02}</text>",
                height - 8.0,
                at / 60,
                at % 60
            );
            at += tick;
        }
        for mark in &self.marks {
            let x = self.x(*mark);
            let _ = writeln!(svg, "<path class=\"mark\" d=\"M{x:.1} {TOP}V{low}\"/>");
        }
        svg
    }

    /// Strips that show a hint each, over everything.
    fn finish(&self, mut svg: String, height: f64) -> String {
        for (index, (at, hint)) in self.hints.iter().enumerate() {
            let next = self
                .hints
                .get(index + 1)
                .map_or(self.seconds, |(next, _)| *next);
            let (x, end) = (self.x(*at), self.x(next));
            let _ = writeln!(
                svg,
                "<rect class=\"hint\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}</title></rect>",
                (end - x).max(1.0),
                height - TOP - BOTTOM,
                escape(hint)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// Curves from `low` to `high`, whose ticks are written with a unit.
pub fn lines(
    title: &str,
    axis: &Axis,
    curves: &[Curve],
    (low, high): (f64, f64),
    unit: &str,
) -> String {
    let mut svg = axis.begin(title, HEIGHT);
    let span = (high - low).max(f64::EPSILON);
    let y = |value: f64| {
        let share = ((value - low) / span).clamp(0.0, 1.0);
        TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share)
    };
    for part in [0.0, 0.5, 1.0] {
        let value = low + span * part;
        let at = y(value);
        let digits = usize::from(span < 4.0);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"tick end\">{value:.digits$}{unit}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut labels: Vec<(f64, &Curve)> = Vec::new();
    for curve in curves {
        let (mut path, mut drawn) = (String::new(), false);
        for (at, value) in &curve.points {
            let Some(value) = value else {
                drawn = false;
                continue;
            };
            let (x, height) = (axis.x(*at), y(*value));
            let _ = match (drawn, curve.steps) {
                (false, _) => write!(path, "M{x:.1} {height:.1}h.1"),
                (true, true) => write!(path, "H{x:.1}V{height:.1}"),
                (true, false) => write!(path, "L{x:.1} {height:.1}"),
            };
            drawn = true;
        }
        let _ = writeln!(svg, "<path class=\"line {}\" d=\"{path}\"/>", curve.class);
        if let Some(value) = curve.points.iter().rev().find_map(|(_, value)| *value) {
            labels.push((y(value), curve));
        }
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = f64::NEG_INFINITY;
    let most = HEIGHT - BOTTOM + 4.0
        - LABEL * f64::from(u32::try_from(labels.len()).unwrap_or(1).saturating_sub(1));
    for (wanted, curve) in labels {
        let at = (wanted + 4.0)
            .min(most.max(above + LABEL))
            .max(above + LABEL);
        above = at;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{at:.1}\" class=\"label {}\">{}</text>",
            WIDTH - RIGHT + 8.0,
            curve.class,
            escape(&curve.label)
        );
    }
    axis.finish(svg, HEIGHT)
}

/// A sign at a moment: its second, its CSS class, its shape and what it says.
pub type Sign = (u64, &'static str, &'static str, String);

/// Rows of signs, each with its name.
pub fn rows(title: &str, axis: &Axis, rows: &[(String, Vec<Sign>)]) -> String {
    let count = f64::from(u32::try_from(rows.len()).unwrap_or(1));
    let height = TOP + BOTTOM + 26.0 * count;
    let mut svg = axis.begin(title, height);
    let mut at = TOP + 18.0;
    for (name, signs) in rows {
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{at:.1}\" class=\"label\">{}</text>",
            at - 5.0,
            WIDTH - RIGHT,
            WIDTH - RIGHT + 8.0,
            escape(name)
        );
        for (second, class, shape, text) in signs {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{at:.1}\" class=\"sign {class}\">{shape}<title>{}</title></text>",
                axis.x(*second),
                escape(text)
            );
        }
        at += 26.0;
    }
    svg.push_str("</svg>\n");
    svg
}
