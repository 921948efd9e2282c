"""A sparse matrix as weighted look-ups: fast on CPU and CUDA, differentiable, and free of torch's sparse tensors.

Every output row is a bag of input rows, so that a product with a dense matrix is one ``embedding_bag``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Gather:
    """Compressed sparse rows.

    Attributes:
        columns: ``(nnz,)`` int32, which input row each entry reads.
        weights: ``(nnz,)`` float32.
        offsets: ``(rows + 1,)`` int32, where each output row starts.
    """

    columns: Tensor
    weights: Tensor
    offsets: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Multiply: ``(inputs, C)`` to ``(rows, C)``, in the precision of the values.

        >>> double = Gather.from_entries([0, 1], [1, 1], [2.0, 3.0], shape=(2, 2))
        >>> double(torch.tensor([[1.0], [10.0]])).flatten().tolist()
        [20.0, 30.0]
        """
        return functional.embedding_bag(
            self.columns,
            values,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weights.to(values.dtype),
            include_last_offset=True,
        )

    @classmethod
    def from_entries(
        cls, rows: NDArray[np.int32], columns: NDArray[np.int32], weights: NDArray[np.float32], shape: tuple[int, int]
    ) -> Gather:
        """Sort entries ``(row, column, weight)`` into rows; entries at the same place are added."""
        matrix = sparse.csr_array((np.asarray(weights, np.float32), (rows, columns)), shape=shape)
        return cls(
            columns=torch.from_numpy(matrix.indices.astype(np.int32)),
            weights=torch.from_numpy(matrix.data.astype(np.float32)),
            offsets=torch.from_numpy(matrix.indptr.astype(np.int32)),
        )

    def to(self, device: torch.device) -> Gather:
        """Move to a device."""
        return Gather(columns=self.columns.to(device), weights=self.weights.to(device), offsets=self.offsets.to(device))
