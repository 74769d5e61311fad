#!/usr/bin/env bash
# Makes each fault of the surroundings for real, and prints as rows of a table
# what the user reads in the end: the last three lines, and the exit code. The
# table in docs/operations.md is its output:
#
#	test/faults/run.sh [NAME…]        # all, or the faults of these names
#	test/faults/run.sh --write        # all, into docs/operations.md
#
# Takes about three minutes. Parts that need root, ip, a memory or cpu cgroup
# that can be written, or loop mounts, say so on standard error where they cannot
# run, and have no row. A NATS server is built from this module's dependency.
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
write=
[ "${1:-}" = --write ] && write=1 && shift
only=" $* "

dir=$(mktemp -d)
ns=vlf$$
pids=() mounts=() groups=()
cleanup() {
	for p in "${pids[@]:-}"; do [ -n "$p" ] && kill -9 "$p" 2>/dev/null; done
	for n in a b; do ip netns del $ns$n 2>/dev/null; done
	for m in "${mounts[@]:-}"; do [ -n "$m" ] && umount -l "$m" 2>/dev/null; done
	sleep 0.5
	for g in "${groups[@]:-}"; do [ -n "$g" ] && rmdir "$g" 2>/dev/null; done
	rm -rf "$dir"
}
trap cleanup EXIT

go build -o "$dir/" ./cmd/... && go build -o "$dir/nats-server" github.com/nats-io/nats-server/v2 || exit 1
export PATH="$dir:$PATH"
job=$root/internal/cli/testdata/small.yaml
cd "$dir" # messages have short paths
cp "$job" job.yaml
out=$dir/table

cannot() { echo "test/faults: not run: $1: $2" >&2; }
wanted() { [ "$only" = "  " ] || [[ "$only" == *" $1 "* ]]; }
isroot() { [ "$(id -u)" = 0 ]; }

