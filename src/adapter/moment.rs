//! What a site reads, as a second moment: which errors of its weight show in what it computes, and which do not.

/// C = sum of x x^T over what a site has read, and some of its diagonal more: an error e of a row of W costs e^T C e.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moment {
    in_dim: usize,
    form: Form,
    /// What is added to the diagonal: photos that were not read are a little different.
    damping: f32,
}

#[derive(Debug, Clone, PartialEq)]
enum Form {
    /// C, in_dim x in_dim.
    Whole(Vec<f32>),
    /// F, in_dim x `width`, where C is about F F^T.
    Factors(Vec<f32>, usize),
}

/// Share of the mean of the diagonal that is added to it (Frantar and others, GPTQ, arXiv 2210.17323).
const DAMPING: f64 = 0.01;

/// How far an error reaches, while it changes: C e, or F^T e.
pub(crate) struct Reach<'m> {
    moment: &'m Moment,
    values: Vec<f32>,
}

impl Moment {
    pub(crate) fn whole(c: Vec<f32>, in_dim: usize) -> Self {
        let trace: f64 = (0..in_dim).map(|i| f64::from(c[i * in_dim + i])).sum();
        Moment { in_dim, form: Form::Whole(c), damping: (DAMPING * trace / in_dim.max(1) as f64) as f32 }
    }

    /// `least`: what each other direction holds.
    pub(super) fn factors(f: Vec<f32>, width: usize, in_dim: usize, least: f32) -> Self {
        let trace: f64 = f.iter().map(|v| f64::from(*v).powi(2)).sum();
        let damping = (DAMPING * trace / in_dim.max(1) as f64) as f32;
        Moment { in_dim, form: Form::Factors(f, width), damping: damping.max(least) }
    }

    /// Numbers that the site reads at a position.
    pub(crate) fn in_dim(&self) -> usize {
        self.in_dim
    }

    /// The cost of an error of 1 in one place.
    pub(crate) fn at(&self, place: usize) -> f32 {
        self.damping
            + match &self.form {
                Form::Whole(c) => c[place * self.in_dim + place],
                Form::Factors(f, width) => f[place * width..][..*width].iter().map(|v| v * v).sum(),
            }
    }

    /// That of the error `e`.
    pub(crate) fn reach(&self, e: &[f32]) -> Reach<'_> {
        let len = match &self.form {
            Form::Whole(_) => self.in_dim,
            Form::Factors(_, width) => *width,
        };
        let mut reach = Reach { moment: self, values: vec![0.0; len] };
        e.iter().enumerate().for_each(|(place, e)| reach.add(place, *e));
        reach
    }
}

impl Reach<'_> {
    /// The error in `place` has grown by `by`.
    pub(crate) fn add(&mut self, place: usize, by: f32) {
        let Moment { in_dim, form, .. } = self.moment;
        let row = match form {
            Form::Whole(c) => &c[place * in_dim..][..*in_dim],
            Form::Factors(f, width) => &f[place * width..][..*width],
        };
        self.values.iter_mut().zip(row).for_each(|(value, c)| *value += by * c);
    }

    /// Half of what the cost grows by, for each unit that the error `e` in `place` grows by.
    pub(crate) fn slope(&self, place: usize, e: f32) -> f32 {
        let Moment { form, damping, .. } = self.moment;
        damping * e
            + match form {
                Form::Whole(_) => self.values[place],
                Form::Factors(f, width) => {
                    self.values.iter().zip(&f[place * width..]).map(|(value, f)| value * f).sum::<f32>()
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_and_its_factors_say_the_same_of_an_error() {
        let (in_dim, width) = (6, 3);
        let f: Vec<f32> = (0..in_dim * width).map(|at| (at as f32 * 0.7).sin()).collect();
        let c = |i: usize, j: usize| (0..width).map(|k| f[i * width + k] * f[j * width + k]).sum();
        let whole = Moment::whole((0..in_dim * in_dim).map(|at| c(at / in_dim, at % in_dim)).collect(), in_dim);
        let factors = Moment::factors(f.clone(), width, in_dim, 0.0);
        let e = [0.3, -0.2, 0.0, 0.9, 0.1, -0.5];
        let (a, b) = (whole.reach(&e), factors.reach(&e));
        for (place, error) in e.iter().enumerate() {
            assert!((a.slope(place, *error) - b.slope(place, *error)).abs() < 1e-5);
            assert!((whole.at(place) - factors.at(place)).abs() < 1e-5);
        }
    }
}
