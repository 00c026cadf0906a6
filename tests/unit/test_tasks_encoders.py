"""Encoders classify texts laid end to end as plain transformers classifies each text of the exported folder."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from llmcore.config.model import ModelSettings
from llmcore.errors import ConfigError
from llmcore.models.build import build_language_model, model_config
from llmcore.models.packed import PackedBatch
from llmcore.tasks.base import Reader
from llmcore.tasks.text_classification import TextClassification
from llmcore.tokens.tokenizer import OWN_BEGIN, OWN_IDS, hugging_face_files, train_tokenizer

TEXTS = ["Open a file.", "Return the local time as a tuple, since the epoch.", "Strip blanks", "Join the thread; wait."]
TASK = TextClassification(24, "macro_f1", ("files", "time", "threads"))
VOCAB_SIZE = 330
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FAMILIES = {"bert": SIZES, "roberta": SIZES, "modernbert": SIZES | {"classifier_pooling": "cls", "local_attention": 8}}


def base_model(folder: Path, family: str, **changes: object) -> Path:
    settings = ModelSettings(family=family, sizes=FAMILIES[family] | changes)  # type: ignore[arg-type]
    ids = {"eos_id": OWN_IDS.end, "pad_id": OWN_IDS.pad}
    config = model_config(settings, vocab_size=VOCAB_SIZE, sequence_length=32, **ids)
    build_language_model("masked_lm", config, seed=1).save_pretrained(folder)  # type: ignore[operator]
    for name, data in hugging_face_files(train_tokenizer(TEXTS * 2, VOCAB_SIZE), 32, begin=True).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("random_weights", [False, True])
def test_the_exported_folder_gives_plain_transformers_the_same_logits(
    tmp_path: Path, family: str, random_weights: bool
) -> None:
    base = base_model(tmp_path / "base", family)
    model = TASK.build_model(base, seed=3, random_weights=random_weights).eval()
    reader = Reader.of(base)
    tokenizer = reader.tokenizer
    examples = TASK.features(reader, pa.table({"text": TEXTS})).examples
    assert all(example.tokens[0] == OWN_BEGIN and example.tokens[-1] == OWN_IDS.end for example in examples)
    with torch.no_grad():
        ours = TASK.logits(model, TASK.collate(examples))
        model.save_pretrained(tmp_path / "exported")  # type: ignore[operator]
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported").eval()
        alone = [tokenizer(text, return_tensors="pt", truncation=True, max_length=24) for text in TEXTS]
        theirs = torch.cat(
            [plain(**{key: one[key] for key in ("input_ids", "attention_mask")}).logits for one in alone]
        )
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert ours.std() > 0


def test_texts_are_cut_inside_their_frame(tmp_path: Path) -> None:
    reader = Reader.of(base_model(tmp_path, "bert"))
    features = TASK.features(reader, pa.table({"text": ["word " * 40, "x"]}))
    assert features.num_truncated == 1
    long = features.examples[0].tokens
    assert len(long) == TASK.max_tokens and (long[0], long[-1]) == (OWN_BEGIN, OWN_IDS.end)


def test_first_tokens_are_those_of_documents() -> None:
    batch = PackedBatch.of_rows(torch.zeros(2, 8, dtype=torch.long), [[3, 2], [8]])
    assert batch.first_tokens().tolist() == [0, 3, 8] and batch.last_tokens().tolist() == [2, 4, 15]


def test_a_mean_of_tokens_is_refused(tmp_path: Path) -> None:
    base = base_model(tmp_path, "modernbert", classifier_pooling="mean")
    with pytest.raises(ConfigError, match="classifier_pooling"):
        TASK.build_model(base, seed=0, random_weights=False)
