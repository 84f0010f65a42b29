//! Curves as SVG, written by hand: panels with logarithmic axes, ticks, labels and a legend.

use std::fmt::Write as _;
use std::path::Path;

use crate::Failure;

/// One pair of axes.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) curves: Vec<Curve>,
}

/// Points under a name.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const COLUMNS: usize = 2;
const PANEL: (f64, f64) = (470.0, 310.0);
/// Around the axes of a panel: left, top, right, bottom.
const MARGIN: (f64, f64, f64, f64) = (72.0, 34.0, 14.0, 46.0);
const HEAD: f64 = 64.0;
/// Told apart by people who do not see all colours, too (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// A logarithmic axis from one decade to another. Nothing has a place of its own, a decade before the first.
struct Axis {
    from: i32,
    to: i32,
    has_zero: bool,
    length: f64,
}

impl Axis {
    fn over(values: &[f64], length: f64) -> Self {
        let positive = values.iter().copied().filter(|value| *value > 0.0);
        let least = positive.clone().fold(f64::INFINITY, f64::min).min(f64::MAX);
        let most = positive.fold(f64::MIN_POSITIVE, f64::max);
        let has_zero = values.iter().any(|value| *value <= 0.0);
        let from = decade(least.log10().floor());
        Self { from, to: decade((most.log10() - 1e-9).ceil()).max(from + 1), has_zero, length }
    }

    fn first(&self) -> i32 {
        self.from - i32::from(self.has_zero)
    }

    fn place(&self, value: f64) -> f64 {
        let power = if value > 0.0 { value.log10() } else { f64::from(self.first()) };
        (power - f64::from(self.first())) / f64::from(self.to - self.first()) * self.length
    }

    /// Places and labels: each decade, and within it 2 and 5 where there are few.
    fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        if self.has_zero {
            ticks.push((0.0, "0".to_owned()));
        }
        for power in self.from..=self.to {
            for step in [1.0, 2.0, 5.0] {
                let within = power < self.to && self.to - self.from <= 2;
                if step < 1.5 || within {
                    let value = step * 10_f64.powi(power);
                    ticks.push((self.place(value), short(value)));
                }
            }
        }
        ticks
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a decade is a small number")]
fn decade(power: f64) -> i32 {
    power.clamp(-300.0, 300.0) as i32
}

/// A number as an axis bears it.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    format!("{}{unit}", (value * 1000.0).round() / 1000.0)
}

/// Writes the panels into one picture. `x` says what grows.
pub(crate) fn write(path: &Path, title: &str, x: &str, panels: &[Panel]) -> Result<(), Failure> {
    let rows = panels.len().div_ceil(COLUMNS) as f64;
    let (width, height) = (PANEL.0 * COLUMNS as f64, HEAD + PANEL.1 * rows + 8.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"17\">{}</text>\n",
        escaped(title)
    );
    let mut names: Vec<&str> = Vec::new();
    for curve in panels.iter().flat_map(|panel| &panel.curves) {
        if !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    let mut left = 16.0;
    for (index, name) in names.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        writeln!(svg, "<path d=\"M{left} 48h24\" stroke=\"{colour}\" stroke-width=\"2\"/>")?;
        writeln!(svg, "<text x=\"{}\" y=\"52\">{}</text>", left + 30.0, escaped(name))?;
        left += 52.0 + 7.0 * name.len() as f64;
    }
    for (index, panel) in panels.iter().enumerate() {
        let place = ((index % COLUMNS) as f64 * PANEL.0, HEAD + (index / COLUMNS) as f64 * PANEL.1);
        draw(&mut svg, place, x, panel, &names)?;
    }
    svg.push_str("</svg>\n");
    std::fs::write(path, svg)?;
    println!("drawn: {}", path.display());
    Ok(())
}

fn draw(svg: &mut String, place: (f64, f64), x: &str, panel: &Panel, names: &[&str]) -> Result<(), Failure> {
    let (wide, high) = (PANEL.0 - MARGIN.0 - MARGIN.2, PANEL.1 - MARGIN.1 - MARGIN.3);
    let of = |part: fn(&(f64, f64)) -> f64| {
        panel.curves.iter().flat_map(|curve| &curve.points).map(part).collect::<Vec<_>>()
    };
    let (across, up) = (Axis::over(&of(|point| point.0), wide), Axis::over(&of(|point| point.1), high));
    writeln!(svg, "<g transform=\"translate({} {})\">", place.0 + MARGIN.0, place.1 + MARGIN.1)?;
    writeln!(svg, "<text y=\"-12\" font-weight=\"bold\">{}</text>", escaped(&panel.title))?;
    for (at, label) in across.ticks() {
        writeln!(svg, "<path d=\"M{at:.1} 0v{}\" stroke=\"#e4e4e4\"/>", high + 5.0)?;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", high + 19.0)?;
    }
    for (at, label) in up.ticks() {
        let y = high - at;
        writeln!(svg, "<path d=\"M-5 {y:.1}H{wide}\" stroke=\"#e4e4e4\"/>")?;
        writeln!(svg, "<text x=\"-9\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", y + 4.0)?;
    }
    writeln!(svg, "<path d=\"M0 0V{high}H{wide}\" fill=\"none\" stroke=\"#444\"/>")?;
    writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{}</text>",
        wide / 2.0,
        high + 37.0,
        escaped(x)
    )?;
    for curve in &panel.curves {
        let index = names.iter().position(|name| *name == curve.name).unwrap_or_default();
        let colour = COLOURS[index % COLOURS.len()];
        let places: Vec<_> = curve.points.iter().map(|(x, y)| (across.place(*x), high - up.place(*y))).collect();
        let line: Vec<_> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        )?;
        for (x, y) in places {
            writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>")?;
        }
    }
    svg.push_str("</g>\n");
    Ok(())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
