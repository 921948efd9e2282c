"""Attacks of torchattacks: ``torchattacks:MIFGSM`` in a plan is ``torchattacks.MIFGSM`` behind our oracle.

What it does not say of its attacks stands in the table below, found by running version 3.5.1: who draws for the whole batch,
who fails on volumes or other than square images, who is hard-wired to three channels, and who would be wrong on a finding.

References:
    Kim 2020, arXiv:2010.01950.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from robustbench_rad.attacks._bridge import condition, imported, library, unknown_name
from robustbench_rad.attacks._bridge_known import Known
from robustbench_rad.attacks._bridge_run import Foreign
from robustbench_rad.attacks._bridge_view import View

QUARTER = {"alpha": 0.25}  # the default of most: alpha 2/255 for eps 8/255
THREE_CLASSES = "it needs at least three classes, a finding has two"

KNOWN: dict[str, Known] = {
    "FGSM": Known(alone=False, volumes=True, follows_gradient=True, instead="attack.fgsm"),
    "BIM": Known(alone=False, volumes=True, follows_gradient=True, scaled=QUARTER),
    "MIFGSM": Known(alone=False, volumes=True, follows_gradient=True, scaled=QUARTER, instead="attack.momentum-linf"),
    "NIFGSM": Known(alone=False, volumes=True, follows_gradient=True, scaled=QUARTER, instead="attack.momentum-linf"),
    "SINIFGSM": Known(alone=False, volumes=True, follows_gradient=True, scaled=QUARTER, instead="attack.momentum-linf"),
    "VMIFGSM": Known(volumes=True, follows_gradient=True, scaled=QUARTER, instead="attack.momentum-linf"),
    "VNIFGSM": Known(volumes=True, follows_gradient=True, scaled=QUARTER, instead="attack.momentum-linf"),
    "UPGD": Known(volumes=True, follows_gradient=True, scaled=QUARTER),
    "PGD": Known(volumes=True, follows_gradient=True, scaled=QUARTER),
    "EOTPGD": Known(volumes=True, follows_gradient=True, scaled=QUARTER),
    "RFGSM": Known(volumes=True, follows_gradient=True, scaled=QUARTER),
    "FFGSM": Known(volumes=True, scaled={"alpha": 1.25}, instead="attack.fgsm"),
    "PGDRS": Known(follows_gradient=True, scaled=QUARTER),
    "APGD": Known(follows_gradient=True, instead="attack.apgd-linf"),
    "FAB": Known(volumes=True, instead="attack.fab-linf"),
    "Square": Known(square_only=True, instead="attack.square-linf"),
    "SPSA": Known(volumes=True, instead="attack.square-linf"),
    "DIFGSM": Known(square_only=True, scaled=QUARTER, instead="attack.momentum-linf"),
    "TIFGSM": Known(square_only=True, channels=3, scaled=QUARTER, instead="attack.momentum-linf"),
    "PIFGSM": Known(radius="max_epsilon", channels=3, instead="attack.momentum-linf"),
    "PIFGSMPP": Known(radius="max_epsilon", channels=3, instead="attack.momentum-linf"),
    "PGDL2": Known(norm="l2", scaled={"alpha": 0.2}),
    "PGDRSL2": Known(norm="l2", scaled={"alpha": 0.2}),
    "DeepFool": Known(norm="l2", instead="attack.minimal-norm", radius="", volumes=True),
    "EADEN": Known(norm="l1", instead="attack.minimal-norm", radius="", volumes=True),
    "EADL1": Known(norm="l1", instead="attack.minimal-norm", radius="", volumes=True),
    "SparseFool": Known(norm="l0", radius="", volumes=True),
    "OnePixel": Known(norm="l0", radius="pixels"),
    "APGDT": Known(refused=THREE_CLASSES, instead="attack.apgd-linf"),
    "AutoAttack": Known(
        refused=f"{THREE_CLASSES}; it also switches off debuggers and coverage", instead="attack.worst-case"
    ),
    "JSMA": Known(norm="l0", refused=THREE_CLASSES),
    "CW": Known(
        norm="l2",
        refused="its pixels of exactly 0 or 1 (air, collimation) can never move, negative logits have no gradient, and the "
        "companions in the batch decide when it stops: the model would look more robust than it is",
        instead="attack.minimal-norm",
    ),
    "Jitter": Known(
        refused="it divides the logits by the larger one, which makes two logits constant: no gradient is left"
    ),
    "TPGD": Known(refused="it never sees the label, and as often makes a call more certain as it flips it"),
    "Pixle": Known(norm="l0", refused="it moves pixels about, as many as it likes; no number of them can be set"),
    "GN": Known(refused="it is noise that knows no radius", instead="attack.noise"),
    "VANILA": Known(refused="it changes nothing"),
    "LGV": Known(refused="it needs the training data"),
    "MultiAttack": Known(refused="it is a list of attacks, not one", instead="attack.worst-case"),
}


@cache
def __getattr__(name: str) -> type[Foreign]:
    """The condition that runs ``torchattacks.NAME``; made on first use.

    Raises:
        MissingExtraError: torchattacks is not installed.
        PlanError: It has no such attack, or one that would be wrong here.
    """
    if not name[:1].isupper():
        raise AttributeError(name)
    bridge = library("torchattacks")
    torchattacks = imported("torchattacks")
    if name not in torchattacks.__all__:
        raise unknown_name(bridge, name, list(torchattacks.__all__))
    made, known = getattr(torchattacks, name), KNOWN.get(name, Known())

    def call(options: dict[str, Any], view: View, images: Tensor, labels: Tensor, size: float, seed: int) -> Tensor:
        radius = {known.radius: int(size) if known.norm == "l0" else size} if known.radius else {}
        seeds = {"seed": seed} if name in ("APGD", "FAB", "Square") else {}
        answer: Tensor = made(view, **options, **radius, **seeds)(images, labels)
        return answer

    return condition(bridge, name, made=made, known=known, call=call)
