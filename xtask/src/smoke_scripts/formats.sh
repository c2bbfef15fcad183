# The same small guest in each format, by each pair of dimensions, by intervals, and with rows left out.
. /smoke/lib.sh

guest='shared-msr guest --format json --outs 30 --cpuids 20 --hlts 5 --tsc-aux 0xabc'

if [ "$1" = both ]; then
    # Run by a report below: one after the other, so that the first one's row is the larger one for sure.
    shared-msr guest --outs 30 --cpuids 100 --tsc-aux 0xabc >/dev/null
    shared-msr guest --outs 20 --cpuids 10 --tsc-aux 0xdef >/dev/null
    exit
fi

for format in json jsonl csv markdown table; do
    measured $format -- $guest
done

# Each pair, in which the columns are those that both can have; then several at once.
format=jsonl
first=
for one in msr vm vcpu cpu reason cause payer; do
    for other in $first; do
        pairs="$pairs $other,$one"
    done
    first="$first $one"
done
for by in $pairs vcpu,cause,payer msr,vm,vcpu,cpu,reason,cause,payer; do
    try "$by" shared-msr report --by "$by" --format jsonl --output /tmp/report.json -- $guest
    section "$by.report" </tmp/report.json
done

# By intervals: what the intervals show is all there was.
for format in json jsonl csv table markdown; do
    measured "interval-$format" --interval 200ms -- \
        shared-msr guest --outs 60 --cpuids 20 --tsc-aux 0xabc --spin --duration 1s
done
format=markdown
measured interval-markdown-cpu --by cpu --interval 200ms -- $guest

# Two guests, one of which is asked for.
shared-msr guest --outs 1000000000 --cpuids 3 --tsc-aux 0xabc >/dev/null 2>&1 &
wanted=$!
shared-msr guest --outs 1000000000 --cpuids 9 --tsc-aux 0xdef >/dev/null 2>&1 &
other=$!
echo $wanted | section wanted.pid
echo $other | section other.pid
sleep 1
try vm-json shared-msr report --verify --vm $wanted --format json --duration 500ms
for by in vm vcpu,cause msr; do
    try "vm-$by" shared-msr report --verify --vm $wanted --by $by --format jsonl --duration 500ms
done
try vcpu-none shared-msr report --verify --vcpu 5 --by vcpu --format jsonl --duration 500ms
kill -TERM $wanted $other
wait $wanted $other

# The largest row, and the others in one.
for format in jsonl table; do
    measured "top-$format" --by vm --sort exits --top 1 -- sh /smoke/formats.sh both
done
