"""The defended classifier: display images go through the defences, in order, before they reach the network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from torch import Tensor

from robustbench_rad.classifier import Classifier, HeadSpec
from robustbench_rad.defences.augmentation import Augmentation
from robustbench_rad.defences.averaging import Average, averaged
from robustbench_rad.defences.blur import Blur
from robustbench_rad.defences.jpeg import Jpeg
from robustbench_rad.defences.noise import Noise
from robustbench_rad.defences.quantisation import Quantisation
from robustbench_rad.defences.sections import (
    AnyDefence,
    AugmentationSection,
    BlurSection,
    JpegSection,
    QuantisationSection,
)


class Defence(Protocol):
    """What stands between the image and the network."""

    @property
    def version(self) -> int:
        """Raised when its numbers change."""

    @property
    def average(self) -> Average:
        """How the outputs of several views become one."""

    def views(self, display: Tensor) -> Iterator[Tensor]:
        """Images ``(N, 1, ...)`` that the rest of the chain is asked about instead of ``display``; differentiable.

        Row i depends on row i only. The one nearest to the image as it is comes last.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class DefendedClassifier(Classifier):
    """A classifier behind its defences; attacks, shifts and saliency go through them without knowing.

    Attributes:
        defences: In the order in which an image meets them.
    """

    defences: tuple[Defence, ...]

    def outputs(self, display: Tensor) -> Tensor:
        """Raw outputs ``(N, width)`` of the defended model, averaged over the views of its defences."""
        return _through(self.defences, display, super().outputs, self.head)

    @property
    def undefended(self) -> Classifier:
        """The same model without its defences."""
        return Classifier(**{field.name: getattr(self, field.name) for field in fields(Classifier)})


def _through(defences: Sequence[Defence], display: Tensor, ask: Callable[[Tensor], Tensor], head: HeadSpec) -> Tensor:
    """Ask about every view in turn, not in one batch: memory stays bounded, and hooks see one row per case."""
    if not defences:
        return ask(display)
    first, *rest = defences
    answers = [_through(rest, view, ask, head) for view in first.views(display)]
    return answers[0] if len(answers) == 1 else averaged(answers, head, first.average)


def defended(classifier: Classifier, sections: Sequence[AnyDefence], *, seed: int) -> Classifier:
    """Put a classifier behind the defences of a plan; without any it is given back as it is.

    Args:
        classifier: The model.
        sections: ``[[model.defences]]``.
        seed: The audit's seed; draws of noise follow from it.
    """
    if not sections:
        return classifier
    defences = tuple(make_defence(section, seed=seed) for section in sections)
    given = {field.name: getattr(classifier, field.name) for field in fields(Classifier)}
    return DefendedClassifier(**given, defences=defences)


def make_defence(section: AnyDefence, *, seed: int) -> Defence:
    """The defence that a section of the plan describes."""
    if isinstance(section, AugmentationSection):
        return Augmentation(
            flips=tuple(section.flips),
            rotations_degrees=tuple(section.rotations_degrees),
            average=Average(section.average),
        )
    if isinstance(section, QuantisationSection):
        return Quantisation(bits=section.bits)
    if isinstance(section, JpegSection):
        return Jpeg(quality=section.quality)
    if isinstance(section, BlurSection):
        return Blur(fwhm_px=section.fwhm_px)
    return Noise(sd=section.sd, draws=section.draws, average=Average(section.average), seed=seed)
