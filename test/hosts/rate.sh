#!/usr/bin/env bash
# Times the ring between hosts behind slow links: network namespaces of this
# machine, each with so much rate in and out, and a broker that all gradients go
# through. Prints the time of an all-reduce beside what the broker's link needs,
# and fails where a frame was sent again, since none is lost. Needs root and
# iproute2.
#
#	test/hosts/rate.sh [RANKS [RATE [BYTES]]]        8 100mbit 4MiB
. "$(dirname "$0")/lib.sh"
ranks=${1:-8} rate=${2:-100mbit} bytes=${3:-4MiB}
needs ip tc awk
[ "$(gbps "$rate")" != 0 ] || { echo "test/hosts: rate $rate: want a limit" >&2; exit 2; }

# The broker's host is 10.81.0.1. Both ways of each link wait their turn in a queue
# of two seconds.
hosts 10.81.0 head $(seq 0 $((ranks - 1)))
limit "$rate" 2s
program=$(built)
at head "$program" bench ring --road nats --topology broker --ranks "$ranks" --bytes "$bytes" --bucket-bytes 4194304 --listen 10.81.0.1 \
	--through "ip netns exec $id{}" --json >"$dir/out.json"

# Each byte comes into the broker's host 2(N-1) times, and leaves it as often.
awk -v ranks="$ranks" -v rate="$rate" -v gbps="$(gbps "$rate")" '
	match($0, /"bytes": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); bytes = f[2] + 0 }
	match($0, /"chunk_bytes": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); chunk = f[2] + 0 }
	match($0, /"ms": *[0-9.]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); ms = f[2] + 0 }
	match($0, /"runs": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); runs = f[2] + 0 }
	match($0, /"repeated_frames": *[0-9]+/) { split(substr($0, RSTART, RLENGTH), f, ":"); repeats = f[2] + 0 }
	END {
		frames = 2 * (ranks - 1) * (bytes / chunk) * runs
		limit = 2 * (ranks - 1) * bytes * 8 / (gbps * 1e9)
		printf "%d ranks, %s, %.1f MB: %.2f s; the broker'"'"'s link needs %.2f s: %.2f; %d of %d frames went again\n", ranks, rate, bytes / 1e6, ms / 1e3, limit, ms / 1e3 / limit, repeats, frames
		exit repeats > 0
	}' "$dir/out.json" || { code=$?; cat "$dir/out.json" >&2; exit $code; }
