"""lm-evaluation-harness at work: a model in memory, and the questions of a task."""

import logging
from contextlib import chdir, nullcontext
from dataclasses import dataclass
from typing import Any

from llmcore.errors import RunError
from llmcore.evaluation.harness.asked import Harness, installed_version, own_path, task_manager
from llmcore.evaluation.harness.told import Told
from llmcore.storage import Folder, verify_published

__all__ = ["AskedModel"]


@dataclass(frozen=True)
class AskedModel:
    """A model as the harness takes it.

    Attributes:
        asked: An `lm_eval.models.huggingface.HFLM`.
        manager: What knows the tasks.
    """

    asked: Any
    manager: Any

    @classmethod
    def load(cls, folder: Folder, sha256: str, harness: Harness) -> "AskedModel":
        """That of a published folder, in fp32, after reading every byte of it against its manifest.

        Raises:
            CheckpointError: The folder is not the model of that hash.
            ConfigError: The model writes nothing, or the harness is not installed here.
            RunError: It is here in another version than where the evaluation was started.
        """
        if (here := installed_version()) != harness.version:
            raise RunError(f"lm-evaluation-harness is {here} on one node, and {harness.version} on the first")
        import torch
        from lm_eval.models.huggingface import HFLM

        from llmcore.models.device import own_device
        from llmcore.models.generation.loading import load_writer

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        verify_published(folder, sha256)
        model, tokenizer = load_writer(folder.as_local(), device=own_device(), dtype=torch.float32)
        backend: Any = "seq2seq" if model.config.is_encoder_decoder else "causal"
        asked = HFLM(model, backend=backend, tokenizer=tokenizer, batch_size=harness.settings.batch_size)
        return cls(asked, task_manager(harness.settings)[0])

    def ask(self, harness: Harness, task: str) -> Told:
        """The questions of a task. Raises RunError where it cannot be read, or its questions not be asked."""
        from lm_eval import simple_evaluate

        settings = harness.settings
        here = own_path(settings)
        try:
            # Its tasks name files of data from where one stands.
            with nullcontext() if here is None else chdir(here):
                report = simple_evaluate(
                    self.asked,
                    tasks=[task],
                    task_manager=self.manager,
                    num_fewshot=settings.num_fewshot,
                    limit=settings.limit,
                    apply_chat_template=settings.chat_template,
                    bootstrap_iters=harness.num_resamples,
                    log_samples=False,
                )
        except Exception as error:  # Tasks are programs of many makers, which raise whatever they do.
            raise RunError(f"harness task {task!r}: {type(error).__name__}: {error}") from error
        assert report is not None, "there is one process"
        return Told.of_report(report)
