#!/usr/bin/env bash
# The manifests of k8s/base, or of an overlay, on a real cluster, and the promise that
# the weights do not depend on it: trains a small job on the cluster that kubectl points
# to, trains the same job here on another number of workers, and compares the SHA-256 of
# the two model.safetensors.
#
#   docker build -t vlaring:dev . && kind load docker-image vlaring:dev
#   IMAGE=vlaring:dev test/k8s/run.sh
#   IMAGE=vlaring:dev KILL=worker test/k8s/run.sh      # deletes a worker pod in the middle; the run must go on
#   IMAGE=vlaring:dev OVERLAY=tls KILL=drain test/k8s/run.sh
#
# Everything lives in a namespace of its own, which is deleted at the end. Settings,
# by environment:
#
#   IMAGE          the image                                      (vlaring:dev)
#   PULL           its imagePullPolicy                            (Never: the nodes have it)
#   KUBECTL        kubectl, with flags if need be                 (kubectl)
#   NAMESPACE      must not exist yet                             (vlaring-test-RANDOM)
#   WORKERS        worker pods                                    (2)
#   LOCAL_WORKERS  worker processes of the run here               (3; up to 4)
#   OVERLAY        k8s/overlays/OVERLAY in place of the base: tls, nats-cluster, mesh or monitoring.
#                  For the first two openssl makes the certificates that cert-manager would make,
#                  `coordinator keys` a key for each member. nats-cluster wants the image of NATS
#                  that its kustomization.yaml names, and has three small servers. monitoring
#                  wants the Prometheus operator's kinds, and sees that the pods have every
#                  metric that alerts and dashboard ask for
#   STEPS          steps of the job                               (20; 6000 more for monitoring, and 1500 to 20000 for each KILL)
#   KILL           what happens after the first steps; several, with commas, one after another:
#                  worker or coordinator: that pod is deleted
#                  node: NODE_DOWN is run, a command that takes a node with a worker away for good.
#                  If it taints the node node.kubernetes.io/out-of-service, new pods must come
#                  scale: one worker more, then two fewer, by parallelism and completions
#                  empty: the workers' Job has parallelism 0, and its workers again once all are gone:
#                  their step must have been stored, and the next ones go on from it
#                  preempt: both Jobs are suspended at once, and let go on, as a queue does it; the same
#                  drain: kubectl drain of the coordinator's node, for the pods of this test alone
#                  suspend: the coordinator's Job is suspended, and let go on
#                  anew: the coordinator's Job is deleted, and applied again
#                  second: k8s/overlays/second beside it, with another seed; a worker of each is deleted
#                  nats: (OVERLAY=nats-cluster) a server is killed at once; then all are replaced, one
#                  after another, as an upgrade does it
#                  rotate: (OVERLAY=tls) another authority and certificate; then a worker and
#                  the coordinator are deleted, and none can come back without the new ones
#   NODE_DOWN      see KILL=node; it is given the node's name
#   COORDINATOR_NODE  the node that the coordinator's pod is to be on (any): with KILL=node
#                  one that may not be taken away, such as that of the API server
#   IN_PLACE=1     add components/restart-in-place (Kubernetes 1.35)
#   TIMEOUT        seconds that the job may take on the cluster   (300; 600 with KILL)
#   HOSTPATH       for a cluster without a default StorageClass: a directory on every
#                  node, shared by them, that uid 65532 may write to. It is not cleaned.
#   COORDINATOR    the coordinator for the run here               (built from this tree)
#   KEEP=1         leave the namespace as it is
#
# Exit codes: 0 same bits; 1 other bits, or the job did not end well; 2 no cluster,
# or wrong settings.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)

