"""What a `prepare` run has published, by the run that a configuration names: its token shards and their tokenizer."""

from llmcore.errors import CorpusError
from llmcore.records import newest_result, run_folder
from llmcore.storage import Folder, read_manifest

__all__ = ["prepared_tokens", "tokenizer_url"]


def prepared_tokens(storage: Folder, reference: str, asked: str) -> tuple[Folder, str]:
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


def tokenizer_url(storage: Folder, reference: str) -> str:
    """The URL of a tokenizer's folder: of a `prepare` run by its name or URL, or what is given, where it is no run's.

    Raises CorpusError where the run's token shards are not complete.
    """
    result = newest_result(run_folder(storage, reference))
    if result is None or "tokens" not in result:
        return reference
    from llmcore.tokens.shards import TokenShards

    tokens, _ = prepared_tokens(storage, reference, f"tokenizer.folder={reference!r}")
    return TokenShards.open(tokens).tokenizer_folder().url
