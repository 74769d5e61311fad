#!/usr/bin/env bash
# The manifests that other controllers act on, with the real controllers on a real
# cluster: cert-manager makes and renews the certificates of overlays/tls, Kueue admits,
# grows and shrinks overlays/kueue, JobSet runs k8s/jobset, Kubeflow Trainer k8s/kubeflow.
# Each check trains a small job there, disturbs it, trains the same job here on another
# number of workers, and compares the SHA-256 of the two model.safetensors.
#
#   test/k8s/controllers.sh build jobset kueue trainer cert-manager    # programs, from the Go module registry
#   test/k8s/controllers.sh install jobset kueue trainer cert-manager  # onto the cluster, by their own manifests
#   test/k8s/controllers.sh check certificates queue jobset trainjob
#
# A cluster that has the controllers needs neither build nor install. build puts static
# programs into BIN; an image of each with nothing beside it (its entry point; user not
# 0) is what install wants, by the names in IMAGES. Of cert-manager it builds the
# controllers that overlays/tls needs: its whole program is no module of the registry.
#
#   certificates   (cert-manager) a worker joins and trains by its certificates; authority and
#                  certificate are renewed in the middle; a worker and the coordinator, deleted
#                  after it, can only come back by the new ones; then the Secret is deleted, too
#   queue          (Kueue) both Jobs wait for a queue with no quota, then are admitted; one worker
#                  more than the quota waits while the others train, and joins when the quota
#                  grows; scaled back, the quota is free again; a Job of higher priority preempts
#                  the workers, which begin at the newest checkpoint when it is over
#   jobset         (JobSet) a worker, then the coordinator is deleted; then the coordinator's Job
#                  fails, and the JobSet makes all anew
#   trainjob       (Trainer and JobSet) a worker is deleted; progress shows in the status
#
# Settings, by environment; IMAGE, PULL, KUBECTL, WORKERS, LOCAL_WORKERS, STEPS, TIMEOUT,
# HOSTPATH, COORDINATOR and KEEP are those of run.sh, and
#
#   BIN            where build puts programs                      (~/.cache/vlaring-controllers)
#   IMAGES         where install has images from: IMAGES/jobset:v0.12.0, …   (local)
#   JOBSET, KUEUE, TRAINER, CERT_MANAGER   their versions
#
# Exit codes: 0 as it should; 1 not; 2 no cluster, or wrong settings.
set -euo pipefail
repo=$(cd "$(dirname "$0")/../.." && pwd)

JOBSET=${JOBSET:-v0.12.0} KUEUE=${KUEUE:-v0.19.0} TRAINER=${TRAINER:-v2.3.0} CERT_MANAGER=${CERT_MANAGER:-v1.21.0}
BIN=${BIN:-$HOME/.cache/vlaring-controllers} IMAGES=${IMAGES:-local}
IMAGE=${IMAGE:-vlaring:dev} PULL=${PULL:-Never}
WORKERS=${WORKERS:-2} LOCAL_WORKERS=${LOCAL_WORKERS:-3}
steps=${STEPS:-} TIMEOUT=${TIMEOUT:-600} HOSTPATH=${HOSTPATH:-} KEEP=${KEEP:-}
read -ra kubectl <<<"${KUBECTL:-kubectl}"
k() { "${kubectl[@]}" "$@"; }
kn() { k --namespace "$NAMESPACE" "$@"; }
say() { printf '%5ss  %s\n' "$SECONDS" "$*"; }
usage() { echo "controllers.sh: $*" >&2; exit 2; }
fail() { say "$*"; exit 1; }

