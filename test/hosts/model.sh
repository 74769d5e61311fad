#!/usr/bin/env bash
# Checks the model of docs/scaling.md: times the all-reduce between 2 and 4 hosts,
# which are network namespaces of this machine with a limit on their links, through
# one broker and in a mesh, beside what 'coordinator bench model' makes of a
# measurement without hosts. Then, with a Python that has torch, gloo's between the
# same two hosts. Needs root and iproute2; takes a few minutes, on a quiet machine.
#
#	test/hosts/model.sh [BYTES [RATE…]]        64MiB none 10gbit 1gbit 100mbit
#	PEER=venv/bin/python test/hosts/model.sh 99MiB none
#
# RING=FILE takes the measurement without hosts from a report of 'bench ring --json'.
# COORDINATOR=PROGRAM takes a built program.
set -euo pipefail
cd "$(dirname "$0")/../.."
bytes=${1:-64MiB}
shift || true
[ $# -gt 0 ] || set -- none 10gbit 1gbit 100mbit

for tool in ip tc; do
	command -v $tool >/dev/null || { echo "test/hosts: cannot run: no '$tool' on this machine (iproute2)" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "test/hosts: cannot run: only root can make network namespaces" >&2; exit 2; }

# gbps RATE: in 10⁹ bits a second, as bench model wants it
gbps() {
	case $1 in
	none) echo 0 ;;
	*gbit) echo "${1%gbit}" ;;
	*mbit) awk -v m="${1%mbit}" 'BEGIN { print m / 1000 }' ;;
	*) echo "test/hosts: rate $1: want none, or a number with gbit or mbit" >&2; return 2 ;;
	esac
}
for rate; do gbps "$rate" >/dev/null; done

id=vlm$$
dir=$(mktemp -d)
cleanup() {
	for h in sw head 0 1 2 3; do ip netns del $id$h 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT

# A switch, the broker's host 10.82.0.1 on it, and four for the ranks.
ip netns add ${id}sw
ip -n ${id}sw link add name switch type bridge
ip -n ${id}sw link set switch up
n=0
for h in head 0 1 2 3; do
	n=$((n + 1))
	ip netns add $id$h
	ip link add $id$h type veth peer name e0 netns $id$h
	ip link set $id$h netns ${id}sw
	ip -n ${id}sw link set $id$h master switch up
	ip -n $id$h addr add 10.82.0.$n/24 dev e0
	ip -n $id$h link set e0 up
	ip -n $id$h link set lo up
done

# limit RATE: of both ways of each link. The bucket holds what passes in 4 ms, a
# tick of slow kernels, or a few packets as large as they come.
limit() {
	for h in head 0 1 2 3; do
		ip netns exec $id$h tc qdisc del dev e0 root 2>/dev/null || true
		ip netns exec ${id}sw tc qdisc del dev $id$h root 2>/dev/null || true
		[ "$1" != none ] || continue
		local burst
		burst=$(awk -v g="$(gbps "$1")" 'BEGIN { b = g * 1e9 / 8 * 0.004; printf "%d", b < 262144 ? 262144 : b }')
		tc -n $id$h qdisc add dev e0 root tbf rate "$1" burst "$burst" latency 1s
		tc -n ${id}sw qdisc add dev $id$h root tbf rate "$1" burst "$burst" latency 1s
	done
}

program=${COORDINATOR:-}
if [ -z "$program" ]; then
	go build -o "$dir/" ./cmd/coordinator
	program=$dir/coordinator
fi
ring=${RING:-}
if [ -z "$ring" ]; then
	ring=$dir/ring.json
	"$program" bench ring --road nats --topology broker,mesh --bytes "$bytes,4KiB" --json >"$ring"
fi
for rate; do
	limit "$rate"
	ip netns exec ${id}head "$program" bench ring --road nats --topology broker,mesh --ranks 2,4 --bytes "$bytes,4KiB" --listen 10.82.0.1 --through "ip netns exec $id{}" --json >"$dir/$rate.json"
	echo "== links of $rate"
	"$program" bench model --ring "$ring" --check "$dir/$rate.json" --gbps "$(gbps "$rate")"
	if [ -n "${PEER:-}" ]; then # from the host of rank 0: gloo's ranks meet there
		ip netns exec ${id}0 "$PEER" tools/peer/ring.py --coordinator "$program" --models '' --ranks 2 --roads nats --topology mesh --bytes "$bytes" \
			--listen 10.82.0.2 --through "ip netns exec $id{} env GLOO_SOCKET_IFNAME=e0"
	fi
done
