#!/usr/bin/env bash
# Checks the model of docs/scaling.md: times the all-reduce between 2 and 4 hosts,
# which are network namespaces of this machine with a limit on their links, through
# one broker, in a mesh and over direct connections, beside what 'coordinator bench
# model' makes of a measurement without hosts. Needs root and iproute2; takes a few
# minutes, on a quiet machine. peer.sh has gloo between such hosts.
#
#	test/hosts/model.sh [BYTES [RATE…]]        64MiB none 10gbit 1gbit 100mbit
#
# RING=FILE takes the measurement without hosts from a report of 'bench ring --json'.
# COORDINATOR=PROGRAM takes a built program.
. "$(dirname "$0")/lib.sh"
bytes=${1:-64MiB}
shift || true
[ $# -gt 0 ] || set -- none 10gbit 1gbit 100mbit
needs ip tc awk
for rate; do gbps "$rate" >/dev/null; done

hosts 10.82.0 head 0 1 2 3 # the broker's is 10.82.0.1
program=$(built)
ring=${RING:-}
if [ -z "$ring" ]; then
	ring=$dir/ring.json
	"$program" bench ring --road nats,direct --topology broker,mesh --bytes "$bytes,4KiB" --json >"$ring"
fi
for rate; do
	limit "$rate"
	at head "$program" bench ring --road nats,direct --topology broker,mesh --ranks 2,4 --bytes "$bytes,4KiB" --listen 10.82.0.1 --through "ip netns exec $id{}" --json >"$dir/$rate.json"
	echo "== links of $rate"
	"$program" bench model --ring "$ring" --check "$dir/$rate.json" --gbps "$(gbps "$rate")"
done
