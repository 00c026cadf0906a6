"""What a pre-training reads: prepared tokens or a frozen stream, and the model that it begins with."""

from llmcore.config.pretrain import PretrainConfig
from llmcore.errors import CorpusError
from llmcore.models.foundation import find_foundation, foundation_hash
from llmcore.records import newest_result, recorded_inputs, run_folder
from llmcore.storage import Folder, read_manifest

__all__ = ["find_inputs", "freeze_inputs", "urls_of"]


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
    run = run_folder(storage, config.tokens)
    result = newest_result(run)
    if result is None or "tokens" not in result:
        raise CorpusError(f"tokens={config.tokens!r}: no finished `prepare` run at {run.url}: run `prepare` first")
    tokens = Folder(f"{run.url.rpartition('/')[0]}/{result['tokens']}")
    manifest = read_manifest(tokens)
    if manifest is None:
        raise CorpusError(f"the token shards at {tokens.url} are not complete (no good manifest): run `prepare` again")
    return tokens, {"tokens": manifest.sha256, **foundation}


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


def urls_of(config: PretrainConfig, storage: Folder, tokens: Folder) -> list[str]:
    """Where this run reads and writes."""
    sources = config.stream.sources if config.stream is not None else []
    return [storage.url, tokens.url, *(source.url for source in sources if source.url)]
