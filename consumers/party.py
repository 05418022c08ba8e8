"""What a party's processes are made of: settings, keys, blobs and tables, opened once with clear errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consumers.tables import Part, load_table
from infra.object_store import ObjectStore, open_object_store
from infra.party_secrets import PartySecrets, load_secrets
from infra.settings import PartySettings, load_settings
from schemas.jobs import JobSpec, ProposeJob, Stage, SubmitJob
from schemas.record import Record
from schemas.tasks import StartTask
from streams.dataset import Dataset, DatasetProblem
from streams.engine.agreement import Agreement
from streams.engine.seal import Keyring
from streams.machines.job.validation import validate_size

#: What the key of the fingerprints of tables is derived for.
FINGERPRINT = "fingerprint"
#: The party's table as a spec wants it, or a part of it.
LoadShare = Callable[[JobSpec, Part], Dataset | DatasetProblem | None]


@dataclass(frozen=True)
class Party:
    """An opened home."""

    settings: PartySettings
    secrets: PartySecrets
    keyring: Keyring
    objects: ObjectStore

    @property
    def name(self) -> str:
        """The party's name."""
        return self.settings.party


def open_party(home: Path) -> Party:
    """Raises `SettingsError`, `SecretsError`, `ObjectStoreError`: a person has to act."""
    settings = load_settings(home)
    secrets = load_secrets(settings)
    return Party(settings, secrets, make_keyring(secrets), open_object_store(settings))


def make_keyring(secrets: PartySecrets) -> Keyring:
    """The party's keys under the manifests that it goes by."""
    if secrets.federation is None:
        alone = Agreement(secrets.pair.private_key, {})
        return Keyring(secrets.party, alone, secrets.storage_secret, storage=secrets.keys.storage)
    current, *others = (
        Agreement(
            version.pair.private_key,
            version.peer_keys(secrets.peers),
            version.manifest.digest,
            version.pair.kem_seed,
            version.peer_kem_keys(secrets.peers),
        )
        for version in secrets.versions
    )
    naming = Agreement(secrets.keys.naming_key, secrets.federation.naming_keys(secrets.peers))
    return Keyring(
        secrets.party, current, secrets.storage_secret, others=others, naming=naming, storage=secrets.keys.storage
    )


def make_prepare(load: LoadShare) -> Callable[[Record], object | None]:
    """Loads this party's table for the records whose steps need it; the engine calls it off its polling thread."""

    def prepare(record: Record) -> Dataset | DatasetProblem | None:
        match record:
            case SubmitJob(spec=spec):
                return load(spec, Part.PROFILE)
            case ProposeJob(spec=spec):
                # A stranger may have written it; the coordinator says what is wrong with one that is too large.
                return None if validate_size(spec) else load(spec, Part.PROFILE)
            case StartTask(spec=spec, stage=Stage.ALIGN):
                return load(spec, Part.IDENTIFIERS)
            case StartTask(spec=spec, stage=Stage.TRAIN | Stage.EVALUATE):
                return load(spec, Part.ROWS)
        return None

    return prepare


def load_share(party: Party, spec: JobSpec, part: Part = Part.ROWS) -> Dataset | DatasetProblem | None:
    """This party's table as the spec wants it, or what is wrong with it. `None` if the spec does not name the party.

    Raises `TableReaderError`.
    """
    return load_table(party.settings, party.secrets.derive(FINGERPRINT), spec, part)
