#!/usr/bin/env bash
# Trains a job on several hosts, which are network namespaces of this machine
# behind one switch, while the network between them fails: a partition that
# heals, a fifth of all packets lost, a host lost for good, another one joining.
# The weights must be those of a run on one host. Prints how long nothing was
# committed after each fault. Takes less than a minute; needs root, ip and nft.
#
#	test/hosts/run.sh [--mesh] [--pairs] [--direct]
#
# --mesh: a broker in every worker. --pairs: two workers on each host, which fold
# from shared memory, in two rings between the hosts. --direct: gradients go from
# host to host without a broker.
. "$(dirname "$0")/lib.sh"
needs ip nft ss unshare awk
run=$dir/run
pids=()
ending() {
	for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	if [ "$1" != 0 ]; then tail -n 30 "$dir"/*.log >&2 || true; fi
}
hosts 10.79.0 head a b c
go build -o "$dir/" ./cmd/...

# on HOST LOG COMMAND…: in the background, under a host name of its own
on() {
	local host=$1 log=$2
	shift 2
	at $host unshare --uts sh -c 'hostname "$1"; shift; exec "$@"' sh "$host" "$@" >"$dir/$log.log" 2>&1 &
	pids+=($!)
}
mesh= per=1 road=auto between=nats
for a; do
	case $a in
	--mesh) mesh=1 ;;
	--pairs) per=2 ;;
	--direct) road=direct between="direct connections" ;;
	*) echo "test/hosts: unknown option $a" >&2; exit 2 ;;
	esac
done
if [ "$mesh" ]; then
	topology=(--set cluster.topology=mesh --routes 10.79.0.1:6222)
	reach=(--mesh 10.79.0.1:6222)
else
	topology=()
	reach=(--nats nats://10.79.0.1:4222)
fi
worker() {
	for i in $(seq $per); do
		on "$1" "$1$i" "$dir/worker" "${reach[@]}" --job hosts --token-file "$run/token" --id "$1$i" --threads 1 --rescue-dir "$dir/rescue-$1$i"
	done
}
ask() { at head "$dir/coordinator" "$@" "$run"; }

on head head "$dir/coordinator" train test/hosts/job.yaml --json --run-dir "$run" --workers 0 --set cluster.workers=$((2 * per)) --set cluster.road=$road --listen 10.79.0.1:4222 "${topology[@]}"
coordinator=${pids[0]}
for _ in $(seq 200); do [ -s "$run/token" ] && break || sleep 0.05; done
worker a
worker b

# Every commit with the time at which it is seen, in nanoseconds.
commits=$dir/commits
: >"$commits"
(
	until [ -e "$run/metrics.jsonl" ]; do sleep 0.02; done
	tail --pid=$$ -n +1 -F "$run/metrics.jsonl" 2>/dev/null | while read -r line; do
		world=${line#*\"world\":}
		echo "$(date +%s%N) ${world%%,*}"
	done >>"$commits"
) &
pids+=($!)

fail() { echo "test/hosts: $*" >&2; exit 1; }

# world N: waits until a step is committed by N hosts' workers
world() {
	set -- $(($1 * per))
	for _ in $(seq 400); do
		if [ "$(tail -n 1 "$commits" | cut -d' ' -f2)" = "$1" ]; then return; fi
		kill -0 "$coordinator" 2>/dev/null || fail "the coordinator has ended"
		sleep 0.05
	done
	ask status >&2 || true
	fail "no step was committed by $1 worker(s) within 20 s of: ${events[-1]:-the start}"
}
# more N: waits for N more commits
more() {
	local target=$(($(wc -l <"$commits") + $1))
	for _ in $(seq 600); do
		if [ "$(wc -l <"$commits")" -ge $target ]; then return; fi
		sleep 0.05
	done
	fail "no $1 more steps within 30 s of: ${events[-1]:-the start}"
}
events=()
event() { events+=("$(date +%s%N) $*"); }

world 2
more 20
if [ $road = direct ]; then
	[ -n "$(at a ss -Htn state established dst 10.79.0.3)" ] || fail "host a has no connection of its own to host b"
fi

event "partition: host b cut off for 5 s"
at b nft 'add table inet cut; add chain inet cut i { type filter hook input priority 0; policy drop; }; add chain inet cut o { type filter hook output priority 0; policy drop; }'
world 1
sleep 5 # how long the partition lasts
event "the partition heals: b comes back"
at b nft delete table inet cut
world 2
more 20

event "20 % of the packets to host a lost for 5 s"
at a nft 'add table inet loss; add chain inet loss i { type filter hook input priority 0; }; add rule inet loss i iifname e0 numgen random mod 100 < 20 drop'
sleep 5 # how long the loss lasts
event "no more loss"
at a nft delete table inet loss
world 2
more 20

event "host b lost for good"
ip -n ${id}sw link set ${id}b down
world 1
more 10

event "host c joins"
worker c
world 2
more 20
ask status

ask stop >/dev/null
wait "$coordinator" && fail "the stopped coordinator exits 0, want 3" || code=$?
[ $code = 3 ] || fail "the stopped coordinator exits $code, want 3"
end=$(grep '"event":"end"' "$dir/head.log")
step=$(sed 's/.*"step":\([0-9]*\).*/\1/' <<<"$end")
got=$(sed 's/.*"model_sha256":"\([0-9a-f]*\)".*/\1/' <<<"$end")

if [ $per = 2 ]; then
	grep -q "ring: shm within a (2 workers), shm within b (2 workers), $between between 2 hosts" "$dir/head.log" || fail "two workers of a host do not share memory"
fi
lines=$(wc -l <"$run/metrics.jsonl")
[ "$lines" = "$step" ] || fail "metrics.jsonl has $lines lines, want one for each of $step steps"
"$dir/coordinator" train test/hosts/job.yaml --json --run-dir "$dir/alone" --workers 1 --threads 2 --set train.steps="$step" --set checkpoint.every="$step" >"$dir/alone.log" 2>&1
want=$(grep '"event":"end"' "$dir/alone.log" | sed 's/.*"model_sha256":"\([0-9a-f]*\)".*/\1/')

printf '%s\n' "${events[@]}" >"$dir/events"
echo "$(date +%s%N) the end" >>"$dir/events"
echo
printf '%-50s %14s\n' "what happens" "longest pause"
awk 'NR == FNR { c[NR] = $1 / 1e9; n = NR; next }
	{ if (FNR > 1) show($1 / 1e9); from = $1 / 1e9; $1 = ""; text = substr($0, 2) }
	# the longest time between two commits of which the later is after the event, and the earlier before the next
	function show(to,   i, worst) {
		for (i = 2; i <= n; i++) if (c[i] > from && c[i-1] < to && c[i] - max(c[i-1], from) > worst) worst = c[i] - max(c[i-1], from)
		printf "%-50s %12.2f s\n", text, worst
	}
	function max(a, b) { return a > b ? a : b }' "$commits" "$dir/events"
echo
[ "$got" = "$want" ] || fail "step $step: weights $got, and $want on one host"
echo "$step steps, in ${SECONDS} s: the same bits as on one host ($got)"
