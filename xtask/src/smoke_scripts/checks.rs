//! Counts checks, and says of each what was seen.

/// How many checks held.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    place: String,
    /// Checks that held.
    pub(crate) passed: u64,
    /// Checks that did not.
    pub(crate) failed: u64,
}

impl Checks {
    /// Names the place that the following checks are about.
    pub(crate) fn enter(&mut self, place: &str) {
        println!("\n{place}");
        place.clone_into(&mut self.place);
    }

    /// Counts a check and prints it with what was seen.
    pub(crate) fn check(&mut self, what: &str, holds: bool, seen: &str) {
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
        let verdict = if holds { "ok  " } else { "FAIL" };
        println!("  {verdict}  {what}  [{}]", seen.trim());
    }

    /// A check of two numbers (or texts) that must be the same.
    pub(crate) fn equal<T: PartialEq + std::fmt::Display>(&mut self, what: &str, left: T, right: T) {
        let seen = format!("{left} and {right}");
        self.check(what, left == right, &seen);
    }
}
