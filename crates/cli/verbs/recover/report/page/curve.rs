//! The curve of sites that are back, over time, with what is still to come: drawn twice, for wide and for narrow screens,
//! so that letters have their size on both.

use std::time::Duration;

use lifeboat_control::recovery::{CurvePoint, Report};

use super::super::html::Html;
use crate::output::{count, duration};

/// More corners than a screen has points are left out.
const CORNERS_MAX: usize = 360;
/// What an axis of time is divided by, in seconds.
const STEPS: [u64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000,
    864_000, 2_592_000,
];

struct Frame {
    open: &'static str,
    width: f64,
    height: f64,
    /// Marks at each axis, at most.
    marks: u64,
}

const LEFT: f64 = 46.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 42.0;
const FRAMES: [Frame; 2] = [
    Frame { open: "<svg class=\"curve wide\" viewBox=\"0 0 720 280\"", width: 720.0, height: 280.0, marks: 8 },
    Frame { open: "<svg class=\"curve narrow\" viewBox=\"0 0 340 240\"", width: 340.0, height: 240.0, marks: 4 },
];

pub(super) fn draw(html: &mut Html, report: &Report<'_>) {
    html.raw("<h2>Sites back over time</h2>\n");
    if report.curve.is_empty() {
        html.raw("<p class=\"quiet\">No site is back yet.</p>\n");
        return;
    }
    html.raw("<figure>\n");
    FRAMES.iter().for_each(|frame| draw_one(html, report, frame));
    html.raw("</figure>\n");
}

/// Where things lie: seconds to the right, sites upwards.
struct Scale<'a> {
    frame: &'a Frame,
    seconds: f64,
    sites: f64,
}

impl Scale<'_> {
    fn x(&self, seconds: f64) -> f64 {
        LEFT + (self.frame.width - LEFT - RIGHT) * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    fn y(&self, sites: f64) -> f64 {
        let bottom = self.frame.height - BOTTOM;
        bottom - (bottom - TOP) * (sites / self.sites).clamp(0.0, 1.0)
    }
}

fn draw_one(html: &mut Html, report: &Report<'_>, frame: &Frame) {
    let elapsed = report.totals.elapsed.as_secs_f64();
    let ahead = report.estimate.map_or(0.0, |estimate| estimate.left_max.as_secs_f64());
    let scale = Scale { frame, seconds: (elapsed + ahead).max(1.0), sites: report.totals.counts.all.max(1) as f64 };
    html.raw(frame.open).raw(" role=\"img\" aria-label=\"").text(words(report)).raw("\">\n");
    axes(html, &scale);
    if let Some(estimate) = report.estimate {
        let counts = report.totals.counts;
        let goal = (counts.restored + counts.running + counts.waiting) as f64;
        let end = |left: Duration| elapsed + left.as_secs_f64();
        html.raw("<polygon class=\"ahead\" points=\"");
        corner(html, &scale, elapsed, counts.restored as f64);
        corner(html, &scale, end(estimate.left_min), goal);
        corner(html, &scale, end(estimate.left_max), goal);
        html.raw("\"/>\n<polyline class=\"ahead\" points=\"");
        corner(html, &scale, elapsed, counts.restored as f64);
        corner(html, &scale, end(estimate.left), goal);
        html.raw("\"/>\n");
    }
    html.raw("<polyline class=\"line\" points=\"");
    corner(html, &scale, 0.0, 0.0);
    let mut before = 0.0;
    for CurvePoint { after, restored } in thinned(&report.curve) {
        corner(html, &scale, after.as_secs_f64(), before);
        before = restored as f64;
        corner(html, &scale, after.as_secs_f64(), before);
    }
    corner(html, &scale, elapsed, before);
    html.raw("\"/>\n</svg>\n");
}

fn corner(html: &mut Html, scale: &Scale<'_>, seconds: f64, sites: f64) {
    html.at(scale.x(seconds)).raw(",").at(scale.y(sites)).raw(" ");
}

