//! What a curve is: least squares, and a word for it.

/// A straight line, fitted so that each point counts by its relative error.
pub(crate) struct Line {
    /// What it costs at nothing.
    pub(crate) fixed: f64,
    /// What each more costs.
    pub(crate) each: f64,
    /// The largest distance of a point from the line, as a share of the point.
    pub(crate) worst: f64,
}

/// Fits `y = fixed + each * x`, weighted by `1 / y²`.
pub(crate) fn line(points: &[(f64, f64)]) -> Line {
    let (mut s, mut sx, mut sy, mut sxx, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for &(x, y) in points {
        let weight = 1.0 / (y * y).max(f64::MIN_POSITIVE);
        s += weight;
        sx += weight * x;
        sy += weight * y;
        sxx += weight * x * x;
        sxy += weight * x * y;
    }
    let each = (s * sxy - sx * sy) / (s * sxx - sx * sx);
    let fixed = (sy - each * sx) / s;
    let off = |&(x, y): &(f64, f64)| ((fixed + each * x - y) / y).abs();
    Line { fixed, each, worst: points.iter().map(off).fold(0.0, f64::max) }
}

/// The exponent of the power that fits best: the slope of the logarithms. None of less than two points.
pub(crate) fn exponent(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<_> = points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let (mx, my) = (logs.iter().map(|(x, _)| x).sum::<f64>() / count, logs.iter().map(|(_, y)| y).sum::<f64>() / count);
    let sxy: f64 = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    let sxx: f64 = logs.iter().map(|(x, _)| (x - mx) * (x - mx)).sum();
    (logs.len() > 1 && sxx > 0.0).then(|| sxy / sxx)
}

/// How what comes on top of an idle run grows: `points` begin with that of nothing. Up to a tenth off in the exponent is
/// linear: over a factor of a hundred that is a factor of 1.6 in the cost of one.
pub(crate) fn growth(points: &[(f64, f64)]) -> String {
    let Some((&(_, idle), rest)) = points.split_first() else { return "nothing".to_owned() };
    let on_top: Vec<_> = rest.iter().map(|(x, y)| (*x, y - idle)).collect();
    // Below, what is fixed in a run that does something is most of it.
    let large: Vec<_> = on_top.iter().copied().filter(|(x, _)| *x >= 100.0).collect();
    let used = if large.len() > 1 { &large } else { &on_top };
    let line = line(points);
    let (Some(power), Some(first), Some(last)) = (exponent(used), used.first(), used.last()) else {
        return format!("{:.4} each", line.each);
    };
    let word = match power {
        power if power > 1.1 => "MORE THAN LINEAR",
        power if power < 0.9 => "less than linear",
        _ => "linear",
    };
    // The first may have cost nothing more than none.
    let each = (last.1 / last.0) / (first.1 / first.0);
    let share = if each.is_finite() {
        format!("one of {} costs {each:.2} × one of {}; ", last.0, first.0)
    } else {
        String::new()
    };
    format!(
        "{word}: exponent {power:.3} from {} on, {share}{:.4} + {:.4} n, at most {:.0} % off",
        first.0,
        line.fixed,
        line.each,
        line.worst * 100.0
    )
}

/// Whether what is remembered can be felt: `points` begin with that of nothing. A quarter more at the end than at the
/// beginning is still flat: that is what a machine disturbs. So is what grows with the depth of a tree and was next to
/// nothing before, as the bytes that an idle run reads: an exponent of 0.05 makes a quarter more of a factor of a hundred.
pub(crate) fn flatness(points: &[(f64, f64)]) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return "nothing".to_owned() };
    let ratio = last.1 / first.1;
    let most = points.iter().map(|(_, y)| y / first.1).fold(0.0, f64::max);
    let power = exponent(points);
    let word = match power {
        _ if most <= 1.25 => "flat",
        Some(power) if power.abs() <= 0.05 => "flat but for the first",
        _ => "NOT FLAT",
    };
    let power = power.map_or_else(String::new, |power| format!(", exponent {power:.3}"));
    format!("{word}: last/first {ratio:.2}, most/first {most:.2}{power}")
}
