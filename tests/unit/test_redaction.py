"""No planted secret survives, and ordinary text stays byte for byte."""

import base64
import hashlib
import html
import io
import json
import logging
import shlex
import string
import time
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.config.common import JobSettings
from llmcore.errors import ConfigError, StorageError
from llmcore.records import begin_attempt
from llmcore.records.parts import PartsWriter
from llmcore.redaction import HIDDEN, RedactingFilter, holds_credential, redact, redact_error, redacted
from llmcore.storage import Folder, publish, read_manifest

_LETTERS = string.ascii_letters + string.digits
SECRETS = st.text(_LETTERS + "+/_-.", min_size=20, max_size=60).filter(
    lambda text: any(map(str.isdigit, text)) and any(map(str.isalpha, text)) and "//" not in text
)
WORDS = st.text(string.ascii_lowercase + " ", max_size=30)
IN_URL = st.text(_LETTERS + "-._~!$*+%", min_size=6, max_size=40).filter(lambda text: text.strip("%"))


def _token(prefix: str, size: int, letters: str = _LETTERS) -> st.SearchStrategy[str]:
    return st.text(letters, min_size=size, max_size=size).map(lambda rest: prefix + rest)


FORMS = st.one_of(
    _token("AKIA", 16, string.ascii_uppercase + string.digits),
    _token("ASIA", 16, string.ascii_uppercase + string.digits),
    _token("hf_", 34),
    _token("ghp_", 36),
    _token("gho_", 36),
    _token("github_pat_", 40, _LETTERS + "_"),
    _token("glpat-", 20),
    _token("xoxb-", 40, _LETTERS + "-"),
    _token("AIza", 35, _LETTERS + "_-"),
    _token("ya29.", 60),
    _token("GOCSPX-", 28),
    _token("wandb_v1_", 40, _LETTERS + "_"),
    _token("sk-", 48),
    _token("sk-proj-", 48),
    st.tuples(*[st.text(_LETTERS, min_size=20, max_size=40)] * 3).map(lambda p: f"eyJ{p[0]}.eyJ{p[1]}.{p[2]}"),
)

NAMES = [
    "AWS_SECRET_ACCESS_KEY",
    "aws_secret_access_key",
    "secretAccessKey",
    "AWS_SESSION_TOKEN",
    "aws_access_key_id",
    "fs.s3a.secret.key",
    "HF_TOKEN",
    "RAY_AUTH_TOKEN",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "client_secret",
    "password",
    "secret",
    "token",
    "AccountKey",
    "private_key",
    "ray-authentication-token",
]
AROUND_VALUES = [
    "{}={}",
    "{}: {}",
    "{} = '{}'",
    '{{"{}": "{}"}}',
    "{{'{}': '{}', 'anon': False}}",
    '{{\\"{}\\": \\"{}\\"}}',
    "{{&#34;{}&#34;: &#34;{}&#34;}}",
    "S3FileSystem({}='{}')",
    "--{}={} --verbose",
]
PARAMETERS = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Goog-Signature",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "token",
    "access_token",
    "api_key",
    "password",
]


def _hides(text: str, secret: str) -> None:
    found = redact(text)
    assert secret not in found and HIDDEN in found, found
    assert redact(found) == found


@given(user=IN_URL, password=IN_URL, scheme=st.sampled_from(["https", "s3", "redis", "ftp", "postgresql+x"]))
def test_no_password_in_a_url_survives(user: str, password: str, scheme: str) -> None:
    found = redact(f"cannot reach {scheme}://{user}:{password}@host.example:9000/bucket/key?part=3: refused")
    assert found == f"cannot reach {scheme}://{HIDDEN}@host.example:9000/bucket/key?part=3: refused"
    assert redact(found) == found
    assert holds_credential(f"{scheme}://{user}:{password}@host") and not holds_credential(f"{scheme}://{HIDDEN}@host")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://token123@github.com/x.git", "https://REDACTED@github.com/x.git"),
        ("git+https://user@host/x", "git+https://REDACTED@host/x"),
        ("s3://id:a/b+c/d@bucket/key", "s3://REDACTED@bucket/key"),
        ("redis://:p#w?d@host:1", "redis://REDACTED@host:1"),
        ("http://u:p@ss@host/", "http://REDACTED@host/"),
        ("simplecache::https://u:pw@host/x", "simplecache::https://REDACTED@host/x"),
        ("'http://u:pa'ss@host/'", "'http://REDACTED@host/'"),
    ],
)
def test_odd_users_of_urls(url: str, found: str) -> None:
    assert redact(url) == found


