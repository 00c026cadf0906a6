"""Ray Tune copies variables of the driver into trials' runtime environment, which stands in Ray's logs."""

from ray.tune.execution import class_cache

from jobs.runtime.search.environment import keep_secrets_out_of_trials


def test_no_credential_is_handed_to_trials() -> None:
    before = set(class_cache.ENV_VARS_TO_PROPAGATE)
    keep_secrets_out_of_trials()
    after = set(class_cache.ENV_VARS_TO_PROPAGATE)
    assert not [name for name in after if name.startswith("AWS_")]
    assert after and {name for name in before if not name.startswith("AWS_")} <= after
