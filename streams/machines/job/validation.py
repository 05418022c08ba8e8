"""What can be wrong with a job's spec. Pure, and complete: every mistake is found, each with its path and a way out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from schemas.codec import EncodeError, encode
from schemas.jobs import JobSpec, Leak, Mistake, PartySpec, Privacy, ServeSpec, TrainSpec
from schemas.profiles import KeyProfile
from streams.kernels.link_table import NoTableError, choose_table
from streams.kernels.standardisation import MAX_FEATURE_CLIP

#: Key sizes of jobs: 112 and 128 bits of strength (NIST SP 800-57 part 1, table 2).
KEY_BITS = (2048, 3072)
#: Smaller keys are for tests and simulations, which say so to the machine's constructor.
LEAST_KEY_BITS = KEY_BITS[0]
ALGORITHMS = ("logistic_regression",)
ID_TYPES = ("string", "email", "phone")
#: The training protocol is written for one host.
MOST_HOSTS = 1
#: A party's name is a part of topic names; Kafka allows 249 characters of which ours use less than 40.
PARTY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: A job's or model's name is a part of record keys (`model/version`, `job/stage/party`) and of file names.
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
MOST_PASSES = 1000
#: 14 days: the retention of the exchange topics. What a party was sent must still be there when it returns.
MOST_DEADLINE_SECONDS = 14 * 86_400
MOST_HOLDOUT = 0.9
MOST_L2 = 1e9
#: Points are 32-bit integers with room to spare: a logit of at most 64 times 1,000 points for each factor of e.
MOST_POINTS = 1_000_000
MOST_POINTS_TO_DOUBLE = 1000
MOST_BANDS = 20
#: Specs are told in events and kept in registries, in one Kafka record each with what else these say.
MOST_SPEC_BYTES = 200_000
#: More columns than this are not named one by one.
MOST_FEATURES = 10_000
#: A score that comes later than this is no online score.
MOST_PATIENCE_MS = 60_000


def validate_spec(
    spec: JobSpec,
    least_key_bits: int = LEAST_KEY_BITS,
    privacy: frozenset[Privacy] = frozenset(Privacy),
    key_profile: KeyProfile = KeyProfile.DJN448,
) -> tuple[Mistake, ...]:
    """Every mistake of the spec itself, in the order of its fields; whether the data fits is for the parties to say.

    A spec that is too large has no other mistakes: nobody looks any further.
    """
    return validate_size(spec) or tuple(_mistakes(spec, least_key_bits, privacy, key_profile))


def validate_size(spec: JobSpec) -> tuple[Mistake, ...]:
    """Whether the spec is too large to be looked at: a stranger may have written it."""
    for path, party in (("guest", spec.guest), *((f"hosts[{index}]", host) for index, host in enumerate(spec.hosts))):
        if len(party.features) > MOST_FEATURES:
            text = f"lists {len(party.features)} columns; {MOST_FEATURES} are the most: leave it out to use all"
            return (Mistake(f"{path}.features", text),)
    try:
        size = len(encode(spec))
    except EncodeError:
        return ()  # Written here, with a number beyond 64 bits: that is told with its path.
    if size <= MOST_SPEC_BYTES:
        return ()
    return (Mistake("", f"the spec has {size} bytes; {MOST_SPEC_BYTES} are the most"),)


def validate_job_id(job_id: str) -> tuple[Mistake, ...]:
    """A job's id is a record key and a part of task ids `job/stage/party`."""
    return tuple(_check_pattern("job_id", job_id, PLAIN_NAME))


def _mistakes(
    spec: JobSpec, least_key_bits: int, privacy: frozenset[Privacy], key_profile: KeyProfile
) -> Iterator[Mistake]:
    yield from _check_pattern("name", spec.name, PLAIN_NAME)
    yield from _check_party("guest", spec.guest)
    if not spec.label:
        yield Mistake("label", "is empty: name the guest's column that is predicted")
    if spec.label in spec.guest.features:
        index = spec.guest.features.index(spec.label)
        yield Mistake(f"guest.features[{index}]", f"{spec.label!r} is the label: a model must not be given its answer")
    yield from _check_hosts(spec)
    yield from _check_choice("align.id_type", spec.align.id_type, ID_TYPES)
    yield from _check_train(spec.train, least_key_bits)
    yield from _check_agreed(spec.train, least_key_bits, privacy, key_profile)
    yield from _check_range("evaluate.holdout_fraction", spec.evaluate.holdout_fraction, above=0, most=MOST_HOLDOUT)
    yield from _check_serve(spec.serve)
    yield from _check_leaks(spec)
    yield from _check_range("deadline_seconds", spec.deadline_seconds, least=1, most=MOST_DEADLINE_SECONDS)
    yield from _check_range("patience_seconds", spec.patience_seconds, least=1, most=MOST_DEADLINE_SECONDS)
    if 1 <= spec.deadline_seconds < spec.patience_seconds:
        yield Mistake(
            "patience_seconds", f"is longer than deadline_seconds ({spec.deadline_seconds}): the job would end first"
        )


