"""`prepare` as one would write it with Hugging Face's datasets: one process, two where `map` allows it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "packer_of", "prepare_with_datasets"]

PARTS = ("read", "split and deduplicate", "tokenizer", "tokenize and pack", "write")
"""The parts that are timed, by the names that they have in ours."""

_NUM_PROCESSES = 2


def prepare_with_datasets(
    shards: Sequence[str], split_of_key: Mapping[str, str], vocab_size: int, sequence_length: int, folder: str
) -> dict[str, Any]:
    """From Parquet shards to packed rows on disk, in a process of its own.

    Args:
        shards: files with columns `text` and `key`.
        split_of_key: the split of every key, so that the texts of each split are those of ours.
        vocab_size: entries of the tokenizer.
        sequence_length: tokens of a row.
        folder: an empty one, for caches and rows.

    Returns:
        `seconds` by part, and counts: `num_documents`, `num_tokens` (before rows are made), `num_rows`, `num_cuts`.
    """
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "true"  # all cores train the tokenizer
    import datasets
    from transformers import PreTrainedTokenizerFast

    from llmcore.tokens.tokenizer import END_OF_TEXT, PAD, train_tokenizer

    seconds: dict[str, float] = {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[name] = time.perf_counter() - started

    with part("read"):
        corpus = datasets.load_dataset(
            "parquet", data_files=list(shards), columns=["text", "key"], split="train", cache_dir=f"{folder}/cache"
        )
    with part("split and deduplicate"):
        seen: set[str] = set()
        splits = {}
        for split in ("test", "validation", "train"):  # of copies in two splits, the more held-out one stays
            chosen = []
            for index, (key, text) in enumerate(zip(corpus["key"], corpus["text"], strict=True)):
                if split_of_key[key] == split and text not in seen:
                    seen.add(text)
                    chosen.append(index)
            splits[split] = corpus.select(chosen)
    with part("tokenizer"):
        texts = (text for batch in splits["train"].iter(1000) for text in batch["text"])
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=train_tokenizer(texts, vocab_size), eos_token=END_OF_TEXT, pad_token=PAD
        )
    end = tokenizer.eos_token_id

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        encoded = tokenizer(batch["text"], return_attention_mask=False, verbose=False)
        return {"input_ids": [[*ids, end] for ids in encoded["input_ids"]]}

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not outlive the forks of map
    both = datasets.DatasetDict(splits)
    with part("tokenize and pack"):
        tokens = both.map(tokenize, batched=True, num_proc=_NUM_PROCESSES, remove_columns=["text", "key"])
        rows = tokens.map(packer_of(sequence_length), batched=True, num_proc=_NUM_PROCESSES)
    with part("write"):
        rows.save_to_disk(str(Path(folder, "rows")))
    counts = {
        "num_documents": sum(split.num_rows for split in both.values()),
        "num_tokens": sum(len(ids) for split in tokens.values() for ids in split["input_ids"]),
        "num_rows": sum(split.num_rows for split in rows.values()),
        "num_cuts": sum(row[-1] != end for split in rows.values() for row in split["input_ids"]),
    }
    return {"seconds": seconds, **counts}


def packer_of(sequence_length: int) -> Callable[[dict[str, list[Any]]], dict[str, list[Any]]]:
    """The usual packing: a batch's documents end to end, cut into rows; the rest of the batch is dropped."""

    def group_texts(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        tokens = list(chain.from_iterable(batch["input_ids"]))
        starts = range(0, len(tokens) - sequence_length + 1, sequence_length)
        return {"input_ids": [tokens[start : start + sequence_length] for start in starts]}

    return group_texts
