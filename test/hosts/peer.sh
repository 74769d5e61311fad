#!/usr/bin/env bash
# Times the all-reduce between hosts, which are network namespaces of this machine,
# beside gloo's between the same hosts, in turns, and beside what the links allow.
# Needs root, iproute2, and a Python that has torch; takes a few minutes, on a quiet
# machine.
#
#	PEER=venv/bin/python test/hosts/peer.sh [HOSTS [RATE [BYTES [ROADS]]]]        2 none 104000000 direct,nats
#	PEER=venv/bin/python test/hosts/peer.sh 4 1gbit
#
# nats is a mesh: a broker in every rank. The limit is, of links with a rate, what
# the busiest link of each algorithm carries: of ours the gradient twice, once
# between two hosts; of gloo's 2(N-1)/N of it. Of links without one it is what one
# TCP connection between two of the hosts takes to carry the gradient.
# COORDINATOR=PROGRAM takes a built program, ROUNDS=N so many turns (3).
. "$(dirname "$0")/lib.sh"
count=${1:-2} rate=${2:-none} bytes=${3:-104000000} roads=${4:-direct,nats}
needs ip tc
rate_gbps=$(gbps "$rate")
[ -n "${PEER:-}" ] || { echo "test/hosts: set PEER to a Python that has torch: python -m venv venv && venv/bin/pip install torch" >&2; exit 2; }
"$PEER" -c 'import torch' || { echo "test/hosts: $PEER has no torch" >&2; exit 2; }

hosts 10.83.0 $(seq 0 $((count - 1))) # rank 0, which the others meet, is at 10.83.0.1
limit "$rate"
program=$(built)
stream=()
[ "$rate" != none ] || stream=(--stream)
at 0 "$PEER" tools/peer/ring.py --coordinator "$program" --models '' --ranks "$count" --roads "$roads" --topology mesh --bytes "$bytes" --rounds "${ROUNDS:-3}" \
	--listen 10.83.0.1 --through "ip netns exec $id{} env GLOO_SOCKET_IFNAME=e0" "${stream[@]}" --json >"$dir/peer.json"
"$PEER" - "$dir/peer.json" "$count" "$bytes" "$rate" "$rate_gbps" <<'EOF'
import json, sys
report = json.load(open(sys.argv[1]))
hosts, rate, gbps = int(sys.argv[2]), sys.argv[4], float(sys.argv[5])
units = {"KiB": 10, "MiB": 20, "GiB": 30}
size = next((int(sys.argv[3][:-3]) << shift for unit, shift in units.items() if sys.argv[3].endswith(unit)), None) or int(sys.argv[3])
before, after = report["load_average"]
print(f"{report['cpu']}, {report['cores']} core(s), load average {before:.1f} before and {after:.1f} after; {report['peer']}; medians of {report['rows'][0]['rounds']} round(s) in turns")
print(f"{hosts} hosts, links of {rate}, {size / 1e6:.1f} MB\n")
print(f"{'':20} {'SECONDS':>9} {'GB/s':>8} {'OF GLOO':>9} {'LIMIT s':>9} {'/ LIMIT':>8}")
once = next((size / r["figure"] / 1e9 for r in report["rows"] if r["who"].startswith("TCP")), None)
for r in report["rows"]:
    seconds = size / r["figure"] / 1e9
    ratio = f"{r['ratio']:.2f}×" if "ratio" in r else "-"
    times = 2 * (hosts - 1) / hosts if r["who"] == "gloo" else 1 if r["who"].startswith("TCP") or hosts == 2 else 2
    limit = times * (8 * size / gbps / 1e9 if gbps else once)
    print(f"{r['who']:20} {seconds:9.3f} {r['figure']:8.3f} {ratio:>9} {limit:9.3f} {seconds / limit:8.2f}")
EOF