def _check_party(path: str, party: PartySpec) -> Iterator[Mistake]:
    yield from _check_pattern(f"{path}.party", party.party, PARTY_NAME)
    if not party.dataset:
        yield Mistake(f"{path}.dataset", "is empty: name a dataset of the party's settings")
    seen: set[str] = set()
    for index, feature in enumerate(party.features):
        if not feature:
            yield Mistake(f"{path}.features[{index}]", "is empty: name a column, or leave `features` out to use all")
        elif feature in seen:
            yield Mistake(f"{path}.features[{index}]", f"{feature!r} is listed twice")
        seen.add(feature)


def _check_hosts(spec: JobSpec) -> Iterator[Mistake]:
    if not spec.hosts:
        yield Mistake("hosts", "is empty: vertical learning needs one other party")
    if len(spec.hosts) > MOST_HOSTS:
        yield Mistake("hosts", f"names {len(spec.hosts)} hosts; {spec.train.algorithm} trains with one for now")
    seen = {spec.guest.party: "guest"}
    for index, host in enumerate(spec.hosts):
        yield from _check_party(f"hosts[{index}]", host)
        if host.party in seen:
            yield Mistake(f"hosts[{index}].party", f"{host.party!r} is already {seen[host.party]}: parties must differ")
        seen.setdefault(host.party, f"hosts[{index}]")


def _check_train(train: TrainSpec, least_key_bits: int) -> Iterator[Mistake]:
    yield from _check_choice("train.algorithm", train.algorithm, ALGORITHMS, unknown="unknown algorithm")
    yield from _check_range("train.l2", train.l2, least=0, most=MOST_L2)
    yield from _check_range("train.max_passes", train.max_passes, least=1, most=MOST_PASSES)
    yield from _check_range("train.tolerance", train.tolerance, above=0, most=1)
    yield from _check_range("train.coarse_passes", train.coarse_passes, least=0, most=MOST_PASSES)
    yield from _check_range("train.feature_clip", train.feature_clip, above=0, most=MAX_FEATURE_CLIP)
    if train.privacy is Privacy.SPLIT_LINK:
        yield from _check_link(train)
    if train.key_bits not in KEY_BITS and not (
        least_key_bits <= train.key_bits < KEY_BITS[0] and train.key_bits % 2 == 0
    ):
        yield Mistake("train.key_bits", f"{train.key_bits} is not one of {_listed(KEY_BITS)}")


def _check_agreed(
    train: TrainSpec, least_key_bits: int, privacy: frozenset[Privacy], key_profile: KeyProfile
) -> Iterator[Mistake]:
    """What the algorithm could do, and the parties have not agreed on."""
    if train.privacy not in privacy:
        agreed = _listed(sorted(privacy))
        yield Mistake("train.privacy", f"{train.privacy} is not what the federation has agreed on ({agreed})")
    if train.key_bits in KEY_BITS and train.key_bits < least_key_bits:
        yield Mistake(
            "train.key_bits", f"{train.key_bits} is below {least_key_bits}, on which the federation has agreed"
        )
    if train.key_profile not in key_profile.allowed:
        agreed = _listed(key_profile.allowed)
        yield Mistake("train.key_profile", f"{train.key_profile} is not what the federation has agreed on ({agreed})")


