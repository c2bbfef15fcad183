# A guest's known number of exits against the report and the kernel's own counts.
. /smoke/lib.sh

guest='shared-msr guest --format json --cpu 0'
measured mixed -- $guest --outs 200 --cpuids 10 --hlts 50 --tsc-aux 0xabc
measured in-kernel -- $guest --outs 1 --cpuids 20000 --tsc-aux 0xabc
measured equal -- $guest --outs 200 --cpuids 10 --hlts 50 --tsc-aux host

# As a person would call it: the report alone on standard output.
try plain shared-msr report --verify --format json -- shared-msr guest --outs 200 --cpuids 10 --hlts 50 --tsc-aux 0xabc
try table shared-msr report --verify -- shared-msr guest --outs 200 --cpuids 10 --tsc-aux 0xabc
try equal-table shared-msr report --verify -- shared-msr guest --outs 200 --cpuids 10 --tsc-aux host
try nothing shared-msr report --duration 200ms

try passed-on shared-msr report -- sh -c 'exit 7'
try killed shared-msr report -- sh -c 'kill -9 $$'

# A guest that was there before: every restore has an exit to user space before it, so all kinds of events must be counted
# from the same moment on.
shared-msr guest --outs 1000000000 --cpuids 0 --tsc-aux 0xabc >/dev/null 2>&1 &
guest=$!
sleep 1
for run in 1 2 3; do
    try "running-$run" shared-msr report --verify --format json --duration 300ms
done
kill -TERM $guest
wait $guest

try kernel-log shared-msr report --verify --kernel-log --format json -- shared-msr guest --outs 20 --tsc-aux 0xabc

# Ctrl-C, without and with a command that does not end by itself. The shell starts background jobs with SIGINT ignored, as
# nohup would; a terminal does not.
interrupted() {
    name=$1
    shift
    shared-msr report --verify --format json "$@" >/tmp/interrupted.out 2>/tmp/interrupted.err &
    pid=$!
    wait_for attached $pid
    sleep 1
    kill -INT $pid
    wait $pid
    echo $? | section "$name.status"
    section "$name.out" </tmp/interrupted.out
    section "$name.err" </tmp/interrupted.err
}
interrupted interrupted
interrupted interrupted-command -- shared-msr guest --spin --cpuids 1 --tsc-aux 0xabc
