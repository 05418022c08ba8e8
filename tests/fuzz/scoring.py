"""The machines of online scoring among hostile requests, questions and answers."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from schemas.codec import encode
from schemas.record import Record
from schemas.scoring import (
    Purpose,
    RoutedScore,
    ScoreAnswer,
    ScoreAsk,
    ScoreReason,
    ScoreRequested,
    ScoresAnswered,
    ScoresAsked,
    ScoresRouted,
)
from streams.kernels.scorecard import POINT_QUANTUM
from streams.machines.score.host import Asked, admit, answer, audit, find_ask_mistake
from streams.machines.score.joiner import MOST_EARLY_ANSWERS
from streams.machines.score.router import conclude, group, take_up
from streams.machines.score.verdicts import fault_of_item
from tests.fuzz.notation import record_from_json, record_to_json
from tests.fuzz.variation import altered, records_of
from tests.machines import route_cases
from tests.machines.route_cases import GUEST, NAME, NAMES, NOW_MS, NOW_US, Shelf, Version, arrive, make_rows
from tests.machines.score_bench import NOW_MS as BENCH_MS
from tests.machines.score_bench import Bench, answered, routed

#: What one question or one request may become, whatever is written in it.
MOST_BYTES = 10_000
#: Deltas and outcomes are Kafka records.
MOST_RECORD = 900_000
#: Answers that may wait for a request that did not come: of three senders.
MOST_HELD = 3 * MOST_EARLY_ANSWERS
IDS = ("anna", "berta", "carl")


@functools.cache
def _shelf() -> Shelf:
    shelf = Shelf(Version("job-1"), Version("job-2", seed=2), Version("job-3", passed=None))
    shelf.point("live", "job-1", canary="job-2", permille=300, shadow="job-2")
    shelf.point("bad", "job-9")
    return shelf


# --- a host and its questions ---


def honest_ask() -> ScoreAsk:
    return ScoreAsk("r-1", b"anna".ljust(16, b"."), NAME, "job-1", Purpose.LIVE, NOW_US, NOW_MS + 500)


def asks() -> st.SearchStrategy[tuple[Record, ...]]:
    """Questions of a guest."""
    one = st.just(honest_ask())
    some = st.one_of(one, one.flatmap(altered), one.flatmap(altered).flatmap(altered), records_of(ScoreAsk))
    return st.lists(some, min_size=1, max_size=5).map(tuple)


def ask_host(questions: Sequence[Record]) -> None:
    """Each question that can be booked has one answer and one entry in the books, of bounded size."""
    good = [ask for ask in questions if isinstance(ask, ScoreAsk) and not find_ask_mistake(ask)]
    asked = [Asked(ask, 0) for ask in good]
    rows, _ = make_rows(_shelf().versions["job-1"].host_half, IDS)
    groups, answers = admit(asked, len(asked) - 1, NOW_US, _shelf().find_host_model)
    for found in groups:
        persons = [
            name if (name := token.rstrip(b".").decode(errors="replace")) in IDS else None for token in found.tokens
        ]
        answers += answer(found, persons, rows, POINT_QUANTUM, NOW_US)
    assert Counter(map(id, (each.asked.ask for each in answers))) == Counter(map(id, good)), "one answer each"
    for each in answers:
        said = each.answer
        assert (said.quantum, said.value) == (0, 0) or (
            said.quantum == POINT_QUANTUM and said.reason is ScoreReason.NONE
        )
        assert len(encode(said)) <= MOST_BYTES, f"an answer of {len(encode(said)):,} bytes"
        assert len(encode(audit("guest", each))) <= MOST_BYTES
    encode(ScoresAnswered(tuple(each.answer for each in answers)))


# --- a router and its requests ---


def requests() -> st.SearchStrategy[tuple[Record, ...]]:
    """What applications may write."""
    models = st.sampled_from((f"{NAME}@live", NAME, f"{NAME}/job-2", f"{NAME}/job-3", f"{NAME}@bad", "x", "a" * 300))
    one = st.builds(
        lambda model, purpose: route_cases.make_request(model=model, purpose=purpose),
        models,
        st.sampled_from((Purpose.LIVE, Purpose.PARITY)),
    )
    told = st.builds(
        lambda values: route_cases.make_request(features=route_cases.give(**values)),
        st.dictionaries(st.sampled_from([f"{GUEST}_{n}" for n in range(4)]), st.floats(), max_size=4),
    )
    some = st.one_of(one, told, one.flatmap(altered), told.flatmap(altered), records_of(ScoreRequested))
    return st.lists(some, min_size=1, max_size=4).map(tuple)


def ask_router(written: Sequence[Record]) -> None:
    """Each request becomes one live or parity item, and questions only where it was not refused."""
    shelf = _shelf()
    taken = [record for record in written if isinstance(record, ScoreRequested)]
    resolve: Any = shelf.resolve
    up = take_up(arrive(*taken), NOW_US, resolve, shelf.find_guest_model, NAMES)
    rows, _ = make_rows(shelf.versions["job-1"].guest_half, IDS)
    items = [*up.refused]
    for found in group(up.taken):
        wanted = {person: rows.get(person) for person in found.wanted}
        items += conclude(found, wanted, GUEST)
    main = Counter(item.request_offset for item in items if item.purpose is not Purpose.SHADOW)
    assert main == Counter(range(40, 40 + len(taken))), "each request has one item"
    for item in items:
        assert not fault_of_item(item), "the joiner would complain"
        assert len(encode(item)) <= 4 * MOST_BYTES, f"an item of {len(encode(item)):,} bytes"
    assert len(up.asks) == len(up.taken), "one host, one question"
    for _, ask in up.asks:
        assert not find_ask_mistake(ask), "the host would refuse it"
    encode(ScoresRouted(tuple(items)))
    encode(ScoresAsked(0, tuple(ask for _, ask in up.asks)))


# --- a joiner between its router and hosts ---


@dataclass(frozen=True)
class Move:
    """What happens to the joiner: a record of `sender` comes, or one of commit, abort, restart; or time."""

    kind: str
    sender: str = ""
    record: Record | None = None
    later_ms: int = 0
    #: How many answers come that differ in the version.
    times: int = 1


def moves() -> st.SearchStrategy[tuple[Move, ...]]:
    """Requests come from the own router and are honest; answers from anybody."""
    ids = st.sampled_from(("r", "s", "t"))
    item = st.builds(
        lambda name, hosts, alone: routed(name, hosts=hosts, alone_logit=alone),
        ids,
        st.sampled_from((("host",), ("host", "third"), ())),
        st.sampled_from((None, 1 << 19)),
    )
    reply = ids.map(answered)
    hostile = st.one_of(reply, reply.flatmap(altered), reply.flatmap(altered).flatmap(altered), records_of(ScoreAnswer))
    route = st.builds(lambda record: Move("route", record=record), item)
    say = st.builds(
        lambda sender, record: Move("answer", sender, record), st.sampled_from(("host", "third", "x")), hostile
    )
    flood = st.builds(
        lambda record, times: Move("answer", "host", record, times=times), reply, st.sampled_from((9, 200))
    )
    end = st.sampled_from([Move(kind) for kind in ("commit", "commit", "abort", "restart")])
    wait = st.sampled_from((0, 1, 600, 1_100, 61_000, 10_000_000)).map(lambda ms: Move("wait", later_ms=ms))
    return st.lists(st.one_of(route, say, say, flood, end, wait), min_size=1, max_size=14).map(tuple)


def ask_joiner(script: Sequence[Move]) -> None:
    """Never more than one outcome for a request; what is kept can be read back; all of it fits Kafka's records."""
    bench = Bench()
    offset, now_ms = 0, BENCH_MS
    for move in script:
        match move:
            case Move("route", record=RoutedScore() as item):
                bench.route(replace(item, request_offset=offset, appended_at_ms=now_ms))
                offset += 1
            case Move("answer", sender=sender, record=ScoreAnswer() as reply, times=times):
                bench.answer(reply, host=sender)
                bench.answer(*(replace(reply, version=f"v{place}") for place in range(2, times + 1)), host=sender)
            case Move("wait", later_ms=later_ms):
                now_ms += later_ms
                bench.fire(now_ms)
            case Move("commit"):
                bench.commit()
                bench.check_state()
            case Move("abort"):
                bench.abort()
            case Move("restart"):
                bench.restart()
        for early in bench.draft.early.values():
            assert early is None or len(early.answers) <= MOST_HELD, (
                f"{len(early.answers):,} answers to nothing are kept"
            )
    bench.commit()
    bench.check_state()
    counts = bench.outcomes()
    assert not [key for key, count in counts.items() if count > 1], "a second outcome"
    for record in (*bench.joined, *bench.audited, *bench.late):
        assert len(encode(record)) <= MOST_RECORD
    for value in bench.state.values():
        assert len(value) <= MOST_RECORD, f"a delta of {len(value):,} bytes"


def moves_to_json(script: Sequence[Move]) -> list[dict[str, Any]]:
    return [
        {
            "kind": move.kind,
            **({"from": move.sender} if move.sender else {}),
            **({"record": record_to_json(move.record)} if move.record else {}),
            **({"later_ms": move.later_ms} if move.later_ms else {}),
            **({"times": move.times} if move.times != 1 else {}),
        }
        for move in script
    ]


def moves_from_json(data: Sequence[dict[str, Any]]) -> tuple[Move, ...]:
    return tuple(
        Move(
            each["kind"],
            each.get("from", ""),
            record_from_json(each["record"]) if "record" in each else None,
            each.get("later_ms", 0),
            each.get("times", 1),
        )
        for each in data
    )
