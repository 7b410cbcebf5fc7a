//! Plots in SVG: axes, lines, bands, marks. Colours are classes; the style sheet has them for light
//! and dark.

use std::fmt::Write;

use super::html::esc;
use super::words;

/// How a number becomes a place.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
    name: String,
}

impl Axis {
    /// Seconds, from zero.
    pub(super) fn time(to: f64) -> Self {
        let to = to.max(1e-3);
        let in_minutes = to > 600.0;
        let step = step(to, 7, &[1.0, 2.0, 5.0, 10.0]);
        let step = if in_minutes { (step / 60.0).ceil() * 60.0 } else { step };
        let label = |s: f64| if in_minutes { trim(s / 60.0) } else { trim(s) };
        let ticks = ticks(step, to).map(|s| (s, label(s))).collect();
        let name = if in_minutes { "minutes" } else { "seconds" };
        Self { from: 0.0, to, ticks, name: name.into() }
    }

    /// From 0 to 100 %, and beyond if need be.
    pub(super) fn share(to: f64) -> Self {
        let to = to.max(1.0);
        let step = if to > 1.5 { 0.5 } else { 0.25 };
        let ticks = ticks(step, to).map(|at| (at, format!("{:.0} %", at * 100.0))).collect();
        Self { from: 0.0, to, ticks, name: String::new() }
    }

    /// Bytes per second, from zero.
    pub(super) fn rate(to: f64) -> Self {
        let to = nice(to.max(1.0));
        let (unit, name) = match to {
            to if to >= 1e9 => (1e9, "GB/s"),
            to if to >= 1e6 => (1e6, "MB/s"),
            to if to >= 1e3 => (1e3, "kB/s"),
            _ => (1.0, "B/s"),
        };
        let step = step(to, 5, &[1.0, 2.0, 2.5, 5.0, 10.0]);
        let ticks = ticks(step, to).map(|at| (at, trim(at / unit))).collect();
        Self { from: 0.0, to, ticks, name: name.into() }
    }

    /// A number of something, from zero.
    pub(super) fn number(to: f64, name: &str) -> Self {
        let to = nice(to.max(1e-9));
        let step = step(to, 5, &[1.0, 2.0, 5.0, 10.0]);
        let ticks = ticks(step, to).map(|at| (at, trim(at))).collect();
        Self { from: 0.0, to, ticks, name: name.into() }
    }

    /// From zero to this number and not beyond.
    pub(super) fn up_to(to: f64, name: &str) -> Self {
        let mut axis = Self::number(to, name);
        axis.ticks.retain(|(at, _)| *at <= to);
        axis.to = to.max(1e-9);
        axis
    }

    /// From one number to another, neither of which need be zero.
    pub(super) fn between(from: f64, to: f64, name: &str) -> Self {
        let span = (to - from).max(1e-9);
        let step = step(span, 5, &[1.0, 2.0, 5.0, 10.0]);
        let first = (from / step).ceil();
        let ticks = (0..20)
            .map(|at| (first + f64::from(at)) * step)
            .take_while(|at| *at <= to)
            .map(|at| (at, trim(at)))
            .collect();
        Self { from, to: from + span, ticks, name: name.into() }
    }

    /// Names at whole numbers from zero on.
    pub(super) fn names(names: &[String]) -> Self {
        let ticks = names.iter().enumerate().map(|(at, name)| (at as f64, name.clone())).collect();
        Self { from: -0.5, to: names.len() as f64 - 0.5, ticks, name: String::new() }
    }

