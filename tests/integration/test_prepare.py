import gzip
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.prepare import finished, prepare, result_line
from jobs.runtime.options import RunOptions
from llmcore.config.counterfactual import CounterfactualSettings
from llmcore.config.prepare import PrepareConfig
from llmcore.corpus.counterfactual import Swapper
from llmcore.errors import ConfigError, CorpusError, ShardError
from llmcore.storage import Folder, read_manifest, verify_files
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tokens.shards import SPLITS, TokenShards
from llmcore.tokens.tokenizer import load_tokenizer
from tests.shared_data import needs_data

if TYPE_CHECKING:
    from cluster.connect import Session

pytestmark = pytest.mark.usefixtures("ray_session")

NUM_SHARDS = 5
SHARED = "a text that stands in many modules, word for word, to be kept once"


def _corpus(folder: Path) -> list[dict[str, Any]]:
    """Documents of 24 modules in 3 areas; some texts stand in several modules, some twice in one, some are empty."""
    rng = random.Random(0)
    rows = []
    for module in range(24):
        for number in range(rng.randint(3, 12)):
            words = " ".join(rng.choice(["read", "write", "the", "file", "queue", "of", "bytes"]) for _ in range(20))
            rows.append(
                {
                    "id": f"{module}.{number}",
                    "text": f"{words} {module} {number}",
                    "module": f"m{module}",
                    "area": f"a{module % 3}" if module else None,
                    "kind": rng.choice(["docstring", "source"]),
                }
            )
        rows += [{**rows[-1], "id": f"{module}.again"}, {**rows[-1], "id": f"{module}.shared", "text": SHARED}]
    rows.append({**rows[-1], "id": "empty", "text": ""})
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(NUM_SHARDS):
        lines = [json.dumps(row) for row in rows[shard::NUM_SHARDS]]
        (folder / f"part-{shard}.jsonl").write_text("\n".join(lines) + "\n")
    return rows


def _config(corpus: Path, storage: Path, **changes: Any) -> PrepareConfig:
    given = {
        "name": "small",
        "storage": str(storage),
        "sources": [{"name": "small", "url": str(corpus), "key": "module", "stratum": "area"}],
        "splits": {"validation": 0.2, "test": 0.2},
        "tokenizer": {"vocab_size": 340},
        "packing": {"sequence_length": 32, "window": 16, "shard_bytes": 40 * 32 * 2},
        "labelled_sets": [{"name": "areas", "label": "area", "group": "module", "where": {"kind": "docstring"}}],
    }
    return PrepareConfig.model_validate(given | changes)


def _prepare(config: PrepareConfig) -> dict[str, Any]:
    return prepare(config, Folder(config.storage), RunOptions())


def test_from_documents_to_tokens_and_a_labelled_set(tmp_path: Path) -> None:
    rows = _corpus(tmp_path / "corpus")
    config = _config(tmp_path / "corpus", tmp_path / "runs")
    result = _prepare(config)
    storage = Folder(config.storage)
    shards = TokenShards.open(storage / result["tokens"])
    verify_files(shards.folder, shards.manifest)
    tokenizer = load_tokenizer(shards.tokenizer_folder())

    read: dict[str, list[str]] = {}
    targets = np.zeros(shards.vocab_size, dtype=np.int64)
    for split in SPLITS:
        table = shards.rows(split, np.arange(shards.num_rows(split)))
        assert max(shard["num_rows"] for shard in shards.about["splits"][split]["shards"]) <= 40
        tokens = [token for row in table.to_pylist() for token in row["tokens"][: sum(row["document_lengths"])]]
        about = shards.about["splits"][split]
        assert about["num_tokens"] == len(tokens)
        assert about["num_documents"] == tokens.count(tokenizer.eos_token_id)
        read[split] = [tokenizer.decode(tokens).count("read"), about["num_documents"], about["num_characters"]]
        if split == "train":
            for row in table.to_pylist():
                start = 0
                for length in row["document_lengths"]:
                    np.add.at(targets, row["tokens"][start + 1 : start + length], 1)
                    start += length
    assert shards.unigram_counts().tolist() == targets.tolist()
    texts = {row["text"] for row in rows if row["text"]}
    assert sum(documents for _, documents, _ in read.values()) == len(texts) == result["counts"]["num_documents"]
    assert sum(characters for *_, characters in read.values()) == sum(map(len, texts))
    assert sum(reads for reads, *_ in read.values()) == sum(text.count("read") for text in texts)

    dropped = result["dropped"]
    assert dropped["empty"] == 1
    assert dropped["duplicate"] + dropped["duplicate_of_held_out"] == len(rows) - 1 - len(texts)
    assert dropped["duplicate_of_held_out"] >= 1, "the shared text is kept in the test split"

    areas = EvaluationSet.open(storage / result["labelled_sets"]["areas"])
    assert areas.label_names == ["a0", "a1", "a2"]
    groups = {split: set(areas.rows(split)["group"].to_pylist()) for split in areas.splits}
    assert not (groups["train"] & groups["test"] or groups["train"] & groups["validation"])
    assert SHARED not in areas.rows("train")["text"].to_pylist()
    kept = sum(areas.num_rows(split) for split in areas.splits)
    labelled = {row["text"] for row in rows if row["text"] and row["kind"] == "docstring" and row["area"]}
    assert abs(kept - len(labelled)) <= 1  # of the shared text's copies, one of another kind may be the one kept

    assert finished(config, storage) == result
    assert _prepare(config) == result
    assert f"{len(texts)} documents" in result_line(result, storage)
    assert result_line(result, storage).endswith(f"in {storage.url}/{result['tokens']}")


