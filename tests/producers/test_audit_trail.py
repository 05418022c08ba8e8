"""What parties say of what crossed: signed, compared to the record, and proven one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.federation_local import found_together
from infra.party_secrets import PartySecrets, load_secrets
from infra.secrets import create_secrets
from infra.settings import load_settings, save_settings
from producers.audit_trail import (
    AuditError,
    check_proof,
    collect_trail,
    compare_trails,
    make_statement,
    prove,
    read_statement,
)
from schemas.audit import CrossedEnvelope, EnvelopesCrossed
from streams.kernels.trails import Entry, StreamName

JOB = "job-1"
OUT = StreamName("acme", "globex", "train", "train")
BACK = StreamName("globex", "acme", "train", "train")


def entry(sequence: int, chunk: int = 0, text: str = "ab") -> Entry:
    return Entry(sequence, chunk, text * 32)


def full() -> dict[StreamName, list[Entry]]:
    """What both parties have of a job in which everything went well."""
    return {OUT: [entry(0), entry(1, 0), entry(1, 1), entry(2)], BACK: [entry(0, 0, "cd")]}


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> tuple[PartySecrets, PartySecrets]:
    """acme and globex, federated; and what initech has, which is not."""
    folder = tmp_path_factory.mktemp("homes")
    homes = [folder / name for name in ("acme", "globex")]
    for home, peer in zip(homes, ("globex", "acme"), strict=True):
        save_settings(
            home,
            {"party": home.name, "access": {"kind": "custom"}, "bootstrap_servers": "127.0.0.1:1", "peers": [peer]},
        )
        create_secrets(home, home.name)
    found_together(homes, "audited")
    acme, globex = (load_secrets(load_settings(home)) for home in homes)
    return acme, globex


def test_the_lists_of_both_ends_of_a_stream_are_the_same() -> None:
    envelopes = [("globex", True, 0, b"a" * 32), ("globex", False, 0, b"b" * 32), ("globex", True, 1, b"c" * 32)]
    sent = [CrossedEnvelope(peer, "train", "train", is_sent, n, 0, digest) for peer, is_sent, n, digest in envelopes]
    taken = [
        CrossedEnvelope("acme", "train", "train", not is_sent, n, 0, digest) for _, is_sent, n, digest in envelopes
    ]
    acme = collect_trail([EnvelopesCrossed(JOB, "acme", "train", b"", tuple(sent))])
    # In other steps, and read in another order.
    globex = collect_trail(EnvelopesCrossed(JOB, "globex", "train", b"", (each,)) for each in reversed(taken))
    assert acme == globex
    assert [len(entries) for entries in acme.values()] == [2, 1]
    assert [found.detail for found in compare_trails("acme", acme, "globex", globex)] == ["", ""]


@pytest.mark.parametrize(
    ("edit", "detail"),
    [
        (lambda t: t[OUT].pop(), "1 records from 2.0 on were sent and not taken (yet)"),
        (lambda t: t.pop(OUT), "4 records from 0.0 on were sent and not taken (yet)"),
        (lambda t: t[OUT].pop(1), "1.0 was sent and not taken"),
        (lambda t: t[OUT].append(entry(3)), "3.0 and what follows was taken, and acme did not send it"),
        (lambda t: t[OUT].insert(2, entry(1, 0, "ef")), "1.0 was taken and not sent"),
        (lambda t: t[OUT].__setitem__(2, entry(1, 1, "ef")), "1.1 is not what was sent: efefefefefefefef was taken"),
    ],
)
def test_the_first_record_that_differs_is_named(edit: Callable[[Any], object], detail: str) -> None:
    theirs = full()
    edit(theirs)
    findings = {each.stream: each.detail for each in compare_trails("acme", full(), "globex", theirs)}
    assert findings[OUT].startswith(detail)
    assert findings[BACK] == ""


def test_only_streams_between_the_two_are_compared() -> None:
    mine = {**full(), StreamName("acme", "initech", "train", "train"): [entry(0)]}
    assert {each.stream for each in compare_trails("acme", mine, "globex", full())} == {OUT, BACK}


def test_a_statement_is_believed_as_it_was_signed_and_not_otherwise(parties: tuple[PartySecrets, PartySecrets]) -> None:
    acme, globex = parties
    text = make_statement(globex, JOB, full()).model_dump_json()
    assert read_statement(text, "file", acme).trail == full()

    def edited(edit: Callable[[dict[str, Any]], object]) -> str:
        document = json.loads(text)
        edit(document)
        return json.dumps(document)

    for edit, words in (
        (lambda d: d["entries"][0][0].__setitem__(2, "00" * 32), "are not those that globex signed"),
        (lambda d: d["entries"][0].pop(), "are not those that globex signed"),
        (lambda d: d["entries"].pop(), "has entries of 1 streams and signs 2"),
        (lambda d: d["signed"]["streams"][0].update(count=3), "is not signed by 'globex'"),
        (lambda d: d["signed"].update(job_id="job-2"), "is not signed by 'globex'"),
        (lambda d: d["signed"].update(party="initech"), "is not signed by 'initech'"),
        (lambda d: d.update(more=1), "file is no statement: more: Extra inputs"),
        (lambda d: d["entries"][0][0].__setitem__(0, -1), "file is no statement: entries"),
    ):
        with pytest.raises(AuditError, match=words):
            read_statement(edited(edit), "file", acme)


@pytest.mark.parametrize("index", range(4))
def test_one_record_is_proven_without_the_others(parties: tuple[PartySecrets, PartySecrets], index: int) -> None:
    acme, globex = parties
    wanted = full()[OUT][index]
    proof = prove(make_statement(globex, JOB, full()), OUT, wanted.place)
    text = proof.model_dump_json()
    for digest in {each.digest for name, entries in full().items() for each in entries if name != OUT}:
        assert digest not in text
    stream, found, party = check_proof(text, "file", acme)
    assert (stream.name, found, party) == (OUT, wanted, "globex")
    assert check_proof(text, "file", globex)[1] == wanted, "its own as well"
    for edit, words in (
        ({"index": (index + 1) % 4}, "is not among those that globex signed"),
        ({"stream": 1}, "is not among those"),
        ({"stream": 2}, "about a stream that was not signed"),
        ({"entry": [wanted.sequence, wanted.chunk_index, "ef" * 32]}, "is not among those"),
        ({"signature": "0" * 128}, "is not signed by 'globex'"),
    ):
        with pytest.raises(AuditError, match=words):
            check_proof(json.dumps({**json.loads(text), **edit}), "file", acme)


def test_a_record_that_is_not_there_cannot_be_proven(parties: tuple[PartySecrets, PartySecrets]) -> None:
    statement = make_statement(parties[0], JOB, full())
    with pytest.raises(AuditError, match=r"there is no record 7\.0 .*; there are 0.0 to 2.0"):
        prove(statement, OUT, "7.0")
    with pytest.raises(AuditError, match="acme knows of nothing from"):
        prove(statement, StreamName("acme", "globex", "align", "align"), "0.0")


def test_rubbish_is_told_with_the_name_of_its_file(parties: tuple[PartySecrets, PartySecrets], tmp_path: Path) -> None:
    for text in ("", "[]", "{", '{"signed": 1}'):
        with pytest.raises(AuditError, match=r"received\.json is no statement"):
            read_statement(text, tmp_path / "received.json", parties[0])
