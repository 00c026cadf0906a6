"""A published model goes to the Hugging Face hub, by the hub's own library. Needs no torch."""

from collections.abc import Iterator
from contextlib import contextmanager

from llmcore.errors import ConfigError, LLMCoreError, RunError
from llmcore.storage import Folder, read_manifest

__all__ = ["check_hub", "push_to_hub"]

_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]


def check_hub(name: str) -> None:
    """Raises ConfigError where nothing can be uploaded as `name`: offline, no token, or one that the hub refuses."""
    from huggingface_hub import HfApi, get_token, is_offline_mode
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but not in __all__

    asked = f"push_to_hub={name!r}"
    if is_offline_mode():
        raise ConfigError(f"{asked} needs the hub, and HF_HUB_OFFLINE is set: unset it, or leave push_to_hub out")
    if get_token() is None:
        raise ConfigError(f"{asked} needs a token that may write: set HF_TOKEN, or run `hf auth login`")
    with _hub_errors(ConfigError, f"{asked}: nothing can be uploaded"):
        validate_repo_id(name)
        HfApi().whoami()


def push_to_hub(folder: Folder, name: str) -> str:
    """Uploads the files of a published model folder, its card among them, and returns the page's URL.

    A repository that is not there is made, a private one. Of one that is there, weights that are not the model's are
    deleted in the same commit, and all else stays; what it has already is not sent. The manifest stays here: it says
    where things lie. Raises RunError with the hub's reason.
    """
    from huggingface_hub import HfApi

    manifest, path, api = read_manifest(folder), folder.as_local(), HfApi()
    assert manifest is not None, folder.url
    with _hub_errors(RunError, f"the model is complete at {folder.url}, and not at the hub as {name}: try it again"):
        page = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=path,
            allow_patterns=list(manifest.files),
            delete_patterns=_WEIGHTS,
            commit_message=f"Model {manifest.sha256[:12]}",
        )
    return str(page)


@contextmanager
def _hub_errors(kind: type[LLMCoreError], told: str) -> Iterator[None]:
    """Whatever the hub's library raises becomes an error of this kind: those of its HTTP client are its own."""
    try:
        yield
    except Exception as error:
        raise kind(f"{told} ({str(error).strip().partition(chr(10))[0]})") from error
