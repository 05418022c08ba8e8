"""The score host: answers what guests ask about persons whom both know. One or more a host.

python -m consumers.score_host --home DIR
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import click

from consumers.model_cache import ModelUnavailableError
from consumers.party import Party
from consumers.relays import PURPOSE, KeptTables, Lookups, now_us, run_relay, seal_items
from consumers.serving import ServingCatalogue
from infra.topics import SCORE_HOST, answers_topic, questions_topic, score_audit_topic
from schemas.codec import encode
from schemas.jobs import JobSpec
from schemas.models import ModelRegistered
from schemas.scoring import ScoreAnswer, ScoreReason, ScoresAnswered, ScoresAsked
from streams.engine.dead_letter import UndeliverableError
from streams.engine.errors import LogUnavailableError
from streams.engine.messages import DecodeError, MessageSeal, SealError
from streams.engine.partitioner import partition_of
from streams.engine.ports import OutputRecord
from streams.engine.relay_counts import PartitionCounts
from streams.engine.relay_ports import Later, StampedRecord
from streams.features import FeatureSource, PersonFeatures
from streams.kernels.ristretto import normalise_id
from streams.machines.score.halves import Problem
from streams.machines.score.host import (
    Answered,
    Asked,
    AskedGroup,
    Bucket,
    Quota,
    admit,
    answer,
    audit,
    draw,
    find_ask_mistake,
    quantum_of,
)
from streams.machines.score.models import HostModel, make_host_model
from streams.machines.score.resolution import Refusal

#: Versions that stay prepared.
MOST_MODELS = 1_000
#: Tables of trainings are loaded here.
PARITY_LANE = "parity"


class Questions(NamedTuple):
    """An opened record: who asks, and what."""

    guest: str
    asked: ScoresAsked


class Index(Protocol):
    """Whom a token means; see `consumers.token_index.TokenIndex`."""

    def find(self, guest: str, tokens: Sequence[bytes]) -> list[str | None]:
        """The id of each token; None: no such person. Raises `FeatureSourceError`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


#: A source and how ids of a model's type are normalised -> the index.
MakeIndex = Callable[[FeatureSource, Callable[[str], str]], Index]


@dataclass(frozen=True)
class People:
    """A source and the index of its persons."""

    source: FeatureSource
    index: Index