def test_what_comes_out_does_not_depend_on_parallelism_nor_on_who_was_there_before(tmp_path: Path) -> None:
    _corpus(tmp_path / "corpus")
    files = []
    for parallelism in (1, 2, 5):
        config = _config(tmp_path / "corpus", tmp_path / f"runs-{parallelism}", read_parallelism=parallelism)
        result = _prepare(config)
        manifest = read_manifest(Folder(config.storage) / result["tokens"])
        assert manifest is not None
        files.append((result["tokens_sha256"], result["labelled_sets"], manifest.files))
    assert files[0] == files[1] == files[2]


def test_a_published_artifact_is_not_made_again(tmp_path: Path) -> None:
    _corpus(tmp_path / "corpus")
    first = _prepare(_config(tmp_path / "corpus", tmp_path / "runs"))
    again = _prepare(_config(tmp_path / "corpus", tmp_path / "runs", name="other"))
    assert again == first | {"seconds": {}}


def test_the_first_documents_are_those_of_the_first_shards(tmp_path: Path) -> None:
    rows = _corpus(tmp_path / "corpus")
    in_order = [row for shard in range(NUM_SHARDS) for row in rows[shard::NUM_SHARDS]][:60]
    source = {"name": "small", "url": str(tmp_path / "corpus"), "key": "module", "max_documents": 60}
    config = _config(
        tmp_path / "corpus", tmp_path / "runs", sources=[source], labelled_sets=[], tokenizer={"vocab_size": 325}
    )
    counts = _prepare(config)["counts"]
    assert counts["num_characters"] == sum(map(len, {row["text"] for row in in_order}))


def test_two_sources_are_told_apart_in_the_rows(tmp_path: Path) -> None:
    _corpus(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "part.jsonl").write_text("".join(json.dumps({"body": f"zzz {n}"}) + "\n" for n in range(50)))
    sources = [
        {"name": "one", "url": str(tmp_path / "one"), "key": "module", "stratum": "area"},
        {"name": "two", "url": str(tmp_path / "two"), "text": "body"},
    ]
    result = _prepare(_config(tmp_path / "one", tmp_path / "runs", sources=sources))
    shards = TokenShards.open(Folder(str(tmp_path / "runs")) / result["tokens"])
    assert shards.about["sources"] == ["one", "two"]
    tokenizer = load_tokenizer(shards.tokenizer_folder())
    found: Counter[int] = Counter()
    for row in shards.rows("train", np.arange(shards.num_rows("train"))).to_pylist():
        start = 0
        for length, source in zip(row["document_lengths"], row["source"], strict=True):
            text = tokenizer.decode(row["tokens"][start : start + length])
            assert not text.startswith("zzz") or source == 1
            found[source] += text.startswith("zzz")
            start += length
    assert found[1] > 20 and found[0] == 0


def test_the_same_documents_in_other_formats_make_the_same_tokens(tmp_path: Path) -> None:
    rows = _corpus(tmp_path / "lines")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for shard, ending in enumerate([".parquet", ".arrow", ".feather", ".jsonl.zst", ".jsonl.gz"]):
        table = pa.Table.from_pylist(rows[shard::NUM_SHARDS])
        path = mixed / f"part-{shard}{ending}"
        if ending == ".parquet":
            pq.write_table(table, path)
        elif ".jsonl" in ending:
            lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
            compression = {".zst": "zstd", ".gz": "gzip"}[path.suffix]
            with pa.CompressedOutputStream(str(path), compression) as file:
                file.write(lines.encode())
        else:
            with (pa.ipc.new_stream if ending == ".arrow" else pa.ipc.new_file)(path, table.schema) as writer:
                writer.write_table(table)
    made = []
    for corpus in ("lines", "mixed"):
        result = _prepare(_config(tmp_path / corpus, tmp_path / "runs", name=corpus))
        shards = TokenShards.open(Folder(str(tmp_path / "runs")) / result["tokens"])
        made.append({split: shards.rows(split, np.arange(shards.num_rows(split))).to_pylist() for split in SPLITS})
    assert made[0] == made[1]


