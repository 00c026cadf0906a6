"""What a pre-training reads: prepared tokens or a frozen stream, further sets, the model that it begins with."""

from collections.abc import Iterable

from llmcore.config.pretrain import PretrainConfig, PretrainSettings
from llmcore.models.foundation import find_foundation, foundation_hash
from llmcore.records import recorded_inputs
from llmcore.storage import Folder
from llmcore.tokens.prepared import prepared_tokens

__all__ = ["find_inputs", "find_validation_sets", "freeze_inputs", "urls_of"]


def find_inputs(config: PretrainConfig, storage: Folder) -> tuple[Folder, dict[str, str]] | None:
    """The token shards, and the run's inputs; or the stream that this run froze when it began, None before that."""
    foundation = _foundation_input(config)
    if config.stream is not None:
        from jobs.runtime.freeze import frozen_folder

        inputs = recorded_inputs(storage, config.name)
        if not inputs or "stream" not in inputs:
            return None
        return frozen_folder(storage, inputs["stream"]), {"stream": inputs["stream"], **foundation}
    assert config.tokens is not None
    tokens, sha256 = prepared_tokens(storage, config.tokens, f"tokens={config.tokens!r}")
    return tokens, {"tokens": sha256, **foundation}


def _foundation_input(config: PretrainConfig) -> dict[str, str]:
    """The hash of the model that the training begins with, if it begins with one."""
    if config.model.folder is None:
        return {}
    return {"model": foundation_hash(find_foundation(config.model.folder))}


def freeze_inputs(config: PretrainConfig, storage: Folder) -> tuple[Folder, dict[str, str]]:
    """The stream of a run that has not begun, frozen now, and the run's inputs. Raises CorpusError."""
    from jobs.runtime.freeze import freeze, frozen_folder

    assert config.stream is not None
    name = freeze(config.stream, storage)
    return frozen_folder(storage, name), {"stream": name, **_foundation_input(config)}


def find_validation_sets(config: PretrainSettings, storage: Folder) -> dict[str, Folder]:
    """The token shards of the further validation sets, by name. Raises CorpusError where one is not there."""
    return {
        name: prepared_tokens(storage, reference, f"validation_sets.{name}={reference!r}")[0]
        for name, reference in config.validation_sets.items()
    }


def urls_of(config: PretrainConfig, storage: Folder, tokens: Iterable[Folder]) -> list[str]:
    """Where this run reads, its token shards included, and writes."""
    sources = config.stream.sources if config.stream is not None else []
    return [storage.url, *(folder.url for folder in tokens), *(source.url for source in sources if source.url)]
