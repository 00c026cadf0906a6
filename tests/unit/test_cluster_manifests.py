import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests import ROOT, documents, kuberay_definition, misspelt, mistakes_of, mistakes_of_launcher

KUBERAY = sorted((ROOT / "cluster" / "kuberay").glob("*.yaml"))
LAUNCHER = [ROOT / "cluster" / "launcher" / name for name in ("aws.yaml", "gcp.yaml")]
SLURM = sorted((ROOT / "cluster" / "slurm").glob("*.sh"))
RULES = {
    "self == oldSelf": "between two versions of an object alone",
    "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']": "managedBy",
    "!(has(self.jobStatus) && has(self.jobDeploymentStatus))": "deletionStrategy.deletionRules",
    "has(self.jobStatus) || has(self.jobDeploymentStatus)": "deletionStrategy.deletionRules",
    "!((has(self.onSuccess) || has(self.onFailure)) && has(self.deletionRules))": "deletionStrategy",
    "((has(self.onSuccess) && has(self.onFailure)) || has(self.deletionRules))": "deletionStrategy",
}
"""KubeRay's rules in CEL, and how the check by hand calls them."""

KEPT = {"ttlSecondsAfterFinished": 0}


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_every_object_is_as_its_schema_has_it(path: Path) -> None:
    assert [mistakes_of(document) for document in documents(path)] == [[] for _ in documents(path)]


@pytest.mark.parametrize("path", KUBERAY, ids=named)
def test_no_field_of_an_object_can_be_misspelt(path: Path) -> None:
    passed = []
    for document in documents(path):
        passed += [place for place, changed in misspelt(document) if not mistakes_of(changed)]
    assert passed == []


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_all_rules_are_known(kind: str) -> None:
    def rules(value: Any) -> set[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        own = {one["rule"] for one in value.get("x-kubernetes-validations", [])} if isinstance(value, dict) else set()
        return own.union(*map(rules, inner))

    assert rules(kuberay_definition(kind)) <= set(RULES)


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({"managedBy": "me"}, "managedBy"),
        ({"shutdownAfterJobFinishes": False, **KEPT, "deletionStrategy": {"onSuccess": {}}}, "deletionStrategy"),
        (
            {
                "shutdownAfterJobFinishes": False,
                **KEPT,
                "deletionStrategy": {"deletionRules": [{"policy": "DeleteSelf", "condition": {"ttlSeconds": 1}}]},
            },
            "deletionStrategy.deletionRules",
        ),
        (
            {"deletionStrategy": {"deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED"}}]}},
            "shutdownAfterJobFinishes beside deletionStrategy",
        ),
        ({"shutdownAfterJobFinishes": False}, "ttlSecondsAfterFinished without shutdownAfterJobFinishes"),
    ],
)
def test_a_broken_rule_is_found(given: dict[str, Any], broken: str) -> None:
    job = documents(ROOT / "cluster" / "kuberay" / "cpu-smoke-job.yaml")[-1]
    job["spec"] |= given
    assert mistakes_of(job) == [broken]


@pytest.mark.parametrize("path", LAUNCHER, ids=named)
def test_a_launcher_file_is_as_ray_and_its_cloud_have_it(path: Path) -> None:
    [document] = documents(path)
    assert mistakes_of_launcher(document) == []


@pytest.mark.parametrize("path", LAUNCHER, ids=named)
def test_no_field_of_a_launcher_file_can_be_misspelt(path: Path) -> None:
    [document] = documents(path)
    assert [place for place, changed in misspelt(document) if not mistakes_of_launcher(changed)] == []


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path=str(Path(yaml.__file__).parents[4] / "bin"))
    assert found is not None, f"{name} is a development dependency: make install"
    return found


@pytest.mark.parametrize("path", [*SLURM, ROOT / "cluster" / "docker" / "install.sh"], ids=named)
def test_a_shell_script_is_sound(path: Path) -> None:
    for command in (["bash", "-n"], [tool("shellcheck"), "--severity=style"]):
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


SBATCH = set(
    """
account acctg-freq array batch begin bb bbf chdir cluster-constraint clusters comment constraint container
container-id contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency
distribution error exclude exclusive export export-file extra extra-node-info get-user-env gid gpu-bind gpu-freq gpus
gpus-per-node gpus-per-socket gpus-per-task gres gres-flags hint hold ignore-pbs input job-name kill-on-invalid-dep
licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill no-requeue
nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket open-mode output
overcommit oversubscribe parsable partition power prefer priority profile propagate qos quiet reboot requeue reservation
segment signal sockets-per-node spread-job stepmgr switches test-only thread-spec threads-per-core time time-min tmp
tres-bind tres-per-task tres-per-job uid use-min-nodes verbose wait wait-all-nodes wckey wrap
""".split()  # noqa: SIM905  # a hundred of them
)
"""Slurm's own options, as in its manual (24.11)."""


@pytest.mark.parametrize("path", SLURM, ids=named)
def test_a_batch_scripts_options_are_slurms(path: Path) -> None:
    asked = re.findall(r"^#SBATCH --([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert asked and set(asked) <= SBATCH
    assert len(asked) == len(re.findall("^#SBATCH", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_dockerfile_is_sound_and_a_misspelt_instruction_is_not() -> None:
    path = ROOT / "cluster" / "docker" / "Dockerfile"
    text = path.read_text(encoding="utf-8")

    def passes(content: str) -> bool:
        done = subprocess.run([tool("hadolint"), "-"], input=content, capture_output=True, text=True, check=False)
        return done.returncode == 0

    assert passes(text)
    for instruction in sorted(set(re.findall("^([A-Z]+) ", text, re.MULTILINE))):
        assert not passes(re.sub(f"^{instruction} ", f"{instruction}X ", text, count=1, flags=re.MULTILINE))
