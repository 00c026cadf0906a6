"""The records of a whole pipeline, as its stages would leave them, without running any stage."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import yaml

from llmcore.config.common import JobSettings
from llmcore.records import Attempt, MetricsWriter, begin_attempt
from llmcore.storage import Folder

Ends = tuple[float, float, float]
"""A value, and the ends of its interval."""

PIPELINE = "smoke"
STARTED = 1_780_000_000.0  # 2026-05-28 20:26:40 UTC
TWIN = "smoke.evaluate.random-weights"
NUM_STEPS = 360
UNIGRAM_LOSS = 6.743
SAMPLE = "def read(self, size=-1):\n    <script>alert(1)</script>\n    return self._buffer & mask\n"
TRIAL_ERROR = "TrialError: trial a4 rank 1: loss is not finite at step 48 <b>(learning_rate=0.02)</b>"

TRIALS: dict[str, dict[str, Any]] = {
    "a1": {"status": "finished", "rate": 6e-4, "curve": [0.311, 0.452, 0.548, 0.587], "seconds": 36.4},
    "a2": {"status": "stopped", "rate": 1.2e-4, "curve": [0.207, 0.296], "seconds": 21.7},
    "a3": {"status": "finished", "rate": 1.1e-3, "curve": [0.355, 0.501, 0.583, 0.612], "seconds": 37.9},
    "a4": {"status": "failed", "rate": 2e-2, "curve": [0.118], "seconds": 9.3, "error": TRIAL_ERROR},
}
DROPPED = {"exact duplicates": 412, "shorter than 24 characters": 1038}
COUNTS = {"documents": {"train": 11204, "validation": 1406, "test": 1391}, "tokens": {"train": 3104220}}


def interval(value: float, low: float, high: float) -> dict[str, float]:
    """An interval as the records have it."""
    return {"value": value, "low": low, "high": high}


def evaluation(gain_over_random: Ends = (0.094, 0.051, 0.139)) -> dict[str, Any]:
    """`metrics.json` of the evaluation run."""

    def judged(name: str, value: float, test: Mapping[str, Any] | None, apart: bool | None) -> dict[str, Any]:
        return {
            "id": name,
            "status": TRIALS[name]["status"],
            "error": TRIALS[name].get("error"),
            "num_steps": 120,
            "validation": {
                "accuracy": interval(value + 0.041, value - 0.012, value + 0.089),
                "macro_f1": interval(value, value - 0.052, value + 0.047),
            },
            "test": test,
            "distinguishable_from_leader": apart,
            "num_truncated": 87,
        }

    def figures(accuracy: Ends, macro_f1: Ends) -> dict[str, Any]:
        return {"accuracy": interval(*accuracy), "macro_f1": interval(*macro_f1)}

    test = figures((0.648, 0.601, 0.69), (0.604, 0.553, 0.651))
    return {
        "suite": {"version": 1, "set": "5e" * 32, "metrics": ["accuracy", "macro_f1"], "choose_by": "macro_f1",
                  "num_resamples": 2000, "seed": 0, "hash": "7d" * 32},
        "set": {"name": "areas", "hash": "5e" * 32, "label_names": ["data", "text"]},
        "chosen": "a3",
        "models": [
            judged("a3", 0.615, test, None),
            judged("a1", 0.589, None, False),
            judged("a2", 0.298, None, True),
            {"id": "a4", "status": "failed", "error": TRIAL_ERROR, "num_steps": 30, "validation": None, "test": None},
        ],
        "baselines": {
            "majority": {"class": "data", "majority_of": "train",
                         "test": figures((0.231, 0.172, 0.297), (0.047, 0.037, 0.058))},
            "random_weights": {"run": TWIN, "test": figures((0.566, 0.518, 0.612), (0.51, 0.457, 0.559))},
        },
        "differences": {
            "chosen - majority": figures((0.417, 0.334, 0.491), (0.557, 0.505, 0.604)),
            "chosen - random_weights": figures((0.082, 0.039, 0.124), gain_over_random),
        },
        "register_looks": 3,
        "note": "the search ran for the pre-trained model alone",
    }  # fmt: skip


def _asked(metric: str, value: float, stderr: float | None, *, higher: bool, **about: Any) -> dict[str, Any]:
    figure = {"value": value, "stderr": stderr, "higher_is_better": higher}
    return {"num_rows": 500, "num_rows_of_task": 2376, "metrics": {metric: figure}, **about}


def _preferred(value: float, low: float, high: float) -> dict[str, Any]:
    figure = {"value": value, "low": low, "high": high, "num": 400, "fair": 0.5}
    return {"crows": {"num_rows": 400, "num_too_long": 0, "figures": {"preference": figure}, "groups": {}}}


CLOSER: dict[str, Any] = {
    "details": {
        "a3": {
            "slices": {
                "label": {
                    "data": {
                        "num_rows": 31, "num_groups": 9,
                        "metrics": {
                            "macro_f1": interval(0.702, 0.601, 0.792), "accuracy": interval(0.815, 0.71, 0.911),
                        },
                    },
                    "text <b>": {"num_rows": 2, "num_groups": 1, "metrics": {"accuracy": {"value": 0.5}}},
                },
            },
            "figures": {
                "confusion": [[0, 0, 25], [0, 1, 4], [0, -1, 2], [1, 0, 9], [1, 1, 20]],
                "calibration": [
                    {"num": 20, "confidence": 0.61, "right": 0.55}, {"num": 40, "confidence": 0.9, "right": 0.8},
                ],
                "no_answer_threshold": {"exact_match": 1.25, "f1": None},
            },
            "undefined": {"roc_auc": "there is no probabilities"},
        },
    },
    "harness": {
        "version": "0.4.13", "num_fewshot": None, "limit": 500, "chat_template": False,
        "models": {
            "base": {
                "arc": _asked("acc", 0.25, 0.019, higher=True, version=1.5, num_fewshot=3),
                "lambada": _asked("perplexity", 12.5, None, higher=False, version=None, num_fewshot=0),
            },
            "a3": {
                "arc": _asked("acc", 0.41, 0.021, higher=True, version=1.5, num_fewshot=3),
                "lambada": _asked("perplexity", 31.0, None, higher=False, version=None, num_fewshot=0),
            },
        },
    },
    "bias": {
        "sets": {"crows": {"kind": "crows_pairs", "hash": "5e" * 32, "num_rows": 400, "num_rows_of_set": 1508}},
        "models": {
            "a3": _preferred(0.61, 0.561, 0.657),
            "base": _preferred(0.52, 0.471, 0.568),
        },
        "left_out": {"a1": "is a BertForSequenceClassification, which has no likelihood of sentences"},
    },
}  # fmt: skip
"""What an evaluation may say besides."""

PASSPORT: dict[str, Any] = {
    "sources": {
        "python": {
            "read": {"documents": 12_045},
            "cleaning": {
                "steps": {
                    "language": {
                        "dropped": {"not_wanted": 31}, "found": {"en": 12_014},
                        "examples": {"not_wanted": [{"id": "python/x:7", "excerpt": "Wer <b>weiß</b> das schon"}]},
                    },
                    "personal_data": {"dropped": {}, "found": {"email": 17}, "examples": {}},
                },
                "quarantined": {"part-00007.parquet": "cannot be read from row 0 on"},
            },
            "kept": {
                "documents": {"train": 11_000, "test": 900}, "bytes": {"train": 9_100_000}, "languages": {"en": 11_900},
            },
            "tokenize": {
                "tokens": {"train": 2_700_000}, "tokens_by_language": {"de": 40, "en": 2_699_960},
                "tokens_per_byte": 0.2967,
            },
        },
        "notes": {
            "read": {"documents": 10}, "cleaning": None,
            "balance": {
                "dropped": {"over_represented: male": 3},
                "examples": {"over_represented: male": [{"id": "notes/4", "excerpt": "names male alone: <i>He</i>"}]},
            },
            "counterfactuals": {"copies": 6, "duplicates": 2, "terms": {"he/she": 9, "his/her": 1}},
            "kept": {"documents": {"train": 10}, "bytes": {"train": 900}, "languages": {"unknown": 10}},
            "tokenize": {"tokens": {"train": 300}, "tokens_per_byte": 0.3333},
            "group_terms": {"female": {"terms": 71, "documents": 9, "beside_positive": 5, "beside_negative": 2}},
        },
    },
    "exact_duplicates": {"duplicate": 5},
    "near_duplicates": {
        "dropped": {"near_duplicate": 44},
        "examples": {"near_duplicate": [{"id": "python/y:1", "excerpt": "0.91 like python/y:9: def main()"}]},
    },
    "decontamination": {
        "sets": {"areas": {"hash": "5e" * 32, "rows": 593, "rows_too_short": 4, "contaminated_documents": 2}},
        "dropped": {"contaminated": 2},
        "examples": {"contaminated": [{"id": "python/z:3", "excerpt": "0.44 of a row of areas: Return the"}]},
    },
}  # fmt: skip


def write_stages(storage: Folder) -> None:
    """Which stages the pipeline has, as its own run would say."""
    stages = {stage: {"job": stage} for stage in ("prepare", "pretrain", "tune", "evaluate")}
    (storage / PIPELINE).write_text("config.yaml", yaml.safe_dump({"name": PIPELINE, "stages": stages}))


def write_prepare(storage: Folder) -> None:
    """The records of the first stage."""
    with _begin(storage, "prepare", after_s=0) as attempt:
        _spend(attempt, start_up=7.9, compute=34.2, data_wait=2.3)
        attempt.result = {"tokens": "artifacts/tokens/" + "ab" * 32, "dropped": DROPPED, "counts": COUNTS}
        (storage / attempt.result["tokens"]).write_json("passport.json", PASSPORT)


def write_pretrain(storage: Folder) -> None:
    """The records of the second stage: a first attempt that failed, and a second one that went on from step 200."""
    parts = {"placement": 2.6, "imports": 8.8, "process_group": 1.4, "data": 3.4, "model": 0.7, "engine": 1.9}
    try:
        with _begin(storage, "pretrain", after_s=45) as attempt:
            _spend(attempt, compute=71.3, data_wait=1.2, checkpoint=0.6)
            _start_up(attempt, parts | {"first_batch": 0.3})
            _pretrain_rows(attempt, 0, 230)
            raise RuntimeError("rank 1 was lost")
    except RuntimeError:
        pass
    with _begin(storage, "pretrain", after_s=150) as attempt:
        attempt.ledger.num_devices = 2
        attempt.ledger.count(flops=4.123e13, tokens=1_474_560)
        _spend(attempt, compute=58.4, data_wait=0.9, checkpoint=1.1, validation=9.6, restart=4.7)
        _start_up(attempt, {name: seconds / 2 for name, seconds in parts.items()} | {"first_batch": 0.2})
        _pretrain_rows(attempt, 200, NUM_STEPS)
        attempt.result = {
            "model": "smoke.pretrain/model", "num_steps": NUM_STEPS, "rows_consumed": 5760, "tokens_seen": 1_474_560,
            "train_loss": 4.871, "validation_loss": 4.982, "unigram_loss": UNIGRAM_LOSS,
            "validation_law_loss": 5.217, "validation_law_accuracy": 0.3141, "num_parameters": 4_325_376,
            "data_wait_fraction": 0.0153, "precision": "bf16", "world_size": 2, "zero_stage": 2,
            "samples": [{"prompt": "def read(self", "text": SAMPLE}, {"prompt": "The method ", "text": "returns it"}],
            "passed_over_checkpoints": ["checkpoints/step-00000240-attempt-01: model.safetensors has another SHA-256"],
        }  # fmt: skip


def write_tune(storage: Folder) -> None:
    """The records of the third stage: four trials of which one was stopped and one failed."""
    with _begin(storage, "tune", after_s=240) as attempt:
        _spend(attempt, start_up=18.4, compute=72.6, validation=6.1, checkpoint=2.2)
        for name, trial in TRIALS.items():
            steps = [30 * (index + 1) for index in range(len(trial["curve"]))]
            record = {
                "id": name, "status": trial["status"], "seed": 7, "seconds": trial["seconds"], "num_steps": steps[-1],
                "config": {"train.optimizer.learning_rate": trial["rate"], "train.global_batch_size": 32},
                "reports": [{"step": s, "validation_macro_f1": v} for s, v in zip(steps, trial["curve"], strict=True)],
                "model": f"smoke.tune/trials/{name}/exports/step-{steps[-1]:08d}-attempt-01", "model_sha256": "cd" * 32,
                "error": trial.get("error"),
            }  # fmt: skip
            (attempt.run / "trials" / name).write_json("trial.json", record)
            parts = {"placement": 1.7, "imports": 4.9, "engine": 0.8}
            (attempt.run / "trials" / name).write_json("cost.json", {"start_up_parts": parts})
        closed = {"closed": True, "num_trials": len(TRIALS), "trials": list(TRIALS), "metric": "macro_f1"}
        attempt.run.write_json("search.json", closed)
        attempt.result = {"num_trials": len(TRIALS)}


def write_evaluate(storage: Folder, content: dict[str, Any] | None = None) -> None:
    """The records of the fourth stage, and of the run that it starts for the baseline from random weights."""
    with _begin(storage, "evaluate", after_s=245) as attempt:
        _spend(attempt, start_up=6.2, validation=8.8, idle=113.0)
        attempt.run.write_text("config.yaml", yaml.safe_dump({"searches": [f"{PIPELINE}.tune"]}))
        (attempt.run / "evaluation").write_json("metrics.json", content or evaluation())
    with _begin(storage, TWIN.removeprefix(f"{PIPELINE}."), after_s=340) as attempt:
        attempt.ledger.count(flops=2.87e12)
        _spend(attempt, start_up=6.6, compute=23.1)


def write_pipeline(storage: Folder, content: dict[str, Any] | None = None) -> None:
    """The records of all four stages before the report."""
    write_stages(storage)
    write_prepare(storage)
    write_pretrain(storage)
    write_tune(storage)
    write_evaluate(storage, content)


def write_run(
    storage: Folder, name: str, *, learning_rate: float = 1e-3, num_steps: int = 60, error: Exception | None = None
) -> None:
    """A fine-tuning outside of any pipeline, which tells of its tokens and seconds; it may end with an error."""
    with (
        suppress(RuntimeError),
        begin_attempt(
            storage,
            JobSettings(name=name),
            kind="finetune",
            step_version=1,
            inputs={},
            parents=["base"],
            say=lambda _: None,
        ) as attempt,
    ):
        train = {"seed": 0, "optimizer": {"kind": "adamw", "learning_rate": learning_rate}}
        attempt.run.write_text("config.yaml", yaml.safe_dump({"name": name, "base": "base", "train": train}))
        attempt.ledger.hold(2, "cpu")
        _spend(attempt, start_up=3.0, compute=num_steps / 2)
        writer = MetricsWriter(attempt.folder, resumed_at=0)
        for step in range(1, num_steps + 1):
            loss = 2.0 * math.exp(-step * learning_rate * 10)
            writer.write({"step": step, "loss": loss, "tokens_seen": step * 512, "elapsed_s": step / 2})
        writer.write({"step": num_steps, "validation_loss": loss + 0.1, "validation_accuracy": 0.8})
        writer.close()
        if error is not None:
            raise error
        attempt.result = {"validation_loss": loss + 0.1, "num_steps": num_steps}


@contextmanager
def _begin(storage: Folder, stage: str, *, after_s: float) -> Iterator[Attempt]:
    """An attempt that seems to have started so long after the first one, and to have lasted as its ledger says."""
    config = JobSettings(name=f"{PIPELINE}.{stage}")
    kind = "finetune" if f"{PIPELINE}.{stage}" == TWIN else stage
    attempt = begin_attempt(storage, config, kind=kind, step_version=1, inputs={}, say=lambda line: None)
    try:
        with attempt:
            yield attempt
    finally:
        seconds = sum(attempt.ledger.to_json()["seconds"].values())
        started = STARTED + after_s
        begin, end = attempt.folder.read_json("begin.json"), attempt.folder.read_json("end.json")
        attempt.folder.write_json("begin.json", begin | {"started": started})
        attempt.folder.write_json("end.json", end | {"ended": started + seconds, "seconds": seconds})


def _spend(attempt: Attempt, **seconds: Any) -> None:
    for category, spent in seconds.items():
        attempt.ledger.add(category, spent)  # type: ignore[arg-type]


def _start_up(attempt: Attempt, parts: Mapping[str, float]) -> None:
    for part, seconds in parts.items():
        attempt.ledger.add("start_up", seconds, part)


def _pretrain_rows(attempt: Attempt, start: int, stop: int) -> None:
    writer = MetricsWriter(attempt.folder, resumed_at=start)
    for step in range(start + 10, stop + 1, 10):
        loss = 4.75 + 3.6 * math.exp(-step / 70) + 0.06 * math.sin(step)
        writer.write({"step": step, "loss": loss, "tokens_seen": step * 4096, "learning_rate": 1e-3})
        if step % 40 == 0:
            validation = 4.9 + 3.4 * math.exp(-step / 72)
            writer.write(
                {"step": step, "validation_loss": validation, "validation_next_sentence_loss": 0.6}
                | {"validation_law_loss": validation + 0.2, "validation_law_accuracy": 0.3}
                | {"validation_law_next_sentence_loss": 0.6}
            )
    writer.close()