IMAGE=${IMAGE:-vlaring:dev} PULL=${PULL:-Never}
NAMESPACE=${NAMESPACE:-vlaring-test-$RANDOM}
WORKERS=${WORKERS:-2} LOCAL_WORKERS=${LOCAL_WORKERS:-3}
COORDINATOR_NODE=${COORDINATOR_NODE:-}
KILL=${KILL:-} KEEP=${KEEP:-} HOSTPATH=${HOSTPATH:-} IN_PLACE=${IN_PLACE:-}
OVERLAY=${OVERLAY:-}
if [ -z "${STEPS:-}" ]; then
  STEPS=0
  for what in ${KILL//,/ }; do
    case $what in nats | node) STEPS=$((STEPS + 20000)) ;; drain | second | rotate | empty | preempt) STEPS=$((STEPS + 6000)) ;; *) STEPS=$((STEPS + 1500)) ;; esac
  done
  [ "$OVERLAY" != monitoring ] || STEPS=$((STEPS + 6000)) # its pods are asked first
  [ "$STEPS" -gt 0 ] || STEPS=20
fi
TIMEOUT=${TIMEOUT:-$([ -n "$KILL" ] && echo 600 || echo 300)}
JOB=e2e-$RANDOM # names the run directory, which a HOSTPATH keeps
read -ra kubectl <<<"${KUBECTL:-kubectl}"
k() { "${kubectl[@]}" "$@"; }
kn() { k --namespace "$NAMESPACE" "$@"; }

say() { printf '%5ss  %s\n' "$SECONDS" "$*"; }
usage() { echo "run.sh: $*" >&2; exit 2; }

case $OVERLAY in
  '' | mesh | monitoring) keyed= ;;
  tls | nats-cluster) keyed=1 ;; # TLS, and a key for each member
  *) usage "OVERLAY=$OVERLAY: want nothing, tls, nats-cluster, mesh or monitoring" ;;
esac
for what in ${KILL//,/ }; do
  case $what in
    worker | coordinator | scale | empty | preempt | drain | suspend | anew) ;;
    second) [ "$OVERLAY" != nats-cluster ] || usage "KILL=second is not for OVERLAY=nats-cluster: a prefix does not reach nats.conf" ;;
    nats) [ "$OVERLAY" = nats-cluster ] || usage "KILL=nats wants OVERLAY=nats-cluster" ;;
    rotate) [ "$OVERLAY" = tls ] || usage "KILL=rotate wants OVERLAY=tls" ;;
    node) [ -n "${NODE_DOWN:-}" ] || usage "KILL=node wants NODE_DOWN, a command that takes a node away" ;;
    *) usage "KILL=$what: want worker, coordinator, node, scale, empty, preempt, drain, suspend, anew, second, nats or rotate" ;;
  esac
done
command -v "${kubectl[0]}" >/dev/null || usage "${kubectl[0]} is not there: install kubectl, or set KUBECTL"
[ -z "$keyed" ] || command -v openssl >/dev/null || usage "openssl is not there: it makes the certificates of OVERLAY=$OVERLAY"
k --request-timeout=10s get --raw /readyz >/dev/null || usage "no cluster answers '${kubectl[*]} get --raw /readyz': point kubectl to one"
if k get namespace "$NAMESPACE" >/dev/null 2>&1; then usage "namespace $NAMESPACE exists: choose another with NAMESPACE"; fi
if [ -z "$HOSTPATH" ] && [[ $(k get storageclass -o yaml) != *'is-default-class: "true"'* ]]; then
  usage "the cluster has no default StorageClass for the checkpoints' volume: make one, or set HOSTPATH"
fi

