"""Fine-tuning on the user's own files, by the command line: mapped columns, a carved validation split, bad rows."""

import csv
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from llmcore.records import newest_result
from llmcore.storage import Folder, publish
from llmcore.tasks.evaluation_set import EvaluationSet
from tests.drivers import Ended, run_jobs
from tests.tiny import documents, tiny_stage, write_config


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["sentence", "subject", "module"])
        writer.writeheader()
        writer.writerows(rows)


def _base(folder: Path, rows: list[dict[str, str]]) -> str:
    """A published model that has learnt nothing, with a tokenizer of the rows' bytes."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<eos>", "<pad>"], initial_alphabet=alphabet)
    bpe.train_from_iterator([row["sentence"] for row in rows], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")
    eos = tokenizer.eos_token_id
    ids = {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": tokenizer.pad_token_id}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2, **ids)
    with publish(Folder(str(folder)), "model", {}) as publication, publication.staging() as staged:
        GPT2LMHeadModel(config).save_pretrained(staged)
        tokenizer.save_pretrained(staged)
    return str(folder)


def _run(folder: Path, config: dict[str, Any], one_ray: dict[str, str], *overrides: str) -> Ended:
    path = write_config(folder / "finetune.yaml", config)
    return run_jobs("finetune", str(path), *overrides, cwd=folder, **one_ray)


def test_a_csv_of_other_columns_is_learnt_found_again_and_refused_where_it_is_wrong(
    tmp_path: Path, tiny: dict[str, Any], one_ray: dict[str, str]
) -> None:
    rows = [{"sentence": d["text"], "subject": d["area"], "module": d["key"]} for d in documents()]
    test = [row for row in rows if row["module"].endswith("4")]
    files = tmp_path / "files"
    files.mkdir()
    _write(files / "train.csv", [row for row in rows if row not in test])
    _write(files / "test.csv", test)
    finetune = tiny_stage(tiny, "tune")["finetune"]
    config = {
        "name": "mine",
        "storage": str(tmp_path / "runs"),
        "cluster": tiny["cluster"],
        "base": _base(tmp_path / "base", rows),
        "data": {
            "name": "subjects",
            "train": str(files / "train.csv"),
            "test": str(files / "test.csv"),
            "columns": {"text": "sentence", "label": "subject"},
            "group": "module",
            "carve": {"validation": 0.25},
        },
        **finetune,
        "train": finetune["train"] | {"num_epochs": 1},
    }
    ended = _run(tmp_path, config, one_ray)
    assert ended.code == 0, ended.out + ended.err
    result = newest_result(Folder(str(tmp_path / "runs")) / "mine")
    assert result is not None
    labelled = EvaluationSet.open(Folder(f"{tmp_path}/runs/artifacts/evaluation-sets/{result['data']['hash']}"))
    assert (labelled.name, labelled.label_names) == ("subjects", ["files", "text", "time"])
    assert {split: labelled.num_rows(split) for split in labelled.splits} == {"train": 36, "validation": 12, "test": 12}
    groups = [set(labelled.rows(split)["group"].to_pylist()) for split in labelled.splits]
    assert not groups[0] & groups[1], "a module is in one split"
    assert "train: 36 rows;" in ended.out and "files 33.3%" in ended.out, "a person reads what is learnt"

    moved = files.rename(tmp_path / "moved")
    there = (f"data.train={moved}/train.csv", f"data.test={moved}/test.csv")
    again = _run(tmp_path, config, one_ray, *there)
    assert again.code == 0, again.out + again.err
    assert "train: 36 rows;" not in again.out, "the same rows are the same run, which is done"

    _write(moved / "train.csv", [*rows[:3], {"sentence": "late", "subject": "", "module": "x"}])
    wrong = _run(tmp_path, config | {"name": "wrong"}, one_ray, *there)
    assert wrong.code == 2 and "train.csv row 3: label is empty" in wrong.err, wrong.out + wrong.err
    assert not (tmp_path / "runs/wrong").exists(), "no run begins with bad data"
