//! Ways of the program under test that it must do without.

use std::sync::{Mutex, MutexGuard, PoisonError};

static REFUSED: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

fn refused() -> MutexGuard<'static, Vec<&'static str>> {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every program that is started while this lives does without a way.
pub(crate) struct Refused(&'static str);

impl Refused {
    pub(crate) fn way(way: &'static str) -> Self {
        refused().push(way);
        Self(way)
    }

    /// What the programs are told.
    pub(crate) fn ways() -> String {
        refused().join(",")
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        let mut refused = refused();
        if let Some(position) = refused.iter().position(|way| *way == self.0) {
            refused.remove(position);
        }
    }
}
