#!/usr/bin/env bash
# The alerts of k8s/components/monitoring by Prometheus' own promtool: their syntax, and
# that each fires when it should (alerts.yaml). promtool is that of the PATH, or:
#
#   go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0
set -euo pipefail
cd "$(dirname "$0")"
promtool=${PROMTOOL:-$(command -v promtool || true)}
[ -n "$promtool" ] || { echo "monitoring.sh: no promtool on the PATH; its head says where it comes from" >&2; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# a Prometheus rule file is what stands below spec
awk 'in_spec { sub(/^  /, ""); print } /^spec:/ { in_spec = 1 }' ../../k8s/components/monitoring/alerts.yaml >"$tmp/rules.yaml"
cp alerts.yaml "$tmp/alerts.yaml"
"$promtool" check rules "$tmp/rules.yaml"
"$promtool" test rules "$tmp/alerts.yaml"
