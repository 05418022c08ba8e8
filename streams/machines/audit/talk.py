"""What an auditor says in one step about all streams of a job: statements that are due, and answers to its peers'."""

from __future__ import annotations

from dataclasses import replace

from schemas.audit_statements import AuditStatement, DifferenceKind
from schemas.audit_states import AuditedJob, AuditedStream
from streams.kernels.cross_signing import statement_digest
from streams.machine import Output, ToPeer, ToResults
from streams.machines.audit.comparison import AGREED, FORGOTTEN, TOO_EARLY, compare, find_shortfall
from streams.machines.audit.lists import cuts_to_say, forget_signed
from streams.machines.audit.words import Speaker

#: Statements of one step, 6 kB each; what is left over is said in the next.
MOST_SAID = 16


class Talk:
    """Decides what is said; the machine when."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    def speak(self, state: AuditedJob) -> tuple[AuditedJob, list[Output]]:
        """State what is due, and answer what can be judged."""
        outputs: list[Output] = []
        streams = []
        for stream in state.streams:
            said = self._state(state, stream, MOST_SAID - len(outputs) // 2, outputs)
            streams.append(forget_signed(self._answer(state, said, outputs)))
        return replace(state, streams=tuple(streams)), outputs

    def settle(self, state: AuditedJob) -> tuple[AuditedJob, list[Output]]:
        """Tell the peers which lists are too short, once for each of their statements."""
        outputs: list[Output] = []
        streams = []
        for stream in state.streams:
            found = None if stream.is_contradicted else find_shortfall(stream)
            if found is not None and found[1] != stream.short_at:
                digest, count, finding = found
                ahead = next((each for each in stream.waiting if each.count == count), None)
                if ahead is not None:
                    outputs.append(ToResults(ahead))
                digest = digest or (statement_digest(ahead) if ahead is not None else b"")
                word = self._speaker.contradict(state.job_id, stream, count, digest, finding)
                outputs += [ToResults(word), ToPeer(stream.peer, word)]
                is_hard = finding.kind not in (DifferenceKind.NOT_TAKEN, DifferenceKind.NOT_SENT)
                waiting = () if is_hard else stream.waiting
                stream = replace(stream, short_at=count, is_contradicted=is_hard, waiting=waiting)
            streams.append(stream)
        return replace(state, streams=tuple(streams)), outputs

    def repeat(self, state: AuditedJob) -> tuple[AuditedJob, list[Output]]:
        """Say once more what the peers have not answered."""
        outputs: list[Output] = []
        streams = []
        for stream in state.streams:
            said = stream
            if is_unanswered(stream):
                said = self._say(state, stream, stream.said, outputs)
            streams.append(said)
        return replace(state, streams=tuple(streams), repeats=state.repeats + 1), outputs

    def _state(self, state: AuditedJob, stream: AuditedStream, most: int, outputs: list[Output]) -> AuditedStream:
        for count in list(cuts_to_say(stream, is_over=state.is_over))[: max(0, most)]:
            stream = self._say(state, stream, count, outputs)
        return stream

    def _say(self, state: AuditedJob, stream: AuditedStream, count: int, outputs: list[Output]) -> AuditedStream:
        statement = self._speaker.state(state.job_id, state.spec, stream, count, is_over=state.is_over)
        if statement is None:
            return replace(stream, said=max(stream.said, count))
        digest = statement_digest(statement)
        if digest != stream.said_statement:
            outputs.append(ToResults(statement))
        outputs.append(ToPeer(stream.peer, statement))
        return replace(stream, said=count, said_statement=digest, is_said_final=statement.is_final)

    def _answer(self, state: AuditedJob, stream: AuditedStream, outputs: list[Output]) -> AuditedStream:
        """Judge what waits, in order. Of several statements that agree the newest is counter-signed: it says all."""
        agreed: AuditStatement | None = None
        waiting = list(stream.waiting)
        while waiting:
            statement = waiting[0]
            found = compare(stream, statement, state.spec)
            if found == TOO_EARLY:
                break
            del waiting[0]
            if found == AGREED:
                agreed = statement
            elif found != FORGOTTEN:
                assert not isinstance(found, str)
                word = self._speaker.contradict(
                    state.job_id, stream, statement.count, statement_digest(statement), found
                )
                outputs += [ToResults(statement), ToResults(word), ToPeer(stream.peer, word)]
                stream, waiting = replace(stream, is_contradicted=True), []
        stream = replace(stream, waiting=tuple(waiting))
        return stream if agreed is None else self._countersign(stream, agreed, outputs)

    def _countersign(self, stream: AuditedStream, statement: AuditStatement, outputs: list[Output]) -> AuditedStream:
        word, digest = self._speaker.countersign(statement), statement_digest(statement)
        if digest != stream.agreed_statement:
            outputs += [ToResults(statement), ToResults(word)]
        outputs.append(ToPeer(stream.peer, word))
        return replace(stream, agreed=statement.count, agreed_root=statement.root, agreed_statement=digest)


def is_unanswered(stream: AuditedStream) -> bool:
    """Something was said that the peer neither counter-signed nor contradicted."""
    return stream.confirmed < stream.said and not stream.disputes
