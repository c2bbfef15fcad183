# Instructions per exit, without and with shared-msr: see overhead.md. Runs in the lab with --icount.
alone() {
    shared-msr guest --format json --tsc-aux 0xabc "$@"
}
measured() {
    shared-msr report $options --output /dev/null -- shared-msr guest --format json --tsc-aux 0xabc "$@"
}
time_of() {
    "$@" | sed 's/.*"duration_ns":\([0-9]*\).*/\1/'
}
# slopes NAME FUNCTION: over in-kernel exits, and over exits to user space.
slopes() {
    few_cpuids=$(time_of $2 --outs 1 --cpuids 2000)
    many_cpuids=$(time_of $2 --outs 1 --cpuids 20000)
    few_outs=$(time_of $2 --outs 200 --cpuids 0)
    many_outs=$(time_of $2 --outs 2000 --cpuids 0)
    echo "$1: CPUID $(((many_cpuids - few_cpuids) / 18000)), OUT $(((many_outs - few_outs) / 1800))"
}
for repeat in 1 2 3; do
    slopes alone alone
    for options in "--probe fentry" "--probe kprobe" "--probe tracepoint" "--probe fentry --verify" "--probe fentry --timing" "--probe fentry --by reason"; do
        slopes "$options" measured
    done
done
