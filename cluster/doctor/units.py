"""Numbers as people read them."""

__all__ = ["size"]


def size(num_bytes: float) -> str:
    """Bytes with three digits: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.3g} TiB"