tmp=$(mktemp -d)
created= drained=
finish() {
  code=$?
  trap - EXIT
  if [ -n "$created" ] && [ $code -ne 0 ]; then diagnose >&2 || true; fi
  [ -z "$drained" ] || k uncordon "$drained" >/dev/null || true
  if [ -n "$created" ] && [ -z "$KEEP" ]; then
    kn delete jobs --all --timeout=60s >/dev/null || true # first: they would go on making pods that the namespace no longer takes
    k delete namespace "$NAMESPACE" --timeout=120s >/dev/null || true
    [ -z "$HOSTPATH" ] || k delete persistentvolume "$NAMESPACE" "$NAMESPACE-second" --ignore-not-found --timeout=30s >/dev/null || true
  elif [ -n "$created" ]; then
    say "kept: namespace $NAMESPACE"
  fi
  rm -rf "$tmp"
  exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

diagnose() {
  printf '\n-- jobs and pods\n'
  kn get jobs,pods,persistentvolumeclaims -o wide
  printf '\n-- events\n'
  kn get events --sort-by=.lastTimestamp | tail -30
  for pod in $(kn get pods -o name); do
    printf '\n-- log of %s, exit code %s\n' "$pod" \
      "$(kn get "$pod" -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}')"
    kn logs "$pod" --tail=25 | cut -c1-400
  done
}

# The run that is looked at, by its label: tabletop, or second.
instance=tabletop
pods() { kn get pods -l "app.kubernetes.io/instance=$instance,app.kubernetes.io/component=$1" "${@:2}"; }
# The logs of all coordinator pods, in the order in which they started; log FLAGS as for kubectl.
log() {
  for pod in $(pods coordinator --sort-by=.metadata.creationTimestamp -o name); do
    kn logs "$pod" "$@" --previous 2>/dev/null || true
    kn logs "$pod" "$@" 2>/dev/null || true
  done
}
# field NAME LINE: a value of one line of JSON, the first of that name.
field() { grep -o "\"$1\":\"\{0,1\}[^\",}]*" <<<"$2" | sed -n '1s/^[^:]*:"\{0,1\}//p' || true; }
condition() { kn get job "$1" -o jsonpath="{.status.conditions[?(@.status==\"True\")].type}"; }

# --- this tree's coordinator: it makes the keys, and trains here
if [ -z "${COORDINATOR:-}" ]; then
  COORDINATOR=$tmp/coordinator
  (cd "$repo" && CGO_ENABLED=0 go build -o "$COORDINATOR" ./cmd/coordinator)
fi

# --- the overlay: test/k8s/overlay, and the settings of this run over it
mkdir -p "$tmp/test/k8s"
cp -r "$repo/k8s" "$tmp/k8s"
cp -r "$repo/test/k8s/overlay" "$tmp/test/k8s/overlay"
sed -i "s/^train: .*/train: {steps: $STEPS}/" "$tmp/test/k8s/overlay/job.yaml"
# held-out measures are of checkpoints
[ "$OVERLAY" != monitoring ] || sed -i -e "s/^train: .*/train: {steps: $STEPS, eval_every: 500}/" -e 's/^\(checkpoint: {every: \)0/\1500/' "$tmp/test/k8s/overlay/job.yaml"
[ -z "$OVERLAY" ] || sed -i "s#k8s/base\$#k8s/overlays/$OVERLAY#" "$tmp/test/k8s/overlay/kustomization.yaml"
# the second run: overlays/second over the same
sed -i -e "s#\.\./\.\./base#../../../test/k8s/overlay#" -e "s#JOB=second#JOB=$JOB-second, WORKERS=$WORKERS#" "$tmp/k8s/overlays/second/kustomization.yaml"
[ -z "$keyed" ] || sed -i "/volumes\/0\/secret/s#second-vlaring-token#second-vlaring-worker-keys#" "$tmp/k8s/overlays/second/kustomization.yaml"

# certificates DIR NAME…: an authority of its own and a certificate for those DNS names.
certificates() {
  local names
  names=$(printf ',DNS:%s' "${@:2}")
  mkdir -p "$1"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=vlaring \
    -keyout "$1/ca.key" -out "$1/ca.crt" 2>/dev/null
  openssl req -x509 -CA "$1/ca.crt" -CAkey "$1/ca.key" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 \
    -subj "/CN=$2" -addext "subjectAltName=${names#,}" -addext basicConstraints=critical,CA:FALSE \
    -keyout "$1/tls.key" -out "$1/tls.crt" 2>/dev/null
}

# settings DIR RESOURCE JOB PREFIX VOLUME: what is applied, into DIR.
settings() {
  local dir=$tmp/$1 prefix=$4
  mkdir -p "$dir"
  cat >"$dir/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $NAMESPACE
resources: [$2]
labels:
  - pairs: {app.kubernetes.io/part-of: $NAMESPACE}
    includeTemplates: true
generatorOptions: {disableNameSuffixHash: true}
$([ -n "$prefix" ] || [ "$OVERLAY" = nats-cluster ] || echo "configMapGenerator: [{name: vlaring-settings, behavior: merge, literals: [JOB=$3, WORKERS=$WORKERS]}]")
components: [$([ -z "$IN_PLACE" ] || echo ../k8s/components/restart-in-place)]
secretGenerator:
YAML
  if [ "$OVERLAY" = nats-cluster ]; then
    (cd "$dir" && "$COORDINATOR" keys "$3" "worker:w0..w$((WORKERS + 1))" --server >/dev/null)
    certificates "$dir/tls" vlaring-nats '*.vlaring-nats-peers'
    cat >>"$dir/kustomization.yaml" <<YAML
  - {name: vlaring-token, files: [token=keys/coordinator.key]}
  - {name: vlaring-nats-tls, files: [tls/ca.crt, tls/tls.crt, tls/tls.key]}
  - {name: vlaring-worker-keys, files: [$(cd "$dir" && echo keys/worker-*.key | tr ' ' ,)]}
configMapGenerator:
  - {name: vlaring-settings, behavior: merge, literals: [JOB=$3, WORKERS=$WORKERS]}
  - {name: vlaring-nats-users, files: [keys/nats.conf]}
YAML
  elif [ -n "$keyed" ]; then
    (cd "$dir" && "$COORDINATOR" keys "$3" "worker:w0..w$((WORKERS + 1))" >/dev/null)
    certificates "$dir/tls" "${prefix}vlaring-coordinator"
    cat >>"$dir/kustomization.yaml" <<YAML
  - {name: ${prefix}vlaring-token, files: [keys/token]}
  - {name: ${prefix}vlaring-tls, files: [tls/ca.crt, tls/tls.crt, tls/tls.key]}
  - {name: ${prefix}vlaring-worker-keys, files: [$(cd "$dir" && echo keys/worker-*.key | tr ' ' ,)]}
YAML
  else
    od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$dir/token"
    echo "  - {name: ${prefix}vlaring-token, files: [token]}" >>"$dir/kustomization.yaml"
  fi
  cat >>"$dir/kustomization.yaml" <<YAML
patches:
  - target: {kind: Job}
    patch: |-
      - {op: replace, path: /spec/template/spec/containers/0/image, value: "$IMAGE"}
      - {op: add, path: /spec/template/spec/containers/0/imagePullPolicy, value: $PULL}
  - target: {kind: Job, name: ${prefix}vlaring-worker}
    patch: |-
      - {op: replace, path: /spec/completions, value: $WORKERS}
      - {op: replace, path: /spec/parallelism, value: $WORKERS}
YAML
  if [ "$OVERLAY" = nats-cluster ]; then # three servers that fit a laptop
    cat >>"$dir/kustomization.yaml" <<YAML
  - target: {kind: StatefulSet, name: vlaring-nats}
    patch: |-
      - {op: replace, path: /spec/template/spec/containers/0/resources/requests, value: {cpu: 100m, memory: 128Mi}}
YAML
  fi
  if [ -n "$keyed" ]; then # the certificates are made here
    for kind in Certificate Issuer; do
      printf '  - target: {kind: %s}\n    patch: "{$patch: delete, apiVersion: cert-manager.io/v1, kind: %s, metadata: {name: all}}"\n' $kind $kind
    done >>"$dir/kustomization.yaml"
  fi
  if [ -n "$prefix" ]; then # other weights, so that a worker in the wrong run shows
    cat >>"$dir/kustomization.yaml" <<YAML
  - target: {kind: Job, name: ${prefix}vlaring-coordinator}
    patch: |-
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --set=seed=8}
YAML
  fi
  if [ -n "$prefix" ] && [ -n "$keyed" ]; then # what names.yaml does where there is a Certificate
    cat >>"$dir/kustomization.yaml" <<YAML
  - target: {kind: Job, name: ${prefix}vlaring-coordinator}
    patch: |-
      - {op: test, path: /spec/template/spec/volumes/3/name, value: tls}
      - {op: replace, path: /spec/template/spec/volumes/3/secret/secretName, value: ${prefix}vlaring-tls}
  - target: {kind: Job, name: ${prefix}vlaring-worker}
    patch: |-
      - {op: test, path: /spec/template/spec/volumes/1/name, value: tls}
      - {op: replace, path: /spec/template/spec/volumes/1/secret/secretName, value: ${prefix}vlaring-tls}
YAML
  fi
  if [ -n "$COORDINATOR_NODE" ]; then
    cat >>"$dir/kustomization.yaml" <<YAML
  - target: {kind: Job, name: ${prefix}vlaring-coordinator}
    patch: |-
      - {op: add, path: /spec/template/spec/nodeSelector, value: {kubernetes.io/hostname: $COORDINATOR_NODE}}
YAML
  fi
  [ -n "$HOSTPATH" ] || return 0
  cat >>"$dir/kustomization.yaml" <<YAML
  - target: {kind: PersistentVolumeClaim}
    patch: |-
      - {op: add, path: /spec/storageClassName, value: ""}
      - {op: add, path: /spec/volumeName, value: $5}
YAML
  cat >"$dir/pv.yaml" <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: $5}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  claimRef: {namespace: $NAMESPACE, name: ${prefix}vlaring-runs}
  hostPath: {path: $HOSTPATH, type: Directory}
