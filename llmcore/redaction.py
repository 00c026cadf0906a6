"""What must not leave a run: credentials in URLs, keys of known forms, and the secrets of the environment.

Configurations and records are not meant to hold any; this is for what slips in: a command line, an error of a library,
a URL that somebody pasted. A rule hides what stands where a credential stands, so that hashes, names, paths and numbers
stay byte for byte. Nothing but the standard library is needed, and text of any length takes time in proportion to it.
"""

import html
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

__all__ = ["HIDDEN", "RedactingFilter", "holds_credential", "is_secret_variable", "redact", "redact_error", "redacted"]

HIDDEN = "REDACTED"
"""What stands in a secret's place: a plain word in HTML, JSON, YAML, Markdown and a shell alike."""


class _Rule(NamedTuple):
    """A form of credential: its pattern is tried only where one of its marks stands in the text, in lower case."""

    marks: tuple[str, ...]
    pattern: re.Pattern[str]
    """The groups `keep` and `quote`, where it has them, stay; all else of a match is hidden."""


def _rule(marks: str, pattern: str, flags: re.RegexFlag = re.NOFLAG) -> _Rule:
    return _Rule(tuple(marks.split()), re.compile(pattern, re.VERBOSE | flags))


_QUOTE = r"""(?: \\*["'] | &quot; | &\#3[49]; )"""
"""Of a text in JSON or Python, also where that stands in JSON or HTML itself."""

_NAMES = r"""
    pass(?:word|wd|phrase) | secret | (?:secret[_.-]?)?(?:access|private|account|secret|api)[_.-]?key(?:[_.-]?id)?
    | (?:access|refresh|id|auth|session|security|api|hf|bearer|authentication)[_.-]?token
    | shared[_-]?access[_-]?signature
"""
"""What secrets are called, behind any prefix (`AWS_`, `client_`, `fs.s3a.`)."""

_UNQUOTED = r"""(?: [^\s"'\\<>&] | \\(?!["'nrtu]) | &(?! [\w.%-]+= | quot; | \#3 ) )"""
"""A character of a value without quotes, up to what may follow it in a query, in JSON or HTML."""

_URLS = (
    # The web knows no user without a secret. Elsewhere a name may stand there alone: `abfs://container@account…`.
    _rule("http ws ftp", r"""(?P<keep> (?:https?|wss?|ftps?):// ) [^\s/?#"<>`]+ (?=@)""", re.IGNORECASE),
    # Passwords may hold what they should not: up to the last @ of the host's part, or up to the first behind a slash,
    # unless what looked like a password is a port.
    _rule(
        "://",
        r"""(?P<keep> :// ) [^\s/?#:@"'<>`\[]* :
        (?: [^\s/?#"<>`]* (?=@) | (?! \d{1,5} [/?#] ) [^\s@"'<>`]{1,400} (?=@) )""",
    ),
    _rule(
        "= %3d",
        rf"""(?P<keep> (?: [?&;] | %3F | %26 | \\u0026 )
        (?: x-(?:amz|goog|ms|oss)-(?:signature|credential|security-token) | awsaccesskeyid | googleaccessid
            | signature | sig | auth | credential | pwd | (?: [\w.-]*[_.-] )? (?: token | {_NAMES} ) )
        (?: = | %3D ) ) [^\s&;\#"'<>\\`]+""",
        re.IGNORECASE,
    ),
)

