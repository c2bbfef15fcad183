#!/bin/sh
# The first process of an emulated host: prepares it, runs /lab/command, tells its exit status and switches off.
#
# Four serial ports lead out of the machine. ttyS0 has the kernel's messages (and what this script complains about), ttyS1
# the command's standard output, ttyS2 its standard error, ttyS3 words for xtask: "start", "no-kvm", "end STATUS OUT ERR"
# with the number of bytes sent on the other two.
#
# To run a part of the command as somebody else:  su -s /bin/sh nobody -c '...'
# (busybox-static of Debian has no setuidgid or chpst, and its setpriv cannot change the user.)
export PATH=/bin HOME=/tmp
/bin/busybox --install -s /bin 2>/dev/null # complains about files that are there already: they win

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
# Not a mount of its own: it would hide the files that were put there.
chmod 1777 /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
hostname lab
ip link set lo up
# Where booting had to be quiet: from here on all messages.
dmesg -n 7

# Open for as long as the bytes must come out as they went in: a port that nobody has open forgets its settings.
exec 3>/dev/ttyS1 4>/dev/ttyS2 5>/dev/ttyS3
for port in 1 2 3; do stty -F /dev/ttyS$port 115200 raw -echo; done

if [ -e /lab/load-modules ] && ! load-kvm; then
    echo no-kvm >&5
    exec 5>&-
    poweroff -f
fi

# Through pipes, because the command must not find itself on a terminal.
mkfifo /run/out /run/err
cat /run/out >&3 3>&- 4>&- 5>&- &
out=$!
cat /run/err >&4 3>&- 4>&- 5>&- &
err=$!

echo start >&5
# In a session of its own, so that it can signal its process group without hitting us. In a subshell, because ash would
# turn its own output over to the command and then write "Killed" there.
(exec setsid /lab/command </dev/null >/run/out 2>/run/err 3>&- 4>&- 5>&-)
status=$?

# What the command left behind would hold the pipes open for ever. Kernel threads do not mind.
for process in /proc/[0-9]*; do
    process=${process#/proc/}
    case " 1 $out $err " in
    *" $process "*) ;;
    *) kill -9 "$process" 2>/dev/null ;;
    esac
done
wait $out $err
# The last close of a port waits until every byte has left it: xtask ends the machine when it has the status.
exec 3>&- 4>&-
sent() { sed -n "s/^$1:.* tx:\([0-9]*\).*/\1/p" /proc/tty/driver/serial; }
echo "end $status $(sent 1) $(sent 2)" >&5
exec 5>&-
poweroff -f
