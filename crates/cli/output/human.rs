//! Sizes, times and rates as people read them.

use std::time::Duration;

use lifeboat_model::Timestamp;

/// `0 B`, `999 B`, `1.0 KiB`, `12.3 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0: it belongs to the next unit already.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `12,345`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `and 12 more`, where of so many only the first ones are shown; `None`: all are.
pub fn and_more(all: usize, shown: usize) -> Option<String> {
    all.checked_sub(shown).filter(|more| *more > 0).map(|more| format!("and {} more", count(more as u64)))
}

/// How many of what, in words: `1 point`, `2 points`, `3 rows or files`.
pub fn plural(number: u64, what: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    match what.split_once(" or ") {
        Some((one, other)) => format!("{} {one}{end} or {other}{end}", count(number)),
        None => format!("{} {what}{end}", count(number)),
    }
}

/// The two largest units: `850 ms`, `4.2 s`, `3 min 5 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64().min(59.9)),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long before `now`: the largest unit only, `3 h ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// `12.3 MiB/s`; nothing sensible for no time at all.
pub fn rate(done: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    if seconds <= 0.0 { "-".into() } else { format!("{}/s", bytes((done as f64 / seconds) as u64)) }
}

/// `37 %`; of nothing, everything.
pub fn share(part: u64, whole: u64) -> String {
    let percent = if whole == 0 { 100 } else { u128::from(part) * 100 / u128::from(whole) };
    format!("{percent} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_into_their_unit() {
        let check = |value: u64, want: &str| assert_eq!(bytes(value), want);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1024 * 1024 - 1, "1.0 MiB");
        check(12_900_000, "12.3 MiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn times_show_their_two_largest_units() {
        let check = |millis: u64, want: &str| assert_eq!(duration(Duration::from_millis(millis)), want);
        check(0, "0 ms");
        check(999, "999 ms");
        check(4_234, "4.2 s");
        check(59_999, "59.9 s");
        check(185_000, "3 min 5 s");
        check(7_500_000, "2 h 5 min");
        check(273_600_000, "3 d 4 h");
        assert_eq!(ago(Timestamp(0), Timestamp(7_200_000_000)), "2 h ago");
        assert_eq!(ago(Timestamp(5), Timestamp(0)), "0 s ago");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([and_more(20, 20), and_more(0, usize::MAX)], [None, None]);
        assert_eq!(and_more(1_254, 20).as_deref(), Some("and 1,234 more"));
        assert_eq!(share(1, 3), "33 %");
        assert_eq!(share(0, 0), "100 %");
    }
}
