//! shared-msr.
fn main() {}
