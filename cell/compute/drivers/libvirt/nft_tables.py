"""Tables of nftables kept as they are wanted: what has changed is changed in one transaction, the rest stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cell.compute.drivers.libvirt.namespace_exec import Namespace
from cellcloud import errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Elements:
    """A set, or a map where elements are "key : value". ``kind``: its type and flags as nft reads them."""

    kind: str
    elements: frozenset[str] = frozenset()
    is_map: bool = False

    @property
    def word(self) -> str:
        return "map" if self.is_map else "set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """``name``: with its family. A base chain's first line is its hook."""

    name: str
    sets: Mapping[str, Elements] = field(default_factory=dict)
    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def render(self) -> str:
        """Return the commands that make the table anew, as it is here."""
        lines = [f"table {self.name}", f"delete table {self.name}", f"table {self.name} {{"]
        for name, held in self.sets.items():
            lines += [f"{held.word} {name} {{", f"{held.kind};"]
            if held.elements:
                lines.append(f"elements = {{ {', '.join(sorted(held.elements))} }};")
            lines.append("}")
        for name, rules in self.chains.items():
            lines += [f"chain {name} {{", *rules, "}"]
        return "\n".join([*lines, "}", ""])


def difference(old: Table, new: Table) -> str:
    """Return the commands that make the new table of the old one; empty when there is nothing to do. Hooks of chains
    and kinds of sets stay what they are."""
    return "\n".join(_difference(old, new))


def _difference(old: Table, new: Table) -> Iterator[str]:
    name = new.name
    for one in new.chains.keys() - old.chains.keys():
        yield f"add chain {name} {one}"
    for one in new.sets.keys() - old.sets.keys():
        held = new.sets[one]
        yield f"add {held.word} {name} {one} {{ {held.kind}; }}"
    for one, held in old.sets.items():
        gone = held.elements - new.sets[one].elements if one in new.sets else frozenset()
        if gone:
            yield f"delete element {name} {one} {{ {', '.join(sorted(gone))} }}"
    changed = [one for one, rules in new.chains.items() if tuple(old.chains.get(one, ())) != tuple(rules)]
    removed = sorted(old.chains.keys() - new.chains.keys())
    for one in (*(one for one in changed if one in old.chains), *removed):
        yield f"flush chain {name} {one}"
    for one, held in new.sets.items():
        more = held.elements - (old.sets[one].elements if one in old.sets else frozenset())
        if more:
            yield f"add element {name} {one} {{ {', '.join(sorted(more))} }}"
    for one in changed:
        for rule in new.chains[one]:
            if not rule.startswith("type "):
                yield f"add rule {name} {one} {rule.removesuffix(';')}"
    for one in removed:
        yield f"delete chain {name} {one}"
    for one in old.sets.keys() - new.sets.keys():
        yield f"delete {old.sets[one].word} {name} {one}"


class Firewall:
    """Some tables in one network. Not safe to use from several threads."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._where = 0
        self._applied: dict[str, Table] = {}

    def apply(self, tables: Iterable[Table]) -> None:
        """Make the tables so, all at once. Raises HostRefused."""
        tables, where = list(tables), self._namespace.get_pid()
        if where == self._where and self._applied.keys() == {table.name for table in tables}:
            commands = "\n".join(filter(None, (difference(self._applied[table.name], table) for table in tables)))
        else:
            commands = "".join(table.render() for table in tables)
        if commands:
            try:
                self._load(commands)
            except errors.HostRefused:  # somebody else changed them
                self._load("".join(table.render() for table in tables))
        self._where, self._applied = where, {table.name: table for table in tables}

    def forget(self) -> None:
        """Make everything anew next time."""
        self._applied = {}

    def is_there(self) -> bool:
        """Return whether the tables that were made still are."""
        there = set(self._namespace.run(["nft", "list", "tables"], check=False).splitlines())
        return all(f"table {name}" in there for name in self._applied)

    def _load(self, commands: str) -> None:
        self._applied = {}
        self._namespace.run(["nft", "-f", "-"], text=f"{commands}\n")