# module NAME: what it is built of, as go.mod has it, and the folder of its program.
module() {
  case $1 in
    jobset) echo "sigs.k8s.io/jobset@$JOBSET ." ;;
    kueue) echo "sigs.k8s.io/kueue@$KUEUE ./cmd/kueue" ;;
    trainer) echo "github.com/kubeflow/trainer/v2@$TRAINER ./cmd/trainer-controller-manager" ;;
    cert-manager) echo "github.com/cert-manager/cert-manager@$CERT_MANAGER ." ;;
    *) usage "$1: want jobset, kueue, trainer or cert-manager" ;;
  esac
}
version() { local m; m=$(module "$1"); m=${m#*@}; echo "${m% *}"; }
# source NAME: the folder with the module's files, as the registry has them.
source_of() {
  local m
  m=$(module "$1")
  go mod download -json "${m% *}" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

# build NAME…: in the module's own folder, so that its own go.sum holds what it is built of.
build() {
  local name dir package
  mkdir -p "$BIN"
  for name in "$@"; do
    package=$(module "$name")
    package=${package#* }
    if [ "$name" = cert-manager ]; then
      dir=$tmp/cert-manager
      cert_manager_source "$dir"
    else
      dir=$(source_of "$name")
    fi
    (cd "$dir" && CGO_ENABLED=0 go build -p "${P:-2}" -trimpath -ldflags '-s -w' -o "$BIN/$name" "$package")
    say "built $BIN/$name of $(module "$name")"
  done
}
# cert_manager_source DIR: a program of cert-manager's own controllers for Certificates,
# their requests, and Issuers of the kinds CA and self-signed.
cert_manager_source() {
  local p=github.com/cert-manager/cert-manager/pkg c
  mkdir -p "$1"
  {
    printf 'package main\n\nimport (\n\t"context"\n\t"log"\n\t"os/signal"\n\t"syscall"\n\t"time"\n\n\t"%s/controller"\n' $p
    for c in certificaterequests/{approver,ca,selfsigned} certificates/{issuing,keymanager,readiness,requestmanager,revisionmanager,trigger} issuers; do
      printf '\t_ "%s/controller/%s"\n' $p $c
    done
    printf '\t_ "%s/issuer/ca"\n\t_ "%s/issuer/selfsigned"\n)\n' $p $p
    cat <<'GO'

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	f, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		KubernetesAPIQPS: 20, KubernetesAPIBurst: 50, // as its own program has them, and what follows
		IssuerOptions: controller.IssuerOptions{ClusterResourceNamespace: "cert-manager"},
		CertificateOptions: controller.CertificateOptions{
			CertificateRequestMinimumBackoffDuration: time.Hour, CertificateRequestMaximumBackoffDuration: 32 * time.Hour},
	})
	if err != nil {
		log.Fatal(err)
	}
	c, err := f.Build()
	if err != nil {
		log.Fatal(err)
	}
	for name, build := range controller.Known() {
		k, err := build(f)
		if err != nil {
			log.Fatal(name, ": ", err)
		}
		go func() {
			if err := k.Run(5, ctx); err != nil {
				log.Fatal(name, ": ", err)
			}
		}()
	}
	c.SharedInformerFactory.Start(ctx.Done())
	c.KubeSharedInformerFactory.Start(ctx.Done())
	<-ctx.Done()
}
GO
  } >"$1/main.go"
  (cd "$1" && go mod init cert-manager && go mod edit "-require=github.com/cert-manager/cert-manager@$CERT_MANAGER" && go mod tidy) 2>"$1/log" || { cat "$1/log"; exit 1; }
}

# install NAME…: the manifests of the release, with this image. Trainer's gate TrainJobStatus
# is switched on, Kueue's server for visibility left out.
install() {
  local name dir base
  for name in "$@"; do
    dir=$tmp/install-$name
    mkdir -p "$dir"
    case $name in
      jobset | kueue) base=config ;;
      trainer) base=manifests ;;
      cert-manager) cert_manager "$dir"; continue ;;
    esac
    cp -r "$(source_of "$name")/$base" "$dir/$base"
    chmod -R u+w "$dir"
    if [ "$name" = trainer ]; then
      sed -i '/third-party/d' "$dir/manifests/overlays/manager/kustomization.yaml" # JobSet is installed by itself
      printf '\nfeatureGates:\n  TrainJobStatus: true\n' >>"$dir/manifests/base/manager/controller_manager_config.yaml"
      base=manifests/overlays/manager
    else
      base=config/default
    fi
    cat >"$dir/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [$base]
patches:
  - target: {kind: Deployment}
    patch: |-
      apiVersion: apps/v1
      kind: Deployment
      metadata: {name: any}
      spec:
        template:
          spec:
            containers: [{name: manager, image: "$IMAGES/$name:$(version "$name")", imagePullPolicy: $PULL, command: null}]
