//! Numbers with units for readers.

/// Unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    BytesPerSecond,
    PerSecond,
    Seconds,
    /// CPU seconds per 10⁹ bytes.
    CpuSecondsPerGb,
    /// CPU seconds per request.
    CpuSecondsPerRequest,
    /// In MB of 10⁶ bytes; below that in KiB.
    Bytes,
    Count,
    /// A share of 1.0.
    Share,
}

impl Unit {
    /// Returns the number with three significant digits and a suitable prefix.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::BytesPerSecond => format!("{}B/s", decimal(value)),
            Unit::PerSecond => format!("{}/s", grouped(value)),
            Unit::Seconds => seconds(value),
            Unit::CpuSecondsPerGb => format!("{} s/GB", digits(value)),
            Unit::CpuSecondsPerRequest => format!("{} a request", seconds(value)),
            Unit::Bytes => bytes(value),
            Unit::Count => grouped(value),
            Unit::Share => format!("{} %", digits(value * 100.0)),
        }
    }
}

/// Returns a number with three significant digits, or all digits of its integer part if they are more.
pub fn digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let whole = value.abs().log10().floor() as i32 + 1;
    format!("{value:.*}", (3 - whole).clamp(0, 6) as usize)
}

fn decimal(value: f64) -> String {
    for (limit, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= limit {
            return format!("{} {prefix}", digits(value / limit));
        }
    }
    format!("{} ", digits(value))
}

fn bytes(value: f64) -> String {
    if value.abs() >= 1e6 {
        format!("{} MB", digits(value / 1e6))
    } else if value.abs() >= 1024.0 {
        format!("{} KiB", digits(value / 1024.0))
    } else {
        format!("{value:.0} B")
    }
}

fn seconds(value: f64) -> String {
    for (limit, factor, unit) in [(1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (1e-6, 1e6, "µs")] {
        if value.abs() >= limit {
            return format!("{} {unit}", digits(value * factor));
        }
    }
    format!("{} ns", digits(value * 1e9))
}

fn grouped(value: f64) -> String {
    if value.abs() < 1e4 {
        return digits(value);
    }
    let plain = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in plain.chars().enumerate() {
        if i > 0
            && (plain.len() - i).is_multiple_of(3)
            && digit.is_ascii_digit()
            && !out.ends_with('-')
        {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_get_fitting_prefixes() {
        assert_eq!(Unit::BytesPerSecond.show(1.4236e9), "1.42 GB/s");
        assert_eq!(Unit::Seconds.show(0.000_083_4), "83.4 µs");
        assert_eq!(Unit::Seconds.show(2.0), "2.00 s");
        assert_eq!(Unit::Seconds.show(8.4e-9), "8.40 ns");
        assert_eq!(Unit::PerSecond.show(1_234_567.0), "1,234,567/s");
        assert_eq!(Unit::Bytes.show(8192.0), "8.00 KiB");
        assert_eq!(Unit::Share.show(0.0123), "1.23 %");
        assert_eq!(Unit::PerSecond.show(0.0), "0/s");
        assert_eq!(Unit::PerSecond.show(-12_345.0), "-12,345/s");
        assert_eq!(Unit::Bytes.show(15e6), "15.0 MB");
    }
}
