"""The joiner of online scoring: gives each request of this party its outcome, exactly once.

python -m consumers.score_joiner --home DIR --slot N
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, cast

import click

from consumers.party import Party
from consumers.process import run_process
from infra.connection import connect_as
from infra.topics import (
    JOINER,
    SCORE,
    answers_topic,
    dead_letter_topic,
    group_id,
    results_topic,
    routed_topic,
    score_audit_topic,
    state_topic,
    transactional_id,
)
from streams.engine.join_process import JoinProcess
from streams.engine.join_slices import JoinTopics
from streams.engine.kafka_log import KafkaLog
from streams.engine.topics import StageTopics
from streams.machines.score.ledger import JoinRules

#: A transaction often begins when the broker has not quite ended the one before, and is asked to try again: soon.
LATENCY: dict[str, Any] = {"retry.backoff.ms": 1, "retry.backoff.max.ms": 20}
#: What lives longest are texts in one large dict: looking through everything more rarely costs no memory.
GC_THRESHOLDS = (50_000, 20, 100)


def join_topics(party: str) -> JoinTopics:
    """The topics of a party's joiner."""
    return JoinTopics(
        party=party,
        stage=JOINER,
        routed=routed_topic(party),
        answers=answers_topic(party),
        state=state_topic(SCORE, party),
        results=results_topic(party),
        audit=score_audit_topic(party),
        dead_letter=dead_letter_topic(party),
    )


def make_process(party: Party, slot: int) -> JoinProcess:
    """The joiner of a party on its broker."""
    topics, score = join_topics(party.name), party.settings.score
    log = KafkaLog(
        party.settings.bootstrap_servers,
        # It looks at the inputs only.
        cast(StageTopics, topics),
        group_id=group_id(JOINER, party.name),
        transactional_id=transactional_id(JOINER, party.name, slot),
        properties={**LATENCY, **connect_as(party.settings, JOINER)},
    )
    rules = JoinRules(party.name, score.most_waiting, score.remember_seconds * 1_000)
    return JoinProcess(topics, rules, log, party.keyring)


@click.command()
@click.option("--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The party's home.")
@click.option("--slot", type=click.IntRange(0, 99), default=0, show_default=True, help="Number among equal processes.")
def main(home: Path, slot: int) -> None:
    """Run a joiner of online scoring at a party."""
    gc.set_threshold(*GC_THRESHOLDS)
    run_process(home, JOINER, lambda party: make_process(party, slot))


if __name__ == "__main__":
    main()