YAML
}
# apply DIR: what settings made there.
apply() {
  [ -z "$HOSTPATH" ] || k apply -f "$tmp/$1/pv.yaml" >/dev/null
  k apply -k "$tmp/$1" >/dev/null
}
settings here ../test/k8s/overlay "$JOB" "" "$NAMESPACE"

# --- on the cluster
say "cluster: ${OVERLAY:-base}, $WORKERS workers, $STEPS steps, image $IMAGE, namespace $NAMESPACE"
created=1
apply here
began=$SECONDS killed=
# newest is the newest line of a step.
newest() { log --tail=30 | grep '"event":"step"' | tail -1 || true; }
# reach WORLD waits for a step of that many workers that is not there yet.
reach() {
  local line from
  from=$(field step "$(newest)")
  while :; do
    line=$(newest)
    if [ -n "$line" ] && [ "$(field world "$line")" = "$1" ] && [ "$(field step "$line")" -gt "${from:-0}" ]; then return; fi
    if [ "$instance" = tabletop ]; then ended; fi
    sleep 1
  done
}
# ended: the job may not be over, or too late, while something is still to happen.
ended() {
  [[ $(condition vlaring-coordinator) != *Complete* ]] || { say "the job was done before KILL=$KILL was: give more STEPS"; exit 1; }
  [ $((SECONDS - began)) -lt "$TIMEOUT" ] || { say "KILL=$KILL was not done within $TIMEOUT s"; exit 1; }
}
# keep has the log of the coordinator's pod go on into a file: it goes with the pod.
keep() { kn logs -f --timestamps "$1" >"$tmp/log-$1" 2>/dev/null & }
# seenOff has the steps, one a line, that were stored since all workers were about to go.
seenOff() { { cat "$tmp"/log-* 2>/dev/null || true; log; } | { grep -o 'step [0-9]* is stored, for all workers' || true; } | awk '!seen[$2]++ {print $2}'; }
# remove ROLE AFTER: deletes a running pod.
remove() {
  local pod
  pod=$(pods "$1" --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
  [ "$1" != coordinator ] || keep "$pod"
  kn delete pod "$pod" --wait=false >/dev/null
  [ "$1" != coordinator ] || kn wait --for=delete "pod/$pod" --timeout=120s >/dev/null # so that the next to be deleted is the next one
  say "deleted $pod $2"
}
# fault WHAT STEP LAST does what KILL says.
fault() {
  killed=$KILL
  case $1 in
    worker | coordinator) remove "$1" "after step $2" ;;
    node)
      local host node lost
      host=$(pods coordinator -o jsonpath='{.items[0].spec.nodeName}')
      node=$(pods worker -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | grep -vx "$host" | head -1)
      [ -n "$node" ] || { say "no worker is on another node than the coordinator"; exit 1; }
      lost=$(pods worker -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | grep -cx "$node")
      $NODE_DOWN "$node"
      say "node $node was taken away after step $2, with $lost worker(s)"
      [ "$lost" -ge "$WORKERS" ] || reach $((WORKERS - lost))
      if [[ $(k get node "$node" -o jsonpath='{.spec.taints[*].key}') == *out-of-service* ]]; then
        reach "$WORKERS"
        say "new pods are there in place of those of $node"
      fi
      ;;
    nats)
      kn delete pod vlaring-nats-0 --force --grace-period=0 >"$tmp/nats" 2>&1 || { cat "$tmp/nats"; exit 1; }
      say "killed vlaring-nats-0 after step $2"
      reach "$WORKERS"
      kn rollout status statefulset/vlaring-nats --timeout=120s >/dev/null
      kn rollout restart statefulset/vlaring-nats >/dev/null
      kn rollout status statefulset/vlaring-nats --timeout=400s >/dev/null
      say "all three servers were replaced, one after another"
      reach "$WORKERS"
      ;;
    scale)
      parallel $((WORKERS + 1))
      say "scaled to $((WORKERS + 1)) workers after step $2"
      reach $((WORKERS + 1))
      parallel $((WORKERS - 1))
      say "all $((WORKERS + 1)) have trained; scaled to $((WORKERS - 1))"
      [ "$3" = scale ] || { reach $((WORKERS - 1)); parallel "$WORKERS"; }
      ;;
    empty | preempt)
      local jobs=vlaring-worker off='{"spec":{"parallelism":0}}' on="{\"spec\":{\"parallelism\":$WORKERS}}" before at
      before=$(seenOff | wc -l)
      keep "$(pods coordinator --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')"
      if [ "$1" = preempt ]; then jobs="vlaring-coordinator vlaring-worker" off='{"spec":{"suspend":true}}' on='{"spec":{"suspend":false}}'; fi
      for job in $jobs; do kn patch job "$job" -p "$off" >/dev/null; done
      for job in $jobs; do
        kn wait --for=delete pod -l "app.kubernetes.io/instance=$instance,app.kubernetes.io/component=${job#vlaring-}" --timeout=120s >/dev/null
      done
      ended
      [ "$(seenOff | wc -l)" -gt "$before" ] || { say "$1: the workers' step was not stored before they went"; exit 1; }
      at=$(seenOff | tail -1)
      say "$1: all workers were told to go after step $2, and went once step $at was stored"
      for job in $jobs; do kn patch job "$job" -p "$on" >/dev/null; done
      reach "$WORKERS"
      { cat "$tmp"/log-* 2>/dev/null || true; log; } | grep -E " workers? from step $at \(" >/dev/null || { say "$1: they did not go on from step $at"; exit 1; }
      ;;
    drain)
      keep "$(pods coordinator --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')"
      drained=$(pods coordinator --field-selector=status.phase=Running -o jsonpath='{.items[0].spec.nodeName}')
      k drain "$drained" --ignore-daemonsets --delete-emptydir-data --timeout=120s --pod-selector="app.kubernetes.io/part-of=$NAMESPACE" >"$tmp/drain" 2>&1 ||
        { cat "$tmp/drain"; say "node $drained was not drained"; exit 1; }
      say "drained $drained after step $2: $(grep -c ' evicted$' "$tmp/drain") pods evicted"
      reach "$WORKERS"
      k uncordon "$drained" >/dev/null
      drained=
      ;;
    suspend | anew)
      keep "$(pods coordinator --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')"
      if [ "$1" = suspend ]; then
        kn patch job vlaring-coordinator -p '{"spec":{"suspend":true}}' >/dev/null
        kn wait --for=delete pod -l "app.kubernetes.io/instance=$instance,app.kubernetes.io/component=coordinator" --timeout=120s >/dev/null
        kn patch job vlaring-coordinator -p '{"spec":{"suspend":false}}' >/dev/null
      else
        kn delete job vlaring-coordinator --cascade=foreground --timeout=120s >/dev/null
        k apply -k "$tmp/here" >/dev/null
      fi
      say "$1: the coordinator's Job, after step $2"
      reach "$WORKERS"
      ;;
    rotate)
      certificates "$tmp/here/tls" vlaring-coordinator
      k apply -k "$tmp/here" >/dev/null
      kn annotate pods --all --overwrite "rotated=$SECONDS" >/dev/null # has the kubelet bring it to pods now, not in a minute
      say "another authority and another certificate after step $2"
      remove worker "since"
      reach "$WORKERS"
      remove coordinator "too"
      reach "$WORKERS"
      ;;
    second)
      settings second ../k8s/overlays/second "$JOB-second" second- "$NAMESPACE-second"
      apply second
      say "a second run after step $2"
      instance=second
      reach "$WORKERS"
      remove worker "of the second run"
      instance=tabletop
      remove worker "of the first run"
      reach "$WORKERS"
      ;;
  esac
}

