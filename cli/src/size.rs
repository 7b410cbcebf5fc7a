//! Sizes, rates and times as people write and read them.

use std::time::Duration;

/// Reads a number of bytes: digits, perhaps a fraction, and perhaps `K`, `M`, `G` or `T`, which
/// count in powers of 1024 (`KiB` and so on mean the same).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    const HINT: &str = "write a number of bytes, or one with K, M or G behind it, such as 512K";
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(HINT.into()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().map_err(|_| HINT.to_owned())?;
    let mut bytes = whole.checked_mul(1 << shift).ok_or("that is too large")?;
    if !fraction.is_empty() {
        let tenth: f64 = format!("0.{fraction}").parse().map_err(|_| HINT.to_owned())?;
        #[expect(clippy::cast_sign_loss, reason = "a fraction is not negative")]
        let more = (tenth * (1_u64 << shift) as f64) as u64;
        bytes = bytes.checked_add(more).ok_or("that is too large")?;
    }
    Ok(bytes)
}

/// As [`parse`], but not zero: a limit of nothing is no limit but a stop.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    match parse(text.trim_end_matches("/s"))? {
        0 => Err("a rate is at least 1 byte per second".into()),
        rate => Ok(rate),
    }
}

/// Three digits or so and a unit, such as `12.3 MiB`.
pub(crate) fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// As [`show`], per second.
pub(crate) fn show_rate(bytes_per_s: u64) -> String {
    format!("{}/s", show(bytes_per_s))
}

/// The two largest units of a time, such as `2h 05m`.
pub(crate) fn show_time(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        assert_eq!(parse("0"), Ok(0));
        assert_eq!(parse("16384"), Ok(16384));
        assert_eq!(parse("512K"), Ok(512 << 10));
        assert_eq!(parse("1.5m"), Ok(3 << 19));
        assert_eq!(parse("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_rate("1M/s"), Ok(1 << 20));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "K", "-1", "1x", "1.2.3", "99999999999999999999", "99999999T"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse_rate("0").is_err());
    }

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(show(0), "0 B");
        assert_eq!(show(1023), "1023 B");
        assert_eq!(show(1024), "1.0 KiB");
        assert_eq!(show(256 << 20), "256.0 MiB");
        assert_eq!(show((1 << 30) - 1), "1.0 GiB");
        assert_eq!(show_time(Duration::from_secs(59)), "59s");
        assert_eq!(show_time(Duration::from_secs(61)), "1m 01s");
        assert_eq!(show_time(Duration::from_mins(125)), "2h 05m");
        assert_eq!(show_time(Duration::from_hours(25)), "1d 01h");
    }
}
