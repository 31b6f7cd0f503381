//! Where values lie.

/// A straight or a logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    /// The values at its ends.
    ends: [f64; 2],
    /// The places of these.
    places: [f64; 2],
    is_log: bool,
    /// How a value is written.
    word: fn(f64) -> String,
}

impl Axis {
    /// From `least` to `most`; with nothing between them, one more.
    pub(crate) fn new([least, most]: [f64; 2], places: [f64; 2], word: fn(f64) -> String) -> Self {
        let most = if most > least { most } else { least + 1.0 };
        Axis { ends: [least, most], places, is_log: false, word }
    }

    /// The same in powers of ten, above 0.
    pub(crate) fn log([least, most]: [f64; 2], places: [f64; 2], word: fn(f64) -> String) -> Self {
        let least = least.max(1e-12);
        Axis { ends: [least, if most > least { most } else { 10.0 * least }], places, is_log: true, word }
    }

    /// From a little below the least of `values` to a little above the most, and within `bounds`.
    pub(crate) fn around(
        values: impl Iterator<Item = f64>,
        bounds: [f64; 2],
        places: [f64; 2],
        word: fn(f64) -> String,
    ) -> Self {
        let (least, most) = values
            .filter(|value| value.is_finite())
            .fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
        if least > most {
            return Axis::new(bounds, places, word);
        }
        let step = step((most - least).max((bounds[1] - bounds[0]) * 1e-3), 4);
        let ends = [(least / step).floor() * step, (most / step).ceil() * step];
        Axis::new([ends[0].max(bounds[0]), ends[1].min(bounds[1])], places, word)
    }

    pub(crate) fn place(&self, value: f64) -> f64 {
        let scaled = |value: f64| if self.is_log { value.max(1e-12).log10() } else { value };
        let [least, most] = self.ends.map(scaled);
        let share = ((scaled(value) - least) / (most - least)).clamp(0.0, 1.0);
        self.places[0] + share * (self.places[1] - self.places[0])
    }

    /// Round values with their words, some `about` of them.
    pub(crate) fn ticks(&self, about: usize) -> Vec<(f64, String)> {
        let [least, most] = self.ends;
        let word = |value: f64| (value, (self.word)(value));
        if self.is_log {
            let powers = least.log10().ceil() as i32..=most.log10().floor() as i32;
            return powers.map(|power| word(10f64.powi(power))).collect();
        }
        let step = step(most - least, about);
        let first = (least / step - 1e-9).ceil();
        let values = (0..50).map(|nth| (first + f64::from(nth)) * step);
        values.take_while(|value| *value <= most + step * 1e-9).map(|value| word(value + 0.0)).collect()
    }
}

/// 1, 2 or 5 times a power of ten, of which some `about` fit in `range`.
fn step(range: f64, about: usize) -> f64 {
    let rough = range.max(f64::MIN_POSITIVE) / about.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= rough * 0.999);
    times.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis, about: usize) -> Vec<String> {
        axis.ticks(about).into_iter().map(|(_, word)| word).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let plain = |value: f64| format!("{value}");
        assert_eq!(words(&Axis::new([0.0, 240.0], [0.0, 1.0], plain), 5), ["0", "50", "100", "150", "200"]);
        assert_eq!(words(&Axis::log([1e-3, 3e-2], [0.0, 1.0], plain), 5), ["0.001", "0.01"]);
        let percent = |value: f64| format!("{:.0}", 100.0 * value);
        let around = Axis::around([0.72, 0.853].into_iter(), [0.0, 1.0], [0.0, 100.0], percent);
        assert_eq!(words(&around, 4), ["70", "75", "80", "85", "90"]);
        assert_eq!(around.place(0.8), 50.0);
    }

    #[test]
    fn nothing_and_a_single_value_have_an_axis_too() {
        let plain = |value: f64| format!("{value}");
        for values in [&[][..], &[0.5], &[f64::NAN], &[1.0], &[0.0]] {
            let axis = Axis::around(values.iter().copied(), [0.0, 1.0], [0.0, 100.0], plain);
            assert!(axis.place(0.5).is_finite() && axis.ticks(4).len() < 20, "{values:?}");
        }
    }
}
