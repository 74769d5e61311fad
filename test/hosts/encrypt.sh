#!/usr/bin/env bash
# What encryption between hosts costs: the ring between two ranks, with what goes over it in
# the clear, as within one host, and encrypted, as between hosts, in turns. Both lead over the
# loopback device of one network namespace, so that nothing else differs. Prints the
# processor time for each GB sent (ranks and broker), which other load of the machine changes
# little, and the median time. Needs root and iproute2.
#
#	test/hosts/encrypt.sh [PAIRS [BYTES [ROADS]]]        5 32MiB nats,direct
. "$(dirname "$0")/lib.sh"
pairs=${1:-5} bytes=${2:-32MiB} roads=${3:-nats,direct}
needs ip awk
names=(one)
ip netns add ${id}one
ip -n ${id}one link set lo up
ip -n ${id}one addr add 10.99.0.1/32 dev lo
program=$(built)
for n in $(seq "$pairs"); do
	for way in 127.0.0.1 10.99.0.1; do
		at one "$program" bench ring --road "$roads" --ranks 2 --bytes "$bytes" --budget 1s --listen "$way" --json >"$dir/$n-$way.json"
		for road in ${roads//,/ }; do
			tr -d ' \n' <"$dir/$n-$way.json" | tr '{' '\n' | awk -v road="$road" -v way="$way" '
				function field(name, line) { return match(line, "\"" name "\":[0-9.]+") ? substr(line, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : "-" }
				index($0, "\"road\":\"" road "\"") { print road, way == "127.0.0.1" ? "clear" : "encrypted", field("cpu_s_per_gb_sent", $0), field("ms", $0) }' >>"$dir/rows"
		done
	done
done
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'
awk '{ n[$1 " " $2]++; cpu[$1 " " $2, n[$1 " " $2]] = $3; ms[$1 " " $2, n[$1 " " $2]] = $4 }
	function median(a, k, n, i, j, t, v) { for (i = 1; i <= n; i++) v[i] = a[k, i] + 0; for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t } return v[int((n + 1) / 2)] }
	END { for (k in n) printf "%-18s %.2f CPU s/GB sent   %.1f ms   (medians of %d)\n", k, median(cpu, k, n[k]), median(ms, k, n[k]), n[k] }' "$dir/rows" | sort
