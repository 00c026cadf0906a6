"""YAML as this project reads and writes it: YAML 1.2's plain values, and where each key was written.

PyYAML alone reads `6e-4` as text, `no` as false and `010` as 8, keeps the last of two equal keys without a word, and
forgets the lines.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isinf
from typing import Any

import yaml

__all__ = ["Document", "Path", "dotted", "dump_yaml", "read_yaml"]

Path = tuple[str | int, ...]
"""Where a value stands: keys of mappings and indexes of lists, from the outside."""

_MERGE, _STR = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_DIGITS = "[0-9]+(?:_[0-9]+)*"
_MOST_VALUES = 1_000_000
_WHOLE_EXPONENT = re.compile(rf"^[-+]?{_DIGITS}[eE]\+?[0-9]{{1,2}}$")
_PLAIN_VALUES: dict[str, tuple[str, str]] = {  # tag: (pattern, characters it may begin with; "" is the empty scalar)
    "null": (r"^(?:~|null|Null|NULL|)$", "~nN"),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (rf"^(?:[-+]?{_DIGITS}|0x[0-9a-fA-F]+|0o[0-7]+)$", "-+0123456789"),
    "float": (
        rf"^[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.{_DIGITS}|{_DIGITS}(?=[eE]))(?:[eE][-+]?[0-9]+)?$",
        "-+.0123456789",
    ),
    "merge": (r"^<<$", "<"),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would not read back as the same text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """A text of several lines is written as one, where YAML can."""
        return self.represent_scalar(_STR, data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)
for _name, (_pattern, _first) in _PLAIN_VALUES.items():
    for _class in (_Loader, _Dumper):
        _firsts = [*_first, ""] if _name == "null" else [*_first]
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), _firsts)


@dataclass
class Document:
    """Plain data (dict, list, str, int, float, bool, None), the line of each key, and what was wrong with the text."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    mistakes: list[tuple[int, str]] = field(default_factory=list)


def read_yaml(text: str) -> Document:
    """Read one YAML document; syntax errors, duplicate keys and foreign tags stand in `mistakes`, with their line."""
    document = Document()
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _check_size(node)
            document.data = _Reader(loader, document).value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        document.mistakes.append((mark.line + 1 if mark else 1, f"not valid YAML: {reason}"))
    except yaml.YAMLError as error:
        document.mistakes.append((1, f"not valid YAML: {' '.join(str(error).split())}"))
    except RecursionError:
        document.mistakes.append((1, "not valid YAML: nested too deeply"))
    return document


def _check_size(root: yaml.Node) -> None:
    """Raises MarkedYAMLError for a document of more values than any configuration has.

    Aliases are counted as often as they stand: a few lines of aliases to aliases can stand for billions of values.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0  # one that contains itself, which has a message of its own
            inner = (
                [part for pair in node.value for part in pair]
                if isinstance(node, yaml.MappingNode)
                else node.value
                if isinstance(node, yaml.SequenceNode)
                else []
            )
            sizes[id(node)] = 1 + sum(map(size, inner))
        return sizes[id(node)]

    if (found := size(root)) > _MOST_VALUES:
        raise yaml.MarkedYAMLError(
            problem=f"{found:,} values, aliases unfolded; a configuration has at most {_MOST_VALUES:,}",
            problem_mark=root.start_mark,
        )


def dump_yaml(data: Any) -> str:
    """Write plain data so that `read_yaml` gives it back, keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def dotted(path: Path) -> str:
    """A path as it is written on the command line: `prepare.sources.0.url`."""
    return ".".join(map(str, path))


def _integer(text: str) -> int:
    return int(text.lower(), 0 if text[:2].lower() in ("0x", "0o") else 10)


def _number(text: str) -> int | float:
    """`5e8` is an integer: counts are written like that; what is no count is written `5.0e8`, or is a float anyway."""
    number = float(text)
    if isinf(number):
        raise ValueError(text)
    return int(number) if _WHOLE_EXPONENT.match(text) and abs(number) < 2**53 else number


_CONSTRUCT: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": _number,
}


class _Reader:
    """Turns YAML nodes into plain data and notes their lines."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self._loader = loader
        self._document = document
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        if id(node) in self._open:
            raise yaml.MarkedYAMLError(problem="an alias may not contain itself", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return dict(self._items(node, path))
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.remove(id(node))

    def _items(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        first_lines: dict[str, int] = {}
        for key, _ in node.value:  # before merge keys bring in keys that may be written again
            name, line = str(key.value), key.start_mark.line + 1
            if key.tag != _MERGE and name in first_lines:
                self._mistake(line, (*path, name), f"written twice, first on line {first_lines[name]}; keep one")
            first_lines.setdefault(name, line)
        self._loader.flatten_mapping(node)
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag != _STR:
                shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                self._mistake(line, path, f"got the key {shown}; expected a text as key, so put it in quotes")
                continue
            self._document.lines[*path, key.value] = line
            yield key.value, self.value(value, (*path, key.value))

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text, kind = str(node.value), node.tag.rpartition(":")[2]
        if kind not in _CONSTRUCT:
            self._mistake(node.start_mark.line + 1, path, f"got the tag {node.tag}; expected a plain value")
            return None
        try:
            return _CONSTRUCT[kind](text)
        except ValueError:
            self._mistake(node.start_mark.line + 1, path, f"got {text}; expected a number that can be held as one")
            return None

    def _mistake(self, line: int, path: Path, message: str) -> None:
        self._document.mistakes.append((line, f"{dotted(path)}: {message}" if path else message))
