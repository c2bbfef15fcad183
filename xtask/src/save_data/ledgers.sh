# Prints ledgers of guests. Arguments: seconds from one to the next, how many, and of each guest the options in one word.
set -e
period=$1
number=$2
shift 2
for guest; do
    # Its options are words without blanks.
    # shellcheck disable=SC2086
    shared-msr guest $guest >/dev/null &
done
until [ "$(grep -lx guest-vcpu /proc/[0-9]*/task/*/comm 2>/dev/null | wc -l)" = $# ]; do usleep 50000; done
save_ledgers "$period" "$number" /tmp/ledgers
kill $(jobs -p)
cat /tmp/ledgers
