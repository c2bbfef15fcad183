//! Percentiles, as people and as programs read them.

use shared_msr_common::WindowTally;

use super::*;

/// A hundred windows, so that half of them, 90 % and 99 % end in different buckets.
fn windows() -> WindowTally {
    let mut windows = WindowTally::EMPTY;
    (windows.opened, windows.closed) = (100, 100);
    for (bucket, count) in [(0, 50), (1, 40), (3, 10)] {
        windows.exits_per_window[bucket] = count;
        windows.restore_cost[8 + bucket] = count;
        windows.age[11 + bucket] = count;
    }
    windows
}

#[test]
fn each_percentile_stands_under_its_own_name() {
    let mut ledger = Ledger { timed: true, ..busy() };
    ledger.owners.tallies = [(TallyKey { owner: NOBODY, cpu: EVERY_CPU }, Tally { windows: windows(), ..Tally::EMPTY })].into();
    let text = with_report(&ledger, plain);
    for line in [
        "Exits in a window: at most 0 in half of them, 1 in 90 %, 7 in 99 %. \
         Time it was open: at most 2.0µs in half of them, 4.1µs in 90 %, 16.4µs in 99 %.",
        "Cost of a restored MSR: at most 255.0ns in half of them, 511.0ns in 90 %, 2.0µs in 99 %.",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let json: Value = serde_json::from_str(&with_report(&ledger, json::render).unwrap()).unwrap();
    for (name, expected) in
        [("exits_per_window", [0, 1, 7]), ("window_age_ns", [2047, 4095, 16383]), ("restore_cost_ns", [255, 511, 2047])]
    {
        let told = &json["distributions"][name];
        assert_eq!(["p50", "p90", "p99"].map(|percentile| told[percentile].as_u64()), expected.map(Some), "{name}: {told}");
    }
}
