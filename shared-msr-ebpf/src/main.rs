//! ebpf.
fn main() {}