def test_csv_and_plain_text_are_sources_like_others(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("title,body\n" + "".join(f'"t{n}","said ""{n}"""\n' for n in range(40)))
    (tmp_path / "prose").mkdir()
    for file in range(9):
        blocks = "\n\n".join(f"prose {file} {number}\nsecond line" for number in range(4))
        (tmp_path / "prose" / f"book-{file}.txt").write_text(blocks)
    sources = [
        {"name": "table", "url": str(tmp_path / "table.csv"), "text": "{title}: {body}"},
        {"name": "prose", "url": str(tmp_path / "prose"), "format": "text", "unit": "block", "key": "file"},
    ]
    config = _config(tmp_path, tmp_path / "runs", sources=sources, labelled_sets=[], tokenizer={"vocab_size": 320})
    result = _prepare(config)
    assert result["counts"]["num_documents"] == 40 + 9 * 4
    shards = TokenShards.open(Folder(str(tmp_path / "runs")) / result["tokens"])
    tokenizer = load_tokenizer(shards.tokenizer_folder())
    places: dict[str, set[str]] = {}
    texts = []
    for split in SPLITS:
        for row in shards.rows(split, np.arange(shards.num_rows(split))).to_pylist():
            ends = np.cumsum(row["document_lengths"])
            for start, end in zip([0, *ends], ends, strict=False):
                text = tokenizer.decode(row["tokens"][start:end], skip_special_tokens=True)
                texts.append(text)
                if text.startswith("prose"):
                    places.setdefault(text.split()[1], set()).add(split)
    assert 't7: said "7"' in texts and "prose 3 2\nsecond line" in texts
    assert len(places) == 9 and all(len(splits) == 1 for splits in places.values()), "a file is in one split"


def test_bad_input_is_named(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    _corpus(corpus)
    storage = tmp_path / "runs"

    def source(**changes: Any) -> list[dict[str, Any]]:
        return [{"name": "small", "url": str(corpus), **changes}]

    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (CorpusError, f"url='{tmp_path}/gone' matches no file", {"sources": source(url=str(tmp_path / "gone"))}),
        (CorpusError, r"text='body' is no column of .*which has \['area', 'id'", {"sources": source(text="body")}),
        (CorpusError, r"metadata='year' is no column of .*which has \['area'", {"sources": source(metadata=["year"])}),
        (CorpusError, r"'body' in text='\{body\}\.' is no column of", {"sources": source(text="{body}.")}),
        (CorpusError, "the validation split is empty: 1 documents", {"sources": source(key="module", max_documents=1)}),
        (ConfigError, r"tokenizer.vocab_size=4000 .* has \d+ entries", {"tokenizer": {"vocab_size": 4000}}),
        (CorpusError, r"needs the columns \['text', 'topic'", {"labelled_sets": [{"name": "s", "label": "topic"}]}),
    ]
    for number, (error, message, changes) in enumerate(cases):
        with pytest.raises(error, match=message):
            _prepare(_config(corpus, storage, name=f"bad-{number}", **({"labelled_sets": []} | changes)))

    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "part.jsonl").write_text("")
    with pytest.raises(CorpusError, match=f"{tmp_path}/empty has no documents in its 1 shards"):
        _prepare(_config(tmp_path / "empty", storage, name="empty", labelled_sets=[]))

    with (corpus / "part-3.jsonl").open("a") as file:
        file.write("{torn")
    with pytest.raises(ShardError, match=r"part-3\.jsonl: row \d+ is not JSON"):
        _prepare(_config(corpus, storage, name="torn"))
    end = json.loads((storage / "torn" / "attempts" / "01" / "end.json").read_text())
    assert end["status"] == "failed" and "part-3.jsonl" in end["error"]


def test_the_built_in_corpus_keeps_whole_modules_out(ray_session: "Session", tmp_path: Path) -> None:
    config = _config(
        tmp_path,
        tmp_path / "runs",
        sources=[
            {"name": "python", "builtin": "python_stdlib", "key": "key", "stratum": "area", "max_documents": 1500}
        ],
        labelled_sets=[{"name": "areas", "label": "area", "where": {"kind": "docstring"}, "min_characters": 80}],
        splits={"validation": 0.1, "test": 0.1},
    )
    result = _prepare(config)
    areas = EvaluationSet.open(Folder(config.storage) / result["labelled_sets"]["areas"])
    groups = [set(areas.rows(split)["group"].to_pylist()) for split in areas.splits]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert result["fill_fraction"] > 0.98
    assert result["dropped"]["areas: too_short"] > 100
    assert Folder(config.storage).exists("artifacts/corpora")


def _passport(config: PrepareConfig, result: dict[str, Any]) -> dict[str, Any]:
    passport: dict[str, Any] = (Folder(config.storage) / result["tokens"]).read_json("passport.json")
    return passport


def _texts(config: PrepareConfig, result: dict[str, Any]) -> list[str]:
    """All documents that were tokenized and fit into a row."""
    shards = TokenShards.open(Folder(config.storage) / result["tokens"])
    tokenizer = load_tokenizer(shards.tokenizer_folder())
    texts = []
    for split in SPLITS:
        for row in shards.rows(split, np.arange(shards.num_rows(split))).to_pylist():
            ends = np.cumsum(row["document_lengths"])
            texts += [
                tokenizer.decode(row["tokens"][start:end], skip_special_tokens=True)
                for start, end in zip([0, *ends], ends, strict=False)
            ]
    return sorted(texts)


