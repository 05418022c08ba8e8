"""What people see of two auditors: how far both have signed, and a file that holds by the manifest alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.federation_local import found_together
from infra.manifest import Manifest, ManifestError
from infra.party_secrets import PartySecrets, load_secrets
from infra.secrets import create_secrets
from infra.settings import load_settings, save_settings
from producers.audit_crossings import choose_words, fold_words
from producers.audit_files import check_words, is_cross_signed, read_manifest, write_words
from producers.audit_trail import AuditError
from schemas.audit_statements import AUDIT, AuditContradicted, AuditCountersigned, AuditStatement
from schemas.codec import encode
from streams.kernels.cross_signing import AuditWord, signed_bytes
from streams.machines.audit import AuditMachine
from streams.machines.audit.machine import SETTLE
from tests.machines.audit_cases import ACME, BACK, GLOBEX, JOB, OUT, Sealed, crossed, over, sealed, speak, tell
from tests.machines.driver import Driver

Parties = tuple[PartySecrets, PartySecrets, Path]
WORDS = AuditStatement | AuditCountersigned | AuditContradicted


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    """acme and globex, federated; and the file of their manifest."""
    folder = tmp_path_factory.mktemp("homes")
    homes = [folder / name for name in (ACME, GLOBEX)]
    for home, peer in zip(homes, (GLOBEX, ACME), strict=True):
        save_settings(home, {"party": home.name, "bootstrap_servers": "127.0.0.1:1", "peers": [peer]})
        create_secrets(home, home.name)
    found_together(homes, "audited")
    acme, globex = (load_secrets(load_settings(home)) for home in homes)
    return acme, globex, homes[0] / "federation" / "manifest-1.json"


def run_job(parties: Parties, at_acme: list[Sealed], at_globex: list[Sealed]) -> Driver:
    machines = {}
    for secrets in parties[:2]:
        digests = [version.manifest.digest for version in secrets.versions]
        machines[secrets.party, AUDIT] = AuditMachine(secrets.party, secrets, digests[0], digests)
    driver = Driver(machines, JOB)  # type: ignore[arg-type]
    for party, records in ((ACME, at_acme), (GLOBEX, at_globex)):
        tell(driver, party, crossed(party, OUT, records), crossed(party, BACK, sealed(3, "back")), over(party))
    speak(driver)
    return driver


def words_of(driver: Driver, party: str) -> tuple[AuditWord, ...]:
    return tuple(each for each in driver.results[party] if isinstance(each, WORDS))


def manifest_of(parties: Parties) -> Manifest:
    return read_manifest(parties[2].read_text(), parties[2])


def test_status_counts_what_each_side_has_signed(parties: Parties) -> None:
    driver = run_job(parties, sealed(140), sealed(140))
    for party, peer in ((ACME, GLOBEX), (GLOBEX, ACME)):
        first, second = fold_words(party, words_of(driver, party))
        assert (first.stream, second.stream) == (OUT, BACK) and first.peer == second.peer == peer
        for status, count in ((first, 140), (second, 3)):
            signed = (status.signed, status.countersigned_by_peer, status.countersigned_by_us)
            assert signed == (count, count, count) and status.contradictions == ()


def test_status_names_the_record_in_the_words_of_both(parties: Parties) -> None:
    altered = [*sealed(7), (7, 0, b"\xef" * 32), *sealed(2, start=8)]
    driver = run_job(parties, sealed(10), altered)
    status, honest = fold_words(ACME, words_of(driver, ACME))
    text = "7.0 is not what was sent: efefefefefefefef was taken, "
    assert sorted(each.split(text)[0] for each in status.contradictions) == [f"{ACME}: ", f"{GLOBEX}: "]
    assert honest.contradictions == () and honest.countersigned_by_peer == 3


def test_a_list_that_was_too_short_is_told_until_it_is_long_enough(parties: Parties) -> None:
    driver = run_job(parties, sealed(10), sealed(8))
    speak(driver, SETTLE)
    (status, _) = fold_words(ACME, words_of(driver, ACME))
    told = "2 records from 8.0 on were sent and not taken (yet)"
    assert sorted(status.contradictions) == [f"{ACME}: {told}", f"{GLOBEX}: {told}"]
    tell(driver, GLOBEX, crossed(GLOBEX, OUT, sealed(2, start=8)))
    speak(driver)
    for party in (ACME, GLOBEX):
        (status, _) = fold_words(party, words_of(driver, party))
        assert status.contradictions == () and status.countersigned_by_peer == 10


@pytest.fixture(scope="module")
def text(parties: Parties) -> str:
    """What globex hands out."""
    return write_words(JOB, choose_words(words_of(run_job(parties, sealed(140), sealed(140)), GLOBEX)))


def test_a_file_holds_by_the_manifest_alone(parties: Parties, text: str) -> None:
    assert is_cross_signed(text)
    lines = check_words(text, "file", [manifest_of(parties)])
    assert len(lines) == 4
    digest = manifest_of(parties).digest.hex()[:16]
    for signer, other in ((ACME, GLOBEX), (GLOBEX, ACME)):
        for count, name in ((140, OUT), (3, BACK)):
            line = f"{signer} signed and {other} counter-signed the first {count} records of {name} in {JOB}: root "
            (found,) = [each for each in lines if each.startswith(line)]
            assert found.endswith(f"manifest {digest}")


def test_a_file_tells_contradictions_as_well(parties: Parties) -> None:
    driver = run_job(parties, sealed(10), sealed(10, "other"))
    lines = check_words(write_words(JOB, choose_words(words_of(driver, ACME))), "file", [manifest_of(parties)])
    told = [line for line in lines if "0.0 is not what was sent" in line]
    assert sorted(line.split(" about ")[0] for line in told) == [
        f"{ACME} contradicts {GLOBEX}",
        f"{GLOBEX} contradicts {ACME}",
    ]


def sign_anew(secrets: PartySecrets, word: AuditWord, **changes: Any) -> str:
    changed = replace(word, **changes)
    return encode(replace(changed, signature=secrets.sign(signed_bytes(changed)))).hex()


def test_what_was_changed_in_a_file_is_refused(parties: Parties, text: str) -> None:
    acme, globex, _ = parties
    words = choose_words(words_of(run_job(parties, sealed(140), sealed(140)), GLOBEX))
    place = next(at for at, word in enumerate(words) if isinstance(word, AuditCountersigned) and word.party == GLOBEX)
    answer, short = words[place], next(at for at, w in enumerate(words) if getattr(w, "start", 1) == 0)

    def edited(edit: Callable[[dict[str, Any]], object]) -> str:
        document = json.loads(text)
        edit(document)
        return json.dumps(document)

    def change(at: int, word: str) -> Callable[[dict[str, Any]], object]:
        return lambda document: document["words"].__setitem__(at, word)

    for edit, reason in (
        (change(place, encode(replace(answer, count=1)).hex()), "the signature of 'globex' about .* is not its own"),
        (change(place, sign_anew(acme, answer)), "the signature of 'globex' about .* is not its own"),
        (change(place, sign_anew(globex, answer, root=b"r" * 32)), "counter-signed another root"),
        (change(place, sign_anew(globex, answer, statement=b"s" * 32)), "a statement about .* that is not in the file"),
        (change(place, sign_anew(globex, answer, manifest=b"m" * 32)), "signed under the manifest 6d6d.* not here"),
        (change(place, sign_anew(globex, answer, job_id="job-2")), "a word in it about another one"),
        (change(place, sign_anew(globex, answer, party="initech")), "'initech' is not a member"),
        (change(short, sign_anew(globex if words[short].party == GLOBEX else acme, words[short], root=b"r" * 32)),
         "a root that is not that of the records"),
        (change(place, encode(over(ACME)).hex()), "is no cross-signed statement: a JobSucceeded"),
        (change(place, "c301"), "is no cross-signed statement"),
        (change(place, "zz"), "is no cross-signed statement"),
        (lambda d: d.update(job_id="job-2"), "is about job job-2"),
        (lambda d: d.update(more=1), "is no cross-signed statement"),
        (lambda d: d["words"].extend(d["words"] * 1000), "is no cross-signed statement"),
    ):  # fmt: skip
        with pytest.raises(AuditError, match=reason):
            check_words(edited(edit), "file", [manifest_of(parties)])
    with pytest.raises(AuditError, match="is not here: give its file with --manifest"):
        check_words(text, "file", [])


def test_a_manifest_that_not_all_have_signed_proves_nothing(parties: Parties) -> None:
    document = json.loads(parties[2].read_text())
    del document["signatures"][GLOBEX]
    with pytest.raises(ManifestError, match="is not signed by globex yet"):
        read_manifest(json.dumps(document), "file")


def test_other_files_are_not_taken_for_it() -> None:
    assert not any(map(is_cross_signed, ("", "[]", "{", "{}", '{"format": "isthmus-audit-1"}')))
