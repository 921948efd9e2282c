"""Asking the model: counted, chunked to what memory allows, with gradients of the image only."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from robustbench_rad.errors import ModelError

if TYPE_CHECKING:
    from robustbench_rad.classifier import Classifier
    from robustbench_rad.conditions import Weigh

View = Callable[[Tensor], Tensor]
MOST_PIXELS = 2**24  # seen through a view at a time: half a gigabyte of float64 copies


@dataclass(kw_only=True)
class Tally:
    """What queries of one model share: rows at a time, rows asked forward and backward."""

    rows: int
    forwards: int = 0
    backwards: int = 0


class CountingQuery:
    """The harness's :class:`~robustbench_rad.conditions.ModelQuery`.

    Rows are sent to the model at most ``rows`` at a time. When a device runs out of memory the number is halved for the
    rest of the run and the same rows are asked again; the numbers do not change, because rows do not depend on each other.

    A query made by :meth:`through` counts and halves together with the one it was made from; as its images may be far
    larger than the model's input, it also sends no more of them at a time than 2^24 pixels.
    """

    def __init__(self, classifier: Classifier, *, rows: int = 256) -> None:
        self.classifier = classifier
        self.findings = classifier.findings
        self._tally = Tally(rows=rows)
        self._shown: View | None = None

    @property
    def rows(self) -> int:
        """Rows sent to the model at most at a time."""
        return self._tally.rows

    @property
    def forwards(self) -> int:
        """Rows that went forward so far."""
        return self._tally.forwards

    @property
    def backwards(self) -> int:
        """Rows that went backward so far."""
        return self._tally.backwards

    def through(self, view: View) -> Self:
        """A query about images that the model sees through a differentiable ``view``; gradients are those of the images.

        Args:
            view: Brings images ``(n, 1, ...)`` to those that this query is about, row by row.
        """
        other, shown = copy(self), self._shown
        other._shown = view if shown is None else lambda images: shown(view(images))
        return other

    def _margins(self, images: Tensor) -> Tensor:
        return self.classifier.margins(images if self._shown is None else self._shown(images))

    def margins(self, display: Tensor) -> Tensor:
        """Margins ``(N, K)`` float32, without gradient."""

        def ask(part: Tensor) -> tuple[Tensor]:
            with torch.no_grad():
                return (self._margins(part),)

        (margins,) = self._by_rows(ask, display)
        self._tally.forwards += len(display)
        return margins

    def margins_and_features(self, display: Tensor) -> tuple[Tensor, Tensor]:
        """Margins ``(N, K)`` and penultimate features ``(N, F)`` of one pass over display images, without gradient.

        Raises:
            ModelError: The model gives no access to its layers.
        """
        margins, features = self._by_rows(self.classifier.margins_and_features, display)
        self._tally.forwards += len(display)
        return margins, features

    def margins_and_gradient(self, display: Tensor, weights: Tensor | Weigh) -> tuple[Tensor, Tensor]:
        """Margins ``(N, K)`` and the gradient of ``(margins * weights).sum()`` with respect to ``display``.

        ``weights`` may be chosen from the margins: see :meth:`robustbench_rad.conditions.ModelQuery.margins_and_gradient`.
        """

        def ask(part: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            image = part.detach().requires_grad_(True)
            with torch.enable_grad():
                margins = self._margins(image)
                if not margins.requires_grad:  # the graph is cut: an argmax, a rounding, a detour through NumPy
                    return margins.detach(), torch.zeros_like(image)
                weight = weights(margins.detach(), rows).detach() if callable(weights) else weights[rows]
                (gradient,) = torch.autograd.grad((margins * weight).sum(), image, allow_unused=True)
            return margins.detach(), torch.zeros_like(image) if gradient is None else gradient

        margins, gradient = self._by_rows(ask, display, torch.arange(len(display), device=display.device))
        self._tally.forwards += len(display)
        self._tally.backwards += len(display)
        return margins, gradient

    def _by_rows(self, ask: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        most = self._most(inputs[0])
        if len(inputs[0]) <= most:
            answer = self._try(ask, inputs)
            if answer is not None:
                return answer
        parts: list[tuple[Tensor, ...]] = []
        start = 0
        while start < len(inputs[0]):
            most = self._most(inputs[0])
            answer = self._try(ask, tuple(value[start : start + most] for value in inputs))
            if answer is not None:
                start += len(answer[0])
                parts.append(answer)
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _most(self, images: Tensor) -> int:
        """Rows of these images to send at a time."""
        if self._shown is None or not len(images):
            return self.rows
        return max(1, min(self.rows, MOST_PIXELS // images[0].numel()))

    def _try(self, ask: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Ask once; on out-of-memory halve ``rows`` and answer None."""
        try:
            return ask(*inputs)
        except torch.OutOfMemoryError as error:
            rows = len(inputs[0])
            if rows == 1:
                raise ModelError(
                    "the device has too little memory for one image",
                    hint="Free the device, or run with --device cpu.",
                ) from error
        self._tally.rows = max(1, rows // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
