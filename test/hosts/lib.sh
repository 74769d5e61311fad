# For the scripts beside it, which source it: hosts that are network namespaces of
# this machine, each with a link of its own to one switch.
#
#	needs ip tc             ends the script with 2 where a tool is missing, or root is
#	hosts 10.81.0 head 0 1  makes them: head is 10.81.0.1, 0 is 10.81.0.2, 1 is 10.81.0.3
#	at head COMMAND…        runs a command there
#	limit 1gbit [QUEUE]     limits both ways of each link, with a queue of so long (1s); none: not at all
#	gbps 1gbit              is that rate in 10⁹ bits a second; none: 0
#	built                   is a coordinator: $COORDINATOR, or what go build makes of this checkout
#
# $id begins the namespaces' names, and $dir is a directory for files. Both are
# removed when the script ends, after its function 'ending CODE', if it has one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

id=vlh$$
dir=$(mktemp -d)
names=()
lib_end() {
	local code=$?
	if declare -F ending >/dev/null; then ending $code || true; fi
	for h in sw "${names[@]}"; do ip netns del $id$h 2>/dev/null || true; done
	rm -rf "$dir"
}
trap lib_end EXIT

needs() {
	for tool; do
		command -v "$tool" >/dev/null || { echo "test/hosts: cannot run: no '$tool' on this machine (iproute2, nftables, util-linux)" >&2; exit 2; }
	done
	[ "$(id -u)" = 0 ] || { echo "test/hosts: cannot run: only root can make network namespaces" >&2; exit 2; }
}

hosts() {
	local net=$1 n=0
	shift
	names=("$@")
	ip netns add ${id}sw
	ip -n ${id}sw link add name switch type bridge
	ip -n ${id}sw link set switch up
	for h; do
		n=$((n + 1))
		ip netns add $id$h
		ip link add $id$h type veth peer name e0 netns $id$h
		ip link set $id$h netns ${id}sw
		ip -n ${id}sw link set $id$h master switch up
		ip -n $id$h addr add "$net.$n/24" dev e0
		ip -n $id$h link set e0 up
		ip -n $id$h link set lo up
	done
}

at() {
	local host=$1
	shift
	ip netns exec $id$host "$@"
}

gbps() {
	case $1 in
	none) echo 0 ;;
	*gbit) echo "${1%gbit}" ;;
	*mbit) awk -v m="${1%mbit}" 'BEGIN { print m / 1000 }' ;;
	*) echo "test/hosts: rate $1: want none, or a number with gbit or mbit" >&2; return 2 ;;
	esac
}

# The bucket holds what passes in 4 ms, a tick of slow kernels, or a few packets as
# large as they come.
limit() {
	local rate=$1 queue=${2:-1s} burst
	for h in "${names[@]}"; do
		at $h tc qdisc del dev e0 root 2>/dev/null || true
		at sw tc qdisc del dev $id$h root 2>/dev/null || true
		[ "$rate" != none ] || continue
		burst=$(awk -v g="$(gbps "$rate")" 'BEGIN { b = g * 1e9 / 8 * 0.004; printf "%d", b < 262144 ? 262144 : b }')
		at $h tc qdisc add dev e0 root tbf rate "$rate" burst "$burst" latency "$queue"
		at sw tc qdisc add dev $id$h root tbf rate "$rate" burst "$burst" latency "$queue"
	done
}

built() {
	if [ -n "${COORDINATOR:-}" ]; then
		realpath "$COORDINATOR"
	else
		go build -o "$dir/" ./cmd/coordinator
		echo "$dir/coordinator"
	fi
}
