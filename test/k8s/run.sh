#!/usr/bin/env bash
# The manifests of k8s/base on a real cluster, and the promise that the weights do
# not depend on it: trains a small job on the cluster that kubectl points to, trains
# the same job here on another number of workers, and compares the SHA-256 of the
# two model.safetensors.
#
#   docker build -t vlaring:dev . && kind load docker-image vlaring:dev
#   IMAGE=vlaring:dev test/k8s/run.sh
#   IMAGE=vlaring:dev KILL=worker test/k8s/run.sh      # deletes a worker pod in the middle; the run must go on
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
#   STEPS          steps of the job                               (20; 1500 with KILL)
#   KILL           worker or coordinator: the pod that is deleted after the first steps;
#                  node: NODE_DOWN is run, a command that takes a node with a worker away for good;
#                  scale: one worker more, then two fewer, by parallelism and completions
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
STEPS=${STEPS:-$([ -n "$KILL" ] && echo 1500 || echo 20)}
TIMEOUT=${TIMEOUT:-$([ -n "$KILL" ] && echo 600 || echo 300)}
JOB=e2e-$RANDOM # names the run directory, which a HOSTPATH keeps
read -ra kubectl <<<"${KUBECTL:-kubectl}"
k() { "${kubectl[@]}" "$@"; }
kn() { k --namespace "$NAMESPACE" "$@"; }

say() { printf '%5ss  %s\n' "$SECONDS" "$*"; }
usage() { echo "run.sh: $*" >&2; exit 2; }

case $KILL in
  '' | worker | coordinator | scale) ;;
  node) [ -n "${NODE_DOWN:-}" ] || usage "KILL=node wants NODE_DOWN, a command that takes a node away" ;;
  *) usage "KILL=$KILL: want worker, coordinator, node or scale" ;;
esac
command -v "${kubectl[0]}" >/dev/null || usage "${kubectl[0]} is not there: install kubectl, or set KUBECTL"
k --request-timeout=10s get --raw /readyz >/dev/null || usage "no cluster answers '${kubectl[*]} get --raw /readyz': point kubectl to one"
if k get namespace "$NAMESPACE" >/dev/null 2>&1; then usage "namespace $NAMESPACE exists: choose another with NAMESPACE"; fi
if [ -z "$HOSTPATH" ] && [[ $(k get storageclass -o yaml) != *'is-default-class: "true"'* ]]; then
  usage "the cluster has no default StorageClass for the checkpoints' volume: make one, or set HOSTPATH"
fi

tmp=$(mktemp -d)
created=
finish() {
  code=$?
  trap - EXIT
  if [ -n "$created" ] && [ $code -ne 0 ]; then diagnose >&2 || true; fi
  if [ -n "$created" ] && [ -z "$KEEP" ]; then
    k delete namespace "$NAMESPACE" --timeout=120s >/dev/null || true
    [ -z "$HOSTPATH" ] || k delete persistentvolume "$NAMESPACE" --timeout=30s >/dev/null || true
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

# The logs of all coordinator pods, in the order in which they started; log FLAGS as for kubectl.
log() {
  for pod in $(kn get pods -l app.kubernetes.io/component=coordinator --sort-by=.metadata.creationTimestamp -o name); do
    kn logs "$pod" "$@" --previous 2>/dev/null || true
    kn logs "$pod" "$@" 2>/dev/null || true
  done
}
# field NAME LINE: a value of one line of JSON.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" <<<"$2"; }
condition() { kn get job "$1" -o jsonpath="{.status.conditions[?(@.status==\"True\")].type}"; }

# --- the overlay: test/k8s/overlay, and the settings of this run over it
mkdir -p "$tmp/test/k8s" "$tmp/here"
cp -r "$repo/k8s" "$tmp/k8s"
cp -r "$repo/test/k8s/overlay" "$tmp/test/k8s/overlay"
sed -i "s/^train: .*/train: {steps: $STEPS}/" "$tmp/test/k8s/overlay/job.yaml"
od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$tmp/here/token"
cat >"$tmp/here/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $NAMESPACE
resources: [../test/k8s/overlay]
generatorOptions: {disableNameSuffixHash: true}
configMapGenerator:
  - {name: vlaring-settings, behavior: merge, literals: [JOB=$JOB, WORKERS=$WORKERS]}
secretGenerator:
  - {name: vlaring-token, files: [token]}
components: [$([ -z "$IN_PLACE" ] || echo ../k8s/components/restart-in-place)]
patches:
  - target: {kind: Job}
    patch: |-
      - {op: replace, path: /spec/template/spec/containers/0/image, value: "$IMAGE"}
      - {op: add, path: /spec/template/spec/containers/0/imagePullPolicy, value: $PULL}
  - target: {kind: Job, name: vlaring-worker}
    patch: |-
      - {op: replace, path: /spec/completions, value: $WORKERS}
      - {op: replace, path: /spec/parallelism, value: $WORKERS}
YAML
if [ -n "$COORDINATOR_NODE" ]; then
  cat >>"$tmp/here/kustomization.yaml" <<YAML
  - target: {kind: Job, name: vlaring-coordinator}
    patch: |-
      - {op: add, path: /spec/template/spec/nodeSelector, value: {kubernetes.io/hostname: $COORDINATOR_NODE}}
YAML
fi
if [ -n "$HOSTPATH" ]; then
  cat >>"$tmp/here/kustomization.yaml" <<YAML
  - target: {kind: PersistentVolumeClaim}
    patch: |-
      - {op: add, path: /spec/storageClassName, value: ""}
      - {op: add, path: /spec/volumeName, value: $NAMESPACE}
YAML
  cat >"$tmp/pv.yaml" <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: $NAMESPACE}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  claimRef: {namespace: $NAMESPACE, name: vlaring-runs}
  hostPath: {path: $HOSTPATH, type: Directory}
