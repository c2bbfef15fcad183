# Each KVM_EXIT reason that the guest can make, in exact numbers. The arguments are the guest's.
. /smoke/lib.sh

measured all --by reason -- shared-msr guest --format json --tsc-aux 0xabc "$@"
