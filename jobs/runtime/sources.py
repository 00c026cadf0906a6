"""The corpora of a configuration, looked at before anything reads them: their shards, their columns, their hashes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from llmcore.config.prepare import PrepareSettings, SourceSettings, TokenizerSettings
from llmcore.config.template import columns_in
from llmcore.corpus.builtin import publish_stdlib
from llmcore.corpus.cleaned import CleanedShards
from llmcore.corpus.cleaning import Cleaner
from llmcore.corpus.formats import format_of
from llmcore.corpus.hub import dataset_hash, publish_dataset
from llmcore.corpus.labelled import columns_wanted
from llmcore.corpus.read import DocumentReader
from llmcore.corpus.shards import Shard, find_shards, shards_hash
from llmcore.corpus.stdlib import StdlibCorpus
from llmcore.errors import BadShardError, CorpusError
from llmcore.storage import Folder, content_hash, read_manifest
from llmcore.tasks.evaluation_set import EvaluationSet
from llmcore.tasks.references import find_evaluation_set

__all__ = [
    "Source",
    "found_tokenizer",
    "inputs_of",
    "open_sources",
    "other_sets",
    "places_of",
    "publish_sources",
    "reader_of",
]


@dataclass(frozen=True)
class Source:
    """A corpus that is there: its shards, how they are read, and how they are cleaned, if they are."""

    url: str
    shards: list[Shard]
    reader: DocumentReader
    cleaned: CleanedShards | None


def inputs_of(config: PrepareSettings, storage: Folder) -> dict[str, str]:
    """By source and by evaluation set, a hash of what is read, made without reading all of it.

    Raises CorpusError where one is missing.
    """
    sets = {f"evaluation set {name}": labelled.hash for name, labelled in other_sets(config, storage).items()}
    if (folder := found_tokenizer(config.tokenizer, storage).folder) is not None:
        from llmcore.tokens.tokenizer import tokenizer_files

        found = tokenizer_files(folder)
        sets["tokenizer"] = content_hash({name: hashlib.sha256(data).hexdigest() for name, data in found.items()})
    return sets | {source.name: _input(source) for source in config.sources}


def found_tokenizer(settings: TokenizerSettings, storage: Folder) -> TokenizerSettings:
    """The settings with the URL of the tokenizer's folder, where a `prepare` run was named. Raises CorpusError."""
    if settings.folder is None:
        return settings
    from llmcore.tokens.prepared import tokenizer_url

    return settings.model_copy(update={"folder": tokenizer_url(storage, settings.folder)})


def _input(source: SourceSettings) -> str:
    if source.dataset is not None:
        return dataset_hash(source.name, source.dataset)
    if source.url is not None:
        return shards_hash(find_shards(source.name, source.url, source.format))
    return StdlibCorpus().content_hash()


def other_sets(config: PrepareSettings, storage: Folder) -> dict[str, EvaluationSet]:
    """The evaluation sets that decontamination is to look for, besides those made here. Raises CorpusError."""
    asked = config.decontamination.evaluation_sets if config.decontamination is not None else []
    return {reference: find_evaluation_set(storage, reference) for reference in asked}


def publish_sources(config: PrepareSettings, storage: Folder) -> tuple[dict[str, str], list[str]]:
    """Write the corpora that are made or fetched, built-in ones and datasets, unless they are there.

    Returns the URL of each by its source's name, and the files that built-in ones leave out because they cannot be
    parsed. Raises CorpusError.
    """
    urls: dict[str, str] = {}
    unreadable: list[str] = []
    for source in config.sources:
        if source.dataset is not None:
            urls[source.name] = publish_dataset(storage, source.name, source.dataset).url
        if source.builtin is not None:
            folder = publish_stdlib(storage)
            manifest = read_manifest(folder)
            assert manifest is not None
            unreadable += manifest.about["unreadable"]
            urls[source.name] = folder.url
    return urls, unreadable


