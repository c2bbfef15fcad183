# A guest that stays inside a window on CPU 1, looked at from CPU 0.
. /smoke/lib.sh

start_guest() {
    shared-msr guest --spin --cpu 1 --tsc-aux 0xabc --format json "$@" >/tmp/guest.out 2>&1 &
    guest=$!
    # Attached hooks and other tasks may end a window; a spinning guest opens the next one by itself.
    sleep 3
}
end_guest() {
    kill -TERM $guest
    wait $guest
    echo $? | section "$1.status"
    section "$1.out" </tmp/guest.out
}

start_guest
try inspect-during taskset 1 shared-msr inspect --format json
try inspect-table taskset 1 shared-msr inspect
end_guest quiet-guest
try inspect-after taskset 1 shared-msr inspect --format json

# Inside a window before the hooks are there, and still when they go.
start_guest --cpuids 1
try attached-inside taskset 1 shared-msr report --verify --kernel-log --format json --duration 2
end_guest busy-guest

# Two busy CPUs at once.
shared-msr guest --outs 1000000000 --cpuids 3 --cpu 0 --tsc-aux 0xabc >/dev/null 2>&1 &
first=$!
shared-msr guest --outs 1000000000 --cpuids 3 --cpu 1 --tsc-aux 0xdef >/dev/null 2>&1 &
second=$!
sleep 2
try busy shared-msr report --verify --format json --duration 2
kill -TERM $first $second
wait $first $second

# From outside to outside, on CPU 1 alone.
try pinned taskset 1 shared-msr report --verify --format json -- shared-msr guest --cpu 1 --outs 100 --cpuids 10 --tsc-aux 0xabc
