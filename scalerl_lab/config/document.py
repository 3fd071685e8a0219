"""A YAML file as plain values plus the place of every key, so that an error can name its line.

Scalars follow YAML 1.2: ``1e-4`` is a number, ``no`` and ``12:30`` are text. Keys are always text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from scalerl_lab.config.problems import KeyPath, KeyPathError, render
from scalerl_lab.errors import ConfigError, NotFound

TYPE_PREFIX = "tag:yaml.org,2002:"

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]


class _Loader(yaml.SafeLoader):
    """A composer of nodes with YAML 1.2 scalars."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
]:
    _Loader.add_implicit_resolver(
        TYPE_PREFIX + _tag, re.compile(rf"^(?:{_pattern})$"), [*_first, *([""] if _tag == "null" else [])]
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """The mapping that a YAML file holds, and where each of its keys stands."""

    file: str
    data: dict[str, Value]
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath) -> Place:
        """The place of a key path, or of its nearest parent that is written down."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place(self.file, 1)

    def located(self, problems: KeyPathError) -> ConfigError:
        """The same problems as one error, each with its file and line, in the order of the lines."""
        lines = []
        for problem in problems.problems:
            place = self.place(problem.path)
            where = f"{place.file}:{place.line}: "
            lines.append((place.file != self.file, place.line, where + problem.text_with_path))
        return ConfigError("\n".join(text for _, _, text in sorted(lines)))


def shown(path: Path) -> str:
    """The path as a person would type it from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def read_document(path: Path) -> Document:
    """Reads one YAML mapping.

    Raises:
        NotFound: There is no such file.
        ConfigError: It cannot be read, is not UTF-8, not YAML, empty, or not a mapping; or a key is
            given twice.
    """
    file = shown(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"{file}: no such file") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{file}:{line}: not UTF-8 text (byte {error.start}); save the file as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    return parse(text, file)


def parse(text: str, file: str) -> Document:
    """Reads the text of one YAML mapping; see ``read_document``."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == f"{TYPE_PREFIX}null"):
        raise ConfigError(f"{file}: is empty; a mapping of keys is expected")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        raise ConfigError(f"{file}:{root.start_mark.line + 1}: holds {kind}; a mapping of keys is expected")
    reader = _Reader(file)
    data = reader.value(root, ())
    if reader.errors:
        raise ConfigError("\n".join(reader.errors))
    assert isinstance(data, dict)
    return Document(file, data, reader.places)


class _Reader:
    """Turns nodes into values and keeps the places of keys."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[KeyPath, Place] = {}
        self.errors: list[str] = []
        self._open: set[int] = set()

    def value(self, node: yaml.Node, path: KeyPath) -> Value:
        if id(node) in self._open:
            self._error(node, path, "an anchor that contains itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> Value:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._error(key_node, path, "a key must be text")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in result:
                first = self.places[here].line
                self._error(
                    key_node, here, f"key {key!r} is given twice (first in line {first}); keep one of them"
                )
                continue
            self.places[here] = Place(self.file, key_node.start_mark.line + 1)
            result[key] = self.value(value_node, here)
        return result

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> Value:
        result: list[Value] = []
        for index, item in enumerate(node.value):
            self.places[(*path, index)] = Place(self.file, item.start_mark.line + 1)
            result.append(self.value(item, (*path, index)))
        return result

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Value:
        text = str(node.value)
        digits = text.replace("_", "").lower()
        try:
            match node.tag.removeprefix(TYPE_PREFIX):
                case "str":
                    return text
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    return int(digits, 16 if digits.startswith("0x") else 10)
                case "float":
                    if "inf" in digits or "nan" in digits:
                        self._error(node, path, f"{text} is not a finite number")
                        return None
                    return float(digits)
        except (KeyError, ValueError):
            pass
        self._error(node, path, f"{text!r} with the YAML tag {node.tag!r} is not allowed here")
        return None

    def _error(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        prefix = f"{render(path)}: " if path else ""
        self.errors.append(f"{self.file}:{node.start_mark.line + 1}: {prefix}{text}")