def test_documents_are_cleaned_counted_and_shown(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    texts = [f"Note {n}: the river rose by {n} feet; write to clerk{n}@town.example.org about it." for n in range(300)]
    texts += ["tiny"] * 3 + [
        f"Der Fluss stieg in der Nacht um {n} Fuß, und niemand hat davon gewusst." for n in range(9)
    ]
    for shard in range(4):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[shard::4])
        (corpus / f"part-{shard}.jsonl").write_text(lines)
    cleaning = {"length": {"min_characters": 10}, "language": {"keep": ["en"]}, "personal_data": {}}
    plain = {"name": "plain", "url": str(corpus / "part-0.jsonl"), "cleaning": {}, "text": "<{text}>"}
    config = _config(
        corpus,
        tmp_path / "runs",
        sources=[{"name": "notes", "url": str(corpus)}, plain],
        cleaning=cleaning,
        group_terms={"groups": {"rivers": ["river"]}, "positive": ["rose"], "negative": ["sank"]},
        labelled_sets=[],
        packing={"sequence_length": 256},
    )
    result = _prepare(config)
    assert result["dropped"] == {"language: not_wanted": 9, "length: too_short": 3}
    found = _texts(config, result)
    assert sum("<email>" in text for text in found) == 300
    assert sum("@town" in text for text in found) == 75, "the other source is not cleaned"
    assert sum(text.startswith("<") for text in found) == 78
    passport = _passport(config, result)
    notes, other = passport["sources"]["notes"], passport["sources"]["plain"]
    assert notes["read"] == {"documents": 312} and other["read"] == {"documents": 78} and other["cleaning"] is None
    steps = notes["cleaning"]["steps"]
    assert [steps[name]["documents"] for name in ("length", "language", "personal_data")] == [312, 309, 300]
    assert steps["personal_data"]["found"] == {"email": 300}
    (shown, *_) = steps["language"]["examples"]["not_wanted"]
    assert shown["excerpt"].startswith("Der Fluss stieg") and shown["shard"].startswith("part-")
    assert sum(notes["kept"]["documents"].values()) == 300 and notes["kept"]["languages"] == {"en": 300}
    assert (
        sum(notes["tokenize"]["tokens"].values()) + sum(other["tokenize"]["tokens"].values())
        == result["counts"]["num_tokens"]
    )
    assert 0.2 < notes["tokenize"]["tokens_per_byte"] < 1
    num_train = notes["kept"]["documents"]["train"]
    assert notes["group_terms"]["rivers"] == {
        "terms": num_train, "documents": num_train, "beside_positive": num_train, "beside_negative": 0,
    }  # fmt: skip

    # A source with a new file cleans that one alone; what was there is taken as it is.
    made = sorted((tmp_path / "runs" / "artifacts" / "cleaned").rglob("manifest.json"))
    times = [path.stat().st_mtime_ns for path in made]
    (corpus / "part-4.jsonl").write_text(
        json.dumps({"text": "One more note, on the rain in the hills above the town."})
    )
    more = _config(corpus, tmp_path / "runs", name="more", sources=config.sources, cleaning=cleaning, labelled_sets=[])
    assert _prepare(more)["counts"]["num_documents"] == result["counts"]["num_documents"] + 1
    assert [path.stat().st_mtime_ns for path in made] == times
    assert len(list((tmp_path / "runs" / "artifacts" / "cleaned").rglob("manifest.json"))) == len(made) + 1


def test_a_source_that_cleaning_empties_is_named_with_the_step(tmp_path: Path) -> None:
    _corpus(tmp_path / "corpus")
    config = _config(tmp_path / "corpus", tmp_path / "runs", cleaning={"length": {"min_characters": 10_000}})
    with pytest.raises(
        CorpusError, match=r"has no documents in its 5 shards that cleaning keeps: of \d+ it drops \d+ by length"
    ):
        _prepare(config)


def _similarity(one: str, two: str) -> float:
    words = [text.lower().split() for text in (one, two)]
    sets = [{tuple(of[at : at + 5]) for at in range(len(of) - 4)} for of in words]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_near_duplicates_are_dropped_whoever_reads_them(tmp_path: Path) -> None:
    """Against the definition, pair by pair: every pair that is alike has lost one, every one lost is like one kept."""
    rng = random.Random(0)
    words = [f"w{number}" for number in range(500)]
    texts = []
    for _ in range(60):
        document = [rng.choice(words) for _ in range(120)]
        texts.append(" ".join(document))
        for _ in range(rng.choice([0, 0, 1, 3])):
            changed = document.copy()
            for _ in range(rng.choice([1, 2, 8])):
                changed[rng.randrange(len(changed))] = rng.choice(words)
            texts.append(" ".join(changed))
    rng.shuffle(texts)
    (tmp_path / "corpus").mkdir()
    for shard in range(3):
        lines = "".join(
            json.dumps({"text": text, "site": f"s{n % 20}"}) + "\n" for n, text in enumerate(texts) if n % 3 == shard
        )
        (tmp_path / "corpus" / f"part-{shard}.jsonl").write_text(lines)
    kept, files = [], []
    for parallelism in (1, 3):
        config = _config(
            tmp_path / "corpus",
            tmp_path / f"runs-{parallelism}",
            read_parallelism=parallelism,
            sources=[{"name": "small", "url": str(tmp_path / "corpus"), "key": "site"}],
            near_duplicates={"threshold": 0.7},
            labelled_sets=[],
            packing={"sequence_length": 2048},
        )
        result = _prepare(config)
        kept.append(_texts(config, result))
        manifest = read_manifest(Folder(config.storage) / result["tokens"])
        assert manifest is not None
        files.append([entry.sha256 for name, entry in manifest.files.items() if name != "passport.json"])
    assert kept[0] == kept[1] and files[0] == files[1]
    alike = {(a, b) for a in texts for b in texts if a < b and _similarity(a, b) >= 0.7}
    assert len(alike) > 30
    assert not [pair for pair in alike if set(pair) <= set(kept[0])]
    lost = set(texts) - set(kept[0])
    assert all(any((min(a, b), max(a, b)) in alike for b in kept[0]) for a in lost)
    near = _passport(config, result)["near_duplicates"]
    assert near["alike_pairs"] == len(alike) <= near["candidate_pairs"]
    dropped = result["dropped"]
    assert dropped["near_duplicate"] + dropped["near_duplicate_of_held_out"] == len(lost) == len(texts) - len(kept[0])
    assert dropped["near_duplicate_of_held_out"] > 0
    assert " like small/part-" in near["examples"]["near_duplicate"][0]["excerpt"]


