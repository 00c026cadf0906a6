"""Texts laid end to end are classified as each alone, and as plain transformers does with the exported folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    pipeline,
)

from llmcore.config.task import TaskSettings
from llmcore.errors import CheckpointError, ConfigError
from llmcore.tasks import build_task, task_from_about
from llmcore.tasks.base import Reader, SetFacts
from llmcore.tasks.text_classification import ClassExample, TextClassification

TEXTS = ["Open a file.", "Return the local time as a tuple, since the epoch.", "Strip blanks", "Join the thread; wait."]
TASK = TextClassification(24, "macro_f1", ("files", "time", "threads"))
EOS, PAD = "<|endoftext|>", "<|pad|>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=[EOS, PAD], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=EOS, pad_token=PAD)


def gpt2(tokenizer: Any, **changes: Any) -> GPT2Config:
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sizes = {"vocab_size": len(tokenizer), "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 32}
    return GPT2Config(**{**ids, **sizes, **changes})


def llama(tokenizer: Any) -> LlamaConfig:
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, max_position_embeddings=32, **sizes, **ids)


def rows(texts: list[str], labels: list[int] | None = None) -> pa.Table:
    columns: dict[str, Any] = {"text": texts}
    return pa.table(columns if labels is None else columns | {"label": pa.array(labels, pa.int32())})


def reader(tokenizer: PreTrainedTokenizerFast) -> Reader:
    return Reader(tokenizer, gpt2(tokenizer))


def probabilities(model: Any, examples: list[ClassExample]) -> Any:
    with torch.no_grad():
        return TASK.probabilities(TASK.logits(model, TASK.collate(examples))).numpy()


def base_model(folder: Path, config: Any) -> Path:
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", [gpt2, llama])
@pytest.mark.parametrize("random_weights", [False, True])
def test_the_exported_folder_gives_plain_transformers_the_same_logits(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, family: Callable[[Any], Any], random_weights: bool
) -> None:
    base = base_model(tmp_path / "base", family(tokenizer))
    model = TASK.build_model(base, seed=3, random_weights=random_weights).eval()
    examples = TASK.features(reader(tokenizer), rows(TEXTS)).examples
    with torch.no_grad():
        ours = TASK.logits(model, TASK.collate(examples))
    model.save_pretrained(tmp_path / "exported")
    tokenizer.save_pretrained(tmp_path / "exported")

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported").eval()
    plain_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    texts = [text + EOS for text in TEXTS]
    padded = plain_tokenizer(
        texts, padding=True, truncation=True, max_length=24, padding_side="right", return_tensors="pt"
    )
    with torch.no_grad():
        theirs = plain(input_ids=padded["input_ids"], attention_mask=padded["attention_mask"]).logits
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=0)
    assert plain.config.id2label == dict(enumerate(TASK.label_names))
    told, _ = TASK.predictor(tmp_path / "exported").predict(rows(TEXTS), batch_tokens=4096)
    assert told["probabilities"] == pytest.approx(ours.softmax(-1).numpy(), abs=1e-6)
    answers = pipeline("text-classification", model=plain, tokenizer=plain_tokenizer)(texts)
    assert [answer["label"] for answer in answers] == [TASK.label_names[index] for index in told["prediction"]]


def test_the_base_weights_are_kept_or_left_as_asked(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    base = base_model(tmp_path / "base", gpt2(tokenizer))
    original = AutoModelForCausalLM.from_pretrained(base).transformer.state_dict()
    kept, left = (TASK.build_model(base, seed=3, random_weights=random) for random in (False, True))
    assert all(torch.equal(kept.transformer.state_dict()[name], value) for name, value in original.items())  # type: ignore[union-attr, operator]
    assert not torch.equal(left.transformer.wte.weight, original["wte.weight"])  # type: ignore[union-attr]


def test_a_text_does_not_see_its_neighbours(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = TASK.build_model(base_model(tmp_path, gpt2(tokenizer)), seed=3, random_weights=False).eval()
    examples = TASK.features(reader(tokenizer), rows(TEXTS)).examples
    together = probabilities(model, examples)
    for index, example in enumerate(examples):
        assert probabilities(model, [example])[0] == pytest.approx(together[index], abs=1e-6)
    changed = [
        ClassExample([5, 6, 7, *example.tokens[3:]]) if index == 0 else example
        for index, example in enumerate(examples)
    ]
    assert probabilities(model, changed)[1:] == pytest.approx(together[1:], abs=1e-6)


def test_the_loss_is_a_sum_so_micro_batches_add_up(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = TASK.build_model(base_model(tmp_path, gpt2(tokenizer)), seed=3, random_weights=False).eval()
    examples = TASK.features(reader(tokenizer), rows(TEXTS, [0, 2, 1, 2])).examples
    whole = TASK.collate(examples)
    parts = [TASK.collate(examples[:1]), TASK.collate(examples[1:])]
    assert sum(float(TASK.loss_sums(model, part).detach()) for part in parts) == pytest.approx(
        float(TASK.loss_sums(model, whole).detach()), abs=1e-5
    )
    expected = torch.nn.functional.cross_entropy(TASK.logits(model, whole), torch.tensor([0, 2, 1, 2]))
    assert float(TASK.loss_sums(model, whole).detach()) / TASK.num_targets(whole)[0] == pytest.approx(
        float(expected.detach()), abs=1e-6
    )
    assert TASK.num_tokens(whole) == sum(len(example.tokens) for example in examples)


def test_examples_without_a_target_teach_nothing(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = TASK.build_model(base_model(tmp_path, gpt2(tokenizer)), seed=3, random_weights=False)
    only_filling = TASK.collate([ClassExample([3, 4])])
    loss = TASK.loss_sums(model, only_filling)
    loss.backward()  # type: ignore[no-untyped-call]
    assert (float(loss.detach()), TASK.num_targets(only_filling)[0]) == (0.0, 0)
    assert all(float(p.grad.abs().sum()) == 0 for p in model.parameters() if p.grad is not None)


def test_long_texts_are_cut_and_counted_and_always_end_with_the_end_of_text(tokenizer: PreTrainedTokenizerFast) -> None:
    task = TextClassification(4, "macro_f1", ("a", "b"))
    kept = len(tokenizer("ab", add_special_tokens=False)["input_ids"])
    features = task.features(reader(tokenizer), rows(["ab", "", "a longer text than four tokens"], [0, 1, 1]))
    lengths = [len(example.tokens) for example in features.examples]
    assert lengths == [kept + 1, 1, 4]
    assert features.num_truncated == 1
    assert {example.tokens[-1] for example in features.examples} == {tokenizer.eos_token_id}
    assert [example.classes for example in features.examples] == [(0,), (1,), (1,)]
    assert task.features(reader(tokenizer), rows([])).examples == []


def test_a_special_token_in_a_text_stays_text(tokenizer: PreTrainedTokenizerFast) -> None:
    (example,) = TASK.features(reader(tokenizer), rows([f"a{PAD}b{EOS}c"])).examples
    assert tokenizer.pad_token_id not in example.tokens
    assert example.tokens.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(example.tokens[:-1]) == f"a{PAD}b{EOS}c"


def test_what_cannot_be_classified_is_refused(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    same = base_model(tmp_path / "same", gpt2(tokenizer, pad_token_id=tokenizer.eos_token_id))
    with pytest.raises(ConfigError, match="pad_token_id=0 and eos_token_id=0"):
        TASK.build_model(same, seed=0, random_weights=False)
    with pytest.raises(CheckpointError, match=r"weights \['score.weight'\] are missing"):
        TASK.predictor(base_model(tmp_path / "base", gpt2(tokenizer)))
    with pytest.raises(ConfigError, match="validation_metric='bleu'"):
        build_task(TaskSettings(validation_metric="bleu"), SetFacts(("a", "b")))


def test_a_task_is_made_again_from_a_manifest() -> None:
    task = build_task(TaskSettings(max_tokens=9, validation_metric="accuracy"), SetFacts(("a", "b")))
    assert task_from_about({"task": task.about()}) == task
    with pytest.raises(CheckpointError, match="None"):
        task_from_about({})
