# A guest whose vCPU is moved between two CPUs all the time.
. /smoke/lib.sh

if [ "$1" = moved ]; then
    # Run by the report below. The guest's output is the script's.
    shared-msr guest --outs 400 --cpuids 50 --tsc-aux 0xabc --format json &
    guest=$!
    echo $guest >/tmp/guest.pid
    moves=0
    thread=
    while kill -0 $guest 2>/dev/null; do
        [ -n "$thread" ] || thread=$(grep -l -s '^guest-vcpu$' /proc/$guest/task/*/comm | sed 's|.*/task/||; s|/comm||')
        if [ -n "$thread" ] && taskset -p $((moves % 2 + 1)) "$thread" >/dev/null 2>&1; then
            moves=$((moves + 1))
            echo $moves >/tmp/moves
        fi
        usleep 100000
    done
    wait $guest
    exit
fi

for run in json rows; do
    [ $run = json ] || by='--by vcpu,cpu'
    measured $run $by -- sh /smoke/migrate.sh moved
    section $run.pid </tmp/guest.pid
    section $run.moves </tmp/moves
done
