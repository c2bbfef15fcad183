//! Durations as people write them.

use std::time::Duration;

/// A duration that is not 0; a sentence about what is wrong with it.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<f64>() {
        // A bare number is seconds, as in sleep(1) and perf stat.
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?,
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if duration.is_zero() {
        return Err("it must be longer than 0; try 10s".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_seconds_and_zero_is_refused() {
        assert_eq!(positive_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(positive_duration("500ms"), Ok(Duration::from_millis(500)));
        for text in ["0", "0s", "-1", "soon", "inf"] {
            assert!(positive_duration(text).is_err(), "{text}");
        }
    }
}
