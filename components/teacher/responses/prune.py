"""Making a response store smaller and quicker to open, while it may be read.

New segments are complete before old ones go, and say which old ones they replace: a kill in between loses nothing, and the next
pruning removes what was left.
"""

from __future__ import annotations

import fcntl
import itertools
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from components.core.store import FolderStore, KeysRefusedError, MissingKeyError, Store
from components.teacher.responses.index import SUFFIX, decode_index, encode_index, entries_of
from components.teacher.responses.lines import Line, encode_line, encode_pack_head, scan
from components.teacher.responses.segments import PRUNED, segment_name
from components.teacher.responses.survey import LOOSE_BYTES, Content, Listing, contents, model_of, survey
from components.teacher.sharing.spending import DAY_S, Spending

IDLE_S = 3600.0
"""Segments that were written to later may have a living writer."""
TARGET_BYTES = 32 << 20


@dataclass(frozen=True)
class Rules:
    """What is dropped. Of the rules that are given all must hold.

    Attributes:
        before: Stored before this time, in Unix seconds; 0 for any time.
        run: Only what this run asked; empty for any.
        model: Only replies of this model; empty for any.
        damaged: Drop lines that are not as they were written, too.
        all: Touch segments that were written to within the last hour, too.
    """

    before: float = 0.0
    run: str = ""
    model: str = ""
    damaged: bool = False
    all: bool = False

    def drops(self, run: str, line: Line) -> bool:
        """Whether an intact line goes. One that holds no reply is only what one has cost: budgets need it."""
        if not line.key or not (self.before or self.run or self.model):
            return False
        return (
            (not self.before or line.at < self.before)
            and (not self.run or run == self.run)
            and (not self.model or model_of(line) == self.model)
        )


@dataclass
class Outcome:
    """What was done, or would be.

    Attributes:
        dropped: Lines that went by the rules.
        damaged: Damaged lines that went.
        packed: Segments that were written anew.
        into: Segments that they became.
        indexed: Segments that got an index.
        left_over: Segments and indexes that were of no use any more.
        alive: Segments that were left alone, since their writers may live.
        kept: Segments and indexes that are of no use any more, but may not be deleted with these keys.
    """

    dropped: int = 0
    damaged: int = 0
    packed: list[str] = field(default_factory=list)
    into: list[str] = field(default_factory=list)
    indexed: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def changes(self) -> bool:
        """Whether there was anything to do."""
        return bool(self.packed or self.indexed or self.left_over)


@dataclass
class _Kept:
    """A segment without what goes: its lines as they are to stand, how many went, and what those had cost by day."""

    content: Content
    lines: list[bytes] = field(default_factory=list)
    spent: dict[int, Spending] = field(default_factory=dict)
    dropped: int = 0
    damaged: int = 0

    @property
    def size(self) -> int:
        return sum(len(raw) + 1 for raw in self.lines)


