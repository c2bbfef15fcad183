//! Times that no clock has.

use crate::support::{Running, command, shared_msr};

#[test]
fn an_interval_too_long_for_the_clock_is_no_panic() {
    let ended = Running::start(command("report --interval 1.8e19 -- sh -c").arg("exit 7")).wait();
    assert_eq!(ended.status, 7, "the command's status: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
}

#[test]
fn a_duration_too_long_for_the_clock_leaves_the_end_to_the_limit() {
    let mut trace = Running::start(&mut command("trace --duration 1.8e19 --limit 1"));
    trace.wait_until_attached();
    let guest = shared_msr("guest --outs 5 --tsc-aux 0xabc");
    assert_eq!(guest.status, 0, "{guest:?}");
    let ended = trace.wait();
    assert_eq!(ended.status, 0, "{ended:?}");
}