# metrics asks the pods that the PodMonitor selects, at the port that it names, for every
# metric that the alerts and the dashboard look at; missing says what is not there.
metrics() {
  local pod port named path name selector n=0
  [ -n "$(newest)" ] || return 1
  path=$(kn get podmonitor vlaring -o jsonpath='{.spec.podMetricsEndpoints[0].path}')
  named=$(kn get podmonitor vlaring -o jsonpath='{.spec.podMetricsEndpoints[0].port}')
  selector=$(kn get podmonitor vlaring -o go-template='{{range $k, $v := .spec.selector.matchLabels}}{{$k}}={{$v}},{{end}}')
  : >"$tmp/metrics"
  for pod in $(kn get pods -l "${selector%,}" --field-selector=status.phase=Running -o jsonpath='{.items[*].metadata.name}'); do
    port=$(kn get pod "$pod" -o jsonpath="{.spec.containers[0].ports[?(@.name==\"$named\")].containerPort}")
    kn get --raw "/api/v1/namespaces/$NAMESPACE/pods/$pod:$port/proxy$path" >>"$tmp/metrics" 2>/dev/null || continue
    n=$((n + 1))
  done
  missing="$n pods of $((WORKERS + 1)) answered at the PodMonitor's port"
  [ "$n" -gt "$WORKERS" ] || return 1
  for name in $(grep -oh '\b\(vlaring\|process\)_[a-z_]*' "$repo"/k8s/components/monitoring/{alerts.yaml,dashboard.json} | sort -u); do
    grep -q "^$name[{ ]" "$tmp/metrics" || { missing="no pod has the metric $name"; return 1; }
  done
  say "$n pods answer at the PodMonitor's port, and have every metric that alerts and dashboard ask for"
}

