"""The protocol pages in the docs are drawn from the tables that the machines' tests walk."""

from __future__ import annotations

from enum import StrEnum

import pytest

from docs.generate import FOLDER, page_of, protocol_stages
from schemas.jobs import CancelJob, JobCancelled, SubmitJob
from streams.machines.diagram import render, render_table
from streams.machines.transition import Transition


class Phase(StrEnum):
    """Phases of a protocol that is only drawn."""

    NEW = "new"
    ENDED = "ended"


ROWS = (
    Transition("guest", Phase.NEW, SubmitJob, (Phase.NEW, Phase.ENDED)),
    Transition("guest", Phase.NEW, CancelJob, (Phase.ENDED,), (JobCancelled,)),
    Transition("host", Phase.NEW, CancelJob, (Phase.ENDED,)),
)


@pytest.mark.parametrize("stage", protocol_stages())
def test_the_page_of_every_protocol_is_up_to_date(stage: str) -> None:
    """When this fails: `python -m docs.generate`."""
    path = FOLDER / f"{stage}.md"
    assert path.exists(), f"{path.name} was never written: run `python -m docs.generate`"
    assert path.read_text(encoding="utf-8") == page_of(stage)


def test_no_page_is_left_of_a_protocol_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(protocol_stages())


def test_a_diagram_shows_each_roles_phases_and_merges_arrows() -> None:
    assert render(ROWS) == (
        "stateDiagram-v2\n"
        "    state guest {\n"
        '        state "new" as guest_new\n'
        '        state "ended" as guest_ended\n'
        "        [*] --> guest_new\n"
        "        guest_new --> guest_new: SubmitJob\n"
        "        guest_new --> guest_ended: SubmitJob, CancelJob\n"
        "        guest_ended --> [*]\n"
        "    }\n"
        "    state host {\n"
        '        state "new" as host_new\n'
        '        state "ended" as host_ended\n'
        "        [*] --> host_new\n"
        "        host_new --> host_ended: CancelJob\n"
        "        host_ended --> [*]\n"
        "    }\n"
    )


def test_a_table_lists_what_a_role_may_send() -> None:
    assert render_table(ROWS, "guest").splitlines()[2:] == [
        "| new | `SubmitJob` | new, ended | - |",
        "| new | `CancelJob` | ended | `JobCancelled` |",
    ]
