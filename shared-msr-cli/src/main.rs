//! shared-msr.
fn main() { println!("{}", OBJECT.len()); }
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shared-msr.bpf.o"));
