# Up to twenty guests that are started and killed at random while it is measured.
. /smoke/lib.sh

# A sequence that looks random and is the same each time: RANDOM is seeded by its last value.
RANDOM=4711
guests=20

# churn SECONDS: starts and kills. The processes that were killed are listed in /tmp/killed.
churn() {
    end=$(($(date +%s) + $1))
    while [ "$(date +%s)" -lt $end ]; do
        place=$((RANDOM % guests))
        eval "victim=\$place_$place"
        if [ -n "$victim" ]; then
            kill -KILL $victim
            wait $victim 2>/dev/null
            echo $victim >>/tmp/killed
            eval "place_$place="
        else
            start $place
        fi
        usleep $((RANDOM % 60 * 1000))
    done
}
start() {
    shared-msr guest --outs 1000000000 --cpuids 3 --tsc-aux $((2560 + $1)) >/dev/null 2>&1 &
    eval "place_$1=$!"
}
kill_all() {
    place=0
    while [ $place -le $guests ]; do
        eval "victim=\$place_$place"
        if [ -n "$victim" ]; then
            kill -KILL $victim
            wait $victim 2>/dev/null
            echo $victim >>/tmp/killed
        fi
        eval "place_$place="
        place=$((place + 1))
    done
    # Who is killed inside a window leaves it open until a task returns to user mode on that CPU, which may idle until after the
    # report: then the kernel's own count would have a restore that was not to be seen.
    taskset 1 true
    taskset 2 true
}

case $1 in
"") ;;
run) # Run by a report: all guests come after its start and are gone before its end.
    churn "$2"
    kill_all
    exit
    ;;
stay) # The same with guests that all stay until the end.
    place=0
    while [ $place -lt "$2" ]; do
        start $place
        place=$((place + 1))
    done
    sleep 3
    kill_all
    exit
    ;;
esac

# Guests that are there before, and still there after.
: >/tmp/killed
churn 2
: >/tmp/killed
shared-msr report --verify --format json --duration 30s >/tmp/long.out 2>/tmp/long.err &
report=$!
wait_for attached $report
churn 27
cp /tmp/killed /tmp/killed-meanwhile
# There is one after the end, whatever the sequence was.
start $guests
wait $report
echo $? | section long.status
section long.report </tmp/long.out
section long.err </tmp/long.err
kill_all
section long.killed </tmp/killed-meanwhile

: >/tmp/killed
measured tiny --max-vcpus 4 -- sh /smoke/churn.sh run 8
section tiny.killed </tmp/killed
try table shared-msr report --verify --max-vcpus 2 -- sh /smoke/churn.sh stay 5
