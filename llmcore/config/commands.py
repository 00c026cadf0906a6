"""Which command of `python -m jobs` takes which configuration; a class is imported when it is asked for."""

import importlib

from llmcore.config.common import JobSettings

__all__ = ["COMMANDS", "config_class"]

COMMANDS = {
    "prepare": "llmcore.config.prepare:PrepareConfig",
    "pretrain": "llmcore.config.pretrain:PretrainConfig",
    "finetune": "llmcore.config.finetune:FinetuneConfig",
    "tune": "llmcore.config.tune:TuneConfig",
    "evaluate": "llmcore.config.evaluate:EvaluateConfig",
    "transfer": "llmcore.config.transfer:TransferConfig",
    "pipeline": "llmcore.config.pipeline:PipelineConfig",
    "report": "llmcore.config.pipeline:ReportConfig",
}
"""`module:name` of each command's class: whoever runs a job, and whoever sends one to a cluster, needs but one."""


def config_class(command: str) -> type[JobSettings]:
    """The class of a command's configuration. Raises KeyError for a command that takes none."""
    module, _, name = COMMANDS[command].partition(":")
    found: type[JobSettings] = getattr(importlib.import_module(module), name)
    return found
