"""On which line of a TOML text each value stands. What the text says is `tomllib`'s; here it is only walked through.

tomllib gives no places; tomlkit keeps none either, and a second parser could read a text otherwise than the one whose
values are published. So this walks a text that tomllib has taken already, and judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]+")
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def lines_of(text: str) -> Mapping[Path, int]:
    """Every key, table and item to the line on which it begins, counted from 1. The text is sound TOML."""
    return _Walk(text).places


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted, self._line = 0, 1
        self.places: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}  # of arrays of tables
        table: Path = ()
        while self._skip(_BLANK) < len(text):
            if text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        is_item = self._text.startswith("[[", self._at)
        line = self._here()
        self._at += 2 if is_item else 1
        path: Path = ()
        keys = self._key()
        for key in keys[:-1]:
            path = self._newest((*path, key))
            self._note(path, line)
        path = (*path, keys[-1])
        self._note(path, line)
        if is_item:
            self._lengths[path] = self._lengths.get(path, 0) + 1
            path = self._newest(path)
            self._note(path, line)
        self._at = self._text.index("]", self._at) + (2 if is_item else 1)
        return path

    def _newest(self, path: Path) -> Path:
        """Of an array of tables, the last one: `[a.b]` after `[[a]]` is of that."""
        length = self._lengths.get(path)
        return path if length is None else (*path, length - 1)

    def _pair(self, table: Path) -> None:
        line = self._here()
        path = table
        for key in self._key():
            path = (*path, key)
            self._note(path, line)
        self._skip(_SPACE)
        self._at += 1  # =
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip(_SPACE)
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline(path)
            case '"' | "'":
                self._take(_STRING)
            case _:
                self._take(_PLAIN)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_BLANK)] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, index), self._here())
            self._value((*path, index))
            index += 1
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while self._text[self._skip(_BLANK)] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            quoted = self._text[self._at] in "\"'"
            found = self._take(_STRING if quoted else _BARE)
            keys.append(_unquoted(found) if quoted else found)
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"line {self._here()} is no TOML")
        self._at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found is not None else self._at
        return self._at

    def _note(self, path: Path, line: int) -> None:
        self.places.setdefault(path, line)

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def _unquoted(text: str) -> str:
    inner = text[1:-1]
    if text[0] == "'":
        return inner
    return _ESCAPE.sub(
        lambda found: chr(int(found[1] or found[2], 16)) if found[1] or found[2] else _ESCAPED.get(found[3], found[3]),
        inner,
    )