@given(
    name=st.sampled_from(PARAMETERS),
    value=st.text(_LETTERS + "%+/=_.-", min_size=1, max_size=80),
    before=st.sampled_from(["?", "?part=1&", "?part=1&amp;", "?a=b\\u0026", "%3Fa%3D1%26"]),
)
def test_no_secret_parameter_of_a_query_survives(name: str, value: str, before: str) -> None:
    equals = "%3D" if "%" in before else "="
    found = redact(f"GET https://bucket.s3.amazonaws.com/key{before}{name}{equals}{value} 403")
    assert found == f"GET https://bucket.s3.amazonaws.com/key{before}{name}{equals}{HIDDEN} 403"
    assert redact(found) == found


@given(secret=FORMS, before=WORDS, quoted=st.sampled_from(["{}", '"{}"', "({})", "{}, then", "x={}"]))
def test_no_key_of_a_known_form_survives(secret: str, before: str, quoted: str) -> None:
    _hides(f"{before} {quoted.format(secret)} {before}", secret)


@given(secret=SECRETS, name=st.sampled_from(NAMES), around=st.sampled_from(AROUND_VALUES), before=WORDS)
def test_nothing_behind_the_name_of_a_secret_survives(secret: str, name: str, around: str, before: str) -> None:
    _hides(f"{before}\n{around.format(name, secret)}\n{before}", secret)


@given(secret=SECRETS)
def test_no_header_survives(secret: str) -> None:
    for header in (
        f"Authorization: Bearer {secret}",
        f"{{'authorization': 'Bearer {secret}'}}",
        f"x-ray-authorization: Bearer {secret}",
        f"Authorization: token {secret}",
        f"Authorization: Basic {base64.b64encode(secret.encode()).decode()}",
        f"Authorization: AWS4-HMAC-SHA256 Credential={secret}/x, SignedHeaders=host, Signature={secret}",
    ):
        _hides(header, secret)
    basic = base64.b64encode(f"user:{secret}".encode()).decode()
    _hides(f"Authorization: Basic {basic}", basic)


