# What a whole run costs that has nothing to measure: see overhead.md. Runs in the lab with --icount.
now() {
    cut -d ' ' -f 1 /proc/uptime | tr -d .
}
for words in "report --output /dev/null -- true" "report --by reason --output /dev/null -- true" "inspect --format json"; do
    begin=$(now)
    shared-msr $words >/dev/null 2>&1
    echo "$words: $((($(now) - begin) * 10)) million instructions"
done
shared-msr report --output /dev/null &
sleep 1
grep -E "VmHWM|VmRSS" /proc/$!/status
kill -INT $!
wait
