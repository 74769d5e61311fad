#!/usr/bin/env bash
# Times the ring between hosts behind slow links: network namespaces of this
# machine, each with so much rate in and out, and a broker that all gradients go
# through. Prints the time of an all-reduce beside what the broker's link needs,
# and fails where a frame was sent again, since none is lost. Needs root and
# iproute2.
#
#	test/hosts/rate.sh [RANKS [RATE [BYTES]]]        8 100mbit 4MiB
set -euo pipefail
cd "$(dirname "$0")/../.."
ranks=${1:-8} rate=${2:-100mbit} bytes=${3:-4MiB}

for tool in ip tc awk; do
	command -v $tool >/dev/null || { echo "test/hosts: cannot run: no '$tool' on this machine (iproute2)" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "test/hosts: cannot run: only root can make network namespaces" >&2; exit 2; }

id=vlr$$
dir=$(mktemp -d)
cleanup() {
	for h in sw head $(seq 0 $((ranks - 1))); do ip netns del $id$h 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT

# A switch, the broker's host 10.81.0.1 on it, and one for each rank. Both ways of
# each link wait their turn in a queue of two seconds.
ip netns add ${id}sw
ip -n ${id}sw link add name switch type bridge
ip -n ${id}sw link set switch up
n=0
for h in head $(seq 0 $((ranks - 1))); do
	n=$((n + 1))
	ip netns add $id$h
	ip link add $id$h type veth peer name e0 netns $id$h
	ip link set $id$h netns ${id}sw
	ip -n ${id}sw link set $id$h master switch up
	ip -n $id$h addr add 10.81.0.$n/24 dev e0
	ip -n $id$h link set e0 up
	ip -n $id$h link set lo up
	tc -n $id$h qdisc add dev e0 root tbf rate "$rate" burst 256kb latency 2s
	tc -n ${id}sw qdisc add dev $id$h root tbf rate "$rate" burst 256kb latency 2s
done

go build -o "$dir/" ./cmd/coordinator
ip netns exec ${id}head "$dir/coordinator" bench ring --road nats --topology broker --ranks "$ranks" --bytes "$bytes" --bucket-bytes 4194304 --listen 10.81.0.1 \
	--through "ip netns exec $id{}" --json >"$dir/out.json"

# Each byte comes into the broker's host 2(N-1) times, and leaves it as often.
awk -v ranks="$ranks" -v rate="$rate" '
	match($0, /"bytes": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); bytes = f[2] + 0 }
	match($0, /"chunk_bytes": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); chunk = f[2] + 0 }
	match($0, /"ms": *[0-9.]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); ms = f[2] + 0 }
	match($0, /"runs": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); runs = f[2] + 0 }
	match($0, /"repeated_frames": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); repeats = f[2] + 0 }
	END {
		unit = rate ~ /gbit$/ ? 1e9 : rate ~ /mbit$/ ? 1e6 : rate ~ /kbit$/ ? 1e3 : 1
		frames = 2 * (ranks - 1) * (bytes / chunk) * runs
		limit = 2 * (ranks - 1) * bytes * 8 / (rate * unit)
		printf "%d ranks, %s, %.1f MB: %.2f s; the broker'"'"'s link needs %.2f s: %.2f; %d of %d frames went again\n", ranks, rate, bytes / 1e6, ms / 1e3, limit, ms / 1e3 / limit, repeats, frames
		exit repeats > 0
	}' "$dir/out.json" || { code=$?; cat "$dir/out.json" >&2; exit $code; }
