//! Figures as people read them.

use std::borrow::Cow;
use std::fmt::Display;

/// Names and paths as one line: control characters as Rust escapes.
pub(crate) fn plain(text: impl Display) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.to_string().chars().map(escape).collect()
}

/// 13965000 as "13.3 MiB".
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let unit = (0..units.len() - 1).find(|&u| bytes < 1 << (10 * (u + 1))).unwrap_or(units.len() - 1);
    let value = bytes as f64 / (1u64 << (10 * unit)) as f64;
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// 0.8342 as "83.4 %".
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// "1 photo", "2 photos".
pub(crate) fn count(n: usize, noun: &str) -> String {
    let plural: Cow<str> = match noun.strip_suffix("ss") {
        Some(_) => format!("{noun}es").into(),
        None => format!("{noun}s").into(),
    };
    format!("{n} {}", if n == 1 { noun } else { &plural })
}

/// 754 s as "12.6 min".
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 99.5 => format!("{s:.1} s"),
        s if s < 99.5 * 60.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// 300000 as "300 000", two leading digits kept.
pub(crate) fn grouped(number: f64) -> String {
    if !number.is_finite() {
        return "any number of".to_owned();
    }
    let unit = 10f64.powi((number.max(1.0).log10() as i32 - 1).max(0));
    let digits = format!("{:.0}", (number / unit).round() * unit);
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_other_letters_are_not() {
        assert_eq!(plain("Übung\n\u{1b}[2J\u{9b}\t薔薇"), "Übung\\n\\u{1b}[2J\\u{9b}\\t薔薇");
    }

    #[test]
    fn spans_and_large_numbers_read_well() {
        assert_eq!([0.0123, 4.26, 754.0, 9000.0].map(span), ["12 ms", "4.3 s", "12.6 min", "2.5 h"]);
        assert_eq!([7.0, 93.0, 1234.0, 293_472.0].map(grouped), ["7", "93", "1 200", "290 000"]);
        assert_eq!(grouped(f64::INFINITY), "any number of");
    }

    #[test]
    fn sizes_and_counts_read_well() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(13_965_000), "13.3 MiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(
            (count(1, "class"), count(2, "class"), count(3, "photo")),
            ("1 class".into(), "2 classes".into(), "3 photos".into())
        );
    }
}
