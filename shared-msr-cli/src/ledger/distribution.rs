//! Distributions of powers of two.

use shared_msr_common::tally::bucket_start;

/// One bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The smallest number in it.
    pub from: u64,
    /// The largest; none for the last bucket, which has no end.
    pub to: Option<u64>,
    /// How many.
    pub count: u64,
}

/// The buckets that are not empty, in ascending order.
pub fn buckets(counts: &[u64]) -> Vec<Bucket> {
    let bucket =
        |(position, count): (usize, &u64)| Bucket { from: bucket_start(position), to: end(counts, position), count: *count };
    counts.iter().enumerate().filter(|(_, count)| **count != 0).map(bucket).collect()
}

/// How many there are.
pub fn total(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

/// The bucket that holds the smallest number which at least `percent` of all are not larger than; none when there are none.
pub fn percentile(counts: &[u64], percent: u64) -> Option<Bucket> {
    let total = total(counts);
    // Wide, so that no count can overflow.
    let wanted = (u128::from(total) * u128::from(percent)).div_ceil(100).max(1);
    let mut sum = 0;
    buckets(counts).into_iter().find(|bucket| {
        sum += u128::from(bucket.count);
        sum >= wanted
    })
}

fn end(counts: &[u64], position: usize) -> Option<u64> {
    (position + 1 < counts.len()).then(|| bucket_start(position + 1) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_bucket_that_holds_it() {
        // 50 zeros, 40 ones, 10 of 4 to 7.
        let counts = [50, 40, 0, 10, 0];
        assert_eq!(percentile(&counts, 50), Some(Bucket { from: 0, to: Some(0), count: 50 }));
        assert_eq!(percentile(&counts, 51), Some(Bucket { from: 1, to: Some(1), count: 40 }));
        assert_eq!(percentile(&counts, 90), Some(Bucket { from: 1, to: Some(1), count: 40 }));
        assert_eq!(percentile(&counts, 99), Some(Bucket { from: 4, to: Some(7), count: 10 }));
        assert_eq!(percentile(&[0, 0], 50), None);
    }

    #[test]
    fn the_last_bucket_has_no_end_and_empty_ones_are_left_out() {
        let found = buckets(&[0, 2, 0, 5]);
        assert_eq!(found, [Bucket { from: 1, to: Some(1), count: 2 }, Bucket { from: 4, to: None, count: 5 }]);
        assert_eq!(total(&[0, 2, 0, 5]), 7);
    }
}
