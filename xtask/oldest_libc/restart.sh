# Runs in the chroot: a shell that counts is checkpointed, killed and restarted, and must go on from the checkpoint.
# It prints to a pipe: a restarted program prints to whoever restarted it, so each run has a log of its own.
set -eu
export PATH=/opt/target/release:/usr/bin:/bin HOME=/root
dir=$(mktemp -d)
cd "$dir"
fail() {
    echo "FAILED: $1" >&2
    tail -n 20 "$dir"/*.log >&2
    exit 1
}
# Numbers in the log of a run.
numbers() { grep -sx '[0-9]*' "$1.log"; }
last() { numbers "$1" | tail -n 1; }
# Wait until run $1 has counted beyond $2.
beyond() {
    for _ in $(seq 300); do
        n=$(last "$1" || true)
        [ "${n:-0}" -gt "$2" ] && return 0
        sleep 0.05
    done
    fail "run $1 does not count beyond $2"
}
cat >counter <<'C'
n=0
while ! [ -e stop ]; do
    n=$((n + 1)) i=0
    echo $n
    while [ $i -lt 3000 ]; do i=$((i + 1)); done
done
exit 7
C
dmtcp_coordinator -p 0 --port-file port --ckptdir "$dir" </dev/null >coordinator.log 2>&1 &
for _ in $(seq 100); do [ -s port ] && break; sleep 0.05; done
[ -s port ] || fail "no coordinator"
port=$(cat port)
dmtcp_launch -j -p "$port" --no-gzip --ckptdir "$dir" /bin/bash "$dir/counter" </dev/null > >(cat >first.log) 2>&1 &
program=$!
beyond first 2
low=$(last first)
dmtcp_command -p "$port" bc >command.log 2>&1 || fail "checkpoint"
high=$(last first)
beyond first "$high"
kill -KILL "$program"
wait "$program" 2>/dev/null || true
dmtcp_restart -j -p "$port" "$dir"/ckpt_*.dmtcp </dev/null > >(cat >second.log) 2>&1 &
program=$!
beyond second "$high"
first=$(numbers second | head -n 1)
{ [ "$first" -gt "$low" ] && [ "$first" -le $((high + 1)) ]; } || fail "went on with $first, not within $low and $high"
touch stop
status=0
wait "$program" || status=$?
[ "$status" -eq 7 ] || fail "exit status $status"
echo "    checkpointed at $low to $high, went on with $first ($(ldd --version | head -n 1))"
