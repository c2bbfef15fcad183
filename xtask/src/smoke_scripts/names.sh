# A process has one name in everything that is printed, and names are read where /proc is the host's.
. /smoke/lib.sh

# Two guests that preempt each other: each pays for the other's restores. A vCPU's thread renames itself.
for value in 0xabc 0xdef; do
    shared-msr guest --outs 1000000000 --cpuids 30 --tsc-aux $value >/dev/null 2>&1 &
    guests="$guests $!"
done
sleep 2
echo $guests | section guests
try host shared-msr report --verify --by cause,payer --format json --duration 2
try host-text shared-msr report --by payer --duration 1
try host-vcpus shared-msr report --by vcpu --duration 1
try host-trace shared-msr trace --limit 400 --format jsonl --duration 1
try host-doctor shared-msr doctor
# In a PID namespace of its own, with its own /proc and with the host's.
try own unshare -m -p -f --mount-proc shared-msr report --verify --by cause,payer --format json --duration 2
try own-text unshare -m -p -f --mount-proc shared-msr report --by payer --duration 1
try own-doctor unshare -m -p -f --mount-proc shared-msr doctor
try shown unshare -p -f shared-msr report --verify --by cause,payer --format json --duration 2
try shown-text unshare -p -f shared-msr report --by payer --duration 1
try shown-doctor unshare -p -f shared-msr doctor
kill -TERM $guests
# They were not done.
wait $guests || true