YAML
fi

# --- on the cluster
say "cluster: $WORKERS workers, $STEPS steps, image $IMAGE, namespace $NAMESPACE"
created=1
[ -z "$HOSTPATH" ] || k apply -f "$tmp/pv.yaml" >/dev/null
k apply -k "$tmp/here" >/dev/null
began=$SECONDS killed=
# fault does what KILL says.
fault() {
  case $KILL in
    worker | coordinator)
      killed=$(kn get pods -l app.kubernetes.io/component="$KILL" --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
      kn delete pod "$killed" --wait=false >/dev/null
      say "deleted $killed after step $1"
      ;;
    node)
      local host
      host=$(kn get pods -l app.kubernetes.io/component=coordinator -o jsonpath='{.items[0].spec.nodeName}')
      killed=$(kn get pods -l app.kubernetes.io/component=worker -o jsonpath='{range .items[*]}{.spec.nodeName}{"\n"}{end}' | grep -vx "$host" | head -1)
      [ -n "$killed" ] || { say "no worker is on another node than the coordinator"; exit 1; }
      $NODE_DOWN "$killed"
      say "node $killed was taken away after step $1"
      ;;
    scale)
      killed=scale
      parallel $((WORKERS + 1))
      say "scaled to $((WORKERS + 1)) workers after step $1"
      while [[ $(log | grep '"event":"step"' | tail -1 || true) != *"\"world\":$((WORKERS + 1)),"* ]]; do sleep 1; done
      parallel $((WORKERS - 1))
      say "all $((WORKERS + 1)) have trained; scaled to $((WORKERS - 1))"
      ;;
  esac
}

# parallel sets how many worker pods there are: both numbers at once, as an
# Indexed Job wants it.
parallel() { kn patch job vlaring-worker --type=merge -p "{\"spec\":{\"parallelism\":$1,\"completions\":$1}}" >/dev/null; }

while :; do
  case $(condition vlaring-coordinator) in
    *Complete*) break ;;
    *Failed*) say "the coordinator's Job failed: $(kn get job vlaring-coordinator -o jsonpath='{.status.conditions[?(@.type=="Failed")].message}')"; exit 1 ;;
  esac
  case $(condition vlaring-worker) in
    *Failed*) say "the workers' Job failed: $(kn get job vlaring-worker -o jsonpath='{.status.conditions[?(@.type=="Failed")].message}')"; exit 1 ;;
  esac
  if [ $((SECONDS - began)) -ge "$TIMEOUT" ]; then say "not done within $TIMEOUT s"; exit 1; fi
  if [ -n "$KILL" ] && [ -z "$killed" ]; then
    last=$(log | grep '"event":"step"' | tail -1 || true)
    if [ -n "$last" ]; then
      fault "$(field step "$last")"
    fi
  fi
  sleep 1
done
end=$(log | grep '"event":"end"' | tail -1)
there=$(field model_sha256 "$end")
say "cluster: $(field outcome "$end") at step $(field step "$end")"
say "cluster: model.safetensors sha256 $there"
last=$(log | grep '"event":"step"' | tail -1)
if [ -n "$killed" ] && [ "$(field generation "$last")" -le 1 ]; then
  say "KILL=$KILL was done and yet the workers never formed anew"; exit 1
fi
say "cluster: generation $(field generation "$last") at the end"
# by the clock of the coordinator's node; a day has 86400 seconds
log --timestamps | awk '/"event":"step"/ {
    split(substr($1, 12), t, /[:Z]/)
    now = 3600 * t[1] + 60 * t[2] + t[3]
    pause = n++ ? (now - last + 86400) % 86400 : 0
    if (pause > worst) worst = pause
    last = now
  }
  END { printf "%7s%s%.2f s\n", "", "cluster: longest time between two commits: ", worst }'
if [ "$KILL" != node ] && ! kn wait --for=condition=Complete job/vlaring-worker --timeout=60s >/dev/null; then
  say "the coordinator's Job is complete, the workers' Job is not"; exit 1
fi

# --- here
if [ -z "${COORDINATOR:-}" ]; then
  COORDINATOR=$tmp/coordinator
  (cd "$repo" && CGO_ENABLED=0 go build -o "$COORDINATOR" ./cmd/coordinator)
fi
say "here: $LOCAL_WORKERS workers"
"$COORDINATOR" train "$tmp/test/k8s/overlay/job.yaml" --set "name=$JOB" --workers "$LOCAL_WORKERS" --run-dir "$tmp/run" --json >"$tmp/local.jsonl"
here=$(field model_sha256 "$(grep '"event":"end"' "$tmp/local.jsonl" | tail -1)")
say "here:    model.safetensors sha256 $here"

if [ -z "$there" ] || [ "$there" != "$here" ]; then
  say "DIFFERENT BITS"
  exit 1
fi
say "SAME BITS: $WORKERS pods on the cluster${killed:+, with KILL=$KILL,} and $LOCAL_WORKERS processes here"
