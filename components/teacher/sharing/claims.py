"""Which process asks what: processes that share a response store never send the same request at the same time.

Before a request is sent its key is claimed in a log that all of them read in the same order (``core/shared_log.py``). Who finds a key
claimed by another waits until that one's reply is in the store, or until it gives the key back or is gone. Entries also say what
their writer has spent and what its requests in flight may cost, so that one budget holds for all of them together; and whom it asks, so
that those that ask the same teacher share its limits a minute.

A process that is silent for :data:`SILENCE_S` is taken for dead, one of the same machine as soon as it is. A time in which nobody could
read the log is nobody's silence. One that alone was stopped or cut off for longer may have claimed a request that another has taken over
meanwhile: then, and when a reply is lost on its way, a request goes out twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import msgspec

from components.teacher.sharing.budget import Account, Budget
from components.teacher.sharing.process_identity import ProcessIdentity, this_process
from components.teacher.sharing.shared_log import SharedLog, uptime
from components.teacher.sharing.spending import Spending

BEAT_S = 5.0
"""A process at work is heard at least so often."""
SILENCE_S = 30.0
POLL_S = 0.2
"""How often one that waits looks at what the others have done."""

GRANTED, HELD, UNAFFORDABLE = "granted", "held", "unaffordable"

T = TypeVar("T")


class Member(msgspec.Struct, omit_defaults=True):
    """A process at work, as its entries tell.

    Attributes:
        process: Where it runs.
        account: What it has spent.
        teacher: Digest of the teacher that it asks; empty when nobody has heard it.
        held: Keys that it is asking.
    """

    process: ProcessIdentity
    account: Account
    teacher: str = ""
    held: set[str] = set()


class Entry(msgspec.Struct, omit_defaults=True):
    """One entry of the log.

    Attributes:
        writer: Who wrote it.
        number: How many its writer has written: no two entries are alike.
        account: What it has spent.
        process: With its first entry: where it runs.
        teacher: With its first entry: digest of the teacher that it asks.
        claimed: Keys that it will ask now.
        done: Keys that it has stored.
        freed: Keys that it has given up.
        left: Whether this is its last entry.
        members: In a checkpoint, all processes at work and what they hold.
    """

    writer: str
    number: int
    account: Account
    process: ProcessIdentity | None = None
    teacher: str = ""
    claimed: list[str] = []
    done: list[str] = []
    freed: list[str] = []
    left: bool = False
    members: dict[str, Member] = {}


class Want(msgspec.Struct):
    """A key that is to be claimed.

    Attributes:
        key: The key.
        estimate: What its request may cost.
        outcome: None as long as nothing is decided.
    """

    key: str
    estimate: Spending
    outcome: str | None = None


class Claims:
    """The claims of one process on the requests of a response store.

    Args:
        log: The log.
        writer: Name of this process, unlike any other's.
        budget: What is told to the others, and what they say is told to.
        teacher: Digest of the teacher that this process asks.
        known: Whether the reply to a request is known to be stored.
        clock: Seconds, sleep of the machine included.
    """

    def __init__(
        self,
        log: SharedLog,
        writer: str,
        budget: Budget,
        teacher: str,
        known: Callable[[str], bool],
        clock: Callable[[], float] = uptime,
    ) -> None:
        self._log = log
        self._writer = writer
        self._budget = budget
        self._teacher = teacher
        self._known = known
        self._clock = clock
        self._process = this_process()
        self._seen_at = clock()
        self._members: dict[str, Member] = {}
        self._heard: dict[str, float] = {}
        self._gone: set[str] = set()
        self._departed: set[str] = set()
        self._claimed: dict[str, str] = {}
        self._held: set[str] = set()
        self._done: list[str] = []
        self._freed: list[str] = []
        self._number = 0
        self._wants: list[Want] = []
        self._gaps_seen = self._gaps_closed = 0
        self._lock = asyncio.Lock()

    @property
    def others(self) -> set[str]:
        """The other processes at work."""
        return set(self._members)

    @property
    def sharers(self) -> int:
        """How many processes at work ask this teacher, this one among them; one that has not said what it asks may be another."""
        return 1 + sum(member.teacher in (self._teacher, "") for member in self._members.values())

    @property
    def gap(self) -> int:
        """Number of the gap in the log that is still open, or 0. What others did meanwhile can be learnt from the store alone.

        Nothing is granted until all that is stored has been read, and :meth:`close_gap` says so.
        """
        return self._log.gaps if self._log.gaps != self._gaps_closed else 0

    def close_gap(self, gap: int) -> None:
        """All that was stored when this number was read from :attr:`gap` is known now."""
        self._gaps_closed = gap

    async def join(self) -> None:
        """Tell the others of this process. What they have stored up to now is read after this.

        Raises:
            StoreError: The log cannot be read or written.
        """
        await self._read()
        self._bury()
        if not self._members:
            await self._call(lambda: self._log.tidy(alone=True))
        await self._write(process=self._process)

    async def leave(self) -> None:
        """Tell the others that this process is done; what it still held is free."""
        await self._write(left=True)
        self._bury()
        alone = not self._members
        await self._call(lambda: self._log.tidy(alone))
        self._log.close()

    async def take(self, key: str, estimate: Spending) -> str:
        """Claim a key. One that is granted is given back with :meth:`settle`.

        Args:
            key: The request's key.
            estimate: What it may cost.

        Returns:
            :data:`GRANTED`; :data:`HELD` when another process asks it or has asked it, or may have (:attr:`gap`), or its reply is known
            to be stored; :data:`UNAFFORDABLE` when the budget does not allow it now.

        Raises:
            StoreError: The log cannot be read or written.
        """
        want = Want(key, estimate)
        self._wants.append(want)
        try:
            while want.outcome is None:
                async with self._lock:
                    # All that came while another commit was under way go together.
                    if want.outcome is None:
                        await self._commit()
        except BaseException:
            self._wants = [other for other in self._wants if other is not want]
            if want.outcome == GRANTED:
                # By another's commit; nobody will ask it now.
                self._held.discard(key)
                self._budget.release(key)
                self._freed.append(key)
            raise
        return want.outcome

    async def settle(self, key: str, stored: bool) -> None:
        """Give a key back.

        Args:
            key: One that was granted.
            stored: Whether its reply is in the store; the others are told with the next entry. Else they are told at once: one may wait.
        """
        self._held.discard(key)
        (self._done if stored else self._freed).append(key)
        if not stored:
            await self.beat()

    async def beat(self) -> None:
        """Let the others hear from this process."""
        async with self._lock:
            await self._write()

    async def look(self) -> None:
        """See what the others have done.

        Raises:
            StoreError: The log cannot be read.
        """
        async with self._lock:
            await self._read()

    def asking(self, key: str) -> bool:
        """Whether a process that is alive is asking the key now."""
        member = self._members.get(self._claimed.get(key, ""))
        return member is not None and key in member.held

    def forget(self, key: str) -> None:
        """The key's holder is done with it and no reply is in the store: anyone may claim it."""
        self._claimed.pop(key, None)

    def departed(self) -> set[str]:
        """Processes that have left or died, or have been heard again since, of which :meth:`dealt_with` has not been told.

        What those have spent that are not among the others is in the store.
        """
        self._bury()
        return set(self._departed)

    def dealt_with(self, names: Collection[str]) -> None:
        """What these processes have stored and spent is known now."""
        self._departed -= set(names)

    async def _commit(self) -> None:
        while True:
            wants = [want for want in self._wants if want.outcome is None]
            granted: list[Want] = []
            decided: list[tuple[Want, str]] = []
            for want in wants:
                if self.gap or want.key in self._claimed or self._known(want.key):
                    decided.append((want, HELD))
                elif not self._budget.fits(want.estimate):
                    decided.append((want, UNAFFORDABLE))
                else:
                    self._budget.reserve(want.key, want.estimate)
                    granted.append(want)
            written = False
            try:
                written = not granted or await self._try_to_write(claimed=[want.key for want in granted])
            finally:
                if not written:
                    for want in granted:
                        self._budget.release(want.key)
            if not written:
                await self._read()
                continue
            for want in granted:
                want.outcome = GRANTED
                self._held.add(want.key)
            for want, outcome in decided:
                want.outcome = outcome
            self._wants = [want for want in self._wants if want.outcome is None]
            return

    async def _write(self, *, process: ProcessIdentity | None = None, left: bool = False) -> None:
        while not await self._try_to_write(process=process, left=left):
            await self._read()

    async def _try_to_write(self, *, claimed: Iterable[str] = (), process: ProcessIdentity | None = None, left: bool = False) -> bool:
        done, freed, claimed = list(self._done), list(self._freed), list(claimed)
        teacher = self._teacher if process else ""
        entry = Entry(self._writer, self._number, self._budget.account, process, teacher, claimed, done, freed, left)
        alone = not self._members
        if self._log.checkpoint_due:
            mine = Member(self._process, entry.account, self._teacher, self._held | set(claimed))
            entry.members = self._members if left else {**self._members, self._writer: mine}
        data = msgspec.json.encode(entry)
        if not await self._call(lambda: self._log.append(data, alone)):
            return False
        self._number += 1
        self._saw_everything()
        # More may have come while it was written.
        self._done, self._freed = self._done[len(done) :], self._freed[len(freed) :]
        return True

    async def _read(self) -> None:
        lines = await self._call(self._log.read_new)
        now = self._saw_everything()
        if self._gaps_seen != self._log.gaps:
            self._gaps_seen = self._log.gaps
            self._begin_anew()
        for line in lines:
            try:
                entry = _decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                # The end of a writer that was killed in the middle of a line.
                continue
            if entry.writer != self._writer:
                self._take_in(entry, now)

    def _begin_anew(self) -> None:
        """What is known of the others is no longer true: a checkpoint follows, as for one that has just joined."""
        self._departed.update(self._members)
        for known in (self._members, self._heard, self._gone, self._claimed):
            known.clear()

    def _saw_everything(self) -> float:
        """Note that all entries up to now are known; a time in which the log could not be seen is nobody's silence."""
        now = self._clock()
        blind_s = now - self._seen_at
        if blind_s > 2 * BEAT_S:
            self._heard = {name: heard + blind_s for name, heard in self._heard.items()}
        self._seen_at = now
        return now

    def _take_in(self, entry: Entry, now: float) -> None:
        for name, member in entry.members.items():
            if name != self._writer and name not in self._members and name not in self._gone:
                self._members[name] = member
                self._heard[name] = now
                self._claimed.update(dict.fromkeys(member.held, name))
        if entry.writer not in self._members:
            if entry.writer in self._gone or entry.process is None:
                # It was taken for dead, perhaps before this process came, and is not: what it says it has spent counts again, and no
                # longer what the store says.
                self._gone.discard(entry.writer)
                self._departed.add(entry.writer)
            self._members[entry.writer] = Member(entry.process or ProcessIdentity(), entry.account, entry.teacher)
        member = self._members[entry.writer]
        member.account = entry.account
        member.held = (member.held | set(entry.claimed)) - set(entry.done) - set(entry.freed)
        self._claimed.update(dict.fromkeys(entry.claimed, entry.writer))
        for key in entry.freed:
            if self._claimed.get(key) == entry.writer:
                del self._claimed[key]
        self._heard[entry.writer] = now
        self._budget.others.update({name: member.account for name, member in self._members.items()})
        if entry.left:
            self._remove(entry.writer)

    def _bury(self) -> None:
        for name, member in list(self._members.items()):
            if member.process.gone or self._seen_at - self._heard[name] > SILENCE_S:
                self._remove(name)

    def _remove(self, name: str) -> None:
        del self._members[name]
        del self._heard[name]
        self._gone.add(name)
        self._departed.add(name)

    async def _call(self, function: Callable[[], T]) -> T:
        if not self._log.remote:
            return function()
        working = asyncio.ensure_future(asyncio.to_thread(function))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            # The thread goes on: nobody else may use the log before it has ended.
            await asyncio.wait([working])
            raise


_decode = msgspec.json.Decoder(Entry).decode
