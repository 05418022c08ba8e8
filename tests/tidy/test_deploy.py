"""The container files say what the code says: the same commands, versions and broker settings."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from consumers.supervisor import PROCESSES, SCORING
from infra.broker.configuration import server_properties
from infra.broker.jars import KAFKA_VERSION
from infra.broker.listeners import Ports, admin_properties, guarded_listeners
from infra.properties import read_properties
from infra.strict_yaml import parse_yaml
from infra.topics import SCORING as SCORING_NAMES
from producers.cli import main
from schemas.audit_statements import AUDIT
from schemas.cohorts import COHORT
from schemas.jobs import PIPELINE
from tests.tidy.sources import PACKAGES, ROOT

DEPLOY = ROOT / "infra" / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = parse_yaml(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PARTIES = ("acme", "globex")
#: Keys of a service in the Compose specification that this project uses; anything else is a misspelling.
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init", "read_only", "restart",
    "security_opt", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip


def _parse_with_the_cli(words: list[str]) -> str:
    """Let the real command line parse `words`; the path of the command that would run. Raises `click.UsageError`."""
    command: click.Command = main
    context = click.Context(main, info_name="isthmus")
    path = []
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert name is not None
        assert found is not None
        path.append(name)
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(path[-1], words, parent=context.parent)
    return " ".join(path)


@pytest.mark.parametrize("party", PARTIES)
def test_a_party_runs_by_the_command_that_people_run(party: str) -> None:
    assert _parse_with_the_cli(list(SERVICES[party]["command"])) == "party run"
    assert _parse_with_the_cli(list(SERVICES[f"{party}-topics"]["command"])) == "topics create"
    assert _parse_with_the_cli(list(SERVICES[f"{party}-access"]["command"])) == "topics acls"
    assert _parse_with_the_cli(list(SERVICES[f"{party}-scoring"]["command"])) == "score run"


def test_the_commands_in_the_comments_exist() -> None:
    found = re.findall(r"docker compose run --rm --no-deps ([\w-]+) (.*)", COMPOSE_TEXT)
    assert [service for service, _ in found] == ["certificates", *(f"{party}-topics" for party in PARTIES)]
    commands = [_parse_with_the_cli(shlex.split(words)) for _, words in found]
    assert commands == ["broker certificates", "party init", "party init"]


def test_a_wrong_command_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        _parse_with_the_cli(["party", "start"])
    with pytest.raises(click.UsageError):
        _parse_with_the_cli(["party", "run", "--hme", "/party"])


def test_what_party_run_starts_covers_every_stage_once_and_exists() -> None:
    stages = []
    for option, module, *arguments in PROCESSES.values():
        assert option == "-m"
        assert importlib.util.find_spec(module) is not None, module
        alone = {
            "consumers.model_registrar": "register",
            "consumers.cohort_register": COHORT,
            "consumers.auditor": AUDIT,
        }
        stages.append(arguments[-1] if arguments else alone.get(module, "job"))
    assert sorted(stages) == sorted(["job", COHORT, AUDIT, *PIPELINE])


def test_what_score_run_starts_are_the_catalogues_processes_and_exist() -> None:
    assert set(SCORING) == set(SCORING_NAMES)
    for option, module in SCORING.values():
        assert option == "-m"
        assert importlib.util.find_spec(module) is not None, module


def test_services_have_known_keys_and_refer_to_what_there_is() -> None:
    for name, service in SERVICES.items():
        assert set(service) <= SERVICE_KEYS, name
        for dependency, condition in service.get("depends_on", {}).items():
            assert dependency in SERVICES
            assert condition["condition"] in ("service_healthy", "service_completed_successfully")
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source.startswith("./") or source in COMPOSE["volumes"], volume


def test_no_party_sees_the_home_of_another_and_nothing_is_published() -> None:
    for name, service in SERVICES.items():
        party = name.removesuffix("-topics").removesuffix("-access").removesuffix("-scoring")
        homes = {volume.split(":")[0] for volume in service["volumes"] if ":/party" in volume}
        assert homes == ({f"{party}-home"} if party in PARTIES else set())
        assert "ports" not in service


def test_no_key_or_password_is_in_the_environment() -> None:
    for service in SERVICES.values():
        for name in service.get("environment", {}):
            assert not re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", name), name


def test_the_broker_is_the_version_and_the_settings_that_the_tests_run_on() -> None:
    ports = Ports(1, 2, 3)
    assert SERVICES["broker"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    tested = server_properties(Path("data"), ports) | guarded_listeners(ports, Path("tls"))
    #: What is different in a container, or a matter of the embedded broker's size only.
    own = {"listeners", "advertised.listeners", "log.dirs", "controller.quorum.voters"}
    own |= {"ssl.keystore.location", "ssl.truststore.location"}
    named = {_property_name(name): value for name, value in SERVICES["broker"]["environment"].items()}
    for name, value in named.items():
        if name not in own:
            assert tested[name] == value, name
    # All that says who gets in is there.
    assert guarded_listeners(ports, Path("tls")).keys() <= named.keys()
    assert "PLAINTEXT" not in named["listener.security.protocol.map"]
    for name in own & set(guarded_listeners(ports, Path("tls"))) - {"listeners", "advertised.listeners"}:
        assert Path(named[name]).name == Path(tested[name]).name


def _property_name(variable: str) -> str:
    """What the image makes of an environment variable: `_` is a dot, `__` an underscore, `___` a hyphen."""
    name = variable.removeprefix("KAFKA_").lower()
    return name.replace("___", "-").replace("__", "\0").replace("_", ".").replace("\0", "_")


def test_the_administrator_in_a_container_connects_as_elsewhere() -> None:
    """The file in the repository is the one that the embedded broker writes, with the container's paths."""
    written = read_properties(DEPLOY / "admin.properties")
    made = admin_properties(Ports(1, 2, 3), Path("/cluster/tls"))
    assert written == made | {"bootstrap.servers": "broker:9094"}


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def test_the_image_is_built_from_the_lock_and_runs_as_nobody_special() -> None:
    instructions = _instructions()
    known = {"FROM", "WORKDIR", "RUN", "ENV", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions} <= known
    for name, rest in instructions:
        if name == "FROM":
            assert re.match(r"python:3\.1[1-3]-slim-\w+", rest), rest
        if name == "RUN" and "pip install" in rest:
            assert "--require-hashes -r requirements.lock" in rest or "--no-deps --no-build-isolation" in rest
    assert [rest for name, rest in instructions if name == "USER"] == ["isthmus"]
    assert ("ENTRYPOINT", '["isthmus"]') in instructions
    assert instructions.index(("USER", "isthmus")) > max(
        index for index, (name, _) in enumerate(instructions) if name == "RUN"
    )


def test_the_image_gets_every_package_and_nothing_private() -> None:
    copied = {
        word for name, rest in _instructions() if name == "COPY" and "--from" not in rest for word in rest.split()
    }
    allowed = set((DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split())
    assert set(PACKAGES) <= copied
    assert "*" in allowed
    for source in copied:
        if not source.startswith("./"):
            assert f"!{source}" in allowed, source
            assert (ROOT / source).exists(), source
