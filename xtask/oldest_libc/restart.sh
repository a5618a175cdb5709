# Runs in the chroot: a shell that counts is checkpointed, killed and restarted, and must go on from the checkpoint.
set -eu
export PATH=/opt/target/release:/usr/bin:/bin HOME=/root
dir=$(mktemp -d)
cd "$dir"
fail() {
    echo "FAILED: $1" >&2
    tail -n 20 "$dir"/*.log >&2
    exit 1
}
last() { tail -n 1 "$dir/count" 2>/dev/null || echo 0; }
# Wait until the count is beyond $1.
beyond() {
    for _ in $(seq 300); do
        [ "$(last)" -gt "$1" ] && return 0
        sleep 0.05
    done
    fail "the count stays at $(last)"
}
cat >counter <<'C'
n=0
while ! [ -e stop ]; do
    n=$((n + 1)) i=0
    echo $n >>count
    while [ $i -lt 3000 ]; do i=$((i + 1)); done
done
exit 7
C
dmtcp_coordinator -p 0 --port-file port --ckptdir "$dir" </dev/null >coordinator.log 2>&1 &
for _ in $(seq 100); do [ -s port ] && break; sleep 0.05; done
[ -s port ] || fail "no coordinator"
port=$(cat port)
dmtcp_launch -j -p "$port" --no-gzip --ckptdir "$dir" /bin/bash "$dir/counter" >launch.log 2>&1 &
program=$!
beyond 2
low=$(last)
dmtcp_command -p "$port" bc >command.log 2>&1 || fail "checkpoint"
high=$(last)
beyond "$high"
kill -KILL "$program"
wait "$program" || true
lines=$(wc -l <count)
killed=$(last)
dmtcp_restart -j -p "$port" "$dir"/ckpt_*.dmtcp >restart.log 2>&1 &
program=$!
for _ in $(seq 300); do [ "$(wc -l <count)" -gt "$lines" ] && break; sleep 0.05; done
first=$(sed -n "$((lines + 1))p" count)
[ -n "$first" ] || fail "nothing after the restart"
{ [ "$first" -gt "$low" ] && [ "$first" -le $((high + 1)) ]; } || fail "went on with $first, not within $low and $high"
touch stop
status=0
wait "$program" || status=$?
[ "$status" -eq 7 ] || fail "exit status $status"
echo "    checkpointed at $low to $high, killed at $killed, went on with $first ($(ldd --version | head -n 1))"
