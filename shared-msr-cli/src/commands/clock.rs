//! Times that a measurement waits for; each can be absent, and is then never.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior};

/// From now on again and again after this time. Ticks that come too late are left out.
pub(super) fn every(period: Option<Duration>) -> Option<Interval> {
    let period = period?;
    // A time too long for the clock never comes.
    let mut interval = tokio::time::interval_at(Instant::now().checked_add(period)?, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    Some(interval)
}

/// Waits for the next tick.
pub(super) async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => pending().await,
    }
}

/// When a time that begins now is over.
pub(super) fn after(duration: Option<Duration>) -> Option<Instant> {
    // A time too long for the clock is never over.
    duration.and_then(|duration| Instant::now().checked_add(duration))
}

/// Waits for that moment.
pub(super) async fn sleep_until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::duration::positive_duration;

    #[tokio::test]
    async fn a_time_too_long_for_the_clock_is_never_over() {
        for text in ["1.8e19", "1.8446744073709549e19", "9e18"] {
            let long = Some(positive_duration(text).unwrap());
            let mut interval = every(long);
            let end = after(long);
            let none = async {
                tokio::select! {
                    () = tick(&mut interval) => {}
                    () = sleep_until(end) => {}
                }
            };
            assert!(tokio::time::timeout(Duration::from_millis(20), none).await.is_err(), "{text}");
        }
    }
}
