//! Figures in words: as many digits as matter, with their units.

/// A time: `0.42 s`, `42.3 s`, `12 min 05 s`.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 0.0 => format!("-{}", seconds(-s)),
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 600.0 => format!("{s:.1} s"),
        s => {
            let whole = s.round();
            format!("{:.0} min {:02.0} s", (whole / 60.0).floor(), whole % 60.0)
        }
    }
}

/// A rate: `1.25 MB/s`.
pub(super) fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", scaled(bytes_per_s, 1_000.0, ["B", "kB", "MB", "GB"]))
}

/// An amount: `16.0 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1_024.0, ["B", "KiB", "MiB", "GiB"])
}

fn scaled(mut value: f64, step: f64, units: [&str; 4]) -> String {
    let mut at = 0;
    while value.abs() >= step && at < 3 {
        value /= step;
        at += 1;
    }
    let digits =
        if at == 0 || value.abs() >= 100.0 { 0 } else { usize::from(value.abs() < 10.0) + 1 };
    format!("{value:.digits$} {}", units[at])
}

/// A number with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share: `87 %`, `99.7 %`.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    let is_whole = (percent - percent.round()).abs() < 0.05;
    if is_whole || (10.0..95.0).contains(&percent) {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

/// `1 peer`, `2 peers`.
pub(super) fn many(number: usize, what: &str) -> String {
    format!("{} {what}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(seconds(0.4211), "0.42 s");
        assert_eq!(seconds(42.34), "42.3 s");
        assert_eq!(seconds(-1.5), "-1.50 s");
        assert_eq!(seconds(725.2), "12 min 05 s");
        assert_eq!(seconds(659.9), "11 min 00 s");
        assert_eq!(rate(0.0), "0 B/s");
        assert_eq!(rate(1_250_000.0), "1.25 MB/s");
        assert_eq!(rate(512_000.0), "512 kB/s");
        assert_eq!(bytes(16 << 20), "16.0 MiB");
        assert_eq!(share(0.873), "87 %");
        assert_eq!(share(0.997), "99.7 %");
        assert_eq!(share(1.0), "100 %");
        assert_eq!(many(1, "peer"), "1 peer");
        assert_eq!(many(1_200, "peer"), "1,200 peers");
    }
}
