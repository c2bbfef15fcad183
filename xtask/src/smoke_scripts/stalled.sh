# Readers that do not read, and readers that leave: a signal detaches all the same, and the measured command goes on.
. /smoke/lib.sh
chmod 1777 /tmp

milliseconds() {
    awk '{ printf "%d\n", $1 * 1000 }' /proc/uptime
}
detached() {
    ! attached "$1"
}
# The kernel takes functions off one after the other, and waits each time until no task can be in one; a guest that spins
# delays it.
unhooked() {
    ! grep -q '^kvm_' "$T/enabled_functions"
}
# within NAME COMMAND...: waits until it succeeds, and prints after how many milliseconds.
within() {
    name=$1
    shift
    begin=$(milliseconds)
    wait_often "$@"
    echo $(($(milliseconds) - begin)) | section "$name"
}
wait_often() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 1000 ] || return 1
        usleep 10000
    done
}
gone() {
    [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"
}
# blocked PID: whether the thread that writes its output waits for room in a pipe.
blocked() {
    for thread in /proc/"$1"/task/*; do
        [ "$(cat $thread/comm)" = output ] && grep -q pipe_write $thread/wchan && return
    done
    return 1
}
full() {
    blocked "$1" && sleep 1 && blocked "$1"
}
# fifo: makes /tmp/fifo, with a reader that does not read.
fifo() {
    rm -f /tmp/fifo
    mkfifo /tmp/fifo
    sleep 600 </tmp/fifo &
    reader=$!
}

shared-msr guest --spin --cpuids 1 --tsc-aux 0xabc >/dev/null 2>&1 &
guest=$!

# Two signals, by the time the pipe is full.
for what in trace report; do
    case $what in
        trace) command='shared-msr trace' ;;
        report) command='shared-msr report --interval 20ms --format json' ;;
    esac
    for to in stdout file; do
        run=$what-$to
        fifo
        case $to in
            stdout) $command >/tmp/fifo 2>/tmp/$run.err & ;;
            file) $command --output /tmp/fifo 2>/tmp/$run.err & ;;
        esac
        pid=$!
        wait_for attached $pid
        wait_for full $pid && echo yes | section "$run.full"
        kill -TERM $pid
        within "$run.detached" detached $pid
        within "$run.unhooked" unhooked
        sleep 1
        gone $pid || echo yes | section "$run.waits"
        kill -INT $pid
        within "$run.gone" gone $pid
        wait $pid
        echo $? | section "$run.status"
        section "$run.err" </tmp/$run.err
        kill $reader
    done
done

# One signal, and then it is read: nothing of it is missing, and it has an end although the guest goes on.
fifo
shared-msr trace --format jsonl >/tmp/fifo 2>/tmp/late.err &
pid=$!
wait_for attached $pid
wait_for full $pid
kill -TERM $pid
within "late.detached" detached $pid
within "late.unhooked" unhooked
cat /tmp/fifo >/tmp/late.out
wait $pid
echo $? | section late.status
kill $reader
wc -l </tmp/late.out | section late.lines
tail -n 1 /tmp/late.out | section late.last
section late.err </tmp/late.err

# A standard error that takes nothing.
fifo
yes >/tmp/fifo 2>/dev/null &
filler=$!
sleep 1
shared-msr report >/tmp/deaf.out 2>/tmp/fifo &
pid=$!
wait_for attached $pid
sleep 1
kill -TERM $pid
within "deaf.detached" detached $pid
within "deaf.unhooked" unhooked
sleep 1
kill -TERM $pid
within deaf.gone gone $pid
wait $pid
echo $? | section deaf.status
section deaf.out </tmp/deaf.out
kill $filler $reader
wait $filler 2>/dev/null

# The measured command. It says that it has come to its end, and whether anything was still attached by then.
cat >/tmp/measured <<'END'
usleep 2500000
for process in /proc/[0-9]*; do
    [ "$(cat $process/comm 2>/dev/null)" != shared-msr ] || grep -l 'tp_name:.*kvm_exit' $process/fdinfo/* 2>/dev/null
done >/tmp/measured.attached
echo ended >/tmp/measured.end
exit $1
END
# of_measured NAME: what it has left.
of_measured() {
    section "$1.end" </tmp/measured.end
    section "$1.attached" </tmp/measured.attached
    rm -f /tmp/measured.end
}
# leaves NAME STATUS COMMAND...: the reader takes a little and leaves.
leaves() {
    name=$1
    status=$2
    shift 2
    rm -f /tmp/fifo
    mkfifo /tmp/fifo
    head -c 100 </tmp/fifo >/dev/null &
    "$@" -- sh /tmp/measured $status >/tmp/fifo 2>/tmp/$name.err
    echo $? | section "$name.status"
    section "$name.err" </tmp/$name.err
    of_measured $name
}
leaves leaves-report 7 shared-msr report --interval 100ms
leaves leaves-report-0 0 shared-msr report --interval 100ms
leaves leaves-trace 7 shared-msr trace
try full-report shared-msr report --interval 100ms --output /dev/full -- sh /tmp/measured 7
of_measured full-report
try full-trace shared-msr trace --output /dev/full -- sh /tmp/measured 0
of_measured full-trace

# One that cannot be ended nicely, with nobody reading either: the second signal ends us, and leaves it.
fifo
shared-msr trace -- sh -c 'trap "" TERM; echo $$ >/tmp/stubborn; sleep 30; sleep 30' >/tmp/fifo 2>/dev/null &
pid=$!
wait_for attached $pid
wait_for full $pid
kill -TERM $pid
within "stubborn.detached" detached $pid
within "stubborn.unhooked" unhooked
sleep 1
kill -TERM $pid
within stubborn.gone gone $pid
wait $pid
echo $? | section stubborn.status
gone "$(cat /tmp/stubborn)" || echo yes | section stubborn.left
kill -KILL "$(cat /tmp/stubborn)"
kill $reader
kill -TERM $guest
wait $guest

# What signals a command ignores, blocks and catches: those that it would without us.
grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status | section signals.bare
shared-msr report -- grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status 2>&1 >/dev/null | section signals.measured

# Times that no clock has.
try long-interval shared-msr report --interval 1.8e19 -- sh -c 'exit 7'
shared-msr trace --duration 1.8e19 --limit 1 --output /tmp/long-trace 2>/tmp/long-trace.err &
pid=$!
wait_for attached $pid
shared-msr guest --outs 5 --tsc-aux 0xabc >/dev/null
wait $pid
echo $? | section long-trace.status
section long-trace.err </tmp/long-trace.err

# Files that are replaced as a whole, or not at all.
echo 'what was there' >/tmp/kept
chmod 604 /tmp/kept
(
    # No file may be longer than 0 bytes: what was there stays, and nothing is left beside it.
    ulimit -f 0
    trap '' XFSZ
    shared-msr report --output /tmp/kept -- sh -c 'exit 7' 2>/dev/null >/dev/null
    echo $? | section kept.status
)
section kept.content </tmp/kept
ls -A /tmp | grep -c '^.shared-msr-' | section kept.beside
shared-msr report --output /tmp/kept -- true
head -n 1 /tmp/kept | section replaced.content
stat -c %a /tmp/kept | section replaced.mode
mkdir /tmp/own
ln -s /tmp/kept /tmp/own/link
ln -s /tmp/own/target /tmp/trap
echo target >/tmp/own/target
try link-own shared-msr report --format csv --output /tmp/own/link -- true
head -c 3 /tmp/kept | section link-own.content
try link-open shared-msr report --output /tmp/trap -- touch /tmp/was-run
try link-open-run test -e /tmp/was-run
section link-open.content </tmp/own/target