YAML
    # Kueue's server for visibility wants an API server that vouches for requests by a
    # certificate; where there is none, no namespace would ever end.
    [ "$name" != kueue ] || cat >>"$dir/kustomization.yaml" <<'YAML'
  - target: {kind: APIService}
    patch: "{$patch: delete, apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: any}}"
YAML
    k kustomize "$dir" >"$dir/all.yaml"
    k apply --server-side -f "$dir/all.yaml" >/dev/null
  done
  for name in "$@"; do
    case $name in
      trainer) k -n kubeflow-system rollout status deployment/kubeflow-trainer-controller-manager --timeout=120s >/dev/null ;;
      cert-manager) k -n cert-manager rollout status deployment/cert-manager --timeout=120s >/dev/null ;;
      *) k -n "$name-system" rollout status "deployment/$name-controller-manager" --timeout=120s >/dev/null ;;
    esac
    say "$name $(version "$name") runs"
  done
}
# cert-manager has a Helm chart in place of manifests: this is its definitions and a
# Deployment of its controllers, with all rights, and without its webhook, which only checks.
cert_manager() {
  k apply --server-side -f "$(source_of cert-manager)/deploy/crds" >/dev/null
  cat >"$1/all.yaml" <<YAML
apiVersion: v1
kind: Namespace
metadata: {name: cert-manager}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cert-manager, namespace: cert-manager}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cert-manager}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: cert-manager, namespace: cert-manager}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cert-manager, namespace: cert-manager}
spec:
  selector: {matchLabels: {app: cert-manager}}
  template:
    metadata: {labels: {app: cert-manager}}
    spec:
      serviceAccountName: cert-manager
      containers:
        - name: controller
          image: $IMAGES/cert-manager:$CERT_MANAGER
          imagePullPolicy: $PULL
YAML
  k apply -f "$1/all.yaml" >/dev/null
}

tmp=$(mktemp -d)
created=
finish() {
  code=$?
  trap - EXIT
  if [ -n "$created" ]; then
    [ $code -eq 0 ] || diagnose >&2 || true
    if [ -z "$KEEP" ]; then clear_up || true; else say "kept: namespace $NAMESPACE"; fi
  fi
  rm -rf "$tmp"
  exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

# clear_up takes away what a check made: first what makes pods, then the namespace.
clear_up() {
  local kinds=jobs
  case $check in jobset) kinds=jobsets,jobs ;; trainjob) kinds=trainjobs,jobsets,jobs ;; esac
  kn delete "$kinds" --all --timeout=60s >/dev/null
  k delete namespace "$NAMESPACE" --timeout=120s >/dev/null
  [ -z "$HOSTPATH" ] || k delete persistentvolume "$NAMESPACE" --ignore-not-found --timeout=30s >/dev/null
  case $check in
    queue) k delete clusterqueue,resourceflavor,workloadpriorityclass "$NAMESPACE" --ignore-not-found --timeout=60s >/dev/null ;;
    trainjob) k delete clustertrainingruntime vlaring --timeout=60s >/dev/null ;;
  esac
  created=
}

diagnose() {
  local kinds=jobs,pods
  case $check in
    certificates) kinds+=,certificates,certificaterequests,secrets ;;
    queue) kinds+=,workloads ;;
    jobset) kinds+=,jobsets ;;
    trainjob) kinds+=,jobsets,trainjobs ;;
  esac
  printf '\n-- objects\n'
  kn get "$kinds" -o wide
  printf '\n-- events\n'
  kn get events --sort-by=.lastTimestamp | tail -30
  for pod in $(kn get pods -o name); do
    printf '\n-- log of %s, exit code %s\n' "$pod" "$(kn get "$pod" -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}')"
    kn logs "$pod" --tail=15 | cut -c1-400
  done
}

