"""A broker in memory with Kafka's rules for transactions and groups, in which every call can be the last of a process.

Modelled: offsets with control markers, last stable offset and high watermark, transactional ids with epochs (KIP-98),
group generations and static members (KIP-345), positions that a transaction commits and that are unstable until it is
decided (KIP-447), markers that reach partitions one by one and late, transactions that are too old, answers that never
arrive.
Harsher than Kafka: partitions move at once, without waiting for their owner to let go.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from streams.engine.ports import TopicPartition

TRANSACTION_TIMEOUT_MS = 30_000


class Crash(BaseException):
    """SIGKILL. Not an `Exception`: nothing of the engine may catch it."""


class Fate(StrEnum):
    """What happens at a call."""

    NORMAL = "normal"
    #: The process dies before the call has an effect.
    CRASH = "crash"
    #: The call takes effect, its answer is lost.
    UNANSWERED = "unanswered"
    #: The request is held back somewhere; the caller gives up waiting.
    DELAYED = "delayed"
    #: The broker refuses, the transaction must be aborted.
    REFUSED = "refused"


@dataclass(eq=False)
class Transaction:
    """One transaction. `waiting` are the partitions that its marker has not reached after the decision."""

    transactional_id: str
    epoch: int
    started_ms: int
    decision: str | None = None
    #: Where it wrote, and its first offset there.
    places: dict[TopicPartition, int] = field(default_factory=dict)
    #: With the number of the write: markers may come in another order than the writes they are for.
    positions: dict[str, dict[TopicPartition, tuple[int, int]]] = field(default_factory=dict)
    waiting: dict[TopicPartition | str, None] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.decision is not None and not self.waiting

    def is_open_at(self, place: TopicPartition) -> bool:
        return self.decision is None or place in self.waiting


@dataclass(frozen=True)
class Entry:
    """What lies at one offset. A marker has neither key nor value."""

    key: bytes | None
    value: bytes | None
    transaction: Transaction | None
    is_marker: bool = False


@dataclass
class TransactionalId:
    epoch: int = -1
    transaction: Transaction | None = None


@dataclass(eq=False)
class Member:
    """One group member as the coordinator knows it; `session` is the process's own object."""

    session: object
    places: frozenset[TopicPartition] = frozenset()


@dataclass
class Group:
    topics: tuple[str, ...] = ()
    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    #: The numbers of the writes that `committed` is from.
    newest: dict[TopicPartition, int] = field(default_factory=dict)
    writes: int = 0
    pending: list[Transaction] = field(default_factory=list)


class FencedError(Exception):
    """The epoch is not the newest of its transactional id."""


class RefusedError(Exception):
    """The group does not know the member, or not in this generation."""


