#!/bin/bash
# One coordinator on the first node and workers on all, under Slurm:
#
#   sbatch examples/cluster/slurm.sh examples/tabletop.yaml
#   sbatch --nodes 8 examples/cluster/slurm.sh job.yaml --set train.steps=50000
#
# What follows the job file goes to `coordinator train`. The run directory, runs/NAME
# below the folder that sbatch is called in, has to be on a disk that all nodes see;
# only the coordinator writes there. Near its time limit it stores a checkpoint and is
# queued again; preempted (PreemptMode=REQUEUE with a GraceTime) likewise, by Slurm. It
# goes on with as many nodes as it is given then: the weights are the same. To end it
# with a checkpoint: scancel --batch --signal=TERM ID.
#SBATCH --job-name=vlaring
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: sbatch slurm.sh JOB.yaml [flags of coordinator train]" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || { echo "slurm.sh: this is a batch script: sbatch $0 $*" >&2; exit 2; }
PORT=${VLARING_PORT:-$((20000 + SLURM_JOB_ID % 20000))}
RUN=${VLARING_RUN:-runs/slurm-$SLURM_JOB_ID} # a job that is queued again keeps its number
name=slurm-$SLURM_JOB_ID
mkdir -p "$RUN"
token=$RUN/.slurm-token
[ -s "$token" ] || (umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$token")
head=$(hostname)

coordinator train "$@" --set "name=$name" --run-dir "$RUN" --resume --workers 0 --set "cluster.workers=$SLURM_JOB_NUM_NODES" \
  --set cluster.min_workers=1 --set cluster.join_timeout=10m --listen "0.0.0.0:$PORT" --token-file "$token" &
lead=$!
# --kill-on-bad-exit=0: the others go on where one node is lost.
srun --kill-on-bad-exit=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  worker --nats "nats://$head:$PORT" --job "$name" --token-file "$token" --threads "${SLURM_CPUS_PER_TASK:-1}" --join-timeout 10m --rescue-dir "$RUN/rescue" &

again=
stop() { kill -TERM "$lead" 2>/dev/null || true; }
trap 'again=1; stop' USR1
trap stop TERM
while kill -0 "$lead" 2>/dev/null; do wait "$lead" || true; done # a signal ends wait, and the coordinator is still storing
wait "$lead" && code=0 || code=$?
if [ "$code" = 3 ] && [ -n "$again" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
