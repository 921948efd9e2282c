"""Attacks of the Adversarial Robustness Toolbox: ``art:ProjectedGradientDescent`` in a plan, behind our oracle.

ART has patches, sounds and transforms besides; only what keeps to a norm on images can be measured, so it is the table below
that says what may be named. Found by running version 1.20.1. Importing ART takes seconds and makes a folder ``~/.art``.

References:
    Nicolae et al. 2018, arXiv:1807.01069.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from robustbench_rad.attacks._bridge import condition, imported, library, unknown_name
from robustbench_rad.attacks._bridge_known import Known
from robustbench_rad.attacks._bridge_run import Foreign
from robustbench_rad.attacks._bridge_view import View

THIRD = {"eps_step": 1 / 3}  # the default: eps_step 0.1 for eps 0.3
UNKNOWN_NORM = Known(norm="", volumes=True)

KNOWN: dict[str, Known] = {
    "FastGradientMethod": Known(volumes=True, follows_gradient=True, instead="attack.fgsm"),
    "BasicIterativeMethod": Known(volumes=True, follows_gradient=True, scaled=THIRD),
    "ProjectedGradientDescent": Known(volumes=True, follows_gradient=True, scaled=THIRD),
    "ProjectedGradientDescentPyTorch": Known(volumes=True, follows_gradient=True, scaled=THIRD),
    "ProjectedGradientDescentNumpy": Known(volumes=True, follows_gradient=True, scaled=THIRD),
    "MomentumIterativeMethod": Known(volumes=True, follows_gradient=True, scaled=THIRD, instead="attack.momentum-linf"),
    "AutoProjectedGradientDescent": Known(volumes=True, scaled=THIRD, instead="attack.apgd-linf"),
    "AutoConjugateGradient": Known(volumes=True, scaled=THIRD, instead="attack.apgd-linf"),
    "RescalingAutoConjugateGradient": Known(volumes=True, scaled=THIRD, instead="attack.apgd-linf"),
    "SquareAttack": Known(square_only=True, instead="attack.square-linf"),
    "CarliniL2Method": Known(norm="l2", radius="", volumes=True, instead="attack.minimal-norm"),
    "CarliniLInfMethod": Known(radius="", volumes=True, instead="attack.minimal-norm"),
    "DeepFool": Known(norm="l2", radius="", volumes=True, instead="attack.minimal-norm"),
    "NewtonFool": Known(norm="l2", radius="", volumes=True, instead="attack.minimal-norm"),
    "ElasticNet": Known(norm="l1", radius="", volumes=True, instead="attack.minimal-norm"),
    "AutoAttack": Known(
        refused="it needs more than two classes, and is another suite than the one of that name",
        instead="attack.worst-case",
    ),
    "SaliencyMapMethod": Known(refused="it aims at a class that is given, and a finding has no other", norm="l0"),
    "VirtualAdversarialMethod": Known(refused="it never sees the label"),
    "UniversalPerturbation": Known(refused="it learns one change for all images from the images it is judged on"),
    "TargetedUniversalPerturbation": Known(
        refused="it learns one change for all images from the images it is judged on"
    ),
}


@cache
def __getattr__(name: str) -> type[Foreign]:
    """The condition that runs ``art.attacks.evasion.NAME``; made on first use.

    Raises:
        MissingExtraError: ART is not installed.
        PlanError: It has no such attack, one that would be wrong here, or one whose norm is not known.
    """
    if not name[:1].isupper():
        raise AttributeError(name)
    bridge = library("art")
    evasion = imported("art.attacks.evasion")
    classifier = imported("art.estimators.classification").PyTorchClassifier
    names = [word for word, found in vars(evasion).items() if inspect.isclass(found)]
    if name not in names:
        raise unknown_name(bridge, name, names)
    made, known = getattr(evasion, name), KNOWN.get(name, UNKNOWN_NORM)
    takes = inspect.signature(made).parameters

    def call(options: dict[str, Any], view: View, images: Tensor, labels: Tensor, size: float, seed: int) -> Tensor:
        del seed  # it draws from the global generators, which are seeded
        model = classifier(
            view,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(images.shape[1:]),
            nb_classes=2,
            clip_values=(0.0, 1.0),
            device_type="gpu" if images.is_cuda else "cpu",
        )
        own = {known.radius: size} if known.radius else {}
        own |= {word: value for word, value in (("batch_size", len(images)), ("verbose", False)) if word in takes}
        attack = made(model, **options, **own)
        return torch.from_numpy(attack.generate(images.cpu().numpy(), nn.functional.one_hot(labels, 2).cpu().numpy()))

    return condition(bridge, name, made=made, known=known, call=call)
