"""What a job reveals, in plain words: for approvals on the command line and for the report."""

from __future__ import annotations

from schemas.jobs import JobSpec, Leak, Privacy

#: What accepting a leak by name means.
ACCEPTED: dict[Leak, str] = {
    Leak.SMALL_TABLE: (
        "The table is small for what the gradients say about it: over all passes a host receives more bits than the "
        "labels hold, so a host that wants to can work out labels of the common rows. Fine for a demonstration on "
        "public data; on real data use more rows, fewer passes or fewer columns."
    ),
    Leak.RARE_COLUMN: (
        "A column is equal to its most frequent value in all but fewer than 50 rows. Its gradient is a sum over these "
        "few rows, which tells its owner about their labels or scores."
    ),
    Leak.OVERLAPPING_COHORT: (
        "The job trains on nearly the same rows as an earlier one. The difference of the two jobs' gradients is about "
        "the few rows in which they differ alone, and tells their labels, or their host's scores."
    ),
    Leak.HOST_ROWS_TO_GUEST: (
        "The guest receives every host's partial score of every row in every pass, and can recover the hosts' rows "
        "from them. Choose this only where the guest may see the hosts' data anyway."
    ),
}


def reveals(spec: JobSpec) -> tuple[tuple[str, str], ...]:
    """What every job of this kind reveals by design, as (short name, sentence)."""
    hosts = ", ".join(host.party for host in spec.hosts)
    always = [
        ("sizes", "All parties learn how many rows and columns each of them has, and the names of the columns."),
        (
            "common rows",
            f"{spec.guest.party} and {hosts} learn which of their own rows the other side has too. "
            "About a person whom only one side knows, the other side learns nothing.",
        ),
    ]
    if spec.train.privacy is Privacy.SPLIT_LINK:
        always.append(
            (
                "own gradient",
                "In each pass each party learns the gradient of its own columns to 20 bits, and no value of any row of "
                "anybody. The first one shows a host what a model on its columns alone would be.",
            )
        )
    else:
        always.append(
            ("partial scores", "The guest learns each host's partial score of every training row in every pass.")
        )
    always += [
        (
            "scalars",
            "The step rule shares a few rounded products of gradients a pass; the leak budget counts them.",
        ),
        ("hold-out scores", "For the evaluation the guest learns the hosts' partial scores of the hold-out rows."),
        ("broker", "The operator of the broker sees sizes, times and names of topics. All contents are sealed."),
    ]
    return tuple(always)
