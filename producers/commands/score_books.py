"""`isthmus score history` and `isthmus score reconcile`: what was scored, and whether both houses say so."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from consumers.exits import NEEDS_A_PERSON
from infra.history_queries import OutcomeFilter, count_outcomes, read_answers, read_outcomes
from infra.history_store import HistoryError, HistoryStore, HistoryUnavailableError, Row, open_history
from infra.settings import load_settings
from infra.statement_store import AGREED, WAITING, AccountReport, StatementStore
from producers.commands.errors import REFUSED, CommandError
from producers.commands.options import home_option, json_option, print_json

#: Differing requests that are named without `--json`.
NAMED = 10
MOST_ROWS = 1_000


class When(click.ParamType):
    """A date or time as ISO 8601 has it, UTC where no zone is given; microseconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails for what is no time."""
        if isinstance(value, int):
            return value
        try:
            when = datetime.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time: write 2026-11-22 or 2026-11-22T14:30", param, ctx)
        if when.tzinfo is None:
            when = when.replace(tzinfo=datetime.UTC)
        return int(when.timestamp()) * 1_000_000 + when.microsecond


@click.command()
@click.option("--model", help="Of this model only.")
@click.option("--version", help="Of this version only.")
@click.option("--from", "from_us", type=When(), metavar="TIME", help="Joined at this time or later (UTC).")
@click.option("--to", "to_us", type=When(), metavar="TIME", help="Joined before this time (UTC).")
@click.option("--request", "request_id", metavar="ID", help="One request, with every answer to it.")
@click.option("--limit", type=click.IntRange(min=1), default=MOST_ROWS, show_default=True, help="Show so many.")
@click.option("--count", "only_count", is_flag=True, help="Say only how many there are.")
@home_option
@json_option
def history(
    model: str | None,
    version: str | None,
    from_us: int | None,
    to_us: int | None,
    request_id: str | None,
    limit: int,
    only_count: bool,
    home: Path,
    as_json: bool,
) -> None:
    """What was scored: outcomes, oldest first, and how many there are of each kind."""
    wanted = OutcomeFilter(model, version, from_us, to_us, request_id)
    with _opened(home) as (_, store):
        counts = count_outcomes(store, wanted)
        rows = [] if only_count else list(itertools.islice(read_outcomes(store, wanted), limit))
        answers = [] if only_count or request_id is None else read_answers(store, request_id)
    if as_json:
        document: dict[str, Any] = {
            "outcomes": sum(counts.values()) if only_count else rows,
            "counts": [
                {"outcome": outcome, "reason": reason, "count": count} for (outcome, reason), count in counts.items()
            ],
        }
        print_json({**document, "answers": answers} if answers else document)
        return
    for row in rows:
        click.echo(_outcome_line(row))
    for answer in answers:
        click.echo(_answer_line(answer))
    total = sum(counts.values())
    kinds = ", ".join(f"{count} {_kind(*kind)}" for kind, count in counts.items())
    click.echo(f"{total} outcomes{f': {kinds}' if kinds else ''}")
    if total > len(rows) and not only_count:
        click.echo(f"shown are the first {len(rows)}: narrow it down, or raise --limit")


@click.command()
@click.option("--peer", help="With this party only.")
@click.option("--from", "from_us", type=When(), metavar="TIME", help="Intervals that end after this time (UTC).")
@click.option("--to", "to_us", type=When(), metavar="TIME", help="Intervals that begin before this time (UTC).")
@home_option
@json_option
def reconcile(peer: str | None, from_us: int | None, to_us: int | None, home: Path, as_json: bool) -> None:
    """Whether this party and its peers agree on what was answered. Exit code 1: they differ."""
    with _opened(home) as (party, store):
        from_ms, to_ms = (None if time_us is None else time_us // 1000 for time_us in (from_us, to_us))
        reports = StatementStore(store, party).report(peer, from_ms, to_ms)
    if as_json:
        # Nothing compared is no agreement.
        is_agreed = bool(reports) and all(report.status == AGREED for report in reports)
        print_json({"agreed": is_agreed, "intervals": [_report_mapping(report) for report in reports]})
    else:
        _print_reports(reports, party)
    if any(report.status not in (AGREED, WAITING) for report in reports):
        raise click.exceptions.Exit(REFUSED)


@contextmanager
def _opened(home: Path) -> Iterator[tuple[str, HistoryStore]]:
    """The party's name and its history; errors as texts of a command."""
    settings = load_settings(home)
    try:
        store = open_history(settings)
    except HistoryError as error:
        raise CommandError(str(error), NEEDS_A_PERSON) from error
    try:
        yield settings.party, store
    except HistoryUnavailableError as error:
        raise CommandError(f"the history does not answer: {error}") from error
    finally:
        store.close()