def open_sources(config: PrepareSettings, urls: Mapping[str, str], storage: Folder) -> list[Source]:
    """The sources, those of `urls` there and the others where the configuration says.

    What is cleaned is kept on the storage.

    Raises CorpusError where a source is empty, a column is not in its first shard, or a labelled set's are in none;
    ConfigError where a library that cleaning needs is missing.
    """
    found = []
    for settings in config.sources:
        url = urls.get(settings.name) or settings.url
        assert url is not None
        shards = find_shards(settings.name, url, settings.format)
        quarantine = config.bad_shards.policy == "quarantine"
        columns = next(filter(None, (_columns(settings, shard, quarantine) for shard in shards)), [])
        if not columns:
            raise CorpusError(
                f"source {settings.name}: {url} has no documents in its {len(shards)} shards; "
                "give a corpus that has some"
            )
        found.append((settings, url, shards, columns))
    fields = tuple(dict.fromkeys(name.removeprefix("field.") for name in places_of(config).values() if "." in name))
    for labelled in config.labelled_sets:
        if not any(set(columns_wanted(labelled)) <= set(columns) for *_, columns in found):
            has = "; ".join(f"{settings.name} has {columns}" for settings, _, _, columns in found)
            raise CorpusError(f"labelled set {labelled.name!r} needs the columns {columns_wanted(labelled)}: {has}")
    return [
        _source(settings, url, shards, reader_of(settings, number, url, columns, fields), config, storage)
        for number, (settings, url, shards, columns) in enumerate(found)
    ]


def _columns(settings: SourceSettings, shard: Shard, quarantine: bool) -> list[str] | None:
    """The columns of a shard; None where it has no row that tells, or cannot be read and need not be."""
    try:
        return format_of(shard.url, settings.format, settings.unit).columns(shard.url)
    except BadShardError:
        if not quarantine:
            raise
        return None


def _source(
    settings: SourceSettings,
    url: str,
    shards: list[Shard],
    reader: DocumentReader,
    config: PrepareSettings,
    storage: Folder,
) -> Source:
    quarantine = config.bad_shards.policy == "quarantine"
    if settings.max_documents is not None:
        shards = list(reader.first(shards, settings.max_documents, pass_bad=quarantine))
    steps = config.cleaning if settings.cleaning is None else settings.cleaning
    if steps.is_nothing() and not quarantine:
        return Source(url, shards, reader, None)
    Cleaner(steps)  # here rather than in a task: what it lacks is said before anything is read
    return Source(url, shards, reader, CleanedShards(storage, reader, steps, quarantine=quarantine))


def reader_of(
    settings: SourceSettings, number: int, url: str, columns: list[str], fields: tuple[str, ...]
) -> DocumentReader:
    """How a source is read, held against the columns that it has; these may be unknown, and are then not looked at.

    Raises CorpusError for a column that is not there.
    """
    named = {
        "chat.messages" if settings.chat else "text": [settings.chat.messages]
        if settings.chat
        else columns_in(settings.text),
        "key": [settings.key] if settings.key is not None else [],
        "stratum": [settings.stratum] if settings.stratum is not None else [],
        "metadata": settings.metadata,
    }
    for option, names in named.items():
        for name in names:
            if columns and name not in columns:
                whole = settings.text if option == "text" else name
                of = f"{option}={whole!r}" if name == whole else f"{name!r} in {option}={whole!r}"
                raise CorpusError(f"source {settings.name}: {of} is no column of {url}, which has {columns}: name one")
    return DocumentReader(
        settings.name,
        number,
        settings.text,
        settings.key,
        settings.stratum,
        fields,
        frozenset(fields) - frozenset(columns),
        settings.format,
        settings.unit,
        settings.chat,
        tuple(settings.metadata),
    )


def places_of(config: PrepareSettings) -> dict[str, str]:
    """For each column that labelled sets need, the column of the documents that has it: a text is not carried twice."""
    places = {}
    for name in dict.fromkeys(name for labelled in config.labelled_sets for name in columns_wanted(labelled)):
        own = [part for part in ("text", "key", "stratum") if all(getattr(s, part) == name for s in config.sources)]
        places[name] = own[0] if own else f"field.{name}"
    return places
