//! Lists of CPUs as the kernel writes them: "0-3,8".

/// The CPUs of a list such as "0-3,8", in ascending order; none when it is malformed.
pub fn parse(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last): (u32, u32) = match part.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => (part.parse().ok()?, part.parse().ok()?),
        };
        // Linux knows at most 8192 CPUs on x86 (CONFIG_NR_CPUS); anything longer is a slip of the pen.
        if first > last || last - first > 8192 {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn single_cpus_and_ranges_are_expanded_in_order() {
        assert_eq!(parse("8,0-3\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse("0"), Some(vec![0]));
        assert_eq!(parse(""), Some(vec![]));
    }

    #[test]
    fn a_malformed_list_is_refused() {
        for list in ["a", "3-1", "1-", "-", "0-4000000000"] {
            assert_eq!(parse(list), None, "{list}");
        }
    }
}
