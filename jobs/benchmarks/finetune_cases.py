"""What `benchmark finetune` trains on what: real labelled sets, and models of random weights in sizes people use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jobs.benchmarks.shared_data import shared_data
from llmcore.storage import Folder

if TYPE_CHECKING:
    from llmcore.config.finetune import FinetuneSettings
    from llmcore.tasks.evaluation_set import EvaluationSet

__all__ = ["CASES", "Case"]

_SST2 = ("sst2/train.tsv", "sst2/dev.tsv")
_BERT = "bert_tokenizer/tokenizer.json"
_MULTI30K = {
    split: {column: f"multi30k_en_de/{file}.{language}.gz" for column, language in (("source", "en"), ("target", "de"))}
    for split, file in (("train", "train"), ("validation", "val"), ("test", "test_2016_flickr"))
}
_VOCAB_SIZE = 6000
"""Of both languages together."""


@dataclass(frozen=True)
class Case:
    """A model on a labelled set.

    Attributes:
        name: what rows are called.
        family: of the model.
        sizes: fields of its config.
        task: settings of the task.
        batch_size: examples in a step.
        labelled: publishes the set in a storage.
        tokenizer: the model's, by the names of its files; made of the set where there is none for it.
    """

    name: str
    family: Literal["bert", "t5", "gpt2"]
    sizes: dict[str, Any]
    task: dict[str, Any]
    batch_size: int
    labelled: "Callable[[Folder], EvaluationSet]"
    tokenizer: "Callable[[EvaluationSet], dict[str, bytes]]"

    def settings(self, num_steps: int) -> "FinetuneSettings":
        """Those of a fine-tuning of all weights, which begin at random."""
        from llmcore.config.finetune import FinetuneSettings

        train = {
            "num_steps": num_steps,
            "global_batch_size": self.batch_size,
            "micro_batch_size": self.batch_size,
            "optimizer": {"learning_rate": 1e-4},
            "zero_stage": 1,
        }
        return FinetuneSettings.model_validate({"task": self.task, "weights": "random", "train": train})

    def write_base(self, folder: Path, data: "EvaluationSet") -> None:
        """The config and the tokenizer of the model: a Hugging Face folder without weights."""
        from llmcore.config.model import ModelSettings
        from llmcore.models.build import model_config
        from llmcore.tokens.tokenizer import find_tokenizer

        folder.mkdir()
        for name, content in self.tokenizer(data).items():
            (folder / name).write_bytes(content)
        found = find_tokenizer(str(folder))
        model_config(
            ModelSettings(family=self.family, sizes=self.sizes),
            vocab_size=found.tokenizer.get_vocab_size(),
            sequence_length=self.task["max_tokens"],
            eos_id=found.special.end,
            pad_id=found.special.pad,
        ).save_pretrained(folder)


def _sst2(storage: Folder) -> "EvaluationSet":
    root = shared_data(*_SST2)
    train, test = (str(root / name) for name in _SST2)
    facts = {"header": ["text", "label"], "label_names": {"0": "negative", "1": "positive"}}
    return _published(storage, "text_classification", {"name": "sst2", "train": train, "test": test, **facts})


def _multi30k(storage: Folder) -> "EvaluationSet":
    root = shared_data(*(name for files in _MULTI30K.values() for name in files.values()))
    files = {
        split: {column: str(root / name) for column, name in of_split.items()} for split, of_split in _MULTI30K.items()
    }
    return _published(storage, "translation", {"name": "multi30k", **files})


def _published(storage: Folder, kind: str, given: dict[str, Any]) -> "EvaluationSet":
    """In both sets one row of train stands in another split, too."""
    from llmcore.config.labelled import LabelledDataSettings
    from llmcore.tasks.columns import KINDS
    from llmcore.tasks.labelled import publish_labelled_data

    settings = LabelledDataSettings.model_validate(given | {"allow_duplicates": True})
    return publish_labelled_data(storage, settings, KINDS[kind]).evaluation_set


def _of_bert(data: "EvaluationSet") -> dict[str, bytes]:
    from llmcore.tokens.tokenizer import tokenizer_files

    return tokenizer_files(str(shared_data(_BERT) / "bert_tokenizer"))


def _of_both_languages(data: "EvaluationSet") -> dict[str, bytes]:
    from llmcore.tokens.tokenizer import hugging_face_files, train_tokenizer

    rows = data.rows("train")
    texts = [text for column in ("source", "target") for text in rows[column].to_pylist()]
    return hugging_face_files(train_tokenizer(texts, _VOCAB_SIZE), _TRANSLATION["max_tokens"])


_TRANSLATION: dict[str, Any] = {"kind": "translation", "max_tokens": 96, "max_answer_tokens": 48}
CASES = (
    Case(
        "SST-2, encoder",
        "bert",
        {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
        {"kind": "text_classification", "max_tokens": 96},
        32,
        _sst2,
        _of_bert,
    ),
    Case(
        "Multi30k, encoder-decoder",
        "t5",
        {"d_model": 256, "d_ff": 1024, "d_kv": 64, "num_layers": 4, "num_heads": 4},
        _TRANSLATION,
        64,
        _multi30k,
        _of_both_languages,
    ),
    Case(
        "Multi30k, decoder",
        "gpt2",
        {"n_embd": 256, "n_layer": 4, "n_head": 4},
        _TRANSLATION,
        64,
        _multi30k,
        _of_both_languages,
    ),
)
"""An encoder in the sizes of MiniLM (22.7 M parameters); the others have 7.8 and 4.7 M."""
