# Instructions per exit, without and with shared-msr: see overhead.md. Runs in the lab with --icount.
alone() {
    shared-msr guest --format json --tsc-aux 0xabc "$@"
}
measured() {
    shared-msr report --output /dev/null -- shared-msr guest --format json --tsc-aux 0xabc "$@"
}
time_of() {
    "$@" | sed 's/.*"duration_ns":\([0-9]*\).*/\1/'
}
for repeat in 1 2 3; do
    for how in alone measured; do
        few_cpuids=$(time_of $how --outs 1 --cpuids 2000)
        many_cpuids=$(time_of $how --outs 1 --cpuids 20000)
        few_outs=$(time_of $how --outs 200 --cpuids 0)
        many_outs=$(time_of $how --outs 2000 --cpuids 0)
        echo "$how: CPUID $(((many_cpuids - few_cpuids) / 18000)), OUT $(((many_outs - few_outs) / 1800))"
    done
done
