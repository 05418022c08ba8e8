"""What both parties derive from the spec and the table's size, so that nothing about it has to be agreed on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.jobs import Privacy, Role, TrainSpec
from streams.kernels.fixed_point import FX, RESIDUAL_BITS
from streams.kernels.link_table import LinkTable, choose_table
from streams.kernels.residual_product import ProductLayout
from streams.kernels.sigmoid import SIGMOID_LIMIT
from streams.kernels.split_link import SplitLayout, choose_residual_layout, choose_split_layout
from streams.kernels.step_rule import FEW_COLUMNS, SCALAR_BITS, rank_of_pass

#: Rows of a split-link chunk: 1664 ciphertexts of 512 bytes fill one sealed chunk of a record.
MOST_CHUNK_ROWS: Final = 1664
#: Where the guest knows the residuals a row costs some 20 us a column instead of 1.5 ms.
PLAIN_CHUNK_FACTOR: Final = 8
#: A step should stay below this at 2048 bits on one core without native kernels.
STEP_US: Final = 2_700_000
ROW_US, ROW_COLUMN_US = 1_300, 22


@dataclass(frozen=True)
class TrainPlan:
    """The schedule of a job's passes and the layouts of its ciphertexts. Columns count the guest's intercept."""

    train: TrainSpec
    rows: int
    guest_columns: int
    host_columns: int
    few_columns: bool
    most_chunk_rows: int = MOST_CHUNK_ROWS

    @property
    def is_trusted(self) -> bool:
        """Whether the guest knows the residuals in every pass."""
        return self.train.privacy is Privacy.TRUSTED_GUEST

    @property
    def full_rank(self) -> int:
        """The rank that the training ends with; 0 where the guest knows the residuals."""
        return 0 if self.is_trusted else full_rank(self.train)

    def rank(self, pass_index: int) -> int:
        """A pass's rank, 0 where the guest knows the residuals: also in pass 0, as the host's weights are zero then."""
        if self.is_trusted or pass_index == 0:
            return 0
        return rank_of_pass(pass_index, self.train.coarse_passes, self.full_rank)

    def chunk_rows(self, rank: int) -> int:
        """Rows of a chunk in a pass of this rank: fewer for wide tables and long keys, so that steps stay short."""
        slowness = (self.train.key_bits / 2048) ** 2.5
        # Where the guest knows the residuals only the host multiplies columns under encryption.
        columns = max(self.guest_columns, self.host_columns) if rank else self.host_columns
        row_us = (ROW_COLUMN_US * columns + (ROW_US if rank else 0)) * slowness
        most = self.most_chunk_rows * (1 if rank else PLAIN_CHUNK_FACTOR)
        return max(1, min(most, int(STEP_US / row_us)))

    def chunks(self, rank: int) -> int:
        """How many chunks a pass of this rank has."""
        return -(-self.rows // self.chunk_rows(rank))

    def chunk(self, rank: int, index: int) -> slice:
        """The rows of a chunk."""
        size = self.chunk_rows(rank)
        return slice(index * size, min(self.rows, (index + 1) * size))

    def split_layout(self, rank: int) -> SplitLayout:
        """Slots of a split-link pass. Raises ValueError when the key is too short for the rank."""
        return split_layout(self.train, self.rows, rank)

    def product_layout(self, rank: int) -> ProductLayout:
        """How the gradient's vectors are packed in a pass of this rank."""
        if rank:
            return self.split_layout(rank).products
        return residual_layout(self.train, self.rows)


def make_plan(train: TrainSpec, rows: int, guest_columns: int, host_columns: int, most_chunk_rows: int) -> TrainPlan:
    """The plan that both parties make once they have heard each other's number of columns (without the intercept)."""
    few = min(guest_columns, host_columns) <= FEW_COLUMNS
    return TrainPlan(train, rows, guest_columns + 1, host_columns, few, most_chunk_rows)


def link_table(train: TrainSpec) -> LinkTable:
    """The basis table of the spec's box. Raises NoTableError."""
    return choose_table(train.guest_logit_clip, train.host_logit_clip)


def full_rank(train: TrainSpec) -> int:
    """The spec's rank, or the one that its sup error asks for. Raises NoTableError."""
    table = link_table(train)
    rank = train.rank or table.rank_for(train.sup_error)
    table.sup_error(rank)
    return rank


def drop_bits(rows: int) -> int:
    """Low bits that a gradient's shares lose: the mean gradient keeps SCALAR_BITS fractional bits."""
    return max(0, FX + RESIDUAL_BITS + (rows - 1).bit_length() - SCALAR_BITS)


def split_layout(train: TrainSpec, rows: int, rank: int) -> SplitLayout:
    """See `TrainPlan.split_layout`."""
    return choose_split_layout(link_table(train), rank, rows, train.key_bits, drop_bits(rows))


def residual_layout(train: TrainSpec, rows: int) -> ProductLayout:
    """See `TrainPlan.product_layout`."""
    return choose_residual_layout(rows, train.key_bits, drop_bits(rows))


def logit_clip(train: TrainSpec, role: Role) -> int:
    """Where this role's logits are clipped: at the table's box, or where the exact link is constant."""
    if train.privacy is Privacy.TRUSTED_GUEST:
        return SIGMOID_LIMIT
    table = link_table(train)
    return table.guest_clip if role is Role.GUEST else table.host_clip


def check_plan(train: TrainSpec, rows: int) -> None:
    """Whether every pass fits the key and the tables. Raises ValueError with what to do."""
    residual_layout(train, rows)
    if train.privacy is Privacy.SPLIT_LINK:
        rank = full_rank(train)
        for pass_rank in {rank, rank_of_pass(1, train.coarse_passes, rank)}:
            split_layout(train, rows, pass_rank)