def test_rows_are_of_one_source_and_read_by_its_weight_within_its_budget(tmp_path: Path) -> None:
    sources = []
    for name, number, weight in (("few", 60, 3.0), ("many", 400, 1.0)):
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps({"text": f"{name} {n} " * 5}) + "\n" for n in range(number))
        (tmp_path / name / "part.jsonl").write_text(lines)
        sources.append({"name": name, "url": str(tmp_path / name), "weight": weight, "max_epochs": 2})
    sources[1]["max_tokens"] = 2000
    config = _config(tmp_path, tmp_path / "runs", sources=sources, labelled_sets=[], tokenizer={"vocab_size": 320})
    result = _prepare(config)
    shards = TokenShards.open(Folder(config.storage) / result["tokens"])
    assert [(about["name"], about["weight"], about["max_epochs"]) for about in shards.mixture] == [
        ("few", 3.0, 2.0),
        ("many", 1.0, 2.0),
    ]
    few, many = (about["num_rows"] for about in shards.mixture)
    assert many == 2000 // 32 and result["dropped"]["many: rows over max_tokens"] > 50
    assert sum(about["num_tokens"] for about in shards.mixture) == shards.about["splits"]["train"]["num_tokens"]
    counted = _passport(config, result)["sources"]["many"]["tokenize"]
    assert counted["tokens_over_maximum"] > 50 * 16
    assert (
        sum(counted["tokens_by_language"].values()) == sum(counted["tokens"].values()) + counted["tokens_over_maximum"]
    )
    rows = shards.rows("train", np.arange(few + many)).to_pylist()
    assert [set(row["source"]) for row in rows] == [{0}] * few + [{1}] * many
    turns, _ = shards.order(5).rows(np.arange(4 * few))
    assert ((turns < few).cumsum() - 0.75 * np.arange(1, 4 * few + 1)).max() < 1
    assert sorted(turns[turns < few][:few]) == list(range(few)), "each row once before any comes again"


def test_a_weight_for_some_sources_alone_is_refused() -> None:
    sources = [{"name": "a", "url": "/a", "weight": 1.0}, {"name": "b", "url": "/b"}]
    with pytest.raises(ValueError, match="only a have a `weight`"):
        _config(Path("/a"), Path("/runs"), sources=sources)


def test_bad_shards_in_quarantine_are_listed_and_the_good_ones_are_all_there(tmp_path: Path) -> None:
    rows = _corpus(tmp_path / "corpus")
    with (tmp_path / "corpus" / "part-3.jsonl").open("a") as file:
        file.write("{torn")
    changes = {"bad_shards": {"policy": "quarantine", "max_share": 0.2}}
    config = _config(tmp_path / "corpus", tmp_path / "runs", labelled_sets=[], **changes)
    result = _prepare(config)
    kept = {row["text"] for number, row in enumerate(rows) if number % NUM_SHARDS != 3 and row["text"]}
    assert result["counts"]["num_documents"] == len(kept)
    assert result["dropped"]["shards in quarantine"] == 1
    quarantined = _passport(config, result)["sources"]["small"]["cleaning"]["quarantined"]
    assert list(quarantined) == ["part-3.jsonl"] and "is not JSON" in quarantined["part-3.jsonl"]
    (tmp_path / "corpus" / "part-0.jsonl").write_text("[1]\n")
    with pytest.raises(
        ShardError, match=r"2 of 5 shards cannot be read, more than bad_shards\.max_share=0\.2: .*part-0"
    ):
        _prepare(_config(tmp_path / "corpus", tmp_path / "runs", name="worse", labelled_sets=[], **changes))