def _check_serve(serve: ServeSpec) -> Iterator[Mistake]:
    yield from _check_range("serve.base_points", serve.base_points, least=-MOST_POINTS, most=MOST_POINTS)
    path = "serve.points_to_double_odds"
    yield from _check_range(path, serve.points_to_double_odds, least=-MOST_POINTS_TO_DOUBLE, most=MOST_POINTS_TO_DOUBLE)
    if serve.points_to_double_odds == 0:
        yield Mistake(path, "is 0: every score would be base_points")
    yield from _check_range("serve.host_patience_ms", serve.host_patience_ms, least=1, most=MOST_PATIENCE_MS)
    if len(serve.bands) > MOST_BANDS:
        yield Mistake("serve.bands", f"has {len(serve.bands)} bands; {MOST_BANDS} are the most")
    for index, band in enumerate(serve.bands[:MOST_BANDS]):
        yield from _check_pattern(f"serve.bands[{index}].name", band.name, PLAIN_NAME)
        if index and band.from_points <= serve.bands[index - 1].from_points:
            yield Mistake(
                f"serve.bands[{index}].from_points",
                f"{band.from_points} is not above {serve.bands[index - 1].from_points}: bands go from low to high",
            )
        if band.name in [other.name for other in serve.bands[:index]]:
            yield Mistake(f"serve.bands[{index}].name", f"{band.name!r} is listed twice")


def _check_link(train: TrainSpec) -> Iterator[Mistake]:
    """Clips, rank and sup error have to fit one of the link's basis tables."""
    clips = {"train.guest_logit_clip": train.guest_logit_clip, "train.host_logit_clip": train.host_logit_clip}
    wrong_clips = [mistake for path, clip in clips.items() for mistake in _check_range(path, clip, above=0)]
    yield from wrong_clips
    wrong_rank = list(_check_range("train.rank", train.rank, least=0))
    yield from wrong_rank
    wrong_error = list(_check_range("train.sup_error", train.sup_error, least=0, most=1))
    yield from wrong_error
    if train.rank > 0 and train.sup_error > 0:
        yield Mistake(
            "train.sup_error", "either train.rank or train.sup_error decides: set rank to 0, or leave sup_error out"
        )
    if train.rank == 0 and train.sup_error == 0:
        yield Mistake("train.sup_error", "must be above 0 when train.rank is 0: it decides the rank then")
    if wrong_clips or wrong_rank or wrong_error:
        return
    try:
        table = choose_table(train.guest_logit_clip, train.host_logit_clip)
    except NoTableError as error:
        yield Mistake("train.guest_logit_clip", str(error))
        return
    if train.rank > table.max_rank:
        yield Mistake(
            "train.rank", f"{train.rank} is above {table.max_rank}, the largest rank of the table for these logit clips"
        )
    if train.rank == 0 and train.sup_error > 0:
        try:
            table.rank_for(train.sup_error)
        except NoTableError as error:
            yield Mistake("train.sup_error", str(error))


def _check_leaks(spec: JobSpec) -> Iterator[Mistake]:
    if spec.train.privacy is Privacy.TRUSTED_GUEST and Leak.HOST_ROWS_TO_GUEST not in spec.accept_leaks:
        yield Mistake(
            "accept_leaks",
            f"privacy {Privacy.TRUSTED_GUEST} lets the guest recover the hosts' rows: accept {Leak.HOST_ROWS_TO_GUEST}"
            f" by name, or use privacy {Privacy.SPLIT_LINK}",
        )
    seen: set[Leak] = set()
    for index, leak in enumerate(spec.accept_leaks):
        if leak in seen:
            yield Mistake(f"accept_leaks[{index}]", f"{leak} is listed twice")
        seen.add(leak)


def _check_pattern(path: str, text: str, pattern: re.Pattern[str]) -> Iterator[Mistake]:
    if not text:
        yield Mistake(path, "is empty")
    elif not pattern.fullmatch(text):
        marks = "letters, digits, '-' and '_'" if pattern is PARTY_NAME else "letters, digits, '-', '_' and '.'"
        most = 64 if pattern is PARTY_NAME else 100
        yield Mistake(
            path, f"{text[:100]!r} must be of {marks}, begin with a letter or digit and have at most {most} characters"
        )


def _check_choice(path: str, value: str, choices: Iterable[str], unknown: str = "unknown") -> Iterator[Mistake]:
    if value not in choices:
        yield Mistake(path, f"{unknown} {value[:100]!r}; there is {_listed(choices)}")


def _check_range(
    path: str, value: float, *, least: float | None = None, above: float | None = None, most: float = math.inf
) -> Iterator[Mistake]:
    if not math.isfinite(value):
        yield Mistake(path, f"is {value}: give a finite number")
    elif least is not None and value < least:
        yield Mistake(path, f"{value:g} is below {least:g}, the least")
    elif above is not None and value <= above:
        yield Mistake(path, f"{value:g} must be above {above:g}")
    elif value > most:
        yield Mistake(path, f"{value:g} is above {most:g}, the most")


def _listed(choices: Iterable[object]) -> str:
    return ", ".join(str(choice) for choice in choices)
