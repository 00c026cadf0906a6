"""What a user calls a cluster, and the way to it: its Jobs API, its head node, its token.

A cluster is called by the name of a local one (`python -m cluster up NAME`), by the address of its dashboard
(`http://head:8265`), by that of its head node (`host:port`), or `auto`: the one that runs on this machine. What is
given goes before RAY_API_SERVER_ADDRESS and RAY_ADDRESS, which stand for it where nothing is given.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.connect import why_unreachable
from llmcore.errors import ConfigError

__all__ = ["Endpoint", "resolve", "token_of_environment"]

ANSWER_WITHIN_S = 5.0
_LOCAL_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_DEFAULT_TOKEN_FILE = Path("~/.ray/auth_token")


@dataclass(frozen=True)
class Endpoint:
    """Where a cluster answers."""

    name: str
    """What it is called in messages."""
    jobs_url: str
    """`http://host:port` of its dashboard, which serves the Jobs API; without a slash at the end."""
    gcs_address: str | None
    """`host:port` of its head node, for drivers; None where only the Jobs API is known."""
    token: str | None = field(default=None, repr=False)
    """What it asks for, if anything; shown nowhere."""

    def environment(self) -> dict[str, str]:
        """What a driver, or a `ray` command, needs in its environment to be on this cluster."""
        address = {} if self.gcs_address is None else {"RAY_ADDRESS": self.gcs_address}
        token = {} if self.token is None else {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return address | token


def resolve(address: str | None = None) -> Endpoint:
    """The way to a cluster; None takes RAY_API_SERVER_ADDRESS or RAY_ADDRESS, and `auto` where neither is set.

    An address of the form `http://…` is taken as it is: the first request tells whether somebody answers there. Raises
    ConfigError for a name or an address that leads nowhere, or a token file that cannot be read.
    """
    given = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS") or "auto"
    if given.startswith(("http://", "https://")):
        return Endpoint(given, given.rstrip("/"), None, token_of_environment())
    if "://" in given:
        raise ConfigError(
            f"cluster {given!r}: expected the name of a local cluster, `http://host:8265`, `host:port` or `auto`"
        )
    if given == "auto" or ":" in given:
        return _at_head(given)
    if not _LOCAL_NAME.match(given):
        raise ConfigError(
            f"cluster {given!r} is neither a name (lower case letters, digits, `.`, `_`, `-`) nor `host:port`"
        )
    return _local(given)


def token_of_environment() -> str | None:
    """The token that Ray itself would take: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, or `~/.ray/auth_token`.

    None where there is none, or RAY_AUTH_MODE is `disabled`. Raises ConfigError for a named file that cannot be read.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else _DEFAULT_TOKEN_FILE.expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if named:
            raise ConfigError(
                f"RAY_AUTH_TOKEN_PATH={named}: the token cannot be read ({error.strerror}); give the file that the "
                "cluster's token is in"
            ) from None
        return None


def _local(name: str) -> Endpoint:
    from cluster.local import load

    cluster = load(name)
    token = Path(cluster.token_file).read_text(encoding="utf-8").strip()
    return Endpoint(name, cluster.dashboard.rstrip("/"), cluster.address, token)


def _at_head(address: str) -> Endpoint:
    """Asks the head node where its dashboard is, after a look whether it answers at all: Ray itself waits for long."""
    token = token_of_environment()
    with _ray_reads(token):
        from ray._private.services import canonicalize_bootstrap_address_or_die
        from ray.dashboard.utils import ray_address_to_api_server_url

        try:
            gcs_address = canonicalize_bootstrap_address_or_die(address)
            host, _, port = gcs_address.rpartition(":")
            with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_WITHIN_S):
                pass
            return Endpoint(address, ray_address_to_api_server_url(gcs_address), gcs_address, token)
        except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
            raise ConfigError(f"cluster {address!r}: {why_unreachable(error)}") from error


@contextmanager
def _ray_reads(token: str | None) -> Iterator[None]:
    """Within the block Ray, which reads the environment alone, asks with the token."""
    before = os.environ.get("RAY_AUTH_MODE")
    if token is not None:
        os.environ["RAY_AUTH_MODE"] = "token"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("RAY_AUTH_MODE", None)
        else:
            os.environ["RAY_AUTH_MODE"] = before