class FakeBroker:
    """All topics, transactional ids and groups."""

    def __init__(self, topics: Mapping[str, int], now_ms: Callable[[], int], seed: int | None = None) -> None:
        self.topics: dict[str, int] = {}
        self.logs: dict[TopicPartition, list[Entry]] = {}
        for topic, count in topics.items():
            self.add_topic(topic, count)
        self.now_ms = now_ms
        #: With a seed, markers travel one at a time in random order; without, they arrive with the decision.
        self.random = None if seed is None else random.Random(seed)
        self.ids: dict[str, TransactionalId] = {}
        self.groups: dict[str, Group] = {}
        self.undecided: list[Transaction] = []
        #: Requests that are held back: run at a later tick.
        self.held_back: list[Callable[[], None]] = []
        #: Calls so far that change something outside the process; the crash points.
        self.calls = 0
        self.call_names: list[str] = []
        #: Transactions that were committed or aborted.
        self.decided = 0
        self.fate_of: Callable[[int, str], Fate] = lambda number, name: Fate.NORMAL

    def add_topic(self, topic: str, partitions: int) -> None:
        self.topics[topic] = partitions
        self.logs |= {TopicPartition(topic, partition): [] for partition in range(partitions)}

    def decide_fate(self, name: str) -> Fate:
        """Count a call that has an effect. Raises `Crash` when the process dies before it."""
        number = self.calls
        self.calls += 1
        self.call_names.append(name)
        fate = self.fate_of(number, name)
        if fate is Fate.CRASH:
            raise Crash
        return fate

    # --- reading ---

    def high_watermark(self, place: TopicPartition) -> int:
        return len(self.logs[place])

    def last_stable_offset(self, place: TopicPartition) -> int:
        """The first offset of a transaction whose marker is not here, or the high watermark."""
        firsts = [t.places[place] for t in self.undecided if place in t.places and t.is_open_at(place)]
        return min(firsts, default=len(self.logs[place]))

    def read_committed(self, place: TopicPartition, start: int, end: int) -> list[tuple[int, Entry]]:
        """The visible records in [start, end), which must be stable."""
        log = self.logs[place]
        return [
            (offset, log[offset])
            for offset in range(start, min(end, len(log)))
            if not log[offset].is_marker
            and ((transaction := log[offset].transaction) is None or transaction.decision == "commit")
        ]

    def written(self, place: TopicPartition) -> list[tuple[bytes | None, bytes | None]]:
        """What a reader sees in the end, without what clients and mirrors appended."""
        visible = self.read_committed(place, 0, self.last_stable_offset(place))
        return [(entry.key, entry.value) for _, entry in visible if entry.transaction is not None]

    # --- writing ---

    def append(self, place: TopicPartition, key: bytes | None, value: bytes | None) -> None:
        """Write outside transactions, as clients do."""
        self.logs[place].append(Entry(key, value, None))

    def append_as_committed(self, place: TopicPartition, key: bytes | None, value: bytes | None) -> None:
        """Write outside transactions what counts as written by an engine."""
        self.logs[place].append(Entry(key, value, Transaction("", 0, 0, decision="commit")))

    def take_id(self, transactional_id: str) -> int:
        """`InitProducerId`: end the open transaction, wait for its markers, and give the next epoch."""
        state = self.ids.setdefault(transactional_id, TransactionalId())
        state.epoch += 1
        if state.transaction is not None:
            if state.transaction.decision is None:
                self._decide(state.transaction, "abort")
            self._finish(state.transaction)
            state.transaction = None
        return state.epoch

    def transactional_append(
        self, transactional_id: str, epoch: int, place: TopicPartition, key: bytes, value: bytes | None
    ) -> None:
        transaction = self._open(transactional_id, epoch)
        transaction.places.setdefault(place, len(self.logs[place]))
        self.logs[place].append(Entry(key, value, transaction))

    def send_positions(
        self,
        transactional_id: str,
        epoch: int,
        group_id: str,
        session: object,
        generation: int,
        positions: Mapping[TopicPartition, int],
    ) -> None:
        """`TxnOffsetCommit`. Raises `FencedError`, `RefusedError`."""
        transaction = self._open(transactional_id, epoch)
        group = self.groups[group_id]
        if generation != group.generation or all(member.session is not session for member in group.members.values()):
            raise RefusedError(f"generation {generation} of group {group_id} is over")
        group.writes += 1
        numbered = {place: (group.writes, position) for place, position in positions.items()}
        transaction.positions.setdefault(group_id, {}).update(numbered)
        if transaction not in group.pending:
            group.pending.append(transaction)

    def commit(self, transactional_id: str, epoch: int) -> None:
        """`EndTxn`. Raises `FencedError`."""
        state = self._checked(transactional_id, epoch)
        if state.transaction is None or state.transaction.is_over:
            return
        if state.transaction.decision is None:
            self._decide(state.transaction, "commit")
        if self.random is None:
            self._finish(state.transaction)

    def _checked(self, transactional_id: str, epoch: int) -> TransactionalId:
        state = self.ids[transactional_id]
        if epoch != state.epoch:
            raise FencedError(f"{transactional_id} has epoch {state.epoch}, not {epoch}")
        return state

    def _open(self, transactional_id: str, epoch: int) -> Transaction:
        state = self._checked(transactional_id, epoch)
        if state.transaction is not None and state.transaction.decision is not None:
            self._finish(state.transaction)  # CONCURRENT_TRANSACTIONS until then.
            state.transaction = None
        if state.transaction is None:
            state.transaction = Transaction(transactional_id, epoch, self.now_ms())
            self.undecided.append(state.transaction)
        return state.transaction

    def _decide(self, transaction: Transaction, decision: str) -> None:
        transaction.decision = decision
        self.decided += 1
        transaction.waiting = dict.fromkeys((*transaction.places, *transaction.positions))

    def _finish(self, transaction: Transaction) -> None:
        for target in list(transaction.waiting):
            self._deliver_marker(transaction, target)

    def _deliver_marker(self, transaction: Transaction, target: TopicPartition | str) -> None:
        del transaction.waiting[target]
        if isinstance(target, TopicPartition):
            self.logs[target].append(Entry(None, None, None, is_marker=True))
        else:
            group = self.groups[target]
            group.pending.remove(transaction)
            if transaction.decision == "commit":
                for place, (number, position) in transaction.positions[target].items():
                    if number > group.newest.get(place, 0):
                        group.newest[place], group.committed[place] = number, position
        if not transaction.waiting:
            self.undecided.remove(transaction)

    # --- groups ---

    def join(self, group_id: str, instance: str, session: object, topics: tuple[str, ...]) -> None:
        """A static member. A new process in an old member's place takes it over without a rebalance."""
        group = self.groups.setdefault(group_id, Group(topics))
        if instance in group.members:
            group.members[instance].session = session
        else:
            group.members[instance] = Member(session)
            self._rebalance(group)

    def expire(self, group_id: str, instance: str) -> None:
        """The member was silent for longer than its session."""
        group = self.groups[group_id]
        if group.members.pop(instance, None) is not None:
            self._rebalance(group)

    def _rebalance(self, group: Group) -> None:
        """Range assignment: partition p of every topic goes to the same member."""
        group.generation += 1
        names = sorted(group.members)
        for rank, name in enumerate(names):
            group.members[name].places = frozenset(
                TopicPartition(topic, partition)
                for topic in group.topics
                for partition in range(self.topics[topic])
                if partition % len(names) == rank
            )

    # --- time ---

    def tick(self) -> bool:
        """Let something happen that was under way; False when nothing is."""
        if self.held_back:
            self.held_back.pop(0)()
            return True
        for transaction in self.undecided:
            if transaction.decision is None and self.now_ms() - transaction.started_ms >= TRANSACTION_TIMEOUT_MS:
                self.ids[transaction.transactional_id].epoch += 1
                self._decide(transaction, "abort")
                return True
        travelling = [(t, target) for t in self.undecided for target in t.waiting]
        if not travelling:
            return False
        self._deliver_marker(*(travelling[0] if self.random is None else self.random.choice(travelling)))
        return True

    def next_timeout_ms(self) -> int | None:
        """When the oldest open transaction is too old."""
        opened = [t.started_ms for t in self.undecided if t.decision is None]
        return min(opened) + TRANSACTION_TIMEOUT_MS if opened else None
