//! Lines over steps or time.

use super::{Axis, Look, WIDTH, at, label, mark, picture, stroke};
use crate::limits::MOST_REPORT_POINTS;
use crate::report::markup::{Markup, tag};

/// A line.
pub(crate) struct Series {
    pub(crate) look: Look,
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether each point has a mark of its own.
    pub(crate) marks: bool,
}

/// A picture of lines.
pub(crate) struct Lines<'l> {
    pub(crate) title: &'l str,
    pub(crate) about: &'l str,
    /// Width and height.
    pub(crate) size: [f64; 2],
    /// What lies along the bottom.
    pub(crate) below: &'l str,
    pub(crate) series: Vec<Series>,
    /// Upright lines, with a letter or number above.
    pub(crate) upright: Vec<(f64, String)>,
}

/// Room for numbers on the left, and above and below the lines.
pub(crate) const MARGINS: [f64; 3] = [44.0, 14.0, 30.0];

impl Lines<'_> {
    /// The places along the bottom between which lines lie, in a picture of this width.
    pub(crate) fn across(width: f64) -> [f64; 2] {
        [MARGINS[0], width - 8.0]
    }

    /// Those up, the lowest first.
    pub(crate) fn up(height: f64) -> [f64; 2] {
        [height - MARGINS[2], MARGINS[1]]
    }

    pub(crate) fn draw(&self, x: &Axis, y: &Axis) -> Markup {
        let [width, height] = self.size;
        let ([left, right], [low, high]) = (Self::across(width), Self::up(height));
        let mut parts = Vec::new();
        for (value, word) in y.ticks(4) {
            let place = y.place(value);
            parts.push(stroke("rule", [left, place], [right, place]));
            parts.push(label("end", [left - 6.0, place + 4.0], word));
        }
        let about = if width < WIDTH { 3 } else { 6 };
        for (value, word) in x.ticks(about) {
            parts.push(label("mid", [x.place(value), low + 14.0], word));
        }
        parts.push(label("end", [right, height - 3.0], self.below));
        for (value, word) in &self.upright {
            let place = x.place(*value);
            parts.push(stroke("b", [place, low], [place, high]));
            parts.push(label("mid value", [place, high - 4.0], word.as_str()));
        }
        for series in &self.series {
            parts.extend(line(series, x, y));
        }
        picture(self.size, self.title, self.about, parts)
    }
}

fn line(series: &Series, x: &Axis, y: &Axis) -> Vec<Markup> {
    let place = |&(across, up): &(f64, f64)| [x.place(across), y.place(up)];
    let places: Vec<[f64; 2]> = thinned(&series.points).iter().map(place).collect();
    let course: Vec<String> = places.iter().map(|[x, y]| format!("{} {}", at(*x), at(*y))).collect();
    let mut parts = Vec::new();
    if places.len() > 1 {
        let path = tag("path").class(series.look.class()).with("d", format_args!("M{}", course.join("L")));
        parts.push(path.empty());
    }
    if series.marks || places.len() == 1 {
        parts.extend(places.iter().map(|place| mark(series.look, *place, 3.6)));
    }
    parts
}

/// No more points than a picture shows: means of neighbours.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let each = points.len().div_ceil(MOST_REPORT_POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let sum = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / chunk.len() as f64, sum.1 / chunk.len() as f64)
    };
    points.chunks(each).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_points_are_means_of_neighbours() {
        let points: Vec<(f64, f64)> = (0..4 * MOST_REPORT_POINTS).map(|n| (n as f64, (n % 4) as f64)).collect();
        let thin = thinned(&points);
        assert_eq!((thin.len(), thin[0], thin[1]), (MOST_REPORT_POINTS, (1.5, 1.5), (5.5, 1.5)));
        assert_eq!(thinned(&points[..3]), points[..3]);
    }
}