_FORMS = (
    _rule("akia asia abia acca", r"(?<![A-Za-z0-9/+]) (?:AKIA|ASIA|ABIA|ACCA) [A-Z0-9]{16} (?![A-Za-z0-9/+=])"),
    _rule("hf_ api_org_", r"(?<![A-Za-z0-9]) (?:hf|api_org)_ [A-Za-z0-9]{30,}"),
    _rule(
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"(?<![A-Za-z0-9]) (?: gh[pousr]_ [A-Za-z0-9]{30,} | github_pat_ [A-Za-z0-9_]{22,} )",
    ),
    _rule("glpat-", r"(?<![A-Za-z0-9]) glpat- [\w-]{20,}"),
    _rule("xox xapp-", r"(?<![A-Za-z0-9]) (?: xox[a-z] | xapp ) - [A-Za-z0-9-]{10,}"),
    _rule("hooks.slack.com", r"(?P<keep> hooks\.slack\.com/ [a-z]+/ ) [A-Za-z0-9/_-]+"),
    _rule("aiza", r"(?<![\w-]) AIza [\w-]{35} (?![\w-])"),
    _rule("ya29. gocspx-", r"(?<![\w-]) (?: ya29\. | GOCSPX- ) [\w.-]{20,}"),
    _rule("wandb_v", r"(?<![A-Za-z0-9]) wandb_v\d+_ [A-Za-z0-9_]{20,}"),
    _rule("sk-", r"(?<![\w-]) sk- (?: [a-z]+\d*- )* [A-Za-z0-9_]{20,} [\w-]*"),
    _rule("eyj", r"(?<![\w-]) eyJ [\w-]{10,} \. eyJ [\w-]{10,} \. [\w-]{10,}"),
    # Also one in a JSON string, and one that was cut before its end.
    _rule(
        "private key",
        r"""-----BEGIN\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?-----
        (?: (?: (?!-----BEGIN) . )*? -----END\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?-----
            | (?: (?: \\[nr] | \s )* [A-Za-z0-9+/=]{16,} )* )""",
        re.DOTALL,
    ),
)

_NAMED = (
    _rule(
        "bearer",
        r"(?P<keep> \bbearer (?: \s+ | %20 ) ) (?= \S{0,99}\d | \S{24} ) [A-Za-z0-9._~+/=-]{8,}",
        re.IGNORECASE,
    ),
    _rule("aws4-hmac", r"(?P<keep> \bAWS4-HMAC-[A-Z0-9]+\s+ ) Credential= [^\r\n\"']+", re.IGNORECASE),
    _rule(
        "authorization",
        rf"""(?P<keep> authorization {_QUOTE}? \s*[:=]\s* {_QUOTE}?
            (?: (?:basic|token|digest|negotiate|apikey)\s+ | (?! aws4-hmac | \S{{1,9}}\s ) (?= \S{0, 99}\d ) ) )
        [A-Za-z0-9._~+/=:-]{{8,}}""",
        re.IGNORECASE,
    ),
    # In quotes all of it.
    _rule(
        "pass secret key token signature",
        rf"""(?P<keep> (?: {_NAMES} ) {_QUOTE}? \s*[:=]\s* )
        (?: (?P<quote> {_QUOTE} ) (?: (?! (?P=quote) ) [^\r\n] ){{4,}} | {_UNQUOTED}{{6,}} )""",
        re.IGNORECASE,
    ),
    _rule(
        "_token _secret _pass _credentials",
        rf"""(?P<keep> \b [A-Z][A-Z0-9_]* _(?:TOKEN|SECRET|PASS|PASSWORD|CREDENTIALS) {_QUOTE}? \s*[:=]\s* {_QUOTE}? )
        [^\s"'\\,;&<>]{{8,}}""",
    ),
    _rule("_key", rf"(?P<keep> \b [A-Z][A-Z0-9_]* _KEY {_QUOTE}? \s*[:=]\s* {_QUOTE}? ) [^\s\"'\\,;&<>]{{16,}}"),
    # `token` alone is a word of ours: what is meant looks random.
    _rule(
        "token",
        rf"""(?P<keep> token {_QUOTE}? \s*[:=]\s* {_QUOTE}? ) (?= [\w.+/~-]*\d ) (?= [\w.+/~-]*[A-Za-z] )
        [\w.+/=~-]{{20,}}""",
        re.IGNORECASE,
    ),
)

_SHORTEST = (
    (re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)$"), 6),
    (re.compile(r"_(?:ACCESS|SECRET)_KEY(?:_ID)?$"), 8),
    (re.compile(r"_KEY$"), 16),
)
"""Variables that hold secrets, and characters: a shorter value would be found in ordinary words and numbers."""
_PASSWORD_IN_URL = re.compile(r"://[^\s/?#:@]*:([^\s/?#]{6,})@")
_TOKEN_FILE = "RAY_AUTH_TOKEN_PATH"


def redact(text: str) -> str:
    """The text without credentials: `REDACTED` stands in the place of each. Idempotent.

    Hidden are user and password of URLs, secret parameters of their queries, keys of known forms (AWS, Hugging Face,
    GitHub, Slack, Google, W&B, private keys in PEM, …), what stands behind the name of a secret, and, wherever they
    stand, the values of this process's environment variables whose names say that they are secret.
    """
    return _without(text, _secret_values())