def test_held_out_rows_in_train_documents_are_found_dropped_and_counted(tmp_path: Path) -> None:
    rng = random.Random(5)
    words = [f"w{number}" for number in range(400)]

    def text(size: int = 40) -> str:
        return " ".join(rng.choice(words) for _ in range(size))

    corpus = tmp_path / "corpus"
    corpus.mkdir()
    plain = [{"text": text(), "topic": rng.choice(["x", "y"]), "site": f"s{n % 25}"} for n in range(200)]
    (corpus / "part-0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    sources = [{"name": "small", "url": str(corpus), "key": "site"}]
    changes = {"labelled_sets": [{"name": "topics", "label": "topic", "group": "site"}], "sources": sources}
    first = _config(corpus, tmp_path / "runs", **changes, packing={"sequence_length": 256})
    result = _prepare(first)
    assert "contaminated" not in result["dropped"]
    topics = EvaluationSet.open(Folder(first.storage) / result["labelled_sets"]["topics"])

    # Test rows, verbatim and lightly edited, inside other texts of sites that are in train.
    train = sorted(set(topics.rows("train")["group"].to_pylist()))
    verbatim, edited = topics.rows("test")["text"].to_pylist()[:2]
    words_of_it = edited.split()
    words_of_it[17] = "changed"
    planted = [f"{text()} {verbatim.upper()} {text()}", f"{text()} {' '.join(words_of_it)} {text()}"]
    (corpus / "part-1.jsonl").write_text(
        "".join(json.dumps({"text": one, "topic": None, "site": train[0]}) + "\n" for one in planted)
    )
    second = _config(corpus, tmp_path / "runs", name="second", **changes, packing={"sequence_length": 256})
    result = _prepare(second)
    assert result["dropped"]["contaminated"] == 2
    kept = _texts(second, result)
    assert not [one for one in kept if "changed" in one or one in planted] and len(kept) == 200
    about = _passport(second, result)["decontamination"]
    assert about["sets"]["topics"]["contaminated_documents"] == 2 and about["sets"]["topics"]["rows"] > 20
    assert about["sets"]["topics"]["hash"] == topics.hash
    manifest = read_manifest(Folder(second.storage) / result["tokens"])
    assert manifest is not None and manifest.about["decontaminated"] == [topics.hash]
    assert "1.00 of a row of topics: " in str(about["examples"]["contaminated"])

    # Another corpus is checked against a set that is there; without decontamination nothing is looked for.
    other = {"sources": [{"name": "other", "url": str(corpus / "part-1.jsonl")}], "labelled_sets": []}
    other |= {"splits": {"validation": 0, "test": 0}, "tokenizer": {"vocab_size": 320}}
    (corpus / "part-1.jsonl").write_text(
        "".join(json.dumps({"text": one}) + "\n" for one in [*planted, text(), text()])
    )
    checked = _config(
        corpus, tmp_path / "runs", name="c", **other, decontamination={"evaluation_sets": ["small/topics"]}
    )
    assert _prepare(checked)["dropped"] == {"contaminated": 2}
    assert _prepare(_config(corpus, tmp_path / "runs", name="u", **other, decontamination=None))["dropped"] == {}
    with pytest.raises(CorpusError, match="has no labelled set 'none'"):
        _prepare(_config(corpus, tmp_path / "runs", **other, decontamination={"evaluation_sets": ["small/none"]}))


def _people(corpus: Path) -> dict[str, str]:
    """Texts by id: many of men, few of women, some of both, some German; and a source of texts that are copies."""
    rng = random.Random(7)
    english = ["river", "house", "window", "garden", "letter", "morning", "stone", "paper", "market", "village"]
    german = ["Fluss", "Haus", "Fenster", "Garten", "Brief", "Morgen", "Stein", "Papier", "und", "der", "nicht"]
    texts = {}
    for n in range(300):
        words = [rng.choice(german if n % 10 == 9 else english) for _ in range(40)]
        named = {0: ["She", "saw", "her"], 9: [], 5: ["He", "and", "she", "saw"]}.get(n % 10, ["He", "saw", "his"])
        texts[f"people/{n}"] = " ".join([*named, *words])
    texts |= {f"plain/{n}": f"{'waiter' if n % 2 else 'waitress'} number {n // 2}" for n in range(60)}
    for source in ("people", "plain"):
        (corpus / source).mkdir(parents=True)
        for shard in range(3):
            rows = [
                {"id": name.partition("/")[2], "text": text, "year": 1900 + len(text)}
                for n, (name, text) in enumerate(texts.items())
                if name.startswith(source) and n % 3 == shard
            ]
            (corpus / source / f"part-{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return texts


def test_groups_are_balanced_and_copied_with_words_swapped_and_each_document_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.runtime.prepared.num_buckets_for", lambda _: 5)  # a copy is of another one than its text
    texts = _people(tmp_path)
    files = []
    for parallelism in (1, 3):
        config = _config(
            tmp_path,
            tmp_path / f"runs-{parallelism}",
            read_parallelism=parallelism,
            sources=[
                {"name": "people", "url": str(tmp_path / "people"), "metadata": ["year", "id"]},
                {"name": "plain", "url": str(tmp_path / "plain"), "cleaning": {}},
            ],
            cleaning={"language": {"min_score": 0}},
            near_duplicates={"threshold": 0.7},
            group_terms={},
            balance={},
            counterfactuals={},
            labelled_sets=[],
            packing={"sequence_length": 512},
        )
        result = _prepare(config)
        manifest = read_manifest(Folder(config.storage) / result["tokens"])
        assert manifest is not None
        files.append({name: entry.sha256 for name, entry in manifest.files.items() if name != "passport.json"})
    assert files[0] == files[1], "a function of the documents alone"
    assert sum(name.startswith("documents/train/") for name in files[0]) == 5
    folder = Folder(config.storage) / result["tokens"]
    passport = _passport(config, result)["sources"]
    listed = {split: _listed(folder, split) for split in SPLITS}

    # Balanced: men are named in as many train documents as women, and only documents of men alone went.
    train = {row["id"] for row in listed["train"]}
    held_out = {row["id"] for split in ("validation", "test") for row in listed[split]}
    lost = set(texts) - train - held_out
    assert lost and all(texts[name].startswith("He saw his") for name in lost)
    assert result["dropped"] == {"over_represented: male": len(lost)}
    done = passport["people"]["balance"]
    before, women = (done["documents_of_group"][group] for group in ("male", "female"))
    assert women == sum(texts[name].startswith("She") for name in train if name in texts)
    assert before - len(lost) == sum(texts[name].startswith("He saw") for name in train if name in texts)
    assert abs(before - len(lost) - women) < 4 * women**0.5 < before - women
    (shown, *_) = done["examples"]["over_represented: male"]
    assert shown["id"] in lost and shown["excerpt"].startswith("names male alone: He saw his")
    assert passport["plain"]["balance"]["dropped"] == {}

    # Copied: each train document that names somebody, unless its copy is there, in whatever split.
    swapped = {
        f"{name}#counterfactual": Swapper(CounterfactualSettings()).swapped(texts[name])[0]
        for name in train & set(texts)
    }
    new = {name: text for name, text in swapped.items() if text not in texts.values()}
    assert train - set(texts) == set(new) and not held_out - set(texts)
    assert all(name.startswith("people/") for name in new), "the other source has both already"
    assert "She saw her" in " ".join(new.values()) and "She and he saw" in " ".join(new.values())
    kept = [texts[name] for name in (train | held_out) & set(texts)]
    assert _texts(config, result) == sorted([*kept, *new.values()])
    copied = passport["people"]["counterfactuals"]
    assert (copied["copies"], copied["duplicates"]) == (len(new), 0)
    assert copied["terms"]["he/she"] == sum(
        word.lower() in ("he", "she") for text in new.values() for word in text.split()
    )
    both = passport["plain"]["counterfactuals"]
    assert both["copies"] == both["duplicates"] == both["terms"]["waiter/waitress"] > 20

    # Told of: every document, its tokens, its metadata.
    for split, rows in listed.items():
        about = result["counts"][split]
        assert (len(rows), sum(row["num_tokens"] for row in rows)) == (about["num_documents"], about["num_tokens"])
        assert sum(row["num_characters"] for row in rows) == about["num_characters"]
        for row in rows:
            name = row["id"].removesuffix("#counterfactual")
            year = {"year": str(1900 + len(texts[name])), "id": name.partition("/")[2]}
            assert row["metadata"] == (json.dumps(year) if row["source"] == "people" else None)
    others = [{"name": "plain", "url": str(tmp_path / "plain")}]
    without = _prepare(
        _config(tmp_path, tmp_path / "plain-runs", sources=others, labelled_sets=[], tokenizer={"vocab_size": 320})
    )
    assert not (Folder(str(tmp_path / "plain-runs")) / without["tokens"]).exists("documents")

    # Counted: the tokens of each language are all tokens.
    for name, source in passport.items():
        tokens: Counter[str] = Counter()
        for row in (row for rows in listed.values() for row in rows if row["source"] == name):
            tokens[row["language"] or "unknown"] += row["num_tokens"]
        assert source["tokenize"]["tokens_by_language"] == tokens
        assert tokens.total() == sum(source["tokenize"]["tokens"].values())
        assert source["tokenize"]["tokens_over_maximum"] == 0
    assert {"en", "de"} <= set(passport["people"]["tokenize"]["tokens_by_language"])
    assert set(passport["plain"]["tokenize"]["tokens_by_language"]) == {"unknown"}


def _listed(folder: Folder, split: str) -> list[dict[str, Any]]:
    """What is told of the documents of a split, whatever bucket they are in."""
    local = folder.local_path()
    assert local is not None
    return [row for part in sorted(local.glob(f"documents/{split}/*")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize("by_run", [True, False])
def test_a_tokenizer_that_is_there_is_taken_as_it_is(tmp_path: Path, by_run: bool) -> None:
    rows = _corpus(tmp_path / "corpus")
    first = _config(tmp_path / "corpus", tmp_path / "runs", labelled_sets=[], packing={"sequence_length": 256})
    made = Folder(first.storage) / _prepare(first)["tokens"]
    changes = {
        "labelled_sets": [],
        "packing": {"sequence_length": 256},
        "tokenizer": {"folder": first.name if by_run else f"{made.url}/tokenizer"},
    }
    config = _config(tmp_path / "corpus", tmp_path / "runs", name="again", **changes)
    result = _prepare(config)
    again = read_manifest(Folder(config.storage) / result["tokens"])
    before = read_manifest(made)
    assert again is not None and before is not None
    assert again.files == before.files, "the same tokens, and the tokenizer's own files"
    assert again.about["special_ids"] == before.about["special_ids"] and again.about["vocab_size"] == 340
    assert _texts(config, result) == sorted({row["text"] for row in rows if row["text"]})
    with pytest.raises(ValueError, match="is not trained: leave vocab_size out"):
        _config(tmp_path, tmp_path, tokenizer={"folder": "/t", "vocab_size": 500})


@needs_data
@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_real_speeches_with_well_known_tokenizers(tmp_path: Path, name: str) -> None:
    shared = os.environ["LLMCORE_DATA"]
    config = _config(
        tmp_path,
        tmp_path / "runs",
        sources=[{"name": "speeches", "url": f"{shared}/us_speeches/speeches.jsonl.gz", "max_documents": 12}],
        labelled_sets=[],
        splits={"validation": 0, "test": 0},
        tokenizer={"folder": f"{shared}/{name}_tokenizer"},
        packing={"sequence_length": 512},
    )
    result = _prepare(config)
    shards = TokenShards.open(Folder(config.storage) / result["tokens"])
    loaded = load_tokenizer(shards.tokenizer_folder())
    with gzip.open(f"{shared}/us_speeches/speeches.jsonl.gz", "rt") as lines:
        texts = [json.loads(line)["text"] for line, _ in zip(lines, range(12), strict=False)]
    ids = [loaded(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    assert result["counts"]["num_tokens"] == sum(map(len, ids)) + 12
    end = loaded.eos_token_id if name == "gpt2" else loaded.sep_token_id
    found = np.concatenate(
        [
            row["tokens"][: sum(row["document_lengths"])]
            for row in shards.rows("train", np.arange(shards.num_rows("train"))).to_pylist()
        ]
    )
    assert np.bincount(found).tolist() == np.bincount([token for one in ids for token in [*one, end]]).tolist()
    assert shards.about["encoder"] == ("gigatoken" if name == "gpt2" else "tokenizers")


def test_datasets_are_sources_loaded_or_from_their_folder(tmp_path: Path) -> None:
    import datasets

    rows = _corpus(tmp_path / "corpus")
    shards = [str(tmp_path / "corpus" / f"part-{shard}.jsonl") for shard in range(NUM_SHARDS)]
    columns = {"key": "module", "stratum": "area"}
    loaded = {"name": "small", "dataset": {"path": "json", "data_files": shards}, **columns}
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "disk"))
    saved = {"name": "small", "url": str(tmp_path / "disk"), **columns}
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
        for name, source in {"lines": None, "loaded": loaded, "saved": saved}.items():
            changes = {"sources": [source]} if source else {}
            config = _config(tmp_path / "corpus", tmp_path / "runs", name=name, **changes)
            result = _prepare(config)
            made.append(_texts(config, result))
            assert finished(config, Folder(config.storage)) == result
    assert made[0] == made[1] == made[2] != []
    copies = list((tmp_path / "runs" / "artifacts" / "corpora").glob("*/part-*.parquet"))
    assert sum(pq.read_metadata(path).num_rows for path in copies) == len(rows)
    missing = {"name": "small", "dataset": {"path": "parquet", "data_files": str(tmp_path / "none.parquet")}}
    with pytest.raises(CorpusError, match=r"source small: dataset 'parquet' cannot be loaded \("):
        _prepare(_config(tmp_path / "corpus", tmp_path / "runs", name="none", sources=[missing]))


def test_the_turns_of_conversations_are_tokens_of_their_own(tmp_path: Path) -> None:
    talks = [
        [{"role": "user", "content": f"What is {n}?<|im_end|>"}, {"role": "assistant", "content": f"It is {n}."}]
        for n in range(80)
    ]
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "a.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"say <|im_end|> {n}"}) + "\n" for n in range(80))
    )
    sources = [
        {"name": "chat", "url": str(tmp_path / "chat"), "chat": {}},
        {"name": "plain", "url": str(tmp_path / "plain")},
    ]
    config = _config(
        tmp_path,
        tmp_path / "runs",
        sources=sources,
        labelled_sets=[],
        tokenizer={"vocab_size": 330},
        packing={"sequence_length": 128},
    )
    shards = TokenShards.open(Folder(config.storage) / _prepare(config)["tokens"])
    assert shards.about["encoder"] == "gigatoken"
    start, end = (
        load_tokenizer(shards.tokenizer_folder()).convert_tokens_to_ids(f"<|im_{x}|>") for x in ("start", "end")
    )
    turns = Counter[int]()
    for split in SPLITS:
        for row in shards.rows(split, np.arange(shards.num_rows(split))).to_pylist():
            source = row["source"][0]
            turns[source] += row["tokens"].count(start) + row["tokens"].count(end)
    assert turns == {0: 80 * 4, 1: 0}
    with pytest.raises(CorpusError, match=r"chat\.messages='turns' is no column of"):
        _prepare(
            _config(
                tmp_path, tmp_path / "other", sources=[sources[0] | {"chat": {"messages": "turns"}}], labelled_sets=[]
            )
        )
