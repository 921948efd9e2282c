"""Where a condition works, what its images are measured in, and how far it may be believed."""

from __future__ import annotations

from enum import StrEnum


class Space(StrEnum):
    """Where a condition works.

    PHYSICAL: as the scanner made it (CT in HU; radiograph as presentation signal in [0, 1]), native sampling.
    DISPLAY: windowed, resized, one plane, in [0, 1], before normalisation.
    STORED: native grid of the file, its storage range mapped to [0, 1]; rounding to ``stored_bits`` is what the file holds.
        The range of CT is -1024 HU and up, one grey level per HU; values the file has outside of it lie outside of [0, 1]
        and are to be left as they are. For other modalities it is the declared range. A model query made for a batch
        sees these images through windowing and resizing inside the graph.
    """

    PHYSICAL = "physical"
    DISPLAY = "display"
    STORED = "stored"


class Unit(StrEnum):
    """Unit of a physical image."""

    HU = "HU"
    SIGNAL = "signal"  # presentation or detector signal, declared range mapped to [0, 1]
    MAGNITUDE = "magnitude"  # MR magnitude scaled by its own percentiles, not clipped


class Kind(StrEnum):
    """How far a shift may be believed."""

    PHYSICAL = "physical"
    EMULATED = "emulated"
    APPROXIMATE = "approximate"
    CATEGORICAL = "categorical"