# parallel sets how many worker pods there are: both numbers at once, as an
# Indexed Job wants it.
parallel() { kn patch job vlaring-worker --type=merge -p "{\"spec\":{\"parallelism\":$1,\"completions\":$1}}" >/dev/null; }

seen= missing="no step was seen"
while :; do
  case $(condition vlaring-coordinator) in
    *Complete*) break ;;
    *Failed*) say "the coordinator's Job failed: $(kn get job vlaring-coordinator -o jsonpath='{.status.conditions[?(@.type=="Failed")].message}')"; exit 1 ;;
  esac
  case $(condition vlaring-worker) in
    *Failed*) say "the workers' Job failed: $(kn get job vlaring-worker -o jsonpath='{.status.conditions[?(@.type=="Failed")].message}')"; exit 1 ;;
  esac
  if [ $((SECONDS - began)) -ge "$TIMEOUT" ]; then say "not done within $TIMEOUT s"; exit 1; fi
  if [ "$OVERLAY" = monitoring ] && [ -z "$seen" ]; then
    ! metrics || seen=1
  elif [ -n "$KILL" ] && [ -z "$killed" ] && [ -n "$(newest)" ]; then
    for what in ${KILL//,/ }; do
      [ -z "$killed" ] || [[ "$killed" == node ]] || reach "$WORKERS"
      fault "$what" "$(field step "$(newest)")" "${KILL##*,}"
    done
  fi
  sleep 1
done
[ "$OVERLAY" != monitoring ] || [ -n "$seen" ] || { say "before the job's end $missing: that, or give more STEPS"; exit 1; }
end=$(log | grep '"event":"end"' | tail -1)
there=$(field model_sha256 "$end")
say "cluster: $(field outcome "$end") at step $(field step "$end")"
say "cluster: model.safetensors sha256 $there"
last=$(log | grep '"event":"step"' | tail -1)
if [ -n "$killed" ] && [ "$KILL" != nats ] && [[ $KILL != *preempt* ]] && [ "$(field generation "$last")" -le 1 ]; then
  say "KILL=$KILL was done and yet the workers never formed anew"; exit 1
fi
say "cluster: generation $(field generation "$last") at the end"
# by the clock of the coordinator's node; a day has 86400 seconds
{ cat "$tmp"/log-* 2>/dev/null || true; log --timestamps; } | grep '"event":"step"' | sort -u | awk '{
    split(substr($1, 12), t, /[:Z]/)
    now = 3600 * t[1] + 60 * t[2] + t[3]
    pause = n++ ? (now - last + 86400) % 86400 : 0
    if (pause > worst) worst = pause
    last = now
  }
  END { printf "%7s%s%.2f s\n", "", "cluster: longest time between two commits: ", worst }'
