# The same known guest under each step of the ladder of hooks. The arguments are the guest's.
. /smoke/lib.sh

uname -r | section release
try doctor shared-msr doctor
for step in auto fentry kprobe tracepoint; do
    rm -f /tmp/report.json
    try $step shared-msr -v report --probe $step --verify --format json --output /tmp/report.json -- \
        shared-msr guest --format json "$@"
    [ ! -e /tmp/report.json ] || section $step.report </tmp/report.json
done
rm -f /tmp/report.json
try reason shared-msr report --by reason --format json --output /tmp/report.json -- shared-msr guest --format json "$@"
section reason.report </tmp/report.json
try table shared-msr report --verify -- shared-msr guest "$@"
try inspect shared-msr inspect --format json