    fn share_of(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

fn ticks(step: f64, to: f64) -> impl Iterator<Item = f64> {
    (0..100).map(move |at| f64::from(at) * step).take_while(move |at| *at <= to * 1.000_001)
}

/// The least of these, times a power of ten, with which there are at most so many steps.
fn step(span: f64, steps: u32, of: &[f64]) -> f64 {
    let least = span / f64::from(steps);
    let power = 10_f64.powf(least.log10().floor());
    of.iter().map(|one| one * power).find(|step| *step >= least).unwrap_or(least)
}

/// A round number that is not less.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .iter()
        .map(|one| one * power)
        .find(|nice| *nice >= value * 0.999_999)
        .unwrap_or(value)
}

fn trim(value: f64) -> String {
    let digits = if value.abs() >= 100.0 || value.fract().abs() < 1e-9 { 0 } else { 2 };
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// Two axes and what is drawn between them.
#[derive(Debug)]
pub(super) struct Plot {
    width: f64,
    height: f64,
    left: f64,
    top: f64,
    x: Axis,
    y: Axis,
    body: String,
    labels: String,
    /// Labels of rules so far, to have them not on top of each other.
    rules: usize,
}

const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 34.0;

impl Plot {
    pub(super) fn new(width: f64, height: f64, x: Axis, y: Axis) -> Self {
        let longest = y.ticks.iter().map(|(_, label)| label.chars().count()).max().unwrap_or(0);
        let left = 14.0 + 6.6 * longest as f64;
        let top = if y.name.is_empty() { 12.0 } else { 26.0 };
        let (body, labels) = (String::new(), String::new());
        Self { width, height, left, top, x, y, body, labels, rules: 0 }
    }

    fn px(&self, x: f64) -> f64 {
        self.left + self.x.share_of(x) * (self.width - self.left - RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        self.height - BOTTOM - self.y.share_of(y) * (self.height - self.top - BOTTOM)
    }

    fn path(&self, points: impl Iterator<Item = (f64, f64)>) -> String {
        let mut path = String::new();
        let mut last = (f64::NAN, f64::NAN);
        for (x, y) in points {
            let at = ((self.px(x) * 10.0).round() / 10.0, (self.py(y) * 10.0).round() / 10.0);
            if at != last {
                let _ =
                    write!(path, "{}{} {}", if path.is_empty() { 'M' } else { 'L' }, at.0, at.1);
                last = at;
            }
        }
        path
    }

    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let path = self.path(points);
        let _ = write!(self.body, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// Between the lower and the upper line of these: x, lower, upper.
    pub(super) fn band(
        &mut self,
        class: &str,
        points: impl DoubleEndedIterator<Item = (f64, f64, f64)> + Clone,
    ) {
        let upper = points.clone().map(|(x, _, upper)| (x, upper));
        let lower = points.rev().map(|(x, lower, _)| (x, lower));
        let path = self.path(upper.chain(lower));
        let _ = write!(self.body, "<path class=\"band {class}\" d=\"{path}Z\"/>");
    }

    /// A line across at an x, with a label at its head.
    pub(super) fn rule(&mut self, class: &str, x: f64, label: &str) {
        let (at, top, bottom) = (self.px(x), self.top, self.height - BOTTOM);
        let _ =
            write!(self.body, "<path class=\"rule {class}\" d=\"M{at:.1} {top:.1}V{bottom:.1}\"/>");
        if label.is_empty() {
            return;
        }
        let wide = 6.3 * label.chars().count() as f64 + 8.0;
        let is_left = at + wide > self.width - RIGHT && at - wide > self.left;
        let is_left = is_left || at > self.width * 0.75;
        let (anchor, dx) = if is_left { ("end", -5.0) } else { ("start", 5.0) };
        let y = top + 12.0 + 15.0 * self.rules as f64;
        self.rules += 1;
        let _ = write!(
            self.labels,
            "<text class=\"note {class}\" x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            at + dx,
            esc(label)
        );
    }

    /// A line across at a y, with a label at its end.
    pub(super) fn level(&mut self, class: &str, y: f64, label: &str) {
        let (from, to, at) = (self.left, self.width - RIGHT, self.py(y));
        let _ =
            write!(self.body, "<path class=\"rule {class}\" d=\"M{from:.1} {at:.1}H{to:.1}\"/>");
        let _ = write!(
            self.labels,
            "<text class=\"note {class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            to - 3.0,
            at - 5.0,
            esc(label)
        );
    }

    /// A short mark on the x axis.
    pub(super) fn tick(&mut self, class: &str, x: f64, title: &str) {
        let (at, bottom) = (self.px(x), self.height - BOTTOM);
        let _ = write!(
            self.body,
            "<path class=\"mark {class}\" d=\"M{at:.1} {bottom:.1}v-7\"><title>{}</title></path>",
            esc(title)
        );
    }

    pub(super) fn dot(&mut self, class: &str, x: f64, y: f64, title: &str) {
        let _ = write!(
            self.body,
            "<circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.6\">",
            self.px(x),
            self.py(y)
        );
        if !title.is_empty() {
            let _ = write!(self.body, "<title>{}</title>", esc(title));
        }
        self.body.push_str("</circle>");
    }

    /// From the lower end of the y axis up to y, as wide as `share` of one on the x axis.
    pub(super) fn bar(&mut self, class: &str, x: f64, share: f64, y: f64, title: &str) {
        let (from, to) = (self.px(x - share / 2.0), self.px(x + share / 2.0));
        let (top, bottom) = (self.py(y), self.height - BOTTOM);
        let _ = write!(
            self.body,
            "<rect class=\"bar {class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
             height=\"{:.1}\" rx=\"1.5\"><title>{}</title></rect>",
            (to - from).max(1.0),
            (bottom - top).max(0.5),
            esc(title)
        );
    }

    /// From one x to another at the height of a y: at least as long as it is high.
    pub(super) fn spell(&mut self, class: &str, (from, to): (f64, f64), y: f64, title: &str) {
        let (from, to, y) = (self.px(from), self.px(to), self.py(y));
        let width = (to - from).max(4.0);
        let from = from.min(self.width - RIGHT - width);
        let _ = write!(
            self.body,
            "<rect class=\"spell {class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
             height=\"10\" rx=\"2\"><title>{}</title></rect>",
            y - 5.0,
            esc(title)
        );
    }

    /// An area from one corner to another.
    pub(super) fn cells(&mut self, class: &str, areas: impl Iterator<Item = [f64; 4]>) {
        let mut path = String::new();
        for [x0, y0, x1, y1] in areas {
            let (x0, x1, y0, y1) = (self.px(x0), self.px(x1), self.py(y0), self.py(y1));
            let _ = write!(
                path,
                "M{:.1} {:.1}h{:.1}v{:.1}h{:.1}z",
                x0,
                y1,
                x1 - x0 + 0.3,
                y0 - y1 + 0.3,
                x0 - x1 - 0.3
            );
        }
        if !path.is_empty() {
            let _ = write!(self.body, "<path class=\"cell {class}\" d=\"{path}\"/>");
        }
    }

    /// Text in the middle of a place.
    pub(super) fn text(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let _ = write!(
            self.labels,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            self.px(x),
            self.py(y) + 4.0,
            esc(text)
        );
    }

    /// The plot. `title` says what it is for those who do not see it.
    pub(super) fn finish(self, title: &str) -> String {
        let Self { width, height, left, top, .. } = self;
        let (right, bottom) = (width - RIGHT, height - BOTTOM);
        let mut out = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{}\" data-l=\"{left:.1}\" data-r=\"{right:.1}\" data-t=\"{top:.1}\" \
             data-b=\"{bottom:.1}\" data-from=\"{}\" data-to=\"{}\">",
            esc(title),
            self.x.from,
            self.x.to
        );
        for (value, label) in &self.y.ticks {
            let y = self.py(*value);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>\
                 <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 7.0,
                y + 4.0,
                esc(label)
            );
        }
        if !self.y.name.is_empty() {
            let _ =
                write!(out, "<text class=\"axis\" x=\"2\" y=\"12\">{}</text>", esc(&self.y.name));
        }
        out.push_str(&self.body);
        let _ = write!(out, "<path class=\"base\" d=\"M{left:.1} {bottom:.1}H{right:.1}\"/>");
        let name_width = 7.2 * self.x.name.chars().count() as f64;
        let mut free = f64::NEG_INFINITY;
        for (value, label) in &self.x.ticks {
            let x = self.px(*value);
            let half = 3.4 * label.chars().count() as f64;
            let is_under_name = !self.x.name.is_empty() && x + half > right - name_width - 6.0;
            if x - half < free || is_under_name {
                continue;
            }
            free = x + half + 6.0;
            let _ = write!(
                out,
                "<path class=\"base\" d=\"M{x:.1} {bottom:.1}v4\"/>\
                 <text class=\"axis\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                esc(label)
            );
        }
        if !self.x.name.is_empty() {
            let _ = write!(
                out,
                "<text class=\"axis\" x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                bottom + 18.0,
                esc(&self.x.name)
            );
        }
        out.push_str(&self.labels);
        out.push_str("</svg>");
        out
    }
}

/// A plot for the whole width of a page and one for narrow pages, or one for half the width.
pub(super) fn draw(
    is_wide: bool,
    height: f64,
    title: &str,
    axes: (&Axis, &Axis),
    fill: impl Fn(&mut Plot),
) -> Vec<String> {
    let widths: &[f64] = if is_wide { &[1020.0, 440.0] } else { &[500.0] };
    let one = |width: &f64| {
        let mut plot = Plot::new(*width, height, axes.0.clone(), axes.1.clone());
        fill(&mut plot);
        plot.finish(title)
    };
    widths.iter().map(one).collect()
}

/// What a place on a time axis says.
pub(super) fn when(s: f64) -> String {
    format!("at {}", words::seconds(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| &**label).collect()
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(labels(&Axis::time(63.0)), ["0", "10", "20", "30", "40", "50", "60"]);
        assert_eq!(labels(&Axis::time(1_300.0))[..3], ["0", "4", "8"]);
        assert_eq!(labels(&Axis::rate(1_130_000.0)), ["0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(labels(&Axis::number(7.0, "")), ["0", "2", "4", "6", "8"]);
        assert_eq!(labels(&Axis::between(-1.3, 2.2, "")), ["-1", "0", "1", "2"]);
        assert_eq!(labels(&Axis::share(0.3)), ["0 %", "25 %", "50 %", "75 %", "100 %"]);
    }

    #[test]
    fn what_is_outside_is_drawn_at_the_edge() {
        let plot = Plot::new(100.0, 100.0, Axis::time(10.0), Axis::share(1.0));
        assert!((plot.px(20.0) - plot.px(10.0)).abs() < 1e-9);
        assert!((plot.py(-1.0) - plot.py(0.0)).abs() < 1e-9);
        assert!(plot.py(1.0) < plot.py(0.0));
    }
}