if [[ $KILL != *node* ]] && ! kn wait --for=condition=Complete job/vlaring-worker --timeout=60s >/dev/null; then
  say "the coordinator's Job is complete, the workers' Job is not"; exit 1
fi

# --- here
# same NAME JOB THERE FLAGS: trains here what made the weights THERE, and compares.
same() {
  local here
  "$COORDINATOR" train "$tmp/test/k8s/overlay/job.yaml" --set "name=$2" --workers "$LOCAL_WORKERS" --run-dir "$tmp/run-$2" --json "${@:4}" >"$tmp/local.jsonl" 2>"$tmp/local.log" ||
    { cat "$tmp/local.log"; say "the run here failed"; exit 1; }
  here=$(field model_sha256 "$(grep '"event":"end"' "$tmp/local.jsonl" | tail -1)")
  say "$1: model.safetensors sha256 $here"
  if [ -z "$3" ] || [ "$3" != "$here" ]; then
    say "DIFFERENT BITS"
    exit 1
  fi
}
say "here: $LOCAL_WORKERS workers"
same here "$JOB" "$there"
if [[ ,$KILL, == *,second,* ]]; then
  kn wait --for=condition=Complete job/second-vlaring-coordinator "--timeout=${TIMEOUT}s" >/dev/null || { say "the second run is not complete"; exit 1; }
  there=$(instance=second && field model_sha256 "$(log | grep '"event":"end"' | tail -1)")
  say "cluster, second: model.safetensors sha256 $there"
  same "here, second" "$JOB-second" "$there" --set seed=8
fi
say "SAME BITS: ${OVERLAY:+$OVERLAY, }$WORKERS pods on the cluster${killed:+, with KILL=$KILL,} and $LOCAL_WORKERS processes here"
