"""Whatever comes in, people are told what is wrong, where, and what to do; and nothing stays half-done.

One pair of parties lives through all of this, with the processes that it has; in between and at the end good jobs run.
"""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from consumers.supervisor import PROCESSES
from infra.broker import EmbeddedBroker, run_tool
from infra.broker.ports import free_ports
from infra.topics import PARTITIONS, commands_topic
from producers import topic_reader
from producers.cli import main
from producers.demo_data import DemoTables
from producers.job_view import JobStatus, TaskStatus
from producers.spec import spec_to_yaml
from schemas.codec import encode
from schemas.jobs import (
    AlignSpec,
    EvaluateSpec,
    JobResumed,
    JobSpec,
    JobSuspended,
    Leak,
    Mistake,
    PartySpec,
    Reason,
    Stage,
    SubmitJob,
    TrainSpec,
)
from tests.end_to_end.junk import Junk, Place, make_junk, write_all
from tests.end_to_end.world import DEADLINE_SECONDS, LABEL, House, World, await_true, read_all, running_world

pytestmark = pytest.mark.timeout(900)

#: Column of the guest, column of the host that are spoiled.
GUEST_COLUMN, HOST_COLUMN = "worst texture", "mean area"
SECRET_WORD = "quite-a-private-remark"


def _spoiled(table: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """The table with one thing wrong in each copy, and everything wrong in the last."""
    holes, words, twins, sins = (table.copy() for _ in range(4))
    for copy in (holes, sins):
        copy.loc[3, column] = float("nan")
    for copy in (words, sins):
        copy[column] = copy[column].astype(object)
        copy.loc[5, column] = SECRET_WORD
    for copy in (twins, sins):
        copy["id"] = [*copy["id"][:7], copy["id"][2], *copy["id"][8:]]
    return {"holes": holes, "words": words, "twins": twins, "sins": sins, "gone": table}


def _more_tables(tables: DemoTables) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    guest = _spoiled(tables.guest, GUEST_COLUMN)
    shades, constant = tables.guest.copy(), tables.guest.copy()
    shades.loc[4, LABEL] = 2
    guest["sins"].loc[4, LABEL] = 2
    constant[LABEL] = 1
    strangers = tables.host.assign(id="stranger-" + tables.host["id"])
    return (
        {**guest, "shades": shades, "constant": constant},
        {**_spoiled(tables.host, HOST_COLUMN), "strangers": strangers},
    )


@pytest.fixture(scope="module")
def world(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    parties = ("bad-guest", "bad-host")
    with running_world(tmp_path_factory.mktemp("bad"), broker, parties, more=_more_tables) as made:
        for house in made.houses:
            (house.home / "data" / "gone.csv").unlink()
        yield made


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def _texts(mistakes: tuple[Mistake, ...]) -> dict[str, str]:
    return {mistake.path: mistake.message for mistake in mistakes}


def _commands(house: House) -> int:
    """How many commands were ever given to the party's coordinator."""
    topic = commands_topic(Stage.JOB, house.party)
    places = [(topic, partition) for partition in range(PARTITIONS)]
    return sum(b"Fired" not in (message.value() or b"") for message in read_all(_bootstrap(house), places))


def _bootstrap(house: House) -> str:
    return house.settings.bootstrap_servers


# --- specs -----------------------------------------------------------------------------------------------------------

BAD_FIELDS = {
    "train.algorithm": "unknown algorithm 'oracle'; there is logistic_regression",
    "train.max_passes": "0 is below 1, the least",
    "train.feature_clip": "9 is above 8, the most",
    "train.key_bits": "1024 is not one of 2048, 3072",
    "align.id_type": "unknown 'passport'; there is string, email, phone",
    "evaluate.holdout_fraction": "0.95 is above 0.9, the most",
    "patience_seconds": "0 is below 1, the least",
    "guest.features[1]": "is listed twice",
}


def _bad_spec(world: World) -> JobSpec:
    good = world.spec()
    return replace(
        good,
        guest=replace(good.guest, features=("worst texture", "worst texture")),
        align=AlignSpec(id_type="passport"),
        train=TrainSpec(algorithm="oracle", max_passes=0, feature_clip=9.0, key_bits=1024),
        evaluate=EvaluateSpec(holdout_fraction=0.95),
        patience_seconds=0,
    )


def test_a_spec_file_is_refused_with_all_its_mistakes_and_nothing_is_submitted(world: World, tmp_path: Path) -> None:
    raw = yaml.safe_load(spec_to_yaml(_bad_spec(world)))
    raw["predict"] = {"rows": "all"}
    raw["accept_leaks"] = ["everything"]
    raw["train"]["privacy"] = "none"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    before = _commands(world.guest)
    result = _run("job", "submit", str(path), "--home", str(world.guest.home))
    assert result.exit_code == 2
    assert f"the spec has {len(BAD_FIELDS) + 3} mistakes, and nothing was submitted" in result.output
    expected = BAD_FIELDS | {
        "predict": "is not a key here; a spec knows name, guest, label, hosts, align, train, evaluate",
        "accept_leaks[0]": "is 'everything', which is not one of 'small_table'",
        "train.privacy": "is 'none', which is not one of 'split_link'",
    }
    lines = result.output.splitlines()
    for field, words in expected.items():
        assert any(line.strip().startswith(f"{field}: ") and words in line for line in lines), (field, lines)
    assert _commands(world.guest) == before


def test_a_spec_record_is_rejected_with_all_its_mistakes_those_of_the_data_included(world: World) -> None:
    """Other programs write `SubmitJob` themselves: the coordinator checks as if nobody had."""
    spec = replace(_bad_spec(world), hosts=(PartySpec("nobody", "people"),))
    spec = replace(spec, guest=replace(spec.guest, dataset="nowhere"))
    job_id = "bad-record"
    producer = Producer({"bootstrap.servers": _bootstrap(world.guest)})
    producer.produce(commands_topic(Stage.JOB, world.guest.party), encode(SubmitJob(job_id, spec)), job_id)
    assert producer.flush(30) == 0
    view = world.guest.client.wait_for(job_id, lambda view: view.ended, DEADLINE_SECONDS)
    assert (view.status, view.reason, view.blame) == (JobStatus.REJECTED, Reason.INVALID_SPEC, world.guest.party)
    told = _texts(view.mistakes)
    expected = BAD_FIELDS | {
        "hosts[0].party": "keys were never exchanged with 'nobody', only with bad-host: see `isthmus keys`",
        "guest.dataset": "bad-guest has no dataset 'nowhere'; it offers: ",
    }
    assert set(told) == set(expected)
    for path, words in expected.items():
        assert words in told[path], path
    assert world.host.client.views().get(job_id) is None
    world.assert_settled(job_id)


def test_a_job_is_submitted_at_its_own_guest(world: World) -> None:
    job_id = "bad-place"
    producer = Producer({"bootstrap.servers": _bootstrap(world.host)})
    producer.produce(commands_topic(Stage.JOB, world.host.party), encode(SubmitJob(job_id, world.spec())), job_id)
    assert producer.flush(30) == 0
    view = world.host.client.wait_for(job_id, lambda view: view.ended, DEADLINE_SECONDS)
    assert view.status is JobStatus.REJECTED
    assert "the guest is 'bad-guest': submit the job there" in _texts(view.mistakes)["guest.party"]
    world.assert_settled(job_id)


# --- data ------------------------------------------------------------------------------------------------------------

#: Dataset, what is under `features` (None: the columns of the good job), the path of the mistake, and what is said.
Case = tuple[str, tuple[str, ...] | None, str, tuple[str, ...]]

BOTH_SIDES: tuple[Case, ...] = (
    ("nowhere", None, "dataset", ("has no dataset 'nowhere'", "it offers: ", "people")),
    ("gone", None, "dataset", ("gone.csv does not exist", "correct `path` of this dataset")),
    ("people", ("no such",), "features[0]", ("there is no column 'no such' in the dataset 'people'",)),
    ("people", ("id",), "features[0]", ("'id' is the identifier column", "cannot be a feature")),
    ("holes", None, "features", ("1 of 144 values", "are missing", "data row 4", "leave the column out")),
    ("words", None, "features", ("1 of 144 values", "are not numbers", "data row 6", "correct or encode them")),
    ("twins", None, "dataset", ("repeat the identifier", "data rows 3 and 8", "keep one row for each")),
)
GUEST_ONLY: tuple[Case, ...] = (
    ("shades", None, "label", ("neither 0 nor 1", "data row 5", "two classes, written 0 and 1")),
    ("constant", None, "label", ("all values of 'malignant' are equal", "nothing to learn")),
)


def _at(place: str, case: Case, columns: tuple[str, ...], spoiled: str) -> str:
    path = case[2]
    if path == "label":
        return path
    return f"{place}.features[{columns.index(spoiled)}]" if path == "features" else f"{place}.{path}"


@pytest.mark.parametrize("case", [*BOTH_SIDES, *GUEST_ONLY], ids=lambda case: f"{case[0]}-{case[2]}")
def test_bad_data_of_the_guest_rejects_the_job_before_anybody_else_hears_of_it(world: World, case: Case) -> None:
    dataset, features, _, words = case
    spec = world.spec(guest=dataset)
    if features is not None:
        spec = replace(spec, guest=replace(spec.guest, features=features))
    view = world.run(spec)
    assert (view.status, view.reason) == (JobStatus.REJECTED, Reason.INVALID_DATA)
    told = _texts(view.mistakes)
    path = _at("guest", case, spec.guest.features, GUEST_COLUMN)
    assert list(told) == [path]
    assert [word for word in words if word not in told[path]] == [], told
    assert view.job_id not in world.host.client.views()
    world.assert_settled(view.job_id)


@pytest.mark.parametrize("case", BOTH_SIDES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_bad_data_of_the_host_is_told_in_full_to_the_host_and_by_its_path_to_the_guest(
    world: World, case: Case
) -> None:
    dataset, features, _, words = case
    spec = world.spec(host=dataset)
    if features is not None:
        spec = replace(spec, hosts=(replace(spec.hosts[0], features=features),))
    view = world.await_end(world.submit(spec))
    path = _at("hosts[0]", case, spec.hosts[0].features, HOST_COLUMN)
    own = world.host.client.job(view.job_id)
    told = _texts(own.mistakes)
    assert (own.status, own.reason) == (JobStatus.REJECTED, Reason.INVALID_DATA)
    assert list(told) == [path]
    assert [word for word in words if word not in told[path]] == [], told
    assert (view.status, view.reason, view.blame) == (JobStatus.FAILED, Reason.INVALID_DATA, world.host.party)
    what = "column" if "features" in path else "dataset"
    assert _texts(view.mistakes) == {path: f"the party cannot provide this {what} as asked for; ask its operator"}, (
        "what a host's data looks like stays in its house"
    )
    world.assert_settled(view.job_id)


def test_all_that_is_wrong_with_a_table_is_told_at_once_and_none_of_its_values(world: World) -> None:
    view = world.run(world.spec(guest="sins"))
    column = f"guest.features[{world.tables.guest_features.index(GUEST_COLUMN)}]"
    messages = [(mistake.path, mistake.message) for mistake in view.mistakes]
    for path, words in (
        (column, "are not numbers"),
        (column, "are missing"),
        ("guest.dataset", "repeat the identifier"),
        ("label", "neither 0 nor 1"),
    ):
        assert any(place == path and words in text for place, text in messages), (path, words, messages)
    shown = _run("job", "show", view.job_id, "--home", str(world.guest.home)).output
    assert all(text in shown for _, text in messages)
    assert SECRET_WORD not in shown
    assert all(SECRET_WORD not in text for house in world.houses for text in house.log_texts().values())
    world.assert_settled(view.job_id)


def test_tables_without_a_common_id_end_the_job_in_alignment(world: World) -> None:
    view = world.await_end(world.submit(world.spec(host="strangers")))
    assert (view.status, view.reason, view.stage) == (JobStatus.FAILED, Reason.EMPTY_INTERSECTION, Stage.ALIGN)
    assert "align.id_type" in view.detail
    assert world.host.client.job(view.job_id).reason is Reason.EMPTY_INTERSECTION
    world.assert_settled(view.job_id)


def test_a_table_too_small_for_the_leak_budget_ends_the_job_unless_that_is_accepted_by_name(world: World) -> None:
    """At every party: each checks for itself."""
    view = world.await_end(world.submit(world.spec(accept_leaks=())))
    views = {house.party: house.client.job(view.job_id) for house in world.houses}
    for party, seen in views.items():
        assert (seen.status, seen.reason) == (JobStatus.FAILED, Reason.LEAK_NOT_ACCEPTED), party
    told = [seen.detail for seen in views.values() if "accept_leaks" in seen.detail]
    assert told, views
    for detail in told:
        assert "bits, more than the limit of" in detail
        assert "every party would have to accept small_table by name (accept_leaks)" in detail
    assert all(Stage.EVALUATE not in {task[0] for task in seen.tasks} for seen in views.values())
    world.assert_settled(view.job_id)


# --- people ----------------------------------------------------------------------------------------------------------


def test_a_job_with_a_leak_that_the_policy_does_not_accept_waits_for_a_person_who_may_decline(world: World) -> None:
    job_id = world.submit(world.spec(accept_leaks=(Leak.SMALL_TABLE, Leak.RARE_COLUMN)))
    home = str(world.host.home)
    world.host.client.wait_for(job_id, lambda view: view.status is JobStatus.AWAITING_APPROVAL, DEADLINE_SECONDS)
    hasty = _run("party", "approve", job_id, "--accept-leak", "small_table", "--home", home)
    assert hasty.exit_code == 1
    assert "--accept-leak rare_column" in hasty.output
    early = _run("party", "approve", job_id, "--home", str(world.guest.home))
    assert early.exit_code == 1
    assert "this party started the job" in early.output
    declined = _run("party", "decline", job_id, "--reason", "ask the board first", "--home", home)
    assert declined.exit_code == 0, declined.output
    view = world.await_end(job_id)
    assert (view.status, view.reason, view.blame) == (JobStatus.FAILED, Reason.DECLINED, world.host.party)
    assert "ask the board first" in [mistake.message for mistake in view.mistakes]
    late = _run("party", "approve", job_id, "--home", home)
    assert late.exit_code == 1
    assert "has ended already" in late.output
    world.assert_settled(job_id)


def test_a_job_cancelled_in_the_middle_stops_everywhere_and_can_be_tried_again(world: World) -> None:
    job_id = world.submit(world.spec())
    world.host.client.wait_for(job_id, lambda view: (Stage.TRAIN, world.host.party) in view.tasks, DEADLINE_SECONDS)
    early = _run("job", "retry", job_id, "--home", str(world.guest.home))
    assert early.exit_code == 1
    assert "has not ended" in early.output
    cancelled = _run("job", "cancel", job_id, "--reason", "wrong month", "--home", str(world.host.home))
    assert cancelled.exit_code == 0, cancelled.output
    view = world.await_end(job_id)
    for house in world.houses:
        seen = house.client.job(job_id)
        assert (seen.status, seen.reason) == (JobStatus.CANCELLED, Reason.CANCELLED)
        assert seen.tasks[Stage.TRAIN, house.party].status is TaskStatus.STOPPED
    assert f"{world.host.party} says" in view.detail
    assert "wrong month" in world.host.client.job(job_id).detail
    world.assert_settled(job_id)

    again = _run("job", "retry", job_id, "--json", "--home", str(world.guest.home))
    assert again.exit_code == 0, again.output
    second = world.await_end(json.loads(again.stdout)["job_id"])
    assert (second.status, second.retry_of, second.spec) == (JobStatus.SUCCEEDED, job_id, view.spec)
    world.assert_settled(second.job_id)
    world.assert_settled(job_id)


# --- foreign records -------------------------------------------------------------------------------------------------


def test_foreign_records_are_set_aside_with_their_place_and_reason_while_a_job_runs_unaffected(world: World) -> None:
    """On every topic that anybody could write to, in the midst of the records of a running job."""
    job_id = world.submit(world.spec())
    world.host.client.wait_for(job_id, lambda view: (Stage.TRAIN, world.host.party) in view.tasks, DEADLINE_SECONDS)
    doors = world.input_topics()
    junk = [(topic, one) for house, stage, topic in doors for one in make_junk(world, house, stage, topic, job_id)]
    placed = write_all(_bootstrap(world.guest), junk)
    assert len(placed) == len(junk) > 250
    # Genuine records, once more: they were taken before.
    places = [(topic, partition) for _, _, topic in doors if ".exchange." in topic for partition in range(PARTITIONS)]
    again = [
        (str(message.topic()), Junk(message.value(), "", job_id))
        for message in read_all(_bootstrap(world.guest), places)
        if message.key() == job_id.encode()
        and Place(str(message.topic()), message.partition() or 0, message.offset() or 0) not in placed
    ]
    assert len(again) > 4
    replayed = write_all(_bootstrap(world.guest), again)

    view = world.await_end(job_id)
    assert view.status is JobStatus.SUCCEEDED, view
    world.assert_settled(job_id)

    for house in world.houses:
        own = {place: one for place, one in placed.items() if f".{house.party}." in place.topic}
        letters: dict[Place, object] = {}

        def all_there(
            house: House = house, own: dict[Place, Junk] = own, letters: dict[Place, object] = letters
        ) -> bool:
            found = house.dead_letters()
            letters.update({Place(letter.topic, letter.partition, letter.offset): letter for letter in found})
            return own.keys() <= letters.keys()

        await_true(all_there, f"every foreign record at {house.party} has its dead letter", house.client.poll)
        for letter in house.dead_letters():
            place = Place(letter.topic, letter.partition, letter.offset)
            assert place not in replayed, "what was taken before is no fault"
            if place in own:
                one = own[place]
                assert one.words in letter.reason, (place, letter.reason)
                assert (letter.value, letter.value_bytes) == (one.value, len(one.value or b""))
                assert letter.key == (None if one.key is None else one.key.encode())
                assert letter.topic.startswith(f"vfl.{letter.stage}.")
        assert {letter.party for letter in house.dead_letters()} == {house.party}


# --- keys and brokers ------------------------------------------------------------------------------------------------


def _copy_home(house: House, folder: Path, bootstrap: str | None = None) -> Path:
    """The party's settings, tables and keys elsewhere, perhaps with another broker."""
    home = folder / "home"
    shutil.copytree(house.home, home, ignore=shutil.ignore_patterns("log", "run", "objects"))
    if bootstrap is not None:
        settings = yaml.safe_load((home / "party.yaml").read_text(encoding="utf-8"))
        settings["bootstrap_servers"] = bootstrap
        (home / "party.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return home


def test_a_manifest_that_was_tampered_with_is_not_taken_and_no_process_runs_with_it(
    world: World, tmp_path: Path
) -> None:
    home = _copy_home(world.guest, tmp_path)
    path = home / "federation" / "manifest-1.json"
    document = json.loads(path.read_text())
    document["manifest"]["profile"]["privacy"] = ["split_link", "trusted_guest"]
    received = tmp_path / "received.json"
    received.write_text(json.dumps(document), encoding="utf-8")
    refused = _run("federation", "sign", str(received), "--home", str(home))
    assert refused.exit_code == 78
    assert "is not newer than version 1" in refused.output

    path.write_text(json.dumps(document), encoding="utf-8")
    words = f"the signature of '{min(world.guest.party, world.host.party)}' is not of this manifest"
    run = _run("party", "run", "--home", str(home))
    assert run.exit_code == 78
    assert words in run.output
    command = [sys.executable, "-m", "consumers.supervisor", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == 78, done
    assert "cannot run" in done.stdout
    assert words in done.stdout
    assert list((home / "run").iterdir()) == []


@contextmanager
def _web_server() -> Iterator[str]:
    """Something else that listens, and answers as such things do."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(100)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_no_broker_and_something_else_in_its_place_are_told_with_the_address_and_what_to_do(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the command line, and in the logs of processes that a supervisor would start again until it is there."""
    monkeypatch.setattr(topic_reader, "ANSWER_SECONDS", 1.0)
    (tmp_path / "spec.yaml").write_text(spec_to_yaml(world.spec()), encoding="utf-8")
    nowhere = f"127.0.0.1:{free_ports(str(tmp_path), 1)[0]}"
    with _web_server() as elsewhere:
        words = {
            nowhere: f"no Kafka broker answers at {nowhere}",
            elsewhere: f"something listens at {elsewhere}, but it does not answer as a Kafka broker does",
        }
        processes = {}
        for number, bootstrap in enumerate(words):
            home = _copy_home(world.guest, tmp_path / str(number), bootstrap)
            command = [sys.executable, "-m", "consumers.coordinator", "--home", str(home)]
            processes[bootstrap] = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            for arguments in (("job", "submit", str(tmp_path / "spec.yaml")), ("party", "run"), ("job", "list")):
                result = _run(*arguments, "--home", str(home))
                assert result.exit_code == 3, result.output
                assert words[bootstrap] in result.output
                assert "isthmus broker run" in result.output
                assert "correct the address in party.yaml" in result.output
        for bootstrap, process in processes.items():
            _, log = process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == 1, "the supervisor starts it again"
            assert f"from {bootstrap}" in log
            assert "is this the broker's address, and does it run?" in log
            assert "Traceback" not in log


# --- absence and want ------------------------------------------------------------------------------------------------


def test_a_party_that_stays_away_is_named_waited_for_until_the_deadline_and_welcome_back(world: World) -> None:
    guest, host = world.guest, world.host
    good = world.spec()
    job_id = world.submit(replace(good, train=replace(good.train, max_passes=4), patience_seconds=2))
    guest.client.wait_for(job_id, lambda view: (Stage.TRAIN, guest.party) in view.tasks, DEADLINE_SECONDS)
    host.stop()
    try:
        view = guest.client.wait_for(job_id, lambda view: view.status is JobStatus.SUSPENDED, DEADLINE_SECONDS)
        assert (view.stage, view.reason, view.blame) == (Stage.TRAIN, Reason.PEER_SILENT, host.party)
        shown = _run("job", "show", job_id, "--home", str(guest.home)).output
        assert f"waits for {host.party}; goes on by itself when that party returns" in shown

        short = world.submit(replace(good, patience_seconds=1, deadline_seconds=4))
        late = guest.client.wait_for(short, lambda view: view.ended, DEADLINE_SECONDS)
        assert (late.status, late.reason, late.blame) == (JobStatus.FAILED, Reason.DEADLINE_EXCEEDED, host.party)
        assert late.detail == f"the job was given 4 s; it was waiting for {host.party}"
        told = [(event.stage, event.blame) for event in guest.events(short) if isinstance(event, JobSuspended)]
        assert told == [(Stage.JOB, host.party)], "told once"
    finally:
        host.start()
    view = world.await_end(job_id)
    assert view.status is JobStatus.SUCCEEDED, view
    assert any(isinstance(event, JobResumed) for event in guest.events(job_id))
    ended = host.client.wait_for(short, lambda view: view.ended, DEADLINE_SECONDS)
    assert (ended.status, ended.reason) == (JobStatus.FAILED, Reason.DEADLINE_EXCEEDED)
    for each in (job_id, short):
        world.assert_settled(each)


#: A file system of 4 MiB over the object store, full to the brim; then the command behind, in the same process.
FULL_DISK = """
mount -t tmpfs -o size=4m,mode=700 none "$1" || exit 1
dd if=/dev/zero of="$1/filler" bs=64k 2>/dev/null
shift
exec "$@"
"""


def test_a_full_disk_at_the_object_store_ends_the_job_with_blame_and_room_lets_it_be_retried(world: World) -> None:
    """The disk is a real one, in a mount namespace of the party's processes."""
    guest, host = world.guest, world.host
    objects = guest.home / "objects"
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    guest.stop()
    guest.start("unshare", "--mount", *as_root, "sh", "-c", FULL_DISK, "sh", str(objects))
    try:
        view = world.await_end(world.submit(world.spec()))
        assert (view.status, view.reason, view.blame) == (JobStatus.FAILED, Reason.STORAGE_FAILED, guest.party)
        for words in (f"in {objects}: No space left on device", "make room there"):
            assert words in view.detail
        seen = host.client.job(view.job_id)
        assert (seen.status, seen.reason, seen.blame) == (JobStatus.FAILED, Reason.STORAGE_FAILED, guest.party)
        assert str(objects) not in seen.detail, "paths of a house are its own business"
        world.assert_settled(view.job_id)

        assert guest.supervisor is not None
        disk = Path(f"/proc/{guest.supervisor.pid}/root{objects}")
        assert [path.name for path in disk.rglob("*") if path.is_file()] == ["filler"], "no part of an object is left"
        (disk / "filler").unlink()
        again = _run("job", "retry", view.job_id, "--json", "--home", str(guest.home))
        assert again.exit_code == 0, again.output
        second = world.await_end(json.loads(again.stdout)["job_id"])
        assert second.status is JobStatus.SUCCEEDED, second
        world.assert_settled(second.job_id)
    finally:
        guest.stop()
        guest.start()


# --- after all that --------------------------------------------------------------------------------------------------


def test_after_all_that_an_approved_job_succeeds_and_no_transaction_is_open(
    world: World, broker: EmbeddedBroker
) -> None:
    job_id = world.submit(world.spec(accept_leaks=(Leak.SMALL_TABLE, Leak.RARE_COLUMN)))
    world.host.client.wait_for(job_id, lambda view: view.status is JobStatus.AWAITING_APPROVAL, DEADLINE_SECONDS)
    leaks = ("--accept-leak", "small_table", "--accept-leak", "rare_column")
    approved = _run("party", "approve", job_id, *leaks, "--home", str(world.host.home))
    assert approved.exit_code == 0, approved.output
    view = world.await_end(job_id)
    assert view.status is JobStatus.SUCCEEDED, view
    world.assert_settled(job_id)

    def open_transactions() -> list[str]:
        listed = run_tool("kafka-transactions", "--bootstrap-server", broker.bootstrap, "list").splitlines()
        own = [line for line in listed if line.startswith(("vfl.bad-guest.", "vfl.bad-host."))]
        assert len(own) == 2 * len(PROCESSES), listed
        return [line for line in own if "Ongoing" in line or "Prepare" in line]

    await_true(lambda: not open_transactions(), "no transaction is left open", world.guest.client.poll)
    reports = {job.job_id: job for house in world.houses for job in house.client.views().values() if not job.ended}
    assert reports == {}, "no job is left in between"
