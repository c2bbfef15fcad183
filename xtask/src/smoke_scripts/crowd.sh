# Guests in the middle of whose work each measurement begins and ends. Arguments: how many reports under each step; whether
# guests also come and go; a TSC_AUX for each guest that stays.
. /smoke/lib.sh

runs=$1
come_and_go=$2
shift 2
guests=
for value in "$@"; do
    shared-msr guest --outs 1000000000 --cpuids 3 --tsc-aux "$value" >/dev/null 2>&1 &
    guests="$guests $!"
done
visitor() {
    exec shared-msr guest --spin --cpuids 1 --tsc-aux 0xb01 >/dev/null 2>&1
}
victim=
if [ "$come_and_go" = yes ]; then
    visitor &
    victim=$!
fi
sleep 2
for step in fentry kprobe tracepoint; do
    run=0
    while [ $((run += 1)) -le "$runs" ]; do
        if [ "$come_and_go" = yes ]; then
            # One is killed and another one comes in the middle of the measurement.
            (usleep 100000; kill -KILL $victim; visitor) &
            next=$!
        fi
        try $step-$run shared-msr report --probe $step --verify --format json --duration 400ms
        [ -z "$victim" ] || wait $victim 2>/dev/null
        victim=$next
    done
done
kill -KILL $victim $guests
wait 2>/dev/null
