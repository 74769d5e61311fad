#!/usr/bin/env bash
# A container of half a core and 512 MiB, made by the kernel's own means: the commands
# are process 1 of a PID namespace, root is read-only and holds nothing but them, the
# user is 65532. A coordinator with one worker trains, ends on SIGTERM within the grace
# of a pod with a checkpoint, goes on from it, and has the weights of the same job
# outside. Wants root, Linux, and control groups of either version.
#
#   test/container/run.sh               # settings: CORES (0.5), MEMORY (512 MiB in bytes), GRACE (30), STEPS (150)
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)
CORES=${CORES:-0.5} MEMORY=${MEMORY:-536870912} GRACE=${GRACE:-30} STEPS=${STEPS:-150}
[ "$(id -u)" = 0 ] || { echo "run.sh: wants root, for control groups and namespaces" >&2; exit 2; }
tmp=$(mktemp -d)
group=vlaring-test-$$
groups=()
pid=
finish() {
  [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
  sleep 0.2
  for g in "${groups[@]}"; do rmdir "$g" 2>/dev/null || true; done
  rm -rf "$tmp"
}
trap finish EXIT
say() { printf '%4ss  %s\n' "$SECONDS" "$*"; }

if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  g=/sys/fs/cgroup/$group
  mkdir "$g" && groups+=("$g")
  echo "+cpu +memory" >/sys/fs/cgroup/cgroup.subtree_control
  awk "BEGIN { printf \"%d 100000\", $CORES * 100000 }" >"$g/cpu.max"
  echo "$MEMORY" >"$g/memory.max"
else
  for c in cpu memory; do g=/sys/fs/cgroup/$c/$group && mkdir "$g" && groups+=("$g"); done
  echo 100000 >/sys/fs/cgroup/cpu/$group/cpu.cfs_period_us
  awk "BEGIN { printf \"%d\", $CORES * 100000 }" >/sys/fs/cgroup/cpu/$group/cpu.cfs_quota_us
  echo "$MEMORY" >/sys/fs/cgroup/memory/$group/memory.limit_in_bytes
fi

root=$tmp/root
mkdir -p "$root"/{proc,sys,dev,runs,job} "$tmp/runs" && touch "$root/dev/null"
if [ -n "${COORDINATOR:-}" ]; then cp "$COORDINATOR" "$root/coordinator"; else (cd "$repo" && CGO_ENABLED=0 go build -o "$root/" ./cmd/coordinator); fi
cp "$repo/internal/cli/testdata/small.yaml" "$root/job/job.yaml"
chown 65532:65532 "$tmp/runs"
chmod 755 "$tmp" "$root"
args=(train /job/job.yaml --set "train.steps=$STEPS" --set schedule.min_lr=null --run-dir /runs/r --resume --workers 1 --json)

# contain OUT ARGS… runs the coordinator as process 1; its pid here is in $pid.
contain() {
  local out=$1
  shift
  (
    for g in "${groups[@]}"; do echo "$BASHPID" >"$g/cgroup.procs"; done
    exec unshare --pid --fork --kill-child --mount --uts --ipc bash -c '
      set -e
      mount --make-rprivate /
      mount --bind "$1" "$1" && mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys" && mount --bind /dev/null "$1/dev/null" && mount --bind "$2" "$1/runs"
      mount -o remount,bind,ro "$1"
      root=$1; shift 2
      exec env -i PATH="$PATH" chroot --userspec=65532:65532 "$root" /coordinator "$@"' - "$root" "$tmp/runs" "$@"
  ) >"$out" 2>"$out.err" &
  local outer=$!
  pid=
  for _ in $(seq 200); do # process 1 of the namespace is the child of unshare
    pid=$(pgrep -P "$outer" | head -1 || true)
    [ -z "$pid" ] || break
    sleep 0.05
  done
  [ -n "$pid" ] || { cat "$out.err"; exit 1; }
  shell=$outer
}

contain "$tmp/first" "${args[@]}" --health 127.0.0.1:18080
for _ in $(seq 600); do
  grep -q '"event":"step"' "$tmp/first" && [ "$(grep -c '"event":"step"' "$tmp/first")" -ge 10 ] && break
  kill -0 "$pid" 2>/dev/null || { cat "$tmp/first.err"; exit 1; }
  sleep 0.1
done
[ "$(awk '/^NSpid/ { print $NF }' "/proc/$pid/status")" = 1 ] || { say "it is not process 1"; exit 1; }
touch "/proc/$pid/root/x" 2>/dev/null && { say "its root can be written"; exit 1; }
threads=$(sed -n 's/.*"event":"joined".*"threads":\([0-9]*\).*/\1/p' "$tmp/first" | head -1)
say "process 1, read-only root, $CORES cores, $MEMORY bytes: trains with $threads thread(s)"
[ "$threads" = "$(awk "BEGIN { n = int($CORES); print n < 1 ? 1 : n }")" ] || { say "that is not what the quota allows"; exit 1; }
began=$(date +%s%N)
kill -TERM "$pid"
wait "$shell" && code=0 || code=$?
took=$((($(date +%s%N) - began) / 1000000))
say "SIGTERM: exit code $code after $took ms"
[ "$code" = 3 ] && [ "$took" -lt $((GRACE * 1000)) ] || { cat "$tmp/first.err"; exit 1; }

contain "$tmp/second" "${args[@]}"
wait "$shell" && code=0 || code=$?
there=$(sed -n 's/.*"event":"end".*"model_sha256":"\([0-9a-f]*\)".*/\1/p' "$tmp/second")
say "resumed: exit code $code, model.safetensors sha256 $there"
pid=
[ "$code" = 0 ] || { cat "$tmp/second.err"; exit 1; }
"$root/coordinator" train "$root/job/job.yaml" --set "train.steps=$STEPS" --set schedule.min_lr=null --run-dir "$tmp/here" --workers 2 --json >"$tmp/here.jsonl" 2>"$tmp/here.err"
here=$(sed -n 's/.*"event":"end".*"model_sha256":"\([0-9a-f]*\)".*/\1/p' "$tmp/here.jsonl")
say "outside, two workers:  model.safetensors sha256 $here"
[ -n "$here" ] && [ "$here" = "$there" ] || { say "DIFFERENT BITS"; exit 1; }
say "SAME BITS"
