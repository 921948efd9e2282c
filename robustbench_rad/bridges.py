"""Attacks of other libraries, named in a plan as ``library:Attack``; readable without importing torch or the library.

>>> find("torchattacks:MIFGSM").package
'torchattacks'
>>> find("attack.pgd-linf") is None
True
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

SEPARATOR = ":"


@dataclass(frozen=True, kw_only=True)
class Bridge:
    """A library whose attacks can be named.

    Attributes:
        prefix: What stands before the colon.
        package: Name it is imported by.
        distribution: Name it is installed by.
        module: The adapter: ``module.NAME`` is the condition that runs the library's attack ``NAME``.
        install: What to type where it is missing.
        example: An id to copy.
        reference: Authors, year, source.
        without_gradient: Its attacks that never ask for a gradient.
    """

    prefix: str
    package: str
    distribution: str
    module: str
    install: str
    example: str
    reference: str
    without_gradient: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Version of the library that is installed; "" without one."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:
            return ""

    @property
    def summary(self) -> str:
        """How to name an attack, one sentence."""
        return f'Any attack of {self.package} by name, e.g. "{self.example}", on one finding at a time, re-verified.'


BRIDGES = (
    Bridge(
        prefix="art",
        package="art",
        distribution="adversarial-robustness-toolbox",
        module="robustbench_rad.attacks.bridge_art",
        install="pip install adversarial-robustness-toolbox==1.20.1 packaging",
        example="art:ProjectedGradientDescent",
        reference="Nicolae et al. 2018, arXiv:1807.01069",
        without_gradient=(
            "BoundaryAttack",
            "GeoDA",
            "HopSkipJump",
            "PixelAttack",
            "SignOPTAttack",
            "SimBA",
            "SpatialTransformation",
            "SquareAttack",
            "ThresholdAttack",
            "ZooAttack",
        ),
    ),
    Bridge(
        prefix="foolbox",
        package="foolbox",
        distribution="foolbox",
        module="robustbench_rad.attacks.bridge_foolbox",
        install="pip install foolbox==3.3.4",
        example="foolbox:LinfPGD",
        reference="Rauber et al. 2020, doi:10.21105/joss.02607",
        without_gradient=(
            "BinarySearchContrastReductionAttack",
            "BoundaryAttack",
            "GaussianBlurAttack",
            "GenAttack",
            "HopSkipJumpAttack",
            "InversionAttack",
            "L2AdditiveGaussianNoiseAttack",
            "L2AdditiveUniformNoiseAttack",
            "L2ClippingAwareAdditiveGaussianNoiseAttack",
            "L2ClippingAwareAdditiveUniformNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack",
            "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack",
            "L2ContrastReductionAttack",
            "L2RepeatedAdditiveGaussianNoiseAttack",
            "L2RepeatedAdditiveUniformNoiseAttack",
            "LinearSearchBlendedUniformNoiseAttack",
            "LinearSearchContrastReductionAttack",
            "LinfAdditiveUniformNoiseAttack",
            "LinfRepeatedAdditiveUniformNoiseAttack",
            "PointwiseAttack",
            "SaltAndPepperNoiseAttack",
            "SpatialAttack",
        ),
    ),
    Bridge(
        prefix="torchattacks",
        package="torchattacks",
        distribution="torchattacks",
        module="robustbench_rad.attacks.bridge_torchattacks",
        install="pip install --no-deps torchattacks==3.5.1",
        example="torchattacks:MIFGSM",
        reference="Kim 2020, arXiv:2010.01950",
        without_gradient=(
            "GN",
            "OnePixel",
            "Pixle",
            "SPSA",
            "Square",
        ),
    ),
)


def find(id: str) -> Bridge | None:
    """The bridge that an id such as ``torchattacks:MIFGSM`` names, a capital first; None for any other id."""
    prefix, separator, name = id.partition(SEPARATOR)
    known = (bridge for bridge in BRIDGES if bridge.prefix == prefix)
    return next(known, None) if separator and name.isidentifier() and name[0].isupper() else None
