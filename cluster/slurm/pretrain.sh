#!/bin/bash
# Rendered by `python -m cluster render configs/cluster/slurm.yaml --job pretrain configs/pretrain/gpt2-124m.yaml`: change that, not this.
#SBATCH --job-name=llmcore
#SBATCH --partition=gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=64
#SBATCH --gpus-per-node=4
#SBATCH --mem=491520M
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -euo pipefail
umask 077 # the token and all that is written here is the user's own

# no setup
export PATH="/scratch/your-project/llmcore/.venv/bin:$PATH"
export HF_HUB_OFFLINE=1

# --- a folder that all nodes see and nobody else does: the token, and the job's configuration

state="$HOME/.local/state/llmcore/slurm/$SLURM_JOB_ID"
rm -rf "$state" # of this job, before it was queued again
mkdir -p "$state"
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$state/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$state/token"
cat >"$state/job.yaml" <<'JOB'
model:
  family: gpt2
  preset: gpt2-124m
train:
  global_batch_size: 512
  micro_batch_size: 16
  optimizer:
    learning_rate: 0.0006
  schedule:
    warmup_fraction: 0.0375
  zero_stage: 1
  num_steps: 19073
  validate_every: 1000
  checkpoint_every: 500
workers:
  num_workers: 8
  cpus_per_worker: 4.0
  gpus_per_worker: 1.0
validation_rows: 4096
sample_prompts:
- Once upon a time
- The capital of France is
name: gpt2-124m
storage: /scratch/your-project/llmcore
cluster:
  address: auto
tokens: gpt2.prepare
JOB

# --- the end of this script ends all that it started, and takes the token away

pids=()
end_all() {
	trap - EXIT
	for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
	wait "${pids[@]}" 2>/dev/null || true
	rm -rf "$state"
}
trap end_all EXIT

# --- Ray: its head on this node, the first one, and a worker on each other

head=$(hostname)
address=$(hostname -I | tr ' ' '\n' | grep -m 1 '^[0-9]*\.' || echo 127.0.0.1)
port=$((20000 + SLURM_JOB_ID % 10000)) # another job may have its head on this node
# Ray's own folder is on the node's disk; its name is short, since sockets' paths must be.
common=(--block --num-cpus=64 --num-gpus=4 --object-store-memory=128849018880
	--labels='llmcore/role=train,ray.io/market-type=on-demand' --temp-dir="/tmp/ray-$SLURM_JOB_ID" --disable-usage-stats)
step=(srun --overlap --kill-on-bad-exit=1 --ntasks-per-node=1 --cpus-per-task=64 --gpus-per-node=4)

"${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head" \
	ray start --head --node-ip-address="$address" --port="$port" \
	--dashboard-host=127.0.0.1 --dashboard-port=$((port + 10000)) --ray-client-server-port=$((port + 20000)) \
	"${common[@]}" &
pids+=($!)
for _ in $(seq 60); do
	ray health-check --address "$address:$port" >/dev/null 2>&1 && break
	sleep 2
done
ray health-check --address "$address:$port"

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
	others=$((SLURM_JOB_NUM_NODES - 1))
	"${step[@]}" --nodes="$others" --ntasks="$others" --exclude="$head" \
		ray start --address="$address:$port" "${common[@]}" &
	pids+=($!)
fi
alive='import sys, ray; ray.init(sys.argv[1]); print(sum(node["Alive"] for node in ray.nodes()))'
for _ in $(seq 60); do # the job looks at the nodes when it starts
	number=$(python -c "$alive" "$address:$port" 2>/dev/null || echo 0)
	[ "$number" -ge "$SLURM_JOB_NUM_NODES" ] && break
	sleep 2
done

# --- the job; before the time is up it is asked to save its step, and this script to queue it again

stopping=""
# shellcheck disable=SC2329 # the trap below calls it
stop() {
	stopping=yes
	kill -TERM "$job" 2>/dev/null || true
}
python -m jobs pretrain "$state/job.yaml" cluster.address="$address:$port" &
job=$!
trap stop TERM
code=0
wait "$job" || code=$?
if [ -n "$stopping" ]; then # the signal ended the first wait, and not the job
	code=0
	wait "$job" || code=$?
fi
if [ -n "$stopping" ] && [ "$code" -eq 130 ]; then # it has saved its step, and goes on from there
	end_all
	exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
