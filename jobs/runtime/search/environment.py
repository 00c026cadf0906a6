"""What Ray Tune hands to its trials of the driver's environment."""

from llmcore.redaction import is_secret_variable

__all__ = ["keep_secrets_out_of_trials"]


def keep_secrets_out_of_trials() -> None:
    """Has Tune leave credentials out of the runtime environment of trials, which Ray (2.60) writes into its logs.

    It would copy AWS's keys there. Trials have them of their own node, as all other workers do.
    """
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

    ENV_VARS_TO_PROPAGATE.difference_update([name for name in ENV_VARS_TO_PROPAGATE if is_secret_variable(name)])
