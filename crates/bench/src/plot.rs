//! Plots: one SVG with a panel for each thing that was swept, light or dark as the reader's screen is.
//!
//! A line joins the medians of one task; a bar at each goes from the smallest to the largest. The values of what was
//! swept stand at even distances, because they are usually doubled. The vertical axis begins at nothing.

use std::fmt::Write as _;

use crate::statistics::Spread;

/// One plot of its own.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub x_title: String,
    pub y_title: String,
    /// What stands at the horizontal axis, from left to right.
    pub values: Vec<String>,
    pub lines: Vec<Line>,
}

/// One line of a panel.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    /// At the n-th value of the panel.
    pub points: Vec<(usize, Spread)>,
    /// What the others are compared with: dashed.
    pub is_floor: bool,
}

/// One below the other.
const PANEL: (f64, f64) = (720.0, 300.0);
/// The area of the lines in a panel: left, top, right, bottom. Their names stand to the right of it.
const AREA: (f64, f64, f64, f64) = (62.0, 40.0, 470.0, 240.0);
const NAMES: f64 = 494.0;
const NAME_HEIGHT: f64 = 19.0;
const HEAD: f64 = 78.0;
/// Lines with a colour of their own.
const COLORS: usize = 6;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1f2328}\
.back{fill:#fff}.h1{font-size:17px;font-weight:600}.h2{font-size:13px;font-weight:600}.quiet{fill:#59636e}\
.grid{stroke:#d8dee4}.axis{stroke:#818b98}.mark,.bar{fill:none;stroke-width:2}.bar{stroke-width:1.2;opacity:.7}\
.dash{stroke-dasharray:5 4}\
.c0{color:#0969da;stroke:currentColor}.c1{color:#bc4c00;stroke:currentColor}.c2{color:#1a7f37;stroke:currentColor}\
.c3{color:#8250df;stroke:currentColor}.c4{color:#9a6700;stroke:currentColor}.c5{color:#bf3989;stroke:currentColor}\
.floor{color:#818b98;stroke:currentColor}.dot{fill:currentColor;stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.back{fill:#0d1117}.quiet{fill:#9198a1}.grid{stroke:#2d333b}\
.axis{stroke:#6e7681}.c0{color:#58a6ff}.c1{color:#f0883e}.c2{color:#3fb950}\
.c3{color:#bc8cff}.c4{color:#d29922}.c5{color:#f778ba}}";

/// The whole image.
pub fn svg(title: &str, notes: [&str; 2], panels: &[Panel]) -> String {
    let (width, height) = (PANEL.0, HEAD + PANEL.1 * panels.len().max(1) as f64);
    let mut image = String::new();
    let title_text = escape(title);
    let _ = write!(
        image,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{title_text}\">\n<title>{title_text}</title>\n\
         <style>{STYLE}</style>\n<rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"h1\" x=\"20\" y=\"28\">{title_text}</text>\n\
         <text class=\"quiet\" x=\"20\" y=\"48\">{}</text>\n<text class=\"quiet\" x=\"20\" y=\"64\">{}</text>\n",
        escape(notes[0]),
        escape(notes[1])
    );
    for (at, panel) in panels.iter().enumerate() {
        let _ = writeln!(image, "<g transform=\"translate(10 {})\">", HEAD + at as f64 * PANEL.1);
        draw(panel, &mut image);
        image.push_str("</g>\n");
    }
    image + "</svg>\n"
}

fn draw(panel: &Panel, image: &mut String) {
    let (left, top, right, bottom) = AREA;
    let largest = panel.lines.iter().flat_map(|line| &line.points).map(|(_, spread)| spread.max);
    let step = step(largest.filter(|value| value.is_finite()).fold(0.0, f64::max));
    let steps = steps(panel, step);
    let y = |value: f64| bottom - (bottom - top) * value / (step * steps as f64);
    // One value alone stands in the middle.
    let slots = panel.values.len().max(1) as f64;
    let x = |at: usize| left + (right - left) * (at as f64 + 0.5) / slots;
    let _ = writeln!(image, "<text class=\"h2\" x=\"{left}\" y=\"22\">{}</text>", escape(&panel.title));
    for at in 0..=steps {
        let (value, class) = (step * at as f64, if at == 0 { "axis" } else { "grid" });
        let height = y(value);
        let _ = writeln!(
            image,
            "<line class=\"{class}\" x1=\"{left}\" x2=\"{right}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
             <text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            height + 4.0,
            number(value, step)
        );
    }
    for (at, value) in panel.values.iter().enumerate() {
        let _ = writeln!(
            image,
            "<text class=\"quiet\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x(at),
            bottom + 18.0,
            escape(value)
        );
    }
    let middle = (left + right) / 2.0;
    let _ = writeln!(
        image,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text x=\"14\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {:.1})\">{}</text>",
        bottom + 38.0,
        escape(&panel.x_title),
        (top + bottom) / 2.0,
        (top + bottom) / 2.0,
        escape(&panel.y_title)
    );
    legend(panel, image);
    let at = |(slot, value): (usize, f64)| (x(slot), y(value));
    panel.lines.iter().enumerate().for_each(|(number, line)| draw_line(line, number, &at, image));
}

fn draw_line(line: &Line, number: usize, at: &dyn Fn((usize, f64)) -> (f64, f64), image: &mut String) {
    let class = class(line, number);
    let points: Vec<&(usize, Spread)> = line.points.iter().filter(|(_, spread)| spread.median.is_finite()).collect();
    let path = points.iter().map(|(slot, spread)| {
        let (x, y) = at((*slot, spread.median));
        format!("{x:.1},{y:.1}")
    });
    let dash = if line.is_floor { " dash" } else { "" };
    let path = path.collect::<Vec<_>>().join(" ");
    let _ = writeln!(image, "<polyline class=\"mark {class}{dash}\" points=\"{path}\"/>");
    for (slot, spread) in points {
        let ((x, low), (_, high)) = (at((*slot, spread.min)), at((*slot, spread.max)));
        let (_, middle) = at((*slot, spread.median));
        let _ = writeln!(
            image,
            "<g class=\"{class}\"><title>{}: {}</title><path class=\"bar {class}\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} \
             {low:.1}h6M{:.1} {high:.1}h6\"/><circle class=\"dot\" cx=\"{x:.1}\" cy=\"{middle:.1}\" r=\"3.6\"/></g>",
            escape(&line.name),
            spread.show(2),
            x - 3.0,
            x - 3.0
        );
    }
}

/// The names of the lines, one below the other.
fn legend(panel: &Panel, image: &mut String) {
    let (_, top, ..) = AREA;
    for (at, line) in panel.lines.iter().enumerate() {
        let (x, y) = (NAMES, top + 10.0 + at as f64 * NAME_HEIGHT);
        let dash = if line.is_floor { " dash" } else { "" };
        let _ = writeln!(
            image,
            "<line class=\"mark {}{dash}\" x1=\"{x}\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/><text x=\"{}\" y=\"{y}\">{}</text>",
            class(line, at),
            x + 18.0,
            y - 4.0,
            y - 4.0,
            x + 24.0,
            escape(&line.name)
        );
    }
}

fn class(line: &Line, number: usize) -> String {
    if line.is_floor { "floor".to_owned() } else { format!("c{}", number % COLORS) }
}

/// 1, 2 or 5 times a power of ten, so that four to ten of it reach `largest`.
fn step(largest: f64) -> f64 {
    if largest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf((largest / 5.0).log10().floor());
    let fits = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    fits.into_iter().find(|step| largest / step <= 6.0).unwrap_or(10.0 * power)
}

/// Steps from nothing to above all that is drawn.
fn steps(panel: &Panel, step: f64) -> usize {
    let largest = panel.lines.iter().flat_map(|line| &line.points).map(|(_, spread)| spread.max);
    (largest.filter(|value| value.is_finite()).fold(0.0, f64::max) / step).ceil().max(1.0) as usize
}

/// A number at an axis, with as many decimals as its step needs.
fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // No XML may hold them, escaped or not.
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
