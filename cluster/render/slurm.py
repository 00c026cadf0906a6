"""A batch script for Slurm: one Ray head, workers by `srun`, one job, and an orderly end before the time is up."""

import shlex
from string import Template

from cluster.render.job import JobOnCluster
from llmcore.config.cluster import ClusterConfig, NodeGroup
from llmcore.config.cluster_targets import SlurmSettings
from llmcore.errors import ConfigError

__all__ = ["slurm_script"]

_SCRIPT = Template("""\
#!/bin/bash
# $told
$options
set -euo pipefail
umask 077 # the token and all that is written here is the user's own

$setup
export PATH="$environment/bin:$$PATH"
$variables
# --- a folder that all nodes see and nobody else does: the token, and the job's configuration

state="$shared/$$SLURM_JOB_ID"
rm -rf "$$state" # of this job, before it was queued again
mkdir -p "$$state"
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$$state/token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$$state/token"
cat >"$$state/job.yaml" <<'JOB'
${job}JOB

# --- the end of this script ends all that it started, and takes the token away

pids=()
end_all() {
	trap - EXIT
	for pid in "$${pids[@]}"; do kill -TERM "$$pid" 2>/dev/null || true; done
	wait "$${pids[@]}" 2>/dev/null || true
	rm -rf "$$state"
}
trap end_all EXIT

# --- Ray: its head on this node, the first one, and a worker on each other

head=$$(hostname)
address=$$(hostname -I | tr ' ' '\\n' | grep -m 1 '^[0-9]*\\.' || echo 127.0.0.1)
port=$$((20000 + SLURM_JOB_ID % 10000)) # another job may have its head on this node
# Ray's own folder is on the node's disk; its name is short, since sockets' paths must be.
common=(--block --num-cpus=$cpus --num-gpus=$gpus --object-store-memory=$object_store
	--labels='$labels' --temp-dir="/tmp/ray-$$SLURM_JOB_ID" --disable-usage-stats)
step=(srun --overlap --kill-on-bad-exit=1 --ntasks-per-node=1 --cpus-per-task=$cpus$step_gpus)

"$${step[@]}" --nodes=1 --ntasks=1 --nodelist="$$head" \\
	ray start --head --node-ip-address="$$address" --port="$$port" \\
	--dashboard-host=127.0.0.1 --dashboard-port=$$((port + 10000)) --ray-client-server-port=$$((port + 20000)) \\
	"$${common[@]}" &
pids+=($$!)
for _ in $$(seq 60); do
	ray health-check --address "$$address:$$port" >/dev/null 2>&1 && break
	sleep 2
done
ray health-check --address "$$address:$$port"

if [ "$$SLURM_JOB_NUM_NODES" -gt 1 ]; then
	others=$$((SLURM_JOB_NUM_NODES - 1))
	"$${step[@]}" --nodes="$$others" --ntasks="$$others" --exclude="$$head" \\
		ray start --address="$$address:$$port" "$${common[@]}" &
	pids+=($$!)
fi
alive='import sys, ray; ray.init(sys.argv[1]); print(sum(node["Alive"] for node in ray.nodes()))'
for _ in $$(seq 60); do # the job looks at the nodes when it starts
	number=$$(python -c "$$alive" "$$address:$$port" 2>/dev/null || echo 0)
	[ "$$number" -ge "$$SLURM_JOB_NUM_NODES" ] && break
	sleep 2
done

# --- the job; before the time is up it is asked to save its step, and this script to queue it again

stopping=""
# shellcheck disable=SC2329 # the trap below calls it
stop() {
	stopping=yes
	kill -TERM "$$job" 2>/dev/null || true
}
python -m jobs $command "$$state/job.yaml" cluster.address="$$address:$$port" &
job=$$!
trap stop TERM
code=0
wait "$$job" || code=$$?
if [ -n "$$stopping" ]; then # the signal ended the first wait, and not the job
	code=0
	wait "$$job" || code=$$?
fi
$requeue
exit "$$code"
""")

_REQUEUE = """\
if [ -n "$stopping" ] && [ "$code" -eq 130 ]; then # it has saved its step, and goes on from there
	end_all
	exec scontrol requeue "$SLURM_JOB_ID"
fi"""

_NO_REQUEUE = "# It is not queued again: the same script, submitted once more, goes on from the last checkpoint."


def slurm_script(config: ClusterConfig, job: JobOnCluster | None, told: str) -> str:
    """The script that `sbatch` is given. Raises ConfigError without a job: it runs one, and ends with it."""
    if job is None:
        raise ConfigError(f"cluster {config.name}: a batch script runs a job; say which: --job COMMAND CONFIG")
    slurm = config.slurm
    assert slurm is not None
    [group] = config.groups.values()
    variables = [f"export {name}={shlex.quote(value)}" for name, value in config.environment.items()]
    return _SCRIPT.substitute(
        told=told,
        options="\n".join(f"#SBATCH --{option}" for option in _options(config, slurm, group)),
        setup="\n".join(slurm.setup) or "# no setup",
        environment=slurm.environment,
        variables="".join(f"{line}\n" for line in variables),
        shared=slurm.shared,
        job=job.text(),
        command=job.command,
        cpus=group.cpus,
        gpus=group.gpus,
        object_store=group.object_store_bytes,
        labels=",".join(f"{name}={value}" for name, value in group.labels.items()),
        step_gpus=f" --gpus-per-node={_gpus(group)}" if group.gpus else "",
        requeue=_REQUEUE if slurm.requeue else _NO_REQUEUE,
    )


def _options(config: ClusterConfig, slurm: SlurmSettings, group: NodeGroup) -> list[str]:
    given = {
        "job-name": config.name,
        "partition": slurm.partition,
        "account": slurm.account,
        "nodes": group.most,
        "ntasks-per-node": 1,
        "cpus-per-task": group.cpus,
        "gpus-per-node": _gpus(group) if group.gpus else None,
        "mem": f"{round(group.memory_gib * 1024)}M",
        "time": slurm.time_limit,
        "signal": f"B:TERM@{slurm.stop_before_s}",  # B: to this script alone, which tells the job
        "output": "%x-%j.log",
        "open-mode": "append",  # the log of the job that is queued again goes on
    }
    return [
        *(f"{name}={value}" for name, value in given.items() if value is not None),
        "requeue" if slurm.requeue else "no-requeue",
    ]


def _gpus(group: NodeGroup) -> str:
    return f"{group.accelerator}:{group.gpus}" if group.accelerator else str(group.gpus)
