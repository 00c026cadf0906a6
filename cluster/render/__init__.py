"""From one typed cluster configuration to the file that its target understands."""

from cluster.render.job import JobOnCluster, load_job
from cluster.render.kuberay import kuberay_objects
from cluster.render.launcher import aws_launcher, gcp_launcher
from cluster.render.slurm import slurm_script
from cluster.render.text import as_yaml
from llmcore.config.cluster import ClusterConfig

__all__ = ["JobOnCluster", "load_job", "render"]


def render(config: ClusterConfig, job: JobOnCluster | None = None, *, source: str) -> str:
    """The file: Kubernetes objects, a launcher's YAML, or a batch script.

    Args:
        config: The cluster.
        job: What is to run on it; a cluster alone where it is left out.
        source: Where the configuration stands, for the file's first line.

    Raises:
        ConfigError: A batch script has to run something, and `job` is missing.
    """
    told = f"Rendered by `python -m cluster render {source}{f' {job.told()}' if job else ''}`: change that, not this."
    if config.target == "kuberay":
        return as_yaml(told, *kuberay_objects(config, job))
    if config.target == "slurm":
        return slurm_script(config, job, told)
    return as_yaml(told, aws_launcher(config) if config.target == "aws" else gcp_launcher(config))
