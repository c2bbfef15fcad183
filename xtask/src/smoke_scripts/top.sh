# The live view on a terminal of its own: what it shows of loads of known size, and how it leaves the terminal.
. /smoke/lib.sh
[ -e /dev/pts/ptmx ] || { mkdir -p /dev/pts && mount -t devpts devpts /dev/pts; }

if [ "$1" = session ]; then
    # Run on that terminal, by a shell with job control as anywhere.
    name=$2
    shift 2
    stty -a >"/tmp/$name.before"
    shared-msr top "$@"
    status=$?
    if [ $name = ctrl-z ]; then
        echo $status >/tmp/ctrl-z.stopped.status
        stty -a >/tmp/ctrl-z.stopped
        cut -d' ' -f3 /proc/"$(pidof shared-msr)"/stat >/tmp/ctrl-z.process
        touch /tmp/ctrl-z.go
        fg >/dev/null
        status=$?
    fi
    stty -a >"/tmp/$name.after"
    echo $status >"/tmp/$name.status"
    exit
fi

# drive NAME STEP...: a session, with its screens as NAME.screens.
drive() {
    name=$1
    shift
    drive_top 120x40 "$@" -- sh -m /smoke/top.sh session $name --export-dir /tmp $options >/tmp/$name.screens 2>&1
}
# of_session NAME: prints what it left.
of_session() {
    section "$1.screens" </tmp/$1.screens
    for what in before after status; do
        section "$1.$what" </tmp/$1.$what
    done
    shared-msr doctor | grep ' others ' | section "$1.programs"
}
process() {
    pidof shared-msr >/tmp/pid
}
uptime_is() {
    awk -v at="$1" '{ exit !($1 >= at) }' /proc/uptime
}
# at SECONDS: waits until so long after the view began to measure.
at() {
    until uptime_is "$(awk -v base="$base" -v after="$1" 'BEGIN { print base + after }')"; do
        usleep 50000
    done
}
# burst NAME ARGUMENTS...: a load, and what the kernel has counted by its end, before the next sample.
burst() {
    name=$1
    shift
    shared-msr guest --format json --tsc-aux 0xabc "$@" >/tmp/$name.guest
    for instance in kvm_exit wrmsr_to_host; do
        counted "$T/instances/$instance"/per_cpu/cpu*/stats >/tmp/$name.$instance
    done
}

# Six intervals of 5 s. In each of three of them lies a burst, with seconds to spare on both sides; each is shown in the next one.
watch kvm_exit kvm/kvm_exit
watch wrmsr_to_host msr/write_msr 'msr == 0xc0000103 && val < 8'
watch wrmsr_to_guest msr/write_msr 'msr == 0xc0000103 && val >= 8'
options="--interval 5s --by-reason"
drive rates \
    until:/tmp/show.1 shot:first until:/tmp/show.2 shot:second until:/tmp/show.3 shot:third until:/tmp/show.4 shot:quiet \
    key:t wait:0.5 shot:totals key:2 wait:0.5 shot:vms key:enter wait:0.5 shot:vcpus key:4 wait:0.5 shot:exits \
    key:e wait:1 shot:exported key:q end &
driver=$!
wait_for process
wait_for attached "$(cat /tmp/pid)"
base=$(cut -d' ' -f1 /proc/uptime)
at 6.5
burst first --outs 300 --cpuids 20
at 11.5
touch /tmp/show.1
burst second --outs 100 --cpuids 40
at 16.5
touch /tmp/show.2
burst third --outs 10 --cpuids 500
at 21.5
touch /tmp/show.3
at 26.5
touch /tmp/show.4
wait $driver
at 30
for burst in first second third; do
    for what in guest kvm_exit wrmsr_to_host; do
        section $burst.$what </tmp/$burst.$what
    done
done
of_session rates
cat /tmp/shared-msr-*.json | section rates.export
watched rates

# begin NAME STEP...: a session that has its first picture taken once it measures.
begin() {
    name=$1
    shift
    drive $name until:/tmp/$name.measuring wait:1 shot:before "$@" &
    driver=$!
    wait_for process
    wait_for attached "$(cat /tmp/pid)"
    sleep 2
    touch /tmp/$name.measuring
    sleep 2
}

# Other ends.
options=
for signal in TERM HUP QUIT INT; do
    begin $signal end
    kill -$signal "$(cat /tmp/pid)"
    wait $driver
    of_session $signal
done

# Stopped, and going on.
begin ctrl-z key:ctrl-z until:/tmp/ctrl-z.go wait:2 shot:again key:q end
wait $driver
of_session ctrl-z
for what in stopped stopped.status process; do
    section ctrl-z.$what </tmp/ctrl-z.$what
done

# A terminal that hangs up takes standard error with it: with the signal that says so; with it ignored, as nohup does; and
# without it, as a view in another session has it, which draws next in an hour.
# hang_up NAME COMMAND...
hang_up() {
    name=$1
    shift
    drive_top 120x40 until:/tmp/$name.go shot:before hangup end -- "$@" >/tmp/$name.screens 2>&1 &
    driver=$!
    wait_for process
    wait_for attached "$(cat /tmp/pid)"
    sleep 3
    touch /tmp/$name.go
    wait $driver
    section "$name.screens" </tmp/$name.screens
    shared-msr doctor | grep ' others ' | section "$name.programs"
}
hang_up hang-up shared-msr top --interval 200ms
hang_up nohup sh -c 'trap "" HUP; exec shared-msr top --interval 200ms'
hang_up setsid sh -c 'trap "" HUP; setsid shared-msr top --interval 1h; exit $?'