# --- looking
pods() { kn get pods -l "app.kubernetes.io/name=vlaring,app.kubernetes.io/component=$1" "${@:2}"; }
# The logs of the coordinator's pods, in the order in which they started.
log() {
  for pod in $(pods coordinator --sort-by=.metadata.creationTimestamp -o name); do
    kn logs "$pod" "$@" 2>/dev/null || true
  done
}
# field NAME LINE: a value of one line of JSON, the first of that name.
field() { grep -o "\"$1\":\"\{0,1\}[^\",}]*" <<<"$2" | sed -n '1s/^[^:]*:"\{0,1\}//p' || true; }
newest() { log --tail=30 | grep '"event":"step"' | tail -1 || true; }
# in_time ends a check that takes too long, or whose run was over too early.
in_time() {
  local job
  [ $((SECONDS - began)) -lt "$TIMEOUT" ] || fail "not within $TIMEOUT s: $1"
  for job in $coordinator $worker; do
    case $(kn get job "$job" --ignore-not-found -o jsonpath='{.status.conditions[?(@.status=="True")].type}') in
      *Failed*) fail "the Job $job failed: $(kn get job "$job" -o jsonpath='{.status.conditions[?(@.type=="Failed")].message}')" ;;
      *Complete*) [ "$1" = "the end" ] || fail "the run was over before $1: give more STEPS" ;;
    esac
  done
}
# reach WORLD waits for a step of that many workers that is not there yet.
reach() {
  local line from
  from=$(field step "$(newest)")
  while :; do
    line=$(newest)
    if [ -n "$line" ] && [ "$(field world "$line")" = "$1" ] && [ "$(field step "$line")" -gt "${from:-0}" ]; then return; fi
    in_time "a step of $1 workers"
    sleep 1
  done
}
# until_is WANT COMMAND…: waits for a command to print that.
until_is() {
  local want=$1 got
  shift
  while :; do
    got=$("$@" 2>/dev/null || true)
    [ "$got" != "$want" ] || return 0
    in_time "$* says $want (it says: $got)"
    sleep 1
  done
}
# remove ROLE WHEN deletes a running pod.
remove() {
  local pod
  pod=$(pods "$1" --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
  [ "$1" != coordinator ] || kn logs -f "$pod" >"$tmp/log-$pod" 2>/dev/null & # it goes with the pod
  kn delete pod "$pod" --wait=false >/dev/null
  say "deleted $pod $2"
}

# --- a run
# settings FOLDER: the kustomization of a check over k8s/FOLDER, as $tmp/here.
settings() {
  local dir=$tmp/here pod
  rm -rf "$tmp/k8s" "$dir"
  mkdir -p "$dir"
  cp -r "$repo/k8s" "$tmp/k8s"
  sed "s/^train: .*/train: {steps: $STEPS}/" "$repo/test/k8s/overlay/job.yaml" >"$dir/job.yaml"
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$dir/token"
  cat >"$dir/kustomization.yaml" <<YAML
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: $NAMESPACE
resources: [../k8s/$1]
generatorOptions: {disableNameSuffixHash: true}
configMapGenerator:
  - {name: vlaring-settings, behavior: merge, literals: [JOB=$JOB, WORKERS=$WORKERS]}
  - {name: vlaring-job, behavior: replace, files: [job.yaml]}
secretGenerator:
YAML
  if [ "$check" = certificates ]; then
    (cd "$dir" && "$COORDINATOR" keys "$JOB" "worker:w0..w$((WORKERS + 1))" >/dev/null)
    cat >>"$dir/kustomization.yaml" <<YAML
  - {name: vlaring-token, files: [keys/token]}
  - {name: vlaring-worker-keys, files: [$(cd "$dir" && echo keys/worker-*.key | tr ' ' ,)]}
YAML
  else
    echo "  - {name: vlaring-token, files: [token]}" >>"$dir/kustomization.yaml"
  fi
  echo "patches:" >>"$dir/kustomization.yaml"
  case $check in
    jobset) target "{kind: JobSet}" /spec/replicatedJobs/0/template/spec /spec/replicatedJobs/1/template/spec ;;
    trainjob) target "{kind: ClusterTrainingRuntime}" /spec/template/spec/replicatedJobs/0/template/spec /spec/template/spec/replicatedJobs/1/template/spec ;;
    *) target "{kind: Job}" /spec ;;
  esac >>"$dir/kustomization.yaml"
  case $check in
    jobset) count "{kind: JobSet}" /spec/replicatedJobs/1/template/spec ;;
    certificates | queue) count "{kind: Job, name: vlaring-worker}" /spec ;;
  esac >>"$dir/kustomization.yaml"
  if [ -n "$HOSTPATH" ]; then
    cat >>"$dir/kustomization.yaml" <<YAML
  - target: {kind: PersistentVolumeClaim}
    patch: |-
      - {op: add, path: /spec/storageClassName, value: ""}
      - {op: add, path: /spec/volumeName, value: $NAMESPACE}
