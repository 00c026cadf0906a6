"""What there is to say of an error that ends a command."""

from llmcore.errors import LLMCoreError

__all__ = ["in_one_line", "own_error"]


def own_error(error: BaseException | None) -> LLMCoreError | None:
    """The error of ours that this one is, or that Ray wrapped in it on the way from a worker."""
    while error is not None:
        wrapped = getattr(error, "cause", None)  # a RayTaskError takes on its cause's class, but not its message
        if isinstance(error, LLMCoreError) and wrapped is None:
            return error
        error = wrapped if isinstance(wrapped, BaseException) else error.__cause__
    return None


def in_one_line(error: BaseException) -> str:
    """An error that is none of ours."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
