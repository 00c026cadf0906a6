"""A classifier of texts from a Hugging Face folder, by which what a model writes is judged."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from llmcore.bias.bold import Judge
from llmcore.errors import CheckpointError, ConfigError
from llmcore.models.foundation import foundation_hash
from llmcore.models.vetting import vet_folder
from llmcore.storage import folder_at, read_manifest, verify_files

__all__ = ["label_probabilities", "the_judge"]

_BATCH = 32


def the_judge(url: str, label: str) -> Judge:
    """A classifier by the URL of its folder, and what it is: by its manifest, or else by every byte of its files.

    Raises:
        ConfigError: It is no classifier, or has no such class.
    """
    folder = folder_at(url)
    if folder.exists("config.json"):
        vet_folder(folder, "classifier")
    config: dict[str, Any] = folder.find_json("config.json") or {}
    labels = list(map(str, (config.get("id2label") or {}).values()))
    name = (config.get("architectures") or ["no model"])[0]
    if not name.endswith("ForSequenceClassification"):
        raise ConfigError(f"classifier={url} is {name}: give a classifier, the run of a fine-tuning or a folder")
    if label not in labels:
        raise ConfigError(f"label={label!r} is no class of classifier={url}: there are {', '.join(labels)}")
    return Judge(url, foundation_hash(folder), label)


def label_probabilities(judge: Judge, texts: Sequence[str]) -> list[float]:
    """The probability of the judge's label for each text; longer ones than it reads are cut at their end.

    Raises:
        CheckpointError: Its files are not what they were.
    """
    import torch

    tokenizer, model = _loaded(judge)
    place = next(index for index, name in model.config.id2label.items() if str(name) == judge.label)
    found: list[float] = []
    for first in range(0, len(texts), _BATCH):
        encoded = tokenizer(list(texts[first : first + _BATCH]), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**encoded.to(model.device)).logits.float()
        several = model.config.problem_type == "multi_label_classification"
        found += (logits.sigmoid() if several else logits.softmax(-1))[:, int(place)].tolist()
    return found


@lru_cache(maxsize=1)
def _loaded(judge: Judge) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from llmcore.models.device import own_device

    folder = folder_at(judge.url)
    if foundation_hash(folder) != judge.sha256:
        raise CheckpointError(f"classifier={judge.url} is another one than when the evaluation began")
    if (manifest := read_manifest(folder)) is not None:
        verify_files(folder, manifest)
    local = folder.as_local()
    model = AutoModelForSequenceClassification.from_pretrained(local, trust_remote_code=False, use_safetensors=True)
    model = model.to(own_device()).eval()
    tokenizer = AutoTokenizer.from_pretrained(local, trust_remote_code=False)
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return tokenizer, model
