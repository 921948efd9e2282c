"""What a condition may ask the model, which it never holds itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Weigh(Protocol):
    """Chooses the weights of margins from the margins themselves."""

    def __call__(self, margins: Tensor, rows: Tensor, /) -> Tensor:
        """Weights ``(n, K)`` for detached margins ``(n, K)`` of the rows ``(n,)`` int64."""
        ...


class ModelQuery(Protocol):
    """How a condition may ask the model; every pass is counted, out-of-memory is handled behind it."""

    findings: tuple[str, ...]

    def margins(self, display: Tensor) -> Tensor:
        """Margins ``(N, K)`` float32 of display images ``(N, 1, H, W)``, without gradient."""
        ...

    def margins_and_gradient(self, display: Tensor, weights: Tensor | Weigh) -> tuple[Tensor, Tensor]:
        """Margins ``(N, K)`` and the gradient of ``(margins * weights).sum()`` with respect to ``display``.

        Args:
            display: ``(N, 1, H, W)`` in [0, 1].
            weights: ``(N, K)``; a case's row selects the finding (±1 at one place). Or a function that chooses them
                from the margins just computed, so that one pass serves goals such as the smallest of several margins.
                It is called with detached margins ``(n, K)`` of some of the rows and their row numbers ``(n,)`` int64 in
                ``display``, and returns ``(n, K)``. The weights are held fixed: the gradient is a subgradient of the
                goal. It may be called again for the same rows after the device ran out of memory, so it must be pure.

        Returns:
            Detached margins and a gradient of the shape of ``display``. No parameter gradient is made.
        """
        ...