def _without(text: str, values: re.Pattern[str] | None) -> str:
    if values is not None:
        text = values.sub(HIDDEN, text)
    lowered = text.lower()
    for rule in (*_URLS, *_FORMS, *_NAMED):
        if any(mark in lowered for mark in rule.marks):
            text = rule.pattern.sub(_hidden, text)
    return text


def redacted(value: Any) -> Any:
    """The same of plain data: each text in mappings, lists and tuples, their keys as they are."""
    values = _secret_values()

    def of(value: Any) -> Any:
        if isinstance(value, str):
            return _without(value, values)
        if isinstance(value, Mapping):
            return {key: of(inner) for key, inner in value.items()}
        return [*map(of, value)] if isinstance(value, list | tuple) else value

    return of(value)


def redact_error(error: BaseException) -> None:
    """The same of an error in place, and of those that it came from: wherever it is logged, by whomever."""
    for one in _chain(error):
        one.args = tuple(redact(told) if isinstance(told, str) else told for told in one.args)
        if isinstance(one, OSError):
            for name in ("strerror", "filename", "filename2"):  # what an OSError shows instead of its arguments
                if isinstance(told := getattr(one, name), str):
                    setattr(one, name, redact(told))
        if notes := getattr(one, "__notes__", None):
            notes[:] = [redact(str(note)) for note in notes]


def holds_credential(text: str) -> bool:
    """Whether a URL with a credential, or a key of a known form, stands in the text: what no configuration may have."""
    lowered = text.lower()
    matches = (
        match
        for rule in (*_URLS, *_FORMS)
        if any(mark in lowered for mark in rule.marks)
        for match in rule.pattern.finditer(text)
    )
    return any(_hidden(match) != match[0] for match in matches)


def is_secret_variable(name: str) -> bool:
    """Whether a variable of the environment is one whose value is a secret, by its name."""
    return _shortest(name) is not None


class RedactingFilter(logging.Filter):
    """Takes credentials out of log records, the message and the traceback; add it to handlers, so that none passes.

    Afterwards a record has its message in `msg` without arguments, and its traceback as text in `exc_text`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: a record is changed, never dropped."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_info = None
        record.exc_text = record.exc_text and redact(record.exc_text)
        record.stack_info = record.stack_info and redact(record.stack_info)
        return True


def _hidden(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return f"{groups.get('keep') or ''}{groups.get('quote') or ''}{HIDDEN}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _secret_values() -> re.Pattern[str] | None:
    """What finds any secret of the environment, as it is and as it is written in a URL, JSON or HTML."""
    return _pattern_of(frozenset(_secrets(os.environ)))


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    for name, value in environment.items():
        if (shortest := _shortest(name)) is not None:
            found = value.strip()
            if len(found) >= shortest and not (found.startswith("/") and Path(found).exists()):
                yield found
        elif name == _TOKEN_FILE:
            yield from _content_of(value)
        elif "://" in value:  # of a proxy, a database, an endpoint
            yield from _PASSWORD_IN_URL.findall(value)


@lru_cache(maxsize=1024)
def _shortest(name: str) -> int | None:
    return next((characters for pattern, characters in _SHORTEST if pattern.search(name.upper())), None)


def _content_of(path: str) -> Iterator[str]:
    try:
        content = _read(path, Path(path).stat().st_mtime_ns)
    except (OSError, ValueError):
        return
    if content:
        yield content


@lru_cache(maxsize=4)
def _read(path: str, changed: int) -> str:
    return Path(path).read_text(encoding="utf-8").strip()


@lru_cache(maxsize=4)
def _pattern_of(secrets: frozenset[str]) -> re.Pattern[str] | None:
    ways: tuple[Callable[[str], str], ...] = (
        str,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: json.dumps(secret)[1:-1],
        lambda secret: repr(secret)[1:-1],
        html.escape,
    )
    written = {way(secret) for secret in secrets for way in ways}
    # The longest first: one secret may begin another.
    return re.compile("|".join(map(re.escape, sorted(written, key=len, reverse=True)))) if written else None