def _kind(outcome: str, reason: str) -> str:
    return outcome if reason == "none" else f"{outcome} ({reason})"


def _outcome_line(row: Row) -> str:
    purpose = "" if row["purpose"] == "live" else f" {row['purpose']}"
    text = f"{_time(row['joined_at_us'])}  {row['request_id']}  {row['model']}/{row['version']}{purpose}"
    text += f"  {_kind(row['outcome'], row['reason'])}"
    if row["party"]:
        text += f" by {row['party']}"
    if row["detail"]:
        text += f": {row['detail']}"
    for name in ("points", "band", "decision"):
        if row[name] not in (None, ""):
            text += f"  {name} {row[name]}"
    return text


def _answer_line(row: Row) -> str:
    said = f"{row['value']} x {row['quantum']}" if row["answered"] else row["reason"]
    return (
        f"    {_time(row['asked_at_us'])}  {row['guest']} asked {row['host']} for {row['model']}/{row['version']}"
        f" ({row['purpose']}): {said}, {row['how']}"
    )


def _time(time_us: int) -> str:
    when = datetime.datetime.fromtimestamp(time_us / 1_000_000, datetime.UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S.") + f"{time_us // 1000 % 1000:03d}"


def _report_mapping(report: AccountReport) -> dict[str, Any]:
    return {
        **report.account,
        "end_ms": report.end_ms,
        "own_count": report.own_count,
        "peer_count": report.peer_count,
        "own_sum": report.own_sum,
        "peer_sum": report.peer_sum,
        "status": report.status,
        "differences": [
            {"request_id": request_id, "kind": kind, "blame": blame} for request_id, kind, blame in report.differences
        ],
    }


def _print_reports(reports: list[AccountReport], party: str) -> None:
    if not reports:
        click.echo(
            "no statements yet: the reconciler makes one when an interval of `statement_seconds` (party.yaml) is over"
        )
    for report in reports:
        account = report.account
        peer = account["host"] if account["guest"] == party else account["guest"]
        what = "answers" if account["answered"] else "refusals"
        begin, end = _time(account["start_ms"] * 1000)[:19], _time(report.end_ms * 1000)[11:19]
        counts = f"{party} {_count(report.own_count)}, {peer} {_count(report.peer_count)}"
        click.echo(
            f"{begin} to {end}  {account['guest']} asked {account['host']}  {account['model']}/{account['version']}"
            f" {what}: {counts}: {_status(report, peer)}"
        )
        for request_id, kind, blame in report.differences[:NAMED]:
            click.echo(f"    {request_id}: {_difference(kind, account, blame)}")
        if len(report.differences) > NAMED:
            click.echo(f"    and {len(report.differences) - NAMED} more: --json has all")


def _count(count: int | None) -> str:
    return "nothing yet" if count is None else str(count)


def _status(report: AccountReport, peer: str) -> str:
    if report.status == WAITING:
        return f"waiting for {peer}" if report.peer_count is None else "being counted"
    if report.status == AGREED:
        return "agreed"
    known = f"{len(report.differences)} requests"
    return (
        f"DIFFERENT, {known}" if report.status != "asking" else f"DIFFERENT, asking for the requests ({known} so far)"
    )


def _difference(kind: str, account: Row, blame: str) -> str:
    texts = {
        "missing_at_host": f"{account['guest']} has an answer, {account['host']} has none",
        "missing_at_guest": f"{account['host']} has an answer, {account['guest']} has none",
        "different": "the two have different answers",
    }
    return f"{texts[kind]}; our books contradict {blame}'s"
