"""The router: takes requests, asks the hosts, and tells the joiner what the guest knows. One or more a guest.

python -m consumers.score_router --home DIR
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from consumers.model_cache import ModelUnavailableError
from consumers.party import Party
from consumers.relays import PURPOSE, KeptTables, Lookups, now_us, run_relay, seal_items
from consumers.serving import ServingCatalogue
from infra.topics import ROUTER, questions_topic, requests_topic, routed_topic
from schemas.codec import DecodeError, decode
from schemas.jobs import JobSpec
from schemas.scoring import RoutedScore, ScoreAsk, ScoreReason, ScoreRequested, ScoresAsked, ScoresRouted
from schemas.serving import ServingVersion
from streams.engine.dead_letter import UndeliverableError
from streams.engine.errors import LogUnavailableError
from streams.engine.messages import MessageSeal
from streams.engine.partitioner import partition_of
from streams.engine.ports import OutputRecord
from streams.engine.relay_counts import PartitionCounts
from streams.engine.relay_ports import Later, StampedRecord
from streams.engine.seal import Keyring, SealError
from streams.features import FeatureSource, PersonFeatures
from streams.machines.score.halves import Problem
from streams.machines.score.models import GuestModel, make_guest_model
from streams.machines.score.resolution import Refusal
from streams.machines.score.router import Arrived, Group, Names, conclude, group, take_up

#: Versions that stay prepared.
MOST_MODELS = 1_000
#: Tables of trainings are loaded here.
PARITY_LANE = "parity"


class TokenKeys(dict[str, bytes]):
    """The key of the tokens for each host, derived at first use. Raises `SealError` for a party without keys."""

    def __init__(self, keyring: Keyring) -> None:
        super().__init__()
        self._keyring = keyring

    def __missing__(self, host: str) -> bytes:
        self[host] = self._keyring.token_key(self._keyring.party, host)
        return self[host]


class ScoreRouter:
    """Implements `RelayHandler` for the guest's requests."""

    def __init__(
        self,
        party: Party,
        catalogue: ServingCatalogue,
        source: FeatureSource,
        load_table: Callable[[JobSpec], FeatureSource],
        counts: Callable[[str], int],
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        """`counts` tells how many partitions a topic has, `load_table` gives the table of a job as a source."""
        self._party = party.name
        self._catalogue = catalogue
        self._source = source
        self._tables: KeptTables[FeatureSource] = KeptTables(load_table, lambda table: table.close())
        self._counts = counts
        self._clock_us = clock_us
        self._routed = routed_topic(party.name)
        self._seal, self._parity_seal = MessageSeal(party.keyring, PURPOSE), MessageSeal(party.keyring, PURPOSE)
        # A table that cannot be loaded says nothing about the tables of other models.
        self._lookups, self._parity_lookups = Lookups(), Lookups(rests=False)
        self._names = Names(party.name, party.keyring.pseudonym_key(), TokenKeys(party.keyring))
        self._models: dict[tuple[str, str], tuple[ServingVersion | None, GuestModel]] = {}

    def open(self, record: StampedRecord) -> Arrived:
        """The request. Applications write plain records."""
        try:
            request = decode(record.value or b"")
        except DecodeError as error:
            raise UndeliverableError(str(error)) from error
        if not isinstance(request, ScoreRequested):
            raise UndeliverableError(f"{type(request).__name__} is no request")
        return Arrived(request, record.partition, record.offset, record.timestamp_ms)

    def handle(self, items: Sequence[Arrived]) -> Iterator[Sequence[OutputRecord] | Later]:
        """First the questions, so that hosts work while the own features are looked up."""
        up = take_up(items, self._clock_us(), self._catalogue.resolve, self.find_model, self._names)
        if up.asks:
            yield self._asked(up.asks)
        if up.refused:
            yield self._tell(up.refused, self._seal)
        groups = group(up.taken)
        live = [self._conclude(found) for found in groups if not found.is_parity]
        if live:
            yield self._tell(list(itertools.chain.from_iterable(live)), self._seal)
        for found in groups:
            if found.is_parity:
                yield Later(PARITY_LANE, functools.partial(self._check_parity, found))

    def close(self) -> None:
        """Stop following, let go of the sources."""
        self._catalogue.close()
        self._source.close()
        self._tables.close()

    # --- versions ---

    def find_model(self, name: str, version: str, needs_pass: bool) -> GuestModel | Refusal:
        """The version, ready to score with."""
        refusal = self._catalogue.check(name, version, needs_pass)
        if refusal is not None:
            return refusal
        checked = self._catalogue.checked(name, version)
        known = self._models.get((name, version))
        if known is not None and known[0] is checked:
            return known[1]
        made = self._make_model(name, version, checked)
        if isinstance(made, GuestModel):
            while len(self._models) >= MOST_MODELS:
                del self._models[next(iter(self._models))]
            self._models[name, version] = (checked, made)
        return made

    def _make_model(self, name: str, version: str, checked: ServingVersion | None) -> GuestModel | Refusal:
        registered = self._catalogue.model(name, version)
        if registered is None or registered.spec.guest.party != self._party:
            return Refusal(ScoreReason.UNKNOWN_MODEL, f"{self._party} is not the guest of {name}/{version}")
        try:
            model = make_guest_model(registered, self._catalogue.half(name, version), checked)
            for host in model.hosts:
                _ = self._names.token_keys[host]
                self._counts(questions_topic(host))
        except (ModelUnavailableError, ValueError, SealError, LookupError) as error:
            return Refusal(ScoreReason.MODEL_UNAVAILABLE, str(error))
        return model

    # --- features ---

    def _conclude(self, found: Group) -> list[RoutedScore]:
        return conclude(found, self._look_up(found, self._source, self._lookups), self._party)

    def _check_parity(self, found: Group) -> Sequence[OutputRecord]:
        """In the lane of parity checks, with what belongs to it alone."""
        registered = self._catalogue.model(found.model.name, found.model.version)
        table: FeatureSource | Problem = Problem(ScoreReason.UNKNOWN_MODEL)
        if registered is not None:
            spec = registered.spec
            table = self._parity_lookups.attempt(lambda: self._tables.get(spec))
        rows = table if isinstance(table, Problem) else self._look_up(found, table, self._parity_lookups)
        return self._tell(conclude(found, rows, self._party), self._parity_seal)

    def _look_up(
        self, found: Group, source: FeatureSource, lookups: Lookups
    ) -> dict[str, PersonFeatures | None] | Problem:
        wanted = found.wanted
        return lookups.fetch(source, wanted, found.model.rows.columns) if wanted else {}

    # --- what goes out ---

    def _asked(self, asks: Sequence[tuple[str, ScoreAsk]]) -> list[OutputRecord]:
        """One record a host and partition of the answers."""
        count = self._count(self._routed)
        by_place: dict[tuple[str, int], list[ScoreAsk]] = {}
        for host, ask in asks:
            by_place.setdefault((host, partition_of(ask.request_id.encode(), count)), []).append(ask)
        outputs = []
        for (host, partition), place_asks in by_place.items():
            topic = questions_topic(host)
            # Any partition does, so it is one that all hosts' processes get their share of.
            at_host = partition_of(place_asks[0].request_id.encode(), self._count(topic))
            pack = functools.partial(ScoresAsked, partition)
            outputs += seal_items(self._seal, place_asks, pack, host, topic, at_host)
        return outputs

    def _tell(self, items: Sequence[RoutedScore], seal: MessageSeal) -> list[OutputRecord]:
        """One record a partition of the joiner."""
        topic, count = self._routed, self._count(self._routed)
        by_partition: dict[int, list[RoutedScore]] = {}
        for item in items:
            by_partition.setdefault(partition_of(item.request_id.encode(), count), []).append(item)
        return [
            output
            for partition, routed in by_partition.items()
            for output in seal_items(seal, routed, ScoresRouted, self._party, topic, partition)
        ]

    def _count(self, topic: str) -> int:
        try:
            return self._counts(topic)
        except LookupError as error:
            raise LogUnavailableError(f"{error}: make the party's topics first") from error


def make_router(party: Party, counts: PartitionCounts) -> ScoreRouter:
    """The router of a party, ready to handle. Raises `EngineError`, `SettingsError`, `FeatureSourceError`."""
    from consumers.features import dataset_source, make_source

    catalogue = ServingCatalogue(party)
    catalogue.start()
    source = make_source(party, for_hosting=False)
    return ScoreRouter(party, catalogue, source, functools.partial(dataset_source, party), counts)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run a router of online scoring at a party."""
    run_relay(home, slot, ROUTER, requests_topic, make_router)


if __name__ == "__main__":
    main()
