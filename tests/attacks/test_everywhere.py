"""Every attack of the catalogue where attacks break: the file's own pixels, volumes, images that are not square, masks.

What is asked of each is the same: margins are those of planes that a file holds, inside the threat and the mask, never
better than clean, and a gradient is asked for only by those that say so.
"""

from dataclasses import replace

import pytest
import torch

from robustbench_rad.attacks._attack import Attack
from robustbench_rad.attacks._mask import MaskPolicy, allowed_pixels
from robustbench_rad.attacks._threat import Anything, LinfBall
from robustbench_rad.classifier import Classifier, Head, HeadSpec, InputSpec, Outputs
from robustbench_rad.conditions import Space, Unit
from robustbench_rad.errors import DataError, PlanError, RobustbenchRadError
from robustbench_rad.query import CountingQuery
from robustbench_rad.registry import catalogue
from robustbench_rad.stored import Grid, stored_view

SHORT = {
    "steps": 3,
    "queries": 60,
    "evaluations": 40,
    "draws": 6,
    "random_starts": 0,
    "epochs": 1,
    "least_cases": 1,
    "places": 1,
    "rounds": 1,
    "refinements": 1,
    "votes": 8,
    "starts": 4,
}
SIZE = {  # a level of each unit at which something happens on a small image
    "attack.few-pixels": 4,
    "attack.few-pixel-evolution": 3,
    "attack.contrast": 1,
    "attack.spatial": 1,
    "attack.smooth-warp": 2,
    "attack.patch": "5 %",
    "attack.marker": "40 %",
    "attack.boundary-l2": "32/255",
    "attack.boundary-linf": "32/255",
}
OTHER = {"attack.momentum-linf": {"step_size": 0.5}}
PLANES_ONLY = {"attack.marker"}
ONE_SIZE = {"attack.universal-linf"}  # learns one change for all images, and files are of many sizes
NO_RESULT = {
    "attack.boundary-l2",
    "attack.boundary-linf",
    "attack.universal-linf",
}  # nothing to begin with: not a number
WHOLE_IMAGE = {"attack.contrast", "attack.spatial", "attack.smooth-warp"}
IDS = [
    id
    for id, known in catalogue().items()
    if known.domain == "adversarial"
    and known.module.startswith("robustbench_rad.")
    and issubclass(known.load(), Attack)
]


def made(id, **options):
    kind = catalogue()[id].load()
    names = kind.__dataclass_fields__
    short = {name: value for name, value in SHORT.items() if name in names}
    return kind.from_options({**short, **OTHER.get(id, {}), "levels": [SIZE.get(id, "8/255")], **options})


class Seen(CountingQuery):
    """Remembers what was asked, in the space of the batch."""

    def __init__(self, classifier):
        super().__init__(classifier)
        self.planes = []

    def margins(self, images):
        self.planes.append(images.detach().clone())
        return super().margins(images)

    def margins_and_gradient(self, images, weights):
        self.planes.append(images.detach().clone())
        return super().margins_and_gradient(images, weights)


def bench(lab, shape, size, *, ct=False):
    """A curved model of two findings on images of ``shape``, with calls near the boundary; in stored space for CT."""
    source = torch.Generator().manual_seed(1)
    weight = torch.randn(2, torch.Size(size).numel(), generator=source)

    class Curved(lab.Linear):
        def forward(self, images):
            return super().forward(images + 0.3 * torch.sin(7 * images))

    module = Curved(weight, torch.zeros(2))
    window = (-200.0, 300.0) if ct else None
    spec = HeadSpec(kind=Head.SIGMOID, outputs=Outputs.LOGITS, findings=("a", "b"), thresholds=(0.5, 0.5))
    classifier = Classifier(module=module.eval(), input=InputSpec(size=size, window_hu=window), head=spec)
    grid = Grid.of(Unit.HU, 12, declared=(-200.0, 300.0))
    images = lab.images((6, 1, *shape), bits=None if ct else 12)
    images = grid.rounded(grid.stored(images * 500 - 200)) if ct else images
    axes = len(shape)
    options = {"spacing_mm": torch.ones(6, axes), "stored_bits": 12}
    if ct:
        options |= {"limits": grid.limits, "limits_unit": Unit.HU, "modality": "CT"}
    batch = lab.batch(images, torch.ones(6, 2), **options)
    if ct:
        batch = replace(batch, space=Space.STORED, on_grid=(True,) * 6)
    query = asked(classifier, batch)
    with torch.no_grad():
        module.bias -= query.margins(images).median(0).values
    labels = (query.margins(images) >= 0).float()
    labels[0, 1] = torch.nan
    return classifier, replace(batch, labels=labels, clean_margins=query.margins(images))


def asked(classifier, batch):
    query = Seen(classifier)
    if batch.space is Space.STORED:
        return query.through(stored_view(batch, classifier))
    return query