class Pruning:
    """One pass over a store.

    Args:
        store: The store.
        rules: What goes.
        dry_run: Change nothing.
        say: Is told each step.
    """

    def __init__(self, store: Store, rules: Rules, dry_run: bool, say: Callable[[str], None]) -> None:
        self._store = store
        self._rules = rules
        self._dry_run = dry_run
        self._say = say
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Do it.

        Returns:
            What was done.

        Raises:
            StoreError: The store cannot be read or changed; nothing is lost.
        """
        listing = survey(self._store)
        idle = {name for name in listing.items if self._is_idle(listing, name)}
        self.outcome.alive = sorted(listing.items.keys() - idle)
        self._remove_left_overs(listing, idle)
        counting = [name for name in listing.counting if name in idle and not self._left_of(listing, name)]
        for _, names in itertools.groupby(counting, key=lambda name: name.rpartition("/")[0]):
            self._prune_run(listing, list(names))
        return self.outcome

    def _is_idle(self, listing: Listing, name: str) -> bool:
        if not self._rules.all and listing.items[name].modified > time.time() - IDLE_S:
            return False
        if not isinstance(self._store, FolderStore):
            return True
        with self._store.path(name).open("rb") as handle:
            try:
                # On NFS an exclusive lock needs a file that is open for writing.
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                # A file system without locks: its time has to do.
                return True
        return True

    def _left_of(self, listing: Listing, name: str) -> list[str]:
        """What a pack replaces and is still there: without the pack it would count again."""
        return [old for old in listing.replaces.get(name, {}) if old in listing.items]

    def _remove_left_overs(self, listing: Listing, idle: set[str]) -> None:
        held = listing.held
        for name in sorted(listing.items):
            if name in idle and held.get(name, -1) >= listing.items[name].size and self._remove(listing, name):
                self.outcome.left_over.append(name)
        for name, item in sorted(listing.orphans.items()):
            if (self._rules.all or item.modified < time.time() - IDLE_S) and self._delete(name):
                self.outcome.left_over.append(name)

    def _remove(self, listing: Listing, name: str) -> bool:
        if not self._delete(name):
            return False
        del listing.items[name]
        return self._delete(name + SUFFIX)

    def _delete(self, name: str) -> bool:
        """Delete an object; keys that may not delete may pack and index all the same, and readers know what lies in a pack."""
        if self._dry_run:
            return True
        if not self.outcome.kept:
            try:
                self._store.delete(name)
            except KeysRefusedError:
                pass
            else:
                return True
        self.outcome.kept.append(name)
        return False

    def _prune_run(self, listing: Listing, names: list[str]) -> None:
        """Write anew what loses lines, together with what is loose; index what is only without an index."""
        part = Listing({name: listing.items[name] for name in names}, listing.indexed, {}, listing.replaces)
        loose = sum(listing.items[name].size < LOOSE_BYTES for name in names) > 1
        group: list[_Kept] = []
        for content in contents(self._store, part):
            kept = self._kept(content)
            if kept.dropped or kept.damaged or (loose and len(content.data) < LOOSE_BYTES):
                group.append(kept)
                if sum(one.size for one in group) >= TARGET_BYTES:
                    self._write(listing, group)
                    group = []
            elif not self._is_indexed(content):
                self._index(content)
        if len(group) > 1 or any(kept.dropped or kept.damaged for kept in group):
            self._write(listing, group)

    def _is_indexed(self, content: Content) -> bool:
        try:
            index = decode_index(self._store.read(content.segment.name + SUFFIX), content.segment.name)
        except MissingKeyError:
            return False
        return index is not None and index.length == len(content.data)

    def _kept(self, content: Content) -> _Kept:
        kept = _Kept(content)
        for offset, length, line in content.lines():
            if line is None and self._rules.damaged:
                kept.damaged += 1
            elif line is not None and self._rules.drops(content.segment.run, line):
                kept.dropped += 1
                day = int(line.at // DAY_S)
                kept.spent[day] = kept.spent.get(day, Spending()).plus(line.spending)
            else:
                kept.lines.append(content.data[offset : offset + length])
        return kept

    def _write(self, listing: Listing, group: list[_Kept]) -> None:
        run = group[0].content.segment.run
        replaces = {kept.content.segment.name: len(kept.content.data) for kept in group}
        lines = [raw for kept in group for raw in kept.lines]
        # What was paid stays paid, for the run's budget and the day's.
        lines += [
            encode_line("", day * DAY_S, spending, b"null", b"null")
            for kept in group
            for day, spending in kept.spent.items()
            if spending.tokens
        ]
        self.outcome.packed += replaces
        self.outcome.dropped += sum(kept.dropped for kept in group)
        self.outcome.damaged += sum(kept.damaged for kept in group)
        name = segment_name(run, f"{PRUNED}{uuid.uuid4().hex[:12]}", 0)
        if lines:
            self.outcome.into.append(name)
        if self._dry_run:
            return
        self._say(f"{run}: {len(group)} segments become {1 if lines else 0}")
        if lines:
            head = encode_pack_head(replaces)
            data = head + b"".join(raw + b"\n" for raw in lines)
            entries = entries_of(scan(data).entries)
            self._store.create(name + SUFFIX, encode_index(name, len(data), entries, replaces))
            self._store.create(name, data)
        now = {item.key: item.size for item in self._store.items(f"replies/{run}/")}
        for old, length in replaces.items():
            # What has grown meanwhile has a living writer after all.
            if now.get(old, 0) <= length:
                self._remove(listing, old)

    def _index(self, content: Content) -> None:
        name, found = content.segment.name, scan(content.data)
        if found.damaged:
            # An index would hide it from the next start.
            return
        self.outcome.indexed.append(name)
        if not self._dry_run:
            self._store.write(name + SUFFIX, encode_index(name, len(content.data), entries_of(found.entries), found.replaces))