YAML
    k apply -f - >/dev/null <<YAML
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
}
# target TARGET PATH…: a patch for the image and size of the pods of the Jobs at those paths.
target() {
  printf '  - target: %s\n    patch: |-\n' "$1"
  for pod in "${@:2}"; do
    cat <<YAML
      - {op: replace, path: $pod/template/spec/containers/0/image, value: "$IMAGE"}
      - {op: add, path: $pod/template/spec/containers/0/imagePullPolicy, value: $PULL}
      - op: replace
        path: $pod/template/spec/containers/0/resources
        value: {requests: {cpu: 500m, memory: 256Mi}, limits: {cpu: 500m, memory: 256Mi}}
YAML
  done
}
count() {
  cat <<YAML
  - target: $1
    patch: |-
      - {op: replace, path: $2/completions, value: $WORKERS}
      - {op: replace, path: $2/parallelism, value: $WORKERS}
YAML
}
# begin FOLDER has it run.
begin() {
  settings "$1"
  created=1 began=$SECONDS
  say "$check: $WORKERS workers, $STEPS steps, image $IMAGE, namespace $NAMESPACE"
  k apply -k "$tmp/here" >/dev/null
}
# same waits for the end, trains here what was trained there, and compares.
same() {
  local end there here
  until [ "$(kn get job "$coordinator" -o jsonpath='{.status.conditions[?(@.type=="Complete")].status}')" = True ]; do in_time "the end"; sleep 1; done
  end=$(log | grep '"event":"end"' | tail -1)
  there=$(field model_sha256 "$end")
  say "cluster: $(field outcome "$end") at step $(field step "$end"), generation $(field generation "$(newest)"), sha256 $there"
  "$COORDINATOR" train "$tmp/here/job.yaml" --set "name=$JOB" --workers "$LOCAL_WORKERS" --run-dir "$tmp/run-$JOB" --json >"$tmp/local.jsonl" 2>"$tmp/local.log" ||
    { cat "$tmp/local.log"; fail "the run here failed"; }
  here=$(field model_sha256 "$(grep '"event":"end"' "$tmp/local.jsonl" | tail -1)")
  say "here: $LOCAL_WORKERS workers, sha256 $here"
  [ -n "$there" ] && [ "$there" = "$here" ] || fail "DIFFERENT BITS"
}

