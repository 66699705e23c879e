"""The ASDF extension of a product, edited as YAML nodes: nothing that it says is built.

Tags survive as they are, whether a library knows them or not. Blocks of arrays are copied. The
text is what ASDF itself would write: keys in their order, short mappings on one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from webbkg.files.cards import merged_cards

_FIRST = ("asdf_library", "history")
"""Keys that ASDF puts before the others, which come by the alphabet."""

_PLAIN = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool"))
_CORE = "tag:stsci.edu:asdf/core/"
_END = re.compile(rb"\n\.\.\.\r?\n")
_INDEX = re.compile(rb"#ASDF BLOCK INDEX\s+%YAML [\d.]+\s+---(?P<places>[\s\d,\[\]-]*)\.\.\.\s*\Z")


class Tree:
    """The tree of an ASDF extension, whose bytes have passed `webbkg.files.asdf.check_asdf`.

    Parameters
    ----------
    content : bytes
        The extension's data: a comment, the YAML text, and blocks.

    Raises
    ------
    ValueError
        If there is no YAML text in it, or its root is no mapping.
    """

    def __init__(self, content: bytes) -> None:
        import yaml

        start = content.find(b"%YAML")
        end = _END.search(content)
        if start < 0 or end is None:
            raise ValueError("it has no YAML text")
        self._head, self._blocks = content[:start], content[end.end() :]
        text = content[start : end.end()]
        self._length = len(text)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            self._root: Any = yaml.compose(text, Loader=loader)
        except yaml.YAMLError as error:
            raise ValueError(f"its YAML text cannot be followed ({error})") from error
        if self._root is None or self._root.id != "mapping":
            raise ValueError("its root is no mapping")

    def text(self, path: str) -> str | None:
        """Return the text of a scalar; None if there is none."""
        node = self._get(path)
        return node.value if node is not None and node.id == "scalar" else None

    def _get(self, path: str) -> Any:
        node = self._root
        for part in path.split("."):
            node = dict(_items(node)).get(part)
        return node

    def put(self, path: str, value: Any) -> None:
        """Set a plain value (text, numbers, lists and mappings of them)."""
        self._put(path, _node(value))

    def _put(self, path: str, new: Any) -> None:
        *outer, last = path.split(".")
        node = self._root
        for part in outer:
            inner = dict(_items(node)).get(part)
            if inner is None or inner.id != "mapping":
                inner = _node({})
                _insert(node, part, inner)
            node = inner
        _insert(node, last, new)

    def put_history(
        self,
        former: Iterable[str],
        added: Iterable[str],
        software: Mapping[str, str],
        time: str,
    ) -> None:
        """Set the entries of the history: those that were there, and new ones of now."""
        entries = _node([])
        for text in former:
            entries.value.append(_tagged({"description": text}, "history_entry-1.0.0"))
        for text in added:
            entry = _tagged({"description": text, "time": time}, "history_entry-1.0.0")
            _insert(entry, "software", _tagged(dict(software), "software-1.0.0"))
            entries.value.append(entry)
        entries.flow_style = False
        if self._get("history") is None:
            self.put("history", {})
        _insert(self._get("history"), "entries", entries)

    @property
    def has_entries(self) -> bool:
        """Whether the history has any, or is none of today's kind."""
        history, entries = self._get("history"), self._get("history.entries")
        if history is not None and history.id != "mapping":
            return True
        return entries is not None and bool(entries.value)

    def put_array(self, path: str, like: str, source: str) -> None:
        """Note an array that lies in an extension, of the type and shape of another."""
        new = deepcopy(self._get(like))  # a node that stands twice is an alias
        _insert(new, "source", _node(source))
        self._put(path, new)

    def put_cards(self, cards: Iterable[tuple[str, str, str]]) -> None:
        """Note cards of the primary header that no schema knows, as the data models do."""
        import yaml

        path = "extra_fits.PRIMARY.header"
        node = self._get(path)
        known = [] if node is None else yaml.SafeLoader("").construct_object(node, deep=True)
        self.put(path, merged_cards(known, cards))

    def plain(self, paths: Iterable[str]) -> dict[str, Any]:
        """Return what there is of plain values, by their paths."""
        import yaml

        nodes = {path: self._get(path) for path in paths}
        builder = yaml.SafeLoader("")
        return {
            path: builder.construct_object(node)
            for path, node in nodes.items()
            if node is not None and node.tag in _PLAIN
        }

    def lists(self, path: str) -> dict[str, list[str]]:
        """Return the lists in a mapping, by their names: of each its scalars, as text."""
        return {
            name: [one.value for one in node.value if one.id == "scalar"]
            for name, node in _items(self._get(path))
            if node.id == "sequence"
        }

    def reduce(self, shape: Sequence[int], arrays: Iterable[str]) -> None:
        """Keep the log, and arrays that get another shape; all else, and every block, goes."""
        kept = ("asdf_library", "history", "cal_logs", *arrays)
        self._root.value = [item for item in self._root.value if item[0].value in kept]
        for name in arrays:
            _insert(self._get(name), "shape", _node(list(shape)))
        extensions = self._get("history.extensions")
        if extensions is not None:
            history = self._get("history")
            history.value = [item for item in history.value if item[1] is extensions]
        self._blocks = b""

    def as_bytes(self) -> bytes:
        """Return the extension's data; the index of its blocks tells where they are now."""
        import yaml

        text: bytes = yaml.serialize(
            self._root,
            Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
            explicit_start=True,
            explicit_end=True,
            version=(1, 1),
            tags={"!": "tag:stsci.edu:asdf/"},
            encoding="utf-8",
            allow_unicode=True,
        )
        return self._head + text + _moved(self._blocks, len(text) - self._length)


def _moved(blocks: bytes, shift: int) -> bytes:
    """Add to the places in the index of the blocks, a YAML list of numbers behind them."""
    index = _INDEX.search(blocks)
    if index is None:
        return blocks
    places = re.sub(rb"\d+", lambda match: b"%d" % (int(match[0]) + shift), index["places"])
    return blocks[: index.start("places")] + places + blocks[index.end("places") :]


def _items(node: Any) -> list[tuple[str, Any]]:
    """List the keys and values of a mapping; of anything else nothing."""
    if node is None or node.id != "mapping":
        return []
    # A key that is no text is never looked for.
    return [(key.value if key.id == "scalar" else "", value) for key, value in node.value]


def _node(value: Any) -> Any:
    """Make the node of a plain value as ASDF's writer does."""
    import yaml

    return yaml.SafeDumper("", default_flow_style=None).represent_data(value)


def _tagged(value: Mapping[str, Any], kind: str) -> Any:
    node = _node(value)
    node.tag = _CORE + kind
    return node


def _insert(node: Any, key: str, new: Any) -> None:
    """Set a value of a mapping; a new key comes where the alphabet has it."""
    names = [name for name, _ in _items(node)]
    if new.id != "scalar":
        node.flow_style = False
    if key in names:
        at = names.index(key)
        node.value[at] = (node.value[at][0], new)
        return
    later = (i for i, name in enumerate(names) if _rank(name) > _rank(key))
    node.value.insert(next(later, len(names)), (_node(key), new))


def _rank(key: str) -> tuple[bool, str]:
    return key not in _FIRST, key