class ScoreHost:
    """Implements `RelayHandler` for the questions of guests."""

    def __init__(
        self,
        party: Party,
        catalogue: ServingCatalogue,
        source: FeatureSource,
        load_table: Callable[[JobSpec], FeatureSource],
        make_index: MakeIndex,
        counts: Callable[[str], int],
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        """`counts` tells how many partitions a topic has, `load_table` gives the table of a job as a source."""
        settings = party.settings.score
        self._party = party.name
        self._catalogue = catalogue
        self._source = source
        self._load_table = load_table
        self._make_index = make_index
        self._tables: KeptTables[People] = KeptTables(self._load_people, _close_people)
        self._counts = counts
        self._clock_us = clock_us
        self._audit = score_audit_topic(party.name)
        self._seal, self._parity_seal = MessageSeal(party.keyring, PURPOSE), MessageSeal(party.keyring, PURPOSE)
        # A table that cannot be loaded says nothing about the tables of other models.
        self._lookups, self._parity_lookups = Lookups(), Lookups(rests=False)
        self._quantum = quantum_of(settings.precision)
        self._quota = Quota(settings.quota_per_second, settings.quota_burst)
        self._buckets: dict[str, Bucket] = {}
        #: By id type.
        self._people: dict[str, People] = {}
        self._models: dict[tuple[str, str], tuple[ModelRegistered, HostModel]] = {}

    def open(self, record: StampedRecord) -> Questions:
        """The questions, if they are ones that can be answered at all."""
        try:
            guest, asked = self._seal.open(record.value or b"", record.topic, record.partition)
        except (SealError, DecodeError) as error:
            raise UndeliverableError(str(error)) from error
        if not isinstance(asked, ScoresAsked):
            raise UndeliverableError(f"{type(asked).__name__} from {guest!r} is no question")
        mistake = next((mistake for ask in asked.asks if (mistake := find_ask_mistake(ask))), "")
        if mistake:
            raise UndeliverableError(f"a question of {guest!r}: {mistake}")
        try:
            count = self._counts(answers_topic(guest))
        except LookupError as error:
            raise UndeliverableError(f"questions of {guest!r}, but {error}") from error
        if not 0 <= asked.partition < count:
            raise UndeliverableError(f"answers for partition {asked.partition} of {guest!r}, which has {count}")
        return Questions(guest, asked)

    def handle(self, items: Sequence[Questions]) -> Iterator[Sequence[OutputRecord] | Later]:
        """All questions of a guest together, version by version."""
        by_guest: dict[str, list[Asked]] = {}
        for guest, asked in items:
            by_guest.setdefault(guest, []).extend(Asked(ask, asked.partition) for ask in asked.asks)
        for guest, questions in by_guest.items():
            now = self._clock_us()
            bucket, granted = draw(self._quota, self._buckets.get(guest), now, len(questions))
            self._buckets[guest] = bucket
            groups, answered = admit(questions, granted, now, functools.partial(self.find_model, guest))
            for found in groups:
                if not found.is_parity:
                    people = functools.partial(self._find_people, found.model.id_type)
                    answered += self._answer(guest, found, people, self._lookups)
            yield self._tell(guest, answered, self._seal)
            for found in groups:
                if found.is_parity:
                    yield Later(PARITY_LANE, functools.partial(self._check_parity, guest, found))

    def close(self) -> None:
        """Stop following, let go of the sources."""
        self._catalogue.close()
        for people in self._people.values():
            people.index.close()
        self._source.close()
        self._tables.close()

    # --- versions ---

    def find_model(self, guest: str, name: str, version: str) -> HostModel | Refusal:
        """The version, ready to score with, if it is one of this guest and this host."""
        registered = self._catalogue.model(name, version)
        if registered is None or registered.spec.guest.party != guest:
            return Refusal(ScoreReason.UNKNOWN_MODEL, "")
        if all(host.party != self._party for host in registered.spec.hosts):
            return Refusal(ScoreReason.UNKNOWN_MODEL, "")
        known = self._models.get((name, version))
        if known is not None and known[0] is registered:
            return known[1]
        try:
            made = make_host_model(registered, self._catalogue.half(name, version))
        except (ModelUnavailableError, ValueError) as error:
            return Refusal(ScoreReason.MODEL_UNAVAILABLE, str(error))
        while len(self._models) >= MOST_MODELS:
            del self._models[next(iter(self._models))]
        self._models[name, version] = (registered, made)
        return made

    # --- persons and features ---

    def warm(self) -> None:
        """Derive the tokens for all guests of models that are there: a million of them would hold up a question."""
        for registered in self._catalogue.models():
            spec = registered.spec
            if any(host.party == self._party for host in spec.hosts):
                people = self._find_people(spec.align.id_type)
                self._lookups.attempt(functools.partial(people.index.find, spec.guest.party, ()))

    def _answer(
        self, guest: str, found: AskedGroup, find_people: Callable[[], People], lookups: Lookups
    ) -> list[Answered]:
        persons, rows = self._look_up(guest, found, find_people, lookups)
        return answer(found, persons, rows, self._quantum, self._clock_us())

    def _look_up(
        self, guest: str, found: AskedGroup, find_people: Callable[[], People], lookups: Lookups
    ) -> tuple[Sequence[str | None], dict[str, PersonFeatures | None] | Problem]:
        """Who is meant, and what is known of them. The reason of a failure is told, its text is the host's own."""
        people = lookups.attempt(find_people)
        if isinstance(people, Problem):
            return (), Problem(people.reason)
        persons = lookups.attempt(lambda: people.index.find(guest, found.tokens))
        if isinstance(persons, Problem):
            return (), Problem(persons.reason)
        wanted = list(dict.fromkeys(person for person in persons if person is not None))
        rows = lookups.fetch(people.source, wanted, found.model.rows.columns) if wanted else {}
        return persons, Problem(rows.reason) if isinstance(rows, Problem) else rows

    def _find_people(self, id_type: str) -> People:
        """Those of the live source."""
        if id_type not in self._people:
            index = self._make_index(self._source, functools.partial(normalise_id, id_type=id_type))
            self._people[id_type] = People(self._source, index)
        return self._people[id_type]

    def _load_people(self, spec: JobSpec) -> People:
        """Those of the table of a job."""
        table = self._load_table(spec)
        return People(table, self._make_index(table, functools.partial(normalise_id, id_type=spec.align.id_type)))

    def _check_parity(self, guest: str, found: AskedGroup) -> Sequence[OutputRecord]:
        """In the lane of parity checks, with what belongs to it alone."""
        registered = self._catalogue.model(found.model.name, found.model.version)
        if registered is None:
            refused = Problem(ScoreReason.UNKNOWN_MODEL)
            return self._tell(guest, answer(found, (), refused, self._quantum, self._clock_us()), self._parity_seal)
        people = functools.partial(self._tables.get, registered.spec)
        return self._tell(guest, self._answer(guest, found, people, self._parity_lookups), self._parity_seal)

    # --- what goes out ---

    def _tell(self, guest: str, answered: Sequence[Answered], seal: MessageSeal) -> list[OutputRecord]:
        """One record a partition of the guest, and one in the own books for each answer."""
        by_partition: dict[int, list[ScoreAnswer]] = {}
        for asked, said in answered:
            by_partition.setdefault(asked.partition, []).append(said)
        topic = answers_topic(guest)
        outputs = [
            output
            for partition, answers in by_partition.items()
            for output in seal_items(seal, answers, ScoresAnswered, guest, topic, partition)
        ]
        topic, count = self._audit, self._count_books()
        for one in answered:
            key = one.answer.request_id.encode()
            outputs.append(OutputRecord(topic, partition_of(key, count), key, encode(audit(guest, one))))
        return outputs

    def _count_books(self) -> int:
        try:
            return self._counts(self._audit)
        except LookupError as error:
            raise LogUnavailableError(f"{error}: make the party's topics first") from error


def _close_people(people: People) -> None:
    people.index.close()
    people.source.close()


def make_host(party: Party, counts: PartitionCounts) -> ScoreHost:
    """The score host of a party, ready to handle. Raises `EngineError`, `SettingsError`, `FeatureSourceError`."""
    from consumers.features import TokenIndex, dataset_source, make_source

    def make_index(source: FeatureSource, normalise: Callable[[str], str]) -> TokenIndex:
        return TokenIndex(source, lambda guest: party.keyring.token_key(guest, party.name), normalise)

    catalogue = ServingCatalogue(party, serving=False)
    catalogue.start()
    source = make_source(party, for_hosting=True)
    host = ScoreHost(party, catalogue, source, functools.partial(dataset_source, party), make_index, counts)
    host.warm()
    return host


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run a score host of online scoring at a party."""
    run_relay(home, slot, SCORE_HOST, questions_topic, make_host)


if __name__ == "__main__":
    main()
