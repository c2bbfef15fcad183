# Two guests with different values on one CPU, at the same time.
. /smoke/lib.sh

guest() {
    name=$1
    shift
    shared-msr guest --format json "$@" >/tmp/$name.out 2>/tmp/$name.err &
    eval "$name=$!"
}

if [ "$1" = both ]; then
    # Run by the report below.
    guest first --outs 150 --cpuids 20 --tsc-aux 0xa01
    guest second --outs 90 --cpuids 40 --tsc-aux 0xb02
    echo $first >/tmp/first.pid
    echo $second >/tmp/second.pid
    wait $first || exit
    wait $second
    exit
fi

# The kernel's own record of each write, in its order: a restore is of the guest whose value was the last to be loaded.
watch first_written msr/write_msr 'msr == 0xc0000103 && val == 0xa01'
watch second_written msr/write_msr 'msr == 0xc0000103 && val == 0xb02'
record_writes
measured both -- sh /smoke/two_guests.sh both
recorded | awk '
    $2 == "0" && last != "0" { restored[last]++ }
    $2 != "0" && last != "0" && last != $2 && last != "" { taken_over++ }
    { last = $2 }
    END { print restored["a01"] + 0 >"/tmp/first"; print restored["b02"] + 0 >"/tmp/second"; print taken_over + 0 >"/tmp/over" }'
for guest in first second; do
    section $guest.restored </tmp/$guest
    section $guest.pid </tmp/$guest.pid
    section $guest.out </tmp/$guest.out
    section $guest.err </tmp/$guest.err
done
section taken-over </tmp/over