def attacked(attack, classifier, batch):
    query = asked(classifier, batch)
    state = None
    if attack.needs_fit:
        try:
            state = attack.fit(classifier, iter([batch]))
        except RobustbenchRadError:
            state = None
    query.planes.clear()
    (variant,) = attack.apply(batch, query, state).variants
    return variant, query


def held_to_the_contract(attack, classifier, batch, *, flips=True):
    """Margins are never better than clean, and those of planes asked about; those planes are a file's, inside the threat."""
    variant, query = attacked(attack, classifier, batch)
    known = ~batch.labels.isnan()
    side = batch.labels * 2 - 1
    margins, clean = variant.margins, batch.clean_margins
    assert variant.applicable.all(), variant.reason
    assert margins[~known].isnan().all()
    if attack.id in NO_RESULT:
        assert (known & margins.isfinite()).float().mean() > 0.3
        known &= margins.isfinite()
    assert margins[known].isfinite().all()
    assert ((margins - clean) * side)[known].max() <= 1e-5
    planes = torch.cat(query.planes)
    grey = planes.double() * (2**batch.stored_bits - 1)
    assert (grey - grey.round()).abs().max() < 0.01
    shown = asked(classifier, batch).margins(planes)
    for row, column in known.nonzero().tolist():
        nearest = (shown[:, column] - margins[row, column]).abs().min()
        assert torch.minimum(nearest, (clean - margins)[row, column].abs()) < 1e-4
    if flips:
        wrong = (margins >= 0).float() != batch.labels
        assert wrong[known].any()
    return planes, query


@pytest.mark.parametrize("id", IDS)
def test_in_the_files_own_pixels_and_units(lab, id):
    """A CT of 13 x 9 pixels and 12 bits that the model sees at 8 x 6 through a window."""
    classifier, batch = bench(lab, (13, 9), (8, 6), ct=True)
    if id in ONE_SIZE:
        with pytest.raises(PlanError, match="images of one size"):
            made(id, space="stored")
        return
    attack = made(id, space="stored", **({"levels": ["40 HU"]} if issubclass(made(id).threat, LinfBall) else {}))
    assert attack.works_in is Space.STORED
    planes, _ = held_to_the_contract(attack, classifier, batch, flips=issubclass(attack.threat, LinfBall))
    if issubclass(attack.threat, LinfBall) and id not in NO_RESULT:  # the boundary is looked at from outside too
        grey = (planes[:, None] - batch.images[None]).abs().flatten(2).amax(2).amin(1) * 4095
        assert grey.max() <= 40.01


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("shape", [(5, 17), (3, 4, 7)], ids=["not-square", "volume"])
def test_any_shape(lab, id, shape):
    classifier, batch = bench(lab, shape, shape)
    attack = made(id)
    if len(shape) == 3 and id in PLANES_ONLY:
        with pytest.raises(DataError, match="volume"):
            attacked(attack, classifier, batch)
        return
    held_to_the_contract(attack, classifier, batch, flips=issubclass(attack.threat, LinfBall))


@pytest.mark.parametrize("id", [id for id in IDS if id not in WHOLE_IMAGE])
@pytest.mark.parametrize("policy", [MaskPolicy.ANATOMY, MaskPolicy.LESION_PROTECTED])
def test_pixels_behind_a_mask_stay_as_they_are(lab, id, policy):
    classifier, batch = bench(lab, (14, 11), (14, 11))
    anatomy, lesion = (torch.zeros_like(batch.images, dtype=torch.bool) for _ in range(2))
    anatomy[..., 2:12, 1:9] = True
    lesion[..., 4:8, 3:7] = True
    batch = replace(batch, anatomy=anatomy, lesion=lesion, lesion_known=(True,) * 6)
    attack = made(id, mask=str(policy))
    allowed, _ = allowed_pixels(policy, batch)
    assert 0 < allowed.float().mean() < 1
    variant, query = attacked(attack, classifier, batch)
    applicable = variant.applicable
    assert applicable.all() or variant.reason
    if not applicable.any():
        assert attack.threat is Anything  # what is covered by a patch or a marker needs room
        return
    planes = torch.cat(query.planes)
    touched = (planes[:, None] - batch.images[None]).abs() > 1e-6
    outside = (touched & ~allowed[None]).flatten(2).any(2)
    assert (~outside).any(1).all()  # each plane is that of a case whose masked pixels are as they were


@pytest.mark.parametrize("id", IDS)
def test_a_gradient_is_asked_for_by_those_that_say_so(lab, id):
    classifier, batch = bench(lab, (6, 7), (6, 7))
    _, query = attacked(made(id), classifier, batch)
    at_the_originals = int((~batch.labels.isnan()).sum())
    known = catalogue()[id]
    if id == "attack.transfer-linf":  # without a surrogate it is the model's own gradient, which its own tests look at
        return
    assert (query.backwards > at_the_originals) == (known.gradient and id != "attack.fgsm")
