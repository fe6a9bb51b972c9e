//! Numbers for people: a unit that suits, few digits, the same width for the same kind.

/// Nanoseconds in the unit that suits them, three or four digits: `0 ns`, `950 ns`, `5.24 us`, `159.4 us`, `1.204 s`.
pub fn span(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}", width(nanos.saturating_abs()))
}

/// The same with three decimals, six of seconds: `5.240 us`, `1.204000 s`.
pub fn exact_span(nanos: i64) -> String {
    let value = nanos as f64;
    match nanos.unsigned_abs() {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.3} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.3} ms", value / 1e6),
        _ => format!("{:.6} s", value / 1e9),
    }
}

/// As [`span`] does, with a sign in front, always.
pub fn signed(nanos: i64) -> String {
    let sign = if nanos < 0 { '-' } else { '+' };
    format!("{sign}{}", width(nanos.saturating_abs()))
}

/// A half-width that may be unknown.
pub fn half_width(nanos: Option<i64>) -> String {
    nanos.map_or_else(|| "unknown".to_owned(), |nanos| format!("+-{}", width(nanos)))
}

/// Seconds in the unit that suits them: `45 s`, `12 min`, `3.5 h`, `2.0 d`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "-".to_owned(),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} d", s / 86_400.0),
    }
}

/// A horizon in at most four characters: `now`, `.2s`, `16s`, `4m`, `4h`.
pub fn horizon(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "now".to_owned(),
        s if s < 1.0 => format!("{s:.1}s").trim_start_matches('0').to_owned(),
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7200.0 => format!("{:.0}m", s / 60.0),
        s => format!("{:.0}h", s / 3600.0),
    }
}

/// `HH:MM:SS` of an instant in UTC.
pub fn time_of_day(utc_ns: i64) -> String {
    let seconds = utc_ns.div_euclid(1_000_000_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `YYYYMMDDTHHMMSSZ` of an instant, for names of files.
pub fn compact_date(utc_ns: i64) -> String {
    let (year, month, day) = date(utc_ns);
    format!("{year:04}{month:02}{day:02}T{}Z", time_of_day(utc_ns).replace(':', ""))
}

/// `YYYY-MM-DD HH:MM:SS` of an instant in UTC.
pub fn date_and_time(utc_ns: i64) -> String {
    let (year, month, day) = date(utc_ns);
    format!("{year:04}-{month:02}-{day:02} {}", time_of_day(utc_ns))
}

/// An instant to the nanosecond: `2026-01-31T12:34:56.123456789Z`.
pub fn rfc3339(utc_ns: i64) -> String {
    let (year, month, day) = date(utc_ns);
    let part = utc_ns.rem_euclid(1_000_000_000);
    format!("{year:04}-{month:02}-{day:02}T{}.{part:09}Z", time_of_day(utc_ns))
}

/// Year, month and day of an instant: days are counted in eras of 400 years that begin in March (Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms").
fn date(utc_ns: i64) -> (i64, i64, i64) {
    let days = utc_ns.div_euclid(86_400_000_000_000) + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Of a magnitude.
fn width(nanos: i64) -> String {
    let value = nanos as f64;
    let (value, unit) = match nanos {
        ..1_000 => return format!("{nanos} ns"),
        1_000..1_000_000 => (value / 1e3, "us"),
        1_000_000..1_000_000_000 => (value / 1e6, "ms"),
        _ => (value / 1e9, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 1000.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_suit() {
        for (nanos, shown) in [
            (0, "0 ns"),
            (-950, "-950 ns"),
            (5_240, "5.24 us"),
            (159_412, "159.4 us"),
            (-1_204_000_000, "-1.20 s"),
            (i64::MIN, "-9223372037 s"),
        ] {
            assert_eq!(span(nanos), shown);
        }
        for (nanos, shown) in [
            (-999, "-999 ns"),
            (5_240, "5.240 us"),
            (-159_412_000, "-159.412 ms"),
            (1_204_000_000, "1.204000 s"),
            (i64::MIN, "-9223372036.854776 s"),
        ] {
            assert_eq!(exact_span(nanos), shown);
        }
        assert_eq!(signed(5_240), "+5.24 us");
        assert_eq!(half_width(None), "unknown");
        let horizons = [0.0, 0.25, 16.0, 64.0, 256.0, 1024.0, 4096.0, 14400.0].map(horizon);
        assert_eq!(horizons, ["now", ".2s", "16s", "64s", "4m", "17m", "68m", "4h"]);
    }

    #[test]
    fn dates() {
        assert_eq!(date_and_time(0), "1970-01-01 00:00:00");
        assert_eq!(date_and_time(1_709_210_096_000_000_000), "2024-02-29 12:34:56");
        assert_eq!(date_and_time(-1), "1969-12-31 23:59:59");
        assert_eq!(compact_date(1_709_210_096_000_000_000), "20240229T123456Z");
        for (nanos, shown) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(rfc3339(nanos), shown);
        }
    }
}
