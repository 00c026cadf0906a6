"""Personal data, masked: e-mail addresses, IP addresses, telephone numbers."""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

from llmcore.config.cleaning import PersonalDataSettings
from llmcore.corpus.cleaning.base import Draft, Step, optional
from llmcore.errors import ConfigError

__all__ = ["MaskPersonalData", "excerpt"]

EXCERPT_CHARACTERS = 160

# RFC 5322's dot-atom before the @, a domain of two or more labels after it.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?<![\w.]){_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+[A-Za-z]{{2,63}}\b")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_TELEPHONE = re.compile(r"(?<![\w+.])(?:\+|\(\+?)?\d(?:[\s().\-/]{0,2}\d){6,14}(?!\w)")
_INTERNATIONAL = re.compile(r"(?<![\w+])\(?\+\d(?:[\s().\-/]{0,2}\d){6,14}(?!\w)")


class MaskPersonalData(Step):
    """Masks what is valid as an address or a number: a version `1.2.3.4` of a private network is no public address."""

    name = "personal_data"
    version = 1

    def __init__(self, settings: PersonalDataSettings) -> None:
        self._masks: list[tuple[str, str, re.Pattern[str], Callable[[str], bool]]] = []
        if settings.email:
            self._masks.append(("email", "@", _EMAIL, lambda _: True))
        if settings.ip_address:
            self._masks += [("ip_address", ".", _IPV4, _is_public), ("ip_address", ":", _IPV6, _is_public)]
        if settings.telephone:
            numbers = optional("phonenumbers", self.name)
            if settings.region is not None and settings.region not in numbers.SUPPORTED_REGIONS:
                raise ConfigError(f"personal_data.region={settings.region!r} is no country with telephone numbers")

            def is_number(text: str) -> bool:
                try:
                    return bool(numbers.is_valid_number(numbers.parse(text, settings.region)))
                except numbers.NumberParseException:
                    return False

            if settings.region is None:
                self._masks.append(("telephone", "+", _INTERNATIONAL, is_number))
            else:
                self._masks.append(("telephone", "", _TELEPHONE, is_number))

    def __call__(self, draft: Draft, found: Counter[str]) -> None:
        """Never drops; `found` counts the masks of each kind."""
        for kind, sign, pattern, is_valid in self._masks:
            if sign in draft.text:
                draft.text, number = _masked(draft.text, kind, pattern, is_valid)
                found[kind] += number


def _masked(text: str, kind: str, pattern: re.Pattern[str], is_valid: Callable[[str], bool]) -> tuple[str, int]:
    mask = f"<{kind.replace('_', '-')}>"
    number = 0

    def put(match: re.Match[str]) -> str:
        nonlocal number
        if not is_valid(match.group()):
            return match.group()
        number += 1
        return mask

    return pattern.sub(put, text), number


def _is_public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def excerpt(text: str) -> str:
    """The beginning of a document on one line, for people, without whatever looks like personal data."""
    shown = " ".join(text[: 2 * EXCERPT_CHARACTERS].split())
    for kind, pattern in {"email": _EMAIL, "ip-address": _IPV4, "telephone": _TELEPHONE}.items():
        shown = pattern.sub(f"<{kind}>", shown)
    return shown if len(shown) <= EXCERPT_CHARACTERS else shown[: EXCERPT_CHARACTERS - 1] + "…"
