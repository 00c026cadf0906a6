"""What one process does with text, tokens, tensors and files. Knows nothing of Ray."""

__all__ = ["__version__"]

__version__ = "0.1.0"
