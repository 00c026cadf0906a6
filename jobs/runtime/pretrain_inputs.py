"""What a pre-training reads: prepared tokens or a frozen stream, further sets, the model that it begins with."""

from collections.abc import Iterable

from llmcore.config.pretrain import PretrainConfig, PretrainSettings
from llmcore.errors import CorpusError
from llmcore.models.foundation import find_foundation, foundation_hash
from llmcore.records import newest_result, recorded_inputs, run_folder
from llmcore.storage import Folder, read_manifest

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
    tokens, sha256 = _prepared_tokens(storage, config.tokens, f"tokens={config.tokens!r}")
    return tokens, {"tokens": sha256, **foundation}


def _prepared_tokens(storage: Folder, reference: str, asked: str) -> tuple[Folder, str]:
    """The token shards of a `prepare` run, by its name or URL, and their hash; `asked` is what names it to the user.

    Raises CorpusError.
    """
    run = run_folder(storage, reference)
    result = newest_result(run)
    if result is None or "tokens" not in result:
        raise CorpusError(f"{asked}: no finished `prepare` run at {run.url}: run `prepare` first")
    tokens = Folder(f"{run.url.rpartition('/')[0]}/{result['tokens']}")
    manifest = read_manifest(tokens)
    if manifest is None:
        raise CorpusError(
            f"{asked}: the token shards at {tokens.url} are not complete (no good manifest): run `prepare` again"
        )
    return tokens, manifest.sha256


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
        name: _prepared_tokens(storage, reference, f"validation_sets.{name}={reference!r}")[0]
        for name, reference in config.validation_sets.items()
    }


def urls_of(config: PretrainConfig, storage: Folder, tokens: Iterable[Folder]) -> list[str]:
    """Where this run reads, its token shards included, and writes."""
    sources = config.stream.sources if config.stream is not None else []
    return [storage.url, *(folder.url for folder in tokens), *(source.url for source in sources if source.url)]