fn axes(html: &mut Html, scale: &Scale<'_>) {
    let Frame { width, height, marks, .. } = *scale.frame;
    let step = site_step(scale.sites as u64, marks);
    for sites in (0..=scale.sites as u64).step_by(step as usize) {
        let y = scale.y(sites as f64);
        html.raw(if sites == 0 { "<line class=\"axis\" x1=\"" } else { "<line class=\"grid\" x1=\"" });
        html.at(LEFT).raw("\" x2=\"").at(width - RIGHT).raw("\" y1=\"").at(y).raw("\" y2=\"").at(y).raw("\"/>");
        html.raw("<text class=\"end\" x=\"").at(LEFT - 6.0).raw("\" y=\"").at(y + 4.0).raw("\">");
        html.text(count(sites)).raw("</text>\n");
    }
    let step = time_step(scale.seconds, marks);
    for seconds in (0..=scale.seconds as u64).step_by(step as usize) {
        let (x, bottom) = (scale.x(seconds as f64), height - BOTTOM);
        html.raw("<line class=\"axis\" x1=\"").at(x).raw("\" x2=\"").at(x).raw("\" y1=\"").at(bottom);
        html.raw("\" y2=\"").at(bottom + 4.0).raw("\"/><text class=\"middle\" x=\"").at(x).raw("\" y=\"");
        html.at(bottom + 18.0).raw("\">").text(clock(seconds)).raw("</text>\n");
    }
    html.raw("<text class=\"end\" x=\"").at(width - RIGHT).raw("\" y=\"").at(height - 6.0);
    html.raw("\">since it began</text>\n<text class=\"middle\" transform=\"rotate(-90)\" x=\"");
    html.at(-(TOP + height - BOTTOM) / 2.0).raw("\" y=\"11\">sites back</text>\n");
}

/// What the drawing says, for those who do not see it.
fn words(report: &Report<'_>) -> String {
    let totals = &report.totals;
    let first = totals.first_back.map_or_else(String::new, |first| format!("the first after {}, ", duration(first)));
    format!(
        "{} of {} sites were back after {}, {first}and half of those that are after {}",
        count(totals.counts.restored as u64),
        count(totals.counts.all as u64),
        duration(totals.elapsed),
        duration(half(&report.curve)),
    )
}

fn half(curve: &[CurvePoint]) -> Duration {
    let all = curve.last().map_or(0, |last| last.restored);
    curve.iter().find(|point| point.restored * 2 >= all).map_or(Duration::ZERO, |point| point.after)
}

/// At most so many corners, the last one among them.
fn thinned(curve: &[CurvePoint]) -> impl Iterator<Item = CurvePoint> {
    let nth = curve.len().div_ceil(CORNERS_MAX).max(1);
    let last = curve.len().saturating_sub(1);
    curve.iter().enumerate().filter(move |(place, _)| (last - place).is_multiple_of(nth)).map(|(_, point)| *point)
}

/// 1, 2 or 5 times a power of ten.
fn site_step(sites: u64, marks: u64) -> u64 {
    let powers = (0..19).map(|power| 10u64.pow(power));
    let steps = powers.flat_map(|power| [power, power.saturating_mul(2), power.saturating_mul(5)]);
    steps.into_iter().find(|step| sites / step <= marks).unwrap_or(u64::MAX)
}

fn time_step(seconds: f64, marks: u64) -> u64 {
    let fits = STEPS.into_iter().find(|step| seconds as u64 / step <= marks);
    fits.unwrap_or((seconds as u64 / marks).max(1))
}

/// The largest units that say it: `30 s`, `5 min`, `2 h`, `1 h 30 min`, `2 d`.
fn clock(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds % 86_400 / 3_600, seconds % 3_600 / 60);
    let units = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")];
    let said: Vec<String> =
        units.iter().filter(|(n, _)| *n > 0).take(2).map(|(n, unit)| format!("{n} {unit}")).collect();
    if said.is_empty() { "0".to_owned() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_few_round_and_told_in_units_that_fit() {
        let check = |sites, marks, want| assert_eq!(site_step(sites, marks), want, "{sites} {marks}");
        check(1, 8, 1);
        check(8, 8, 1);
        check(400, 8, 50);
        check(883, 4, 200);
        check(5_000, 8, 1_000);
        let check = |seconds: f64, marks, want| assert_eq!(time_step(seconds, marks), want, "{seconds} {marks}");
        check(1.0, 8, 1);
        check(100.0, 8, 15);
        check(3_600.0, 4, 900);
        check(1e9, 4, 250_000_000);
        let check = |seconds, want: &str| assert_eq!(clock(seconds), want);
        check(0, "0");
        check(45, "45 s");
        check(900, "15 min");
        check(5_400, "1 h 30 min");
        check(172_800, "2 d");
    }

    #[test]
    fn a_curve_of_many_corners_keeps_its_end() {
        let curve: Vec<CurvePoint> =
            (1..=5_000).map(|n| CurvePoint { after: Duration::from_secs(n as u64), restored: n }).collect();
        let thin: Vec<CurvePoint> = thinned(&curve).collect();
        assert!(thin.len() <= CORNERS_MAX && thin.last() == curve.last(), "{}", thin.len());
        assert_eq!(thinned(&curve[..3]).count(), 3);
    }
}
