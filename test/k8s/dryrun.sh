#!/usr/bin/env bash
# Every folder of k8s/ that may be applied, and all components together, tried on the
# API server that kubectl points to: strictly, with its own validation, admission and
# warnings. Nothing is created but the namespace that they go to, where it is not there.
#
#   KUBECTL="kubectl --context test" test/k8s/dryrun.sh
#
# Objects of kinds that the cluster has not (JobSet, cert-manager, the Prometheus
# operator, Kubeflow Trainer) are named and left out. Exit codes: 0 all are taken; 1
# one is not; 2 no cluster.
set -euo pipefail
cd "$(dirname "$0")/../../k8s"
read -ra kubectl <<<"${KUBECTL:-kubectl}"
k() { "${kubectl[@]}" "$@"; }
k --request-timeout=10s get --raw /readyz >/dev/null || { echo "dryrun.sh: no cluster answers '${kubectl[*]} get --raw /readyz'" >&2; exit 2; }
tmp=$(mktemp -d)
together=$(mktemp -d ./.dryrun-XXXXXX) # below the root that kustomize takes files from
trap 'rm -rf "$tmp" "$together"' EXIT
k get namespace vlaring >/dev/null 2>&1 || k create namespace vlaring >/dev/null
{
  sed -e 's#\.\./\.\./base#../base#' -e 's#\(volumes/0/secret/secretName, value: second-vlaring-\)token#\1worker-keys#' overlays/second/kustomization.yaml
  echo 'components:'
  for c in components/*; do echo "  - ../$c"; done
} >"$together/kustomization.yaml"
bad=0
for d in base jobset kubeflow overlays/* "$together"; do
  k kustomize "$d" >"$tmp/all.yaml"
  [ "$d" != kubeflow ] || { echo "---"; cat kubeflow/trainjob.yaml; } >>"$tmp/all.yaml"
  code=0
  k apply --dry-run=server --validate=strict -f "$tmp/all.yaml" >"$tmp/out" 2>"$tmp/err" || code=$?
  n=$(grep -c 'server dry run' "$tmp/out" || true)
  sed -n 's/^\(error: \)\{0,1\}resource mapping not found for name: "\([^"]*\)".*no matches for kind "\([^"]*\)" in version "\([^"]*\)".*/  NOT RUN: \3 \2: the cluster has no \4/p' "$tmp/err"
  # what else was said, but for what says that the namespace was there
  said=$(grep -v 'no matches for kind\|ensure CRDs are installed\|kubectl.kubernetes.io/last-applied-configuration' "$tmp/err" || true)
  if [ -n "$said" ]; then
    echo "$said"
    bad=1
  fi
  [ "$d" != "$together" ] || d="all components together"
  echo "$d: $n objects are taken"
  [ "$n" -gt 0 ] || bad=1
done
exit $bad
