"""Typed, closed configuration: read once at the door, validated whole, then attributes."""

from llmcore.config.fingerprint import differences, fingerprint, flagged_of, identity_of
from llmcore.config.loading import dump_config, load_config

__all__ = ["differences", "dump_config", "fingerprint", "flagged_of", "identity_of", "load_config"]
