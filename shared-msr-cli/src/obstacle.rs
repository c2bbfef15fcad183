//! What stands in the way of a measurement, and what to do about it.

use std::fmt;

/// Something this host lacks or forbids. Shown as one sentence; `doctor` shows the two halves apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is wrong, without a full stop.
    pub problem: String,
    /// What to do about it, without a full stop.
    pub cure: String,
}

impl Obstacle {
    /// An obstacle and its cure.
    pub fn new(problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { problem: problem.into(), cure: cure.into() }
    }

    /// The same, said of something.
    #[must_use]
    pub fn of(self, what: impl fmt::Display) -> Self {
        Self { problem: format!("{what}: {}", self.problem), ..self }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}; {}", self.problem, self.cure)
    }
}

impl std::error::Error for Obstacle {}