@given(body=st.lists(st.text(_LETTERS + "+/", min_size=64, max_size=64), min_size=2, max_size=8))
def test_no_private_key_survives(body: list[str]) -> None:
    for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY"):
        block = "\n".join([f"-----BEGIN {kind}-----", *body, f"-----END {kind}-----", ""])
        for text in (block, json.dumps({"type": "service_account", "private_key": block}), block[:200]):
            found = redact(f"loaded {text} from here")
            assert body[0] not in found and body[-1] not in found and redact(found) == found
            assert found.startswith("loaded ") and "from here" in found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    secret=st.text(string.printable, min_size=16, max_size=60).map(str.strip).filter(lambda text: len(text) >= 16),
    name=st.sampled_from(
        ["AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN", "MY_PASSWORD", "X_SECRET", "WANDB_API_KEY"]
    ),
)
def test_no_secret_of_the_environment_survives(secret: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(name, secret)
        ways = [secret, json.dumps(secret), repr(secret), quote(secret), quote(secret, safe=""), html.escape(secret)]
        for text in ways:
            found = redact(f"before {text} behind")
            assert secret not in found and text not in found, found
            assert found.startswith("before ") and found.endswith(" behind")


def test_passwords_of_proxies_and_the_content_of_a_token_file_are_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:

    file = Path(tmp_path, "token")
    file.write_text("abcdef0123456789\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    monkeypatch.setenv("HTTPS_PROXY", "http://me:correct-horse@proxy:3128")
    assert redact("got abcdef0123456789 and correct-horse") == f"got {HIDDEN} and {HIDDEN}"
    assert redact(f"from {file}") == f"from {file}"


def test_ordinary_values_of_the_environment_are_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SORT_KEY", "created_at")
    monkeypatch.setenv("SOME_TOKEN", "true")
    monkeypatch.setenv("SSH_KEY_PATH", "/root/.ssh/id")
    monkeypatch.setenv("DEPLOY_KEY", str(tmp_path))
    text = f"created_at true /root/.ssh/id {tmp_path}"
    assert redact(text) == text


ORDINARY = [
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "model tiny.pretrain-0a1b2c3d4e-01 at s3://bucket/runs/tiny.pretrain/model",
    "abfs://container@account.dfs.core.windows.net/path and hf://datasets/owner/name@main/file.parquet",
    "http://127.0.0.1:8265/api/jobs/ from a@b.example",
    "http://[::1]:8265/x@y",
    "ssh://git@github.com/owner/name.git",
    '{"end_token": "<|endoftext|>", "pad_token": "[PAD]", "num_tokens": 123456, "tokens_seen": 99}',
    "max_tokens: 256, token_ids=[50256, 11, 198], special_tokens: {pad: '<pad>'}",
    "step 100: loss 5.123, 12345.6 tokens/s, key: value, token: the",
    "file:///C:/runs/x@y and /home/run@2 and user@host.example",
    "RAY_AUTH_TOKEN_PATH=/run/secrets/token RAY_AUTH_MODE=token",
    "the bearer of bad news; authorization is needed; a secret; the password is wrong",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "?page=2&sort_key=name&max_tokens=5",
    "tune.space.train.optimizer.learning_rate.log_uniform=[1e-4,1e-2]",
    "risk-averse-and-long-names-with-many-parts-of-a-run-name-that-goes-on",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text and not holds_credential(text)


@given(data=st.binary(min_size=16, max_size=200), words=WORDS)
def test_hashes_and_base64_stay(data: bytes, words: str) -> None:
    digest = hashlib.sha256(data)
    lines = [digest.hexdigest(), hashlib.sha1(data).hexdigest(), base64.b64encode(digest.digest()).decode(), words]
    lines += [json.dumps({"sha256": digest.hexdigest(), "fingerprint": digest.hexdigest()[:10], "ids": [*data]})]
    lines += [f"artifacts/tokens/{digest.hexdigest()}/part-00000.arrow", data.hex(), base64.b64encode(data).decode()]
    text = "\n".join(lines)
    assert redact(text) == text


@given(st.text(max_size=300))
def test_any_text_is_redacted_once(text: str) -> None:
    found = redact(text)
    assert redact(found) == found


def test_a_long_text_takes_time_in_proportion() -> None:

    for part in (
        "http://",
        "://a:",
        "-----BEGIN PRIVATE KEY-----",
        "token:",
        "bearer%20",
        "?a_",
        "password='",
        "sk-a-",
    ):
        started = time.monotonic()
        redact(part * 20_000 + "a" * 200_000)
        assert time.monotonic() - started < 3, part


def test_plain_data_keeps_its_shape() -> None:
    data = {"a": ["s3://u:password@b", 1, None, 2.5, True], "b": {"c": ("x", "hf_" + "a1" * 17)}}
    assert redacted(data) == {"a": [f"s3://{HIDDEN}@b", 1, None, 2.5, True], "b": {"c": ["x", HIDDEN]}}


def test_an_error_is_without_it_wherever_it_is_told() -> None:
    secret = "hunter2" * 2
    assert secret not in str(ConfigError(f"storage='s3://me:{secret}@host' is wrong"))
    try:
        try:
            raise OSError(5, f"cannot reach https://me:{secret}@host")
        except OSError as inner:
            raise RuntimeError(f"at https://me:{secret}@host") from inner
    except RuntimeError as error:
        error.add_note(f"also password={secret}")
        redact_error(error)

        assert secret not in "".join(traceback.format_exception(error))


def test_log_records_have_none() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    log = logging.getLogger("test_redaction")
    log.addHandler(handler)
    try:
        try:
            raise ValueError("https://me:hunter2hunter2@host")
        except ValueError:
            log.exception(
                "at %s with %s", "s3://me:hunter2hunter2@host", {"password": "hunter2hunter2"}, stack_info=True
            )
    finally:
        log.removeHandler(handler)
    told = stream.getvalue()
    assert "hunter2" not in told and "ValueError" in told and f"s3://{HIDDEN}@host" in told


def test_a_url_with_a_credential_is_opened_by_nobody() -> None:
    with pytest.raises(StorageError, match="credential in it") as raised:
        Folder("s3://id:hunter2hunter2@bucket/runs").exists()
    assert "hunter2" not in str(raised.value) and raised.value.exit_code == 2


def test_records_of_a_run_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "Zx9hunter2/hunter2+hunter2"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setattr("sys.argv", ["jobs", "prepare", f"storage=s3://a:{secret}@b", f"--token={secret}"])
    storage = Folder(str(tmp_path))
    with (
        pytest.raises(ValueError),
        begin_attempt(
            storage,
            JobSettings(name="x", storage=f"/tmp/{secret}"),
            kind="k",
            step_version=1,
            inputs={},
            parents=[f"p{secret}"],
        ) as attempt,
    ):
        attempt.result = {"url": f"x {secret}"}
        failures = PartsWriter(attempt.folder / "failures")
        failures.add({"ranks": {"0": f"failed with {secret}"}})
        failures.flush()
        with publish(attempt.run / "model", "model", {"source": secret}) as publication:
            publication.write_bytes("a", b"a")
        raise ValueError(f"cannot with {secret}")
    assert read_manifest(storage / "x/model") is not None
    assert (
        begin_attempt(  # the same run again: what is compared is what is recorded
            storage,
            JobSettings(name="x", storage=f"/tmp/{secret}"),
            kind="k",
            step_version=1,
            inputs={},
            parents=[f"p{secret}"],
        ).number
        == 2
    )
    for name in storage.walk():
        assert secret.encode() not in storage.read_bytes(name), name
    assert HIDDEN in shlex.join(storage.read_json("x/attempts/01/begin.json")["command"].split())
