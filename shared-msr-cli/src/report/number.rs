//! Numbers for people.

use std::time::Duration;

/// Groups of three digits: 2,271.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The same, with a question mark for what is not known.
pub fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), grouped)
}

/// The same with a sign where it is negative.
pub fn grouped_signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(number.unsigned_abs()))
}

/// A duration in seconds with as many digits as matter.
pub fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

/// "1 window", "2 windows".
pub fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped_signed(-12_345), "-12,345");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "window"), "1 window");
        assert_eq!(counted(0, "window"), "0 windows");
    }
}
