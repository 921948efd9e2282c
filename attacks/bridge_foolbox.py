"""Attacks of foolbox: ``foolbox:LinfPGD`` in a plan is ``foolbox.attacks.LinfPGD`` behind our oracle.

Every attack of foolbox says the distance it keeps to, and all but two are right on volumes (found by running version 3.3.4).
One that draws is given one case per call.

References:
    Rauber et al. 2020, doi:10.21105/joss.02607.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache
from typing import Any

from torch import Tensor

from robustbench_rad.attacks._bridge import condition, imported, library, unknown_name
from robustbench_rad.attacks._bridge_known import Known
from robustbench_rad.attacks._bridge_run import Foreign
from robustbench_rad.attacks._bridge_view import View

NORMS = ("linf", "l2", "l1", "l0")
GRADIENT = Known(alone=False, volumes=True, follows_gradient=True)
STRICT = Known(volumes=True)
STARTING_POINT = "it needs an image that is called wrong to start from"

KNOWN: dict[str, Known] = {
    "LinfFastGradientAttack": replace(GRADIENT, instead="attack.fgsm"),
    "LinfBasicIterativeAttack": GRADIENT,
    "LinfMomentumIterativeFastGradientMethod": replace(GRADIENT, instead="attack.momentum-linf"),
    "LinfAdditiveUniformNoiseAttack": replace(STRICT, instead="attack.noise"),
    "LinfRepeatedAdditiveUniformNoiseAttack": replace(STRICT, instead="attack.noise"),
    "LinfDeepFoolAttack": replace(STRICT, instead="attack.fab-linf"),
    "LInfFMNAttack": replace(STRICT, instead="attack.minimal-norm"),
    "DatasetAttack": Known(refused="it hands out other images of the data set"),
    "BinarizationRefinementAttack": Known(refused=STARTING_POINT),
    "PointwiseAttack": Known(refused=STARTING_POINT, norm="l0"),
    "BoundaryAttack": Known(refused=STARTING_POINT, instead="attack.square-linf"),
    "HopSkipJumpAttack": Known(refused=STARTING_POINT, instead="attack.square-linf"),
    "L0BrendelBethgeAttack": Known(refused=STARTING_POINT, norm="l0"),
    "L1BrendelBethgeAttack": Known(refused=STARTING_POINT, norm="l1"),
    "L2BrendelBethgeAttack": Known(refused=STARTING_POINT, norm="l2"),
    "LinfinityBrendelBethgeAttack": Known(refused=STARTING_POINT),
    "GenAttack": Known(
        refused="it aims at a class that is given, and a finding has no other", instead="attack.square-linf"
    ),
    "GaussianBlurAttack": Known(refused="it is a blur, not a change of a given size"),
    "SpatialAttack": Known(refused="it moves the image, and knows no size of a change of its pixels"),
    "InversionAttack": Known(refused="it inverts the image, and knows no size of a change"),
    "VirtualAdversarialAttack": Known(
        refused="it never sees the label, and where the model is sure it gives no number"
    ),
}


@cache
def __getattr__(name: str) -> type[Foreign]:
    """The condition that runs ``foolbox.attacks.NAME``; made on first use.

    Raises:
        MissingExtraError: foolbox is not installed.
        PlanError: It has no such attack, or one that would be wrong here.
    """
    if not name[:1].isupper():
        raise AttributeError(name)
    bridge = library("foolbox")
    foolbox = imported("foolbox")
    names = [word for word, found in vars(foolbox.attacks).items() if inspect.isclass(found) and word != "Attack"]
    if name not in names:
        raise unknown_name(bridge, name, names)
    made = getattr(foolbox.attacks, name)
    distance = getattr(made, "distance", None)
    said = (norm for norm in NORMS if distance is getattr(foolbox.distances, norm))
    norm = next(said, None) or next((norm for norm in NORMS if made.__name__.lower().startswith(norm)), "")
    known = KNOWN.get(made.__name__, STRICT)
    known = known if known.refused else replace(known, norm=norm)

    def call(options: dict[str, Any], view: View, images: Tensor, labels: Tensor, size: float, seed: int) -> Tensor:
        del seed  # it draws from torch's own generator, which is seeded
        model = foolbox.PyTorchModel(view, bounds=(0, 1), device=images.device)
        _, clipped, _ = made(**options)(model, images, labels, epsilons=int(size) if norm == "l0" else size)
        answer: Tensor = clipped
        return answer

    return condition(bridge, name, made=made, known=known, call=call)
