"""Three-dimensional input ``(N, 1, L)``: the engine knows no rank, so a row of pixels is attacked like a plane."""

import pytest
import torch

from robustbench_rad.attacks.apgd_linf import ApgdLinf
from robustbench_rad.attacks.fab_linf import FabLinf
from robustbench_rad.attacks.fgsm import Fgsm
from robustbench_rad.attacks.minimal_norm import MinimalNorm
from robustbench_rad.attacks.momentum_linf import MomentumLinf
from robustbench_rad.attacks.noise import Noise
from robustbench_rad.attacks.pgd_l2 import PgdL2
from robustbench_rad.attacks.pgd_linf import PgdLinf


@pytest.mark.parametrize("kind", [Fgsm, PgdLinf, ApgdLinf, MomentumLinf, FabLinf, MinimalNorm, PgdL2, Noise])
def test_a_row_of_pixels_gives_the_answer_of_the_plane(lab, kind):
    attack = kind.from_options({"epsilon": ["2/255", "8/255"]})
    answers = []
    for shape in ((6, 1, 48), (6, 1, 6, 8)):
        classifier = lab.classifier(lab.linear(48), size=shape[2:])
        images = lab.images((6, 1, 48), bits=8).reshape(shape)
        margins, _ = lab.attack(attack, classifier, lab.batch(images, lab.called(classifier, images)))
        answers.append(torch.stack(list(margins.values())))
    torch.testing.assert_close(*answers, equal_nan=True)
    with torch.no_grad():
        clean = classifier.margins(images)
    assert ((answers[0][1] - clean) * lab.side(lab.called(classifier, images)) < 0).all()  # every call was weakened
