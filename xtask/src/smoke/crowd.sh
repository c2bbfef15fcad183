# Several guests at once, in the middle of whose work each measurement begins and ends.
. /smoke/lib.sh

guests=
for value in 0xa01 0xa02 0xa03 host; do
    shared-msr guest --outs 1000000000 --cpuids 3 --tsc-aux $value >/dev/null 2>&1 &
    guests="$guests $!"
done
# One that is killed, and one that comes, in the middle of every measurement.
shared-msr guest --spin --cpuids 1 --tsc-aux 0xb01 >/dev/null 2>&1 &
victim=$!
sleep 2
for step in fentry kprobe tracepoint; do
    for run in 1 2 3; do
        (usleep 100000; kill -KILL $victim; exec shared-msr guest --spin --cpuids 1 --tsc-aux 0xb01) >/dev/null 2>&1 &
        next=$!
        try $step-$run shared-msr report --probe $step --verify --format json --duration 400ms
        wait $victim 2>/dev/null
        victim=$next
    done
done
kill -KILL $victim $guests
wait 2>/dev/null