# --- the checks
serial() { kn get secret "$1" --ignore-not-found -o jsonpath='{.data.tls\.crt}' | base64 -d | openssl x509 -noout -serial -issuer -ext subjectAltName 2>/dev/null | tr -s '\n ' ' '; }
# renew NAME has cert-manager make a certificate anew, as cmctl renew does.
renew() {
  local old now
  old=$(serial "$1")
  now=$(date -u +%FT%TZ)
  kn patch certificate "$1" --subresource=status --type=merge -p "{\"status\":{\"conditions\":[
    {\"type\":\"Ready\",\"status\":\"True\",\"reason\":\"Ready\",\"message\":\"as before\",\"lastTransitionTime\":\"$now\"},
    {\"type\":\"Issuing\",\"status\":\"True\",\"reason\":\"ManuallyTriggered\",\"message\":\"by a test\",\"lastTransitionTime\":\"$now\"}]}}" >/dev/null
  anew "$1" "$old"
}
# anew NAME OLD waits for a Secret with another certificate than that.
anew() {
  while [ -z "$(serial "$1")" ] || [ "$(serial "$1")" = "$2" ]; do
    in_time "a new certificate in the Secret $1"
    sleep 1
  done
  say "Secret $1: $(serial "$1")"
}
refresh() { kn annotate pods --all --overwrite "rotated=$SECONDS" >/dev/null; } # the kubelet brings it to pods now, not in a minute
authority_of() { kn get secret vlaring-tls -o jsonpath='{.data.ca\.crt}'; }

certificates() {
  coordinator=vlaring-coordinator worker=vlaring-worker
  begin overlays/tls
  reach "$WORKERS"
  say "trains by the certificate that cert-manager made: $(serial vlaring-tls)"
  local old
  old=$(authority_of)
  renew vlaring-authority
  renew vlaring-tls
  [ "$(authority_of)" != "$old" ] || fail "vlaring-tls is still of the old authority"
  refresh
  reach "$WORKERS"
  remove worker "after both were renewed"
  reach "$WORKERS"
  remove coordinator "too"
  reach "$WORKERS"
  old=$(serial vlaring-tls)
  kn delete secret vlaring-tls >/dev/null
  anew vlaring-tls "$old"
  refresh
  remove worker "after the Secret was deleted"
  reach "$WORKERS"
  same
}

# quota N sets what the queue may use, in half cores: one for each pod.
quota() {
  k apply -f - >/dev/null <<YAML
apiVersion: kueue.x-k8s.io/v1beta2
kind: ClusterQueue
metadata: {name: $NAMESPACE}
spec:
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: $NAMESPACE}}
  preemption: {withinClusterQueue: LowerPriority}
  resourceGroups:
    - coveredResources: [cpu, memory]
      flavors: [{name: $NAMESPACE, resources: [{name: cpu, nominalQuota: $(($1 * 500))m}, {name: memory, nominalQuota: 100Gi}]}]
YAML
}
used() { k get clusterqueue "$NAMESPACE" -o jsonpath='{.status.flavorsUsage[0].resources[?(@.name=="cpu")].total}'; }
parallel() { kn patch job vlaring-worker --type=merge -p "{\"spec\":{\"parallelism\":$1,\"completions\":$1}}" >/dev/null; }
queue() {
  coordinator=vlaring-coordinator worker=vlaring-worker
  k apply -f - >/dev/null <<YAML
apiVersion: kueue.x-k8s.io/v1beta2
kind: ResourceFlavor
metadata: {name: $NAMESPACE}
YAML
  quota 0
  begin overlays/kueue
  kn apply -f - >/dev/null <<YAML
apiVersion: kueue.x-k8s.io/v1beta2
kind: LocalQueue
metadata: {name: training}
spec: {clusterQueue: $NAMESPACE}
YAML
  until_is "true true" kn get jobs -o jsonpath='{.items[*].spec.suspend}'
  sleep 5
  [ -z "$(pods coordinator -o name)$(pods worker -o name)" ] || fail "pods without quota"
  say "without quota both Jobs wait"
  quota $((1 + WORKERS))
  reach "$WORKERS"
  say "admitted: the queue uses $(used)"
  parallel $((WORKERS + 1))
  local from
  from=$(field step "$(newest)")
  sleep 10
  [ "$(field step "$(newest)")" -gt "$from" ] || fail "training stands while a worker waits for quota"
  [ "$(field world "$(newest)")" = "$WORKERS" ] || fail "a worker joined without quota"
  say "a worker more waits for quota ($(pods worker -o jsonpath='{range .items[*]}{.status.phase} {end}')), the others train"
  quota $((2 + WORKERS))
  reach $((WORKERS + 1))
  say "the quota grew and it trains: the queue uses $(used)"
  parallel $((WORKERS - 1))
  reach $((WORKERS - 1))
  until_is "$([ $((WORKERS * 500 % 1000)) = 0 ] && echo $((WORKERS / 2)) || echo $((WORKERS * 500))m)" used
  say "scaled to $((WORKERS - 1)): the queue uses $(used)"
  parallel "$WORKERS"
  reach "$WORKERS"
  rival
  reach "$WORKERS"
  same
}
# rival is a Job of higher priority in the same queue, for 20 seconds: a worker that finds
# no coordinator.
rival() {
  k apply -f - >/dev/null <<YAML
apiVersion: kueue.x-k8s.io/v1beta2
kind: WorkloadPriorityClass
metadata: {name: $NAMESPACE}
value: 1000
YAML
  kn apply -f - >/dev/null <<YAML
apiVersion: batch/v1
kind: Job
metadata:
  name: rival
  labels: {kueue.x-k8s.io/queue-name: training, kueue.x-k8s.io/priority-class: $NAMESPACE}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: rival
          image: $IMAGE
          imagePullPolicy: $PULL
          command: [/worker, --nats=nats://127.0.0.1:1, --job=rival, --join-timeout=20s]
          resources: {requests: {cpu: $((WORKERS * 500))m}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
YAML
  until_is True kn get job rival -o jsonpath='{.status.conditions[?(@.type=="Failed")].status}'
  say "a Job of higher priority had its turn; preempted: $(kn get events -o jsonpath='{range .items[?(@.reason=="Preempted")]}{.involvedObject.kind}/{.involvedObject.name} {end}')"
}

jobset() {
  coordinator=vlaring-coordinator-0 worker=vlaring-worker-0
  begin jobset
  reach "$WORKERS"
  remove worker "after step $(field step "$(newest)")"
  reach "$WORKERS"
  remove coordinator "after step $(field step "$(newest)")"
  reach "$WORKERS"
  kn patch job "$coordinator" --type=merge -p '{"spec":{"activeDeadlineSeconds":1}}' >/dev/null
  say "the coordinator's Job fails after step $(field step "$(newest)"): out of time"
  until [ "$(kn get jobset vlaring -o jsonpath='{.status.restarts}')" = 1 ]; do
    [ $((SECONDS - began)) -lt "$TIMEOUT" ] || fail "the JobSet was not made anew"
    sleep 1
  done
  until [ -n "$(newest)" ]; do in_time "a step after the JobSet was made anew"; sleep 1; done
  say "made anew, it goes on at step $(field step "$(log | grep -m1 '"event":"step"')")"
  same
  until_is True kn get jobset vlaring -o jsonpath='{.status.conditions[?(@.type=="Completed")].status}'
  say "the JobSet is Completed, restarts: $(kn get jobset vlaring -o jsonpath='{.status.restarts}')"
}

status() { kn get trainjob tabletop -o jsonpath="{.status.trainerStatus.$1}"; }
trainjob() {
  coordinator=tabletop-coordinator-0 worker=tabletop-node-0
  begin kubeflow
  sed -e "s/namespace: vlaring/namespace: $NAMESPACE/" -e "s/numNodes: 2/numNodes: $WORKERS/" "$repo/k8s/kubeflow/trainjob.yaml" | k apply -f - >/dev/null
  reach "$WORKERS"
  while [ -z "$(status progressPercentage)" ]; do in_time "progress in the TrainJob's status"; sleep 1; done
  say "status: $(kn get trainjob tabletop -o jsonpath='{.status.trainerStatus}')"
  remove worker "after step $(field step "$(newest)")"
  reach "$WORKERS"
  same
  until_is True kn get trainjob tabletop -o jsonpath='{.status.conditions[?(@.type=="Complete")].status}'
  say "the TrainJob is Complete; status: $(kn get trainjob tabletop -o jsonpath='{.status.trainerStatus}')"
  [ "$(status progressPercentage)" = 100 ] || fail "the status does not say 100 per cent"
}

what=${1:-}
[ $# -ge 2 ] || usage "want build, install or check, and names: see the head of the script"
shift
case $what in
  build) build "$@"; exit ;;
  install | check) ;;
  *) usage "$what: want build, install or check" ;;
esac
command -v "${kubectl[0]}" >/dev/null || usage "${kubectl[0]} is not there: install kubectl, or set KUBECTL"
k --request-timeout=10s get --raw /readyz >/dev/null || usage "no cluster answers '${kubectl[*]} get --raw /readyz': point kubectl to one"
if [ "$what" = install ]; then
  install "$@"
  exit
fi
for check in "$@"; do
  case $check in certificates | queue | jobset | trainjob) ;; *) usage "$check: want certificates, queue, jobset or trainjob" ;; esac
done
if [ -z "${COORDINATOR:-}" ]; then
  COORDINATOR=$tmp/coordinator
  (cd "$repo" && CGO_ENABLED=0 go build -o "$COORDINATOR" ./cmd/coordinator)
fi
for check in "$@"; do
  NAMESPACE=vlaring-test-$RANDOM JOB=e2e-$RANDOM
  case $check in jobset) STEPS=${steps:-6000} ;; trainjob) STEPS=${steps:-8000} ;; *) STEPS=${steps:-16000} ;; esac
  "$check"
  say "SAME BITS: $check, $WORKERS pods on the cluster and $LOCAL_WORKERS processes here"
  [ -n "$KEEP" ] || clear_up
done
