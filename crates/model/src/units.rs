//! Numbers with units, as people write them in the configuration.

use std::{fmt, time::Duration};

/// So many per stretch of time: `"30/min"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// Reads `"200ms"`, `"30s"`, `"5m"`, `"72h"`, `"90d"`, and sums of them (`"1h 30m"`).
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .map_err(|_| "a number with a unit: ms, s, m, h or d, as in \"30s\"")
}

/// Reads `"20GiB"`, `"256MiB"`, `"64KiB"`, `"10MB"`, `"512B"`.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    const EXPECTED: &str = "a number with a unit: B, KiB, MiB, GiB or TiB, as in \"256MiB\"";
    if !text.trim_end().ends_with(['B', 'b']) {
        return Err(EXPECTED);
    }
    text.parse::<bytesize::ByteSize>().map(|size| size.as_u64()).map_err(|_| EXPECTED)
}

/// Reads `"1/s"`, `"30/min"`, `"500/h"`, `"500/day"`.
pub fn parse_rate(text: &str) -> Result<Rate, &'static str> {
    const EXPECTED: &str = "a number per s, min, h or day, as in \"30/min\"";
    let (count, unit) = text.split_once('/').ok_or(EXPECTED)?;
    let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or(EXPECTED)?;
    let seconds = match unit.trim() {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3_600,
        "d" | "day" => 86_400,
        _ => return Err(EXPECTED),
    };
    Ok(Rate { count, per: Duration::from_secs(seconds) })
}

/// Prints bytes as people read them: `1.5 GiB`.
pub fn size(bytes: u64) -> impl fmt::Display {
    bytesize::ByteSize(bytes).display().iec()
}

impl Rate {
    /// The even distance between two.
    pub fn interval(self) -> Duration {
        self.per / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_required_and_understood() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert!(parse_duration("30").is_err());
        assert!(parse_duration("-1s").is_err());
        assert_eq!(parse_size("20GiB"), Ok(20 << 30));
        assert_eq!(parse_size("10 MB"), Ok(10_000_000));
        assert!(parse_size("30").is_err());
        assert!(parse_size("lots").is_err());
        assert_eq!(parse_rate("30/min"), Ok(Rate { count: 30, per: Duration::from_secs(60) }));
        for bad in ["30", "0/s", "-1/s", "1/fortnight", "/s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
