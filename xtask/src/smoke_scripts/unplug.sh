# CPU 1 is taken away while a guest's values are in its hardware, and comes back.
. /smoke/lib.sh

online=/sys/devices/system/cpu/cpu1/online

if [ "$1" = unplugged ]; then
    # Run by the report below. All exits of this guest are the kernel's own business, so that it stays inside a window.
    shared-msr guest --spin --cpuids 1 --cpu 1 --tsc-aux 0xabc --format json >/tmp/spinning.out 2>/tmp/spinning.err &
    guest=$!
    echo $guest >/tmp/spinning.pid
    sleep 2
    taskset 1 shared-msr inspect --format json >/tmp/before.json
    # The vCPU's thread is pushed to CPU 0, its value stays behind.
    echo 0 >$online
    echo $? >/tmp/offline.status
    cat $online >/tmp/offline
    sleep 1
    echo 1 >$online
    cat $online >/tmp/online
    kill -TERM $guest
    wait $guest
    taskset 1 shared-msr inspect --format json >/tmp/after.json
    shared-msr guest --cpu 1 --outs 50 --cpuids 10 --tsc-aux 0xdef --format json >/tmp/short.out 2>/tmp/short.err
    exit
fi

measured whole -- taskset 1 sh /smoke/unplug.sh unplugged
for file in before.json after.json offline.status offline online spinning.pid spinning.out spinning.err short.out short.err; do
    section $file </tmp/$file
done
# A measurement that begins after the CPU has come back.
measured again -- shared-msr guest --cpu 1 --outs 50 --cpuids 10 --tsc-aux 0xdef --format json