# row NAME HOW CODE FILE: a row from the end of a log, without what differs
# from run to run. A step counter that is drawn over itself is one line.
row() {
	local lines
	lines=$(tr '\r' '\n' <"$4" | sed -e 's/\x1b\[[0-9;]*[A-Za-z]//g' -e '/^[[:space:]]*$/d' | tail -n 3 | cut -c1-600 |
		sed -E -e 's/[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} //g' -e 's/of [0-9.]+ [GT]iB free/of … free/; s/and [0-9.]+ [GT]iB \(df/and … (df/; s/tmp-(step-[0-9]+)[+][0-9a-f]+/tmp-\1+…/' -e "s#$dir/?##g" -e 's/(127\.0\.0\.1|10\.78\.0\.[0-9]|\]|localhost):[0-9]{4,5}/\1:PORT/g' -e 's/\|/\\|/g' -e 's/`/'"'"'/g' \
			-e 's/process [0-9]+/process PID/g' -e 's/sha256 [0-9a-f]{64}/sha256 …/' -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{5} UTC/DATE/g; s/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z/DATE/g' \
			-e 's/^(.*)$/`\1`/' | paste -sd '\n' | sed ':a;N;$!ba;s/\n/<br>/g')
	echo "| $1 | $2 | $3 | $lines |" | tee -a "$out"
}

# train LOG ARGS…: a run to its end. Its exit code is in $code.
train() {
	local log=$1
	shift
	timeout 120 coordinator train job.yaml --workers 2 --threads 1 "$@" >"$log" 2>&1
	code=$?
}
# begin LOG ARGS…: a run without end in the background, once it has made steps. Its pid is in $pid.
begin() {
	local log=$1 run=$2
	shift 2
	"$@" coordinator train job.yaml --run-dir "$run" --threads 1 --set train.steps=1000000 --set schedule.min_lr=null "${more[@]}" >"$log" 2>&1 &
	pid=$!
	pids+=($pid)
	for _ in $(seq 300); do [ -s "$run/metrics.jsonl" ] && break; sleep 0.1; done
	sleep 0.5
}
# end SIGNAL: has the run of $pid end.
end() {
	[ "$1" = - ] || kill -"$1" "$pid"
	wait "$pid"
	code=$?
}
# server ARGS…: a NATS server at $url.
server() {
	port=$((20000 + RANDOM % 20000))
	nats-server -a 127.0.0.1 -p $port "$@" >server.log 2>&1 &
	serverpid=$!
	pids+=($serverpid)
	for _ in $(seq 100); do grep -q "Server is ready" server.log && break; sleep 0.1; done
	url=127.0.0.1:$port
}
noserver() { kill -9 $serverpid 2>/dev/null; wait $serverpid 2>/dev/null; }
# mounted NAME OPTIONS: a file system in memory.
mounted() {
	mkdir -p "$1" && mount -t tmpfs -o "$2" tmpfs "$1" && mounts+=("$dir/$1")
}

# --- disks -------------------------------------------------------------------
disk() {
	wanted "$1" || return 0
	isroot || { cannot "$1" "only root can mount"; return 0; }
	mounted "$1" "$3" || { cannot "$1" "tmpfs cannot be mounted here"; return 0; }
	train "$1.log" --run-dir "$1/run" --set checkpoint.every=2 --set checkpoint.keep=0 --set checkpoint.wait=2s --set train.steps=60 --set schedule.min_lr=null
	row "$2" "$4" $code "$1.log"
}
disk full-disk "full disk" size=3m "\`tmpfs\` of 3 MB, \`checkpoint.keep=0\`, \`checkpoint.wait=2s\`"
disk no-inodes "no inodes" nr_inodes=60 "\`tmpfs\` with 60 inodes, the same"
if wanted read-only; then
	if ! isroot || ! command -v mkfs.ext4 >/dev/null; then
		cannot read-only "wants root and mkfs.ext4"
	else
		truncate -s 64M disk.img && mkfs.ext4 -q disk.img && mkdir ro && if mount -o loop disk.img ro; then
			mounts+=("$dir/ro")
			more=(--workers 2 --set checkpoint.every=20 --set checkpoint.wait=2s)
			begin read-only.log ro/run
			mount -o remount,abort ro 2>/dev/null
			sleep 1
			end TERM
			row "read-only disk in mid-run" "ext4, \`remount,abort\`, then SIGTERM; \`checkpoint.wait=2s\`" $code read-only.log
		else
			cannot read-only "loop devices cannot be mounted here"
		fi
	fi
fi

# --- certificates ------------------------------------------------------------
# certificate NAME SUBJECT-ALT-NAME START END: NAME.pem and NAME.key of our authority.
certificate() {
	openssl req -newkey rsa:2048 -nodes -keyout $1.key -out $1.csr -subj /CN=$1 2>/dev/null
	printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\n' "$2" >$1.ext
	openssl ca -batch -config ca.cnf -in $1.csr -out $1.pem -extfile $1.ext -startdate "$3" -enddate "$4" -notext 2>ca.log || cat ca.log >&2
}
at() { date -u -d "$1" +%y%m%d%H%M%SZ; }
if wanted certificates; then
	printf '[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n' >ca.cnf
	touch index.txt && echo 01 >serial
	openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=our authority" 2>/dev/null
	openssl req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj "/CN=another authority" 2>/dev/null
	certificate good IP:127.0.0.1 "$(at -1day)" "$(at +1day)"
	certificate name DNS:head.example "$(at -1day)" "$(at +1day)"
	certificate expired IP:127.0.0.1 "$(at '-2 days')" "$(at -1day)"
	certificate early IP:127.0.0.1 "$(at +1day)" "$(at '+2 days')"
	tls() { # ROW HOW CERTIFICATE SCHEME FLAGS…
		local row=$1 how=$2 cert=$3 scheme=$4
		shift 4
		if [ "$cert" = none ]; then server; else server --tls --tlscert $cert.pem --tlskey $cert.key; fi
		train tls.log --run-dir tls --nats $scheme://$url "$@"
		row "$row" "$how" $code tls.log
		noserver
	}
	tls "certificate: wrong name" "one for \`head.example\`, \`--nats tls://127.0.0.1\`" name tls --tls-ca ca.pem
	tls "certificate: expired" "since yesterday" expired tls --tls-ca ca.pem
	tls "certificate: not yet valid" "from tomorrow on" early tls --tls-ca ca.pem
	tls "certificate: other authority" "\`--tls-ca\` of another" good tls --tls-ca other.pem
	tls "certificate: no \`--tls-ca\`" "an authority that the system does not know" good tls
	tls "no TLS" "\`tls://\` to a server without a certificate" none tls --tls-ca ca.pem
fi

# --- a server's limits -------------------------------------------------------
limit() { # NAME ROW HOW CONFIG TRAIN-ARGS…
	wanted "$1" || return 0
	local name=$1 row=$2 how=$3
	printf '%b' "$4" >$name.conf
	shift 4
	server -c $name.conf
	VLARING_TOKEN=p train $name.log --run-dir $name --nats nats://$url "$@"
	row "$row" "$how" $code $name.log
	noserver
}
limit permissions "permissions" "a user with another job's subjects" 'authorization { users = [{user: v, password: p, permissions: {publish: ["vlaring.other.>"], subscribe: ["vlaring.other.>"]}}] }\n' --user v
limit max_payload "max_payload" "NATS's default of 1 MiB, \`cluster.chunk_bytes=1048576\`" '' --set cluster.bucket_bytes=4194304 --set cluster.chunk_bytes=1048576
limit max_connections "max_connections" "3 of them, two workers, \`cluster.join_timeout=8s\`" 'max_connections: 3\n' --set cluster.join_timeout=8s
if wanted permissions-taken; then
	grant() { printf 'authorization { users = [{user: v, password: p, permissions: {publish: ["%s"], subscribe: ["vlaring.small.>"]}}] }\n' "$1" >taken.conf; }
	grant 'vlaring.small.>'
	server -c taken.conf
	export VLARING_TOKEN=p
	more=(--workers 2 --nats nats://$url --user v --set cluster.road=nats)
	begin taken.log taken
	grant 'vlaring.small.coordinator", "vlaring.small.from.*", "vlaring.small.worker.*", "vlaring.small.blob.*", "vlaring.small.inbox.>'
	kill -HUP $serverpid
	end -
	unset VLARING_TOKEN
	row "permissions taken away in mid-run" "the server's configuration is loaded again without \`vlaring.small.ring.*\`" $code taken.log
	noserver
fi
if wanted slow-consumer; then
	printf 'max_pending: 1MB\n' >slow.conf
	server -c slow.conf
	more=(--workers 2 --nats nats://$url --set cluster.road=nats --set model.d_model=256 --set model.n_layers=6 --set cluster.window_bytes=33554432 --set checkpoint.every=0)
	begin slow.log slow
	for _ in $(seq 300); do grep -q "has cut" slow.log && break; sleep 0.1; done
	grep "has cut" slow.log | tail -n 1 >slow2.log
	row "slow consumers" "\`max_pending\` of 1 MB, \`cluster.window_bytes=33554432\`; the job goes on; what the coordinator's log says of it" - slow2.log
	kill -9 $pid
	noserver
	pids+=($(pgrep -f "$dir/.*slow/rescue" || true))
fi
if wanted no-server; then
	train none.log --run-dir none --nats nats://127.0.0.1:9 --set cluster.join_timeout=2s
	row "no server" "nobody listens, \`cluster.join_timeout=2s\`" $code none.log
fi

# --- memory and processors ---------------------------------------------------
# group KIND: a cgroup of its own at $group; v1 or v2.
group() {
	if [ -d /sys/fs/cgroup/$1 ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
		group=/sys/fs/cgroup/$1/$ns v=1
	else
		group=/sys/fs/cgroup/$ns v=2
		echo "+$1" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null
	fi
	mkdir "$group" 2>/dev/null && groups+=("$group")
}
if wanted memory; then
	if isroot && group memory && { { [ $v = 1 ] && echo 120M >$group/memory.limit_in_bytes; } || { [ $v = 2 ] && echo 120M >$group/memory.max; }; } 2>/dev/null; then
		timeout 120 bash -c 'echo $$ >'$group'/cgroup.procs; exec coordinator train job.yaml --run-dir memory --workers 2 --threads 1 --set model.d_model=512 --set model.n_layers=8' >memory.log 2>&1
		row "memory (cgroup): the model" "120 MB for 41 M parameters: told before anything is killed" $? memory.log
		timeout 120 bash -c 'echo $$ >'$group'/cgroup.procs; exec coordinator train job.yaml --run-dir oom --workers 3 --threads 1 --set model.d_model=256 --set model.n_layers=8' >oom.log 2>&1
		row "memory (cgroup): the workers" "120 MB, three workers of 11 M parameters" $? oom.log
	else
		cannot memory "no memory cgroup can be made here"
	fi
fi
if wanted quota; then
	if isroot && group cpu && { { [ $v = 1 ] && echo 50000 >$group/cpu.cfs_quota_us; } || { [ $v = 2 ] && echo "50000 100000" >$group/cpu.max; }; } 2>/dev/null; then
		timeout 120 bash -c 'echo $$ >'$group'/cgroup.procs; exec coordinator train job.yaml --run-dir quota --workers 1 --json' 2>/dev/null | grep -o '"event":"joined".*' | sed 's/.*\("threads":[0-9]*\).*/the worker joined with \1/' >quota.log
		row "CPU quota (cgroup)" "half a core, no \`--threads\`: Go rounds a quota up, to two at least" 0 quota.log
	else
		cannot quota "no cpu cgroup with a quota can be made here"
	fi
fi

# --- signals -----------------------------------------------------------------
more=(--workers 2)
if wanted SIGHUP; then
	begin hup.log hup
	end HUP
	row "SIGHUP" "the terminal is closed" $code hup.log
fi
if wanted SIGPIPE; then
	timeout 60 bash -o pipefail -c 'coordinator train job.yaml --run-dir pipe --workers 2 --threads 1 --json --set train.steps=1000000 --set schedule.min_lr=null 2>pipe.log | head -n 8 >/dev/null'
	row "SIGPIPE" "\`--json \\| head\`; what standard error has" $? pipe.log
fi
if wanted SIGTERM; then
	begin term.log term
	end TERM
	row "SIGTERM" "" $code term.log
fi
if wanted killed; then
	more=(--workers 2 --set cluster.orphan_timeout=2s)
	begin killed.log killed
	kill -9 "$pid"
	wait "$pid" 2>/dev/null
	sleep 5
	coordinator status killed >killed.log 2>&1
	row "coordinator killed, \`coordinator status\`" "SIGKILL, \`cluster.orphan_timeout=2s\`" $? killed.log
	timeout 60 coordinator train job.yaml --run-dir killed --threads 1 --workers 2 --resume --set train.steps=12 >again.log 2>&1
fi

# --- networks ----------------------------------------------------------------
if wanted network || wanted IPv6; then
	if ! isroot || ! command -v ip >/dev/null || ! ip netns add ${ns}a 2>/dev/null; then
		cannot "network IPv6" "wants root and ip, for network namespaces"
	else
		ip netns add ${ns}b
		ip link add e0 netns ${ns}a type veth peer name e0 netns ${ns}b
		for n in a b; do
			ip -n $ns$n link set lo up
			ip -n $ns$n link set e0 up
		done
		if wanted network; then
			ip -n ${ns}a addr add 10.78.0.1/24 dev e0
			ip -n ${ns}b addr add 10.78.0.2/24 dev e0
			more=(--workers 1 --listen 10.78.0.1:4222 --set cluster.orphan_timeout=3s --set cluster.deadline=2s)
			begin cut.log cut ip netns exec ${ns}a
			head=$pid
			ip netns exec ${ns}b worker --nats nats://10.78.0.1:4222 --job small --id elsewhere --threads 1 --token-file cut/token >elsewhere.log 2>&1 &
			pid=$!
			pids+=($pid)
			for _ in $(seq 100); do grep -q "worker elsewhere joined" cut.log && break; sleep 0.1; done
			sleep 1
			ip -n ${ns}a link set e0 down
			end -
			row "cut network: the worker" "its host's link is down, \`cluster.orphan_timeout=3s\`" $code elsewhere.log
			pid=$head
			end TERM
			grep -v "step\|stopped\|resume with" cut.log >cut2.log
			row "cut network: the coordinator" "the same; what its log says of it" $code cut2.log
			ip -n ${ns}a addr flush dev e0
		fi
		if wanted IPv6; then
			ip -n ${ns}a link set e0 up
			ip -n ${ns}a -4 addr flush dev lo
			ip -n ${ns}a addr add fd00::1/64 dev e0 nodad
			timeout -s TERM 5 ip netns exec ${ns}a coordinator train job.yaml --run-dir six --workers 0 --listen '[::]:4222' >six.log 2>&1
			grep -o "waiting for.*" six.log >six2.log
			row "IPv6 only: \`--listen [::]:4222\`" "a host without IPv4; the line that says how to join" $? six2.log
			timeout 60 ip netns exec ${ns}a coordinator train job.yaml --run-dir six2 --workers 2 --threads 1 >six.log 2>&1
			row "IPv6 only: the default run" "the same host" $? six.log
		fi
	fi
fi

if [ -n "$write" ]; then
	doc=$root/docs/operations.md
	awk -v table="$out" '
		/<!-- test\/faults -->/ { print; print ""; print "| fault | how it was made | exit code | the last three lines |"; print "|---|---|---|---|"; while ((getline l < table) > 0) print l; print ""; skip = 1; next }
		/<!-- end of test\/faults -->/ { skip = 0 }
		!skip' "$doc" >"$dir/doc" && cat "$dir/doc" >"$doc"
fi
