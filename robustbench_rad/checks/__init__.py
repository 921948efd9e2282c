"""What turns scores into a judgement: one module per check family; the table below says which and with what defaults.

Numbers are the defaults of ``tolerance`` (δ) and ``critical_harm`` (Δ); a profile or a plan may declare others. Where a check
measures several harms, they are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from robustbench_rad.errors import PlanError, suggestion
from robustbench_rad.result import Domain


@dataclass(frozen=True, kw_only=True)
class CheckDefaults:
    """Defaults of a check, and the module that judges it.

    Attributes:
        domain: Family it belongs to.
        judge: Module with a function ``judge(context, check)``.
        summary: What is judged, one sentence.
        tolerance: δ, one number or one per harm.
        critical_harm: Δ, likewise.
        condition: Whether a condition of the same id makes its images.
        options: Options of a check without a condition; its module checks them with ``check_options(plan, options)``.
        informational: Shown, never judged: no verdict, no points, no part of any denominator.
        judged_if_asked: Shown only as long as neither profile nor plan states ``tolerance``, ``critical_harm`` or ``critical``.
    """

    domain: Domain
    judge: str
    summary: str
    tolerance: float | Mapping[str, float] = 0.0
    critical_harm: float | Mapping[str, float] = 1.0
    condition: bool = True
    options: tuple[str, ...] = ()
    informational: bool = False
    judged_if_asked: bool = False


def _shown(judge: str, summary: str) -> CheckDefaults:
    module = f"robustbench_rad.checks.{judge}"
    return CheckDefaults(domain=Domain.CLEAN, judge=module, summary=summary, condition=False, informational=True)


# 0.05 AUROC: the clinically relevant difference of a multi-stratum commercial chest study (Seah et al. 2021,
# doi:10.1016/S2589-7500(21)00106-0). 0.10 at the operating point: a model of sensitivity 0.85 that falls to 0.75 misses
# two thirds more cases.
_SHIFT = CheckDefaults(
    domain=Domain.ACQUISITION_SHIFT,
    judge="robustbench_rad.checks.acquisition_shift",
    summary="Loss of AUROC, sensitivity and specificity under the shift, paired with the clean images.",
    tolerance={"auroc": 0.05, "sensitivity": 0.10, "specificity": 0.10},
    critical_harm={"auroc": 0.15, "sensitivity": 0.30, "specificity": 0.30},
)
# A fault that is there or not has no strength, and no tolerance that it should keep.
_LISTED = CheckDefaults(
    domain=Domain.ACQUISITION_SHIFT,
    judge="robustbench_rad.checks.categorical_shift",
    summary="What each fault costs in AUROC, sensitivity and specificity; listed, neither judged nor averaged.",
    informational=True,
)
# Corruptions of photographs, far stronger than any scanner's: for comparison with published tables.
_GENERIC = CheckDefaults(
    domain=Domain.ACQUISITION_SHIFT,
    judge="robustbench_rad.checks.categorical_shift",
    summary="What a corruption of photographs costs in AUROC, sensitivity and specificity; listed, never judged.",
    informational=True,
)
_ATTACK = CheckDefaults(
    domain=Domain.ADVERSARIAL,
    judge="robustbench_rad.checks.adversarial",
    summary="Share of correct calls that the attack flips, per clinical direction.",
    tolerance={"hide": 0.30, "create": 0.30},
    critical_harm={"hide": 0.90, "create": 0.90},
)
# What a reader can see on the film, and may refuse to read: nobody has agreed how many flips are too many, and an adversary
# who may repaint a twentieth of the image wins against every model. 30 % is a tolerance for changes that cannot be seen.
_SEEN = replace(_ATTACK, informational=True, judged_if_asked=True)
SEEN_ATTACKS = frozenset(
    {
        "attack.contrast",
        "attack.elastic-net-l1",
        "attack.few-pixel-evolution",
        "attack.few-pixels",
        "attack.frequency-band",
        "attack.marker",
        "attack.patch",
        "attack.smooth-warp",
        "attack.spatial",
    }
)
# What is taken out was there, so a model without use for it answers nothing (0.001 SD on the demo's clean classifier, 0.62 on
# the one that reads a marker); what is laid in may be new to a model that never learned from it. Letters answered for nothing
# there; a frame, shutters and an electrode moved the clean classifier by 0.2 to 0.3 SD, so those are shown, not judged.
# 0.2 SD: a small standardised effect; a planted marker worth 0.16 SD bought 0.013 AUROC where it went with 70 % of the label.
_COUNTERFACTUAL = CheckDefaults(
    domain=Domain.SHORTCUT,
    judge="robustbench_rad.checks.insertion",
    summary="",
    tolerance={"effect": 0.2, "flip": 0.05},
    critical_harm={"effect": 1.0, "flip": 0.20},
)
_UNFAMILIAR = replace(_COUNTERFACTUAL, informational=True, judged_if_asked=True)
_OWN: dict[str, CheckDefaults] = {
    "attack.diagnostics": CheckDefaults(
        domain=Domain.ADVERSARIAL,
        judge="robustbench_rad.checks.adversarial_honesty",
        summary="Whether surviving the attacks means anything: what trips here makes their passes inconclusive.",
        informational=True,
    ),
    # Noise needs no adversary, so it is held to the tolerance of a shift at the operating point.
    "attack.noise": replace(
        _ATTACK,
        tolerance=dict.fromkeys(("hide", "create"), 0.10),
        critical_harm=dict.fromkeys(("hide", "create"), 0.30),
    ),
    # The ladder goes on to radii that no undefended model withstands, so its worst level would always fail.
    "attack.curve-linf": CheckDefaults(
        domain=Domain.ADVERSARIAL,
        judge="robustbench_rad.checks.robustness_curve",
        summary="The radius at which each right call flips, and how many flip below the noise; shown, not judged.",
        informational=True,
    ),
    "clean.performance": CheckDefaults(
        domain=Domain.CLEAN,
        judge="robustbench_rad.checks.clean",
        summary="AUROC, sensitivity and specificity against what the release claims.",
        tolerance=0.0,
        critical_harm=0.10,
        condition=False,
    ),
    "clean.calibration": _shown(
        "clean_calibration",
        "Whether the probabilities are true, and what recalibrating at each site would change; shown, not judged.",
    ),
    "clean.operating-point": _shown(
        "clean_operating_point",
        "Average precision, predictive values at the declared prevalence and the cost of the calls; shown, not judged.",
    ),
    "clean.selective-prediction": _shown(
        "clean_selective_prediction",
        "How many errors are left when the least certain cases are referred to a reader; shown, not judged.",
    ),
    "clean.readers": _shown(
        "clean_readers",
        "How far the declared readers agree, and where the model stands among them; shown, not judged.",
    ),
    "clean.data-leaks": CheckDefaults(
        domain=Domain.CLEAN,
        judge="robustbench_rad.checks.data_leaks",
        summary="Near-duplicates across patients, and patients or images seen in training; many cast doubt on clean passes.",
        informational=True,
    ),
    # Each goal contains a flip, so a flip's numbers hold for it.
    "attack.clinical-goals": CheckDefaults(
        domain=Domain.ADVERSARIAL,
        judge="robustbench_rad.checks.clinical_goals",
        summary="Share of cases in which an attack reaches a goal about all findings: quiet, all-clear, swap, triage.",
        tolerance=dict.fromkeys(("hide", "create", "quiet", "all-clear", "swap", "triage"), 0.30),
        critical_harm=dict.fromkeys(("hide", "create", "quiet", "all-clear", "swap", "triage"), 0.90),
    ),
    # Flips, judged as those of an attack: the parameters are picked case by case, to do most harm.
    "attack.worst-acquisition": CheckDefaults(
        domain=Domain.ADVERSARIAL,
        judge="robustbench_rad.checks.worst_acquisition",
        summary="Share of correct calls lost at the worst acquisition inside a clinical envelope, per direction.",
        tolerance=_ATTACK.tolerance,
        critical_harm=_ATTACK.critical_harm,
    ),
    # 0.02 AUROC: the smallest drop that about 400 positives resolve, paired.
    "shortcut.border-ablation": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.border_ablation",
        summary="Loss of AUROC when the border ring or the corners are replaced by the mean image, paired.",
        tolerance=0.02,
        critical_harm=0.10,
    ),
    # 0.05: as for masked anatomy; a marker worth 0.4 SD that goes with 70 % of the label tells the donor's label at 0.55.
    "shortcut.background-swap": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.background_swap",
        summary="Whether the score follows the surroundings of a donor, and the AUROC that is owed to the surroundings.",
        tolerance={"donor": 0.05, "drop": 0.02},
        critical_harm={"donor": 0.20, "drop": 0.10},
    ),
    "shortcut.insert-border": replace(
        _UNFAMILIAR,
        summary="What a black or white frame does to score and calls, beyond its placebo; shown, not judged.",
    ),
    "shortcut.insert-collimation": replace(
        _UNFAMILIAR,
        summary="What edges of collimator shutters do to score and calls, beyond their placebo; shown, not judged.",
    ),
    "shortcut.insert-marker": replace(
        _COUNTERFACTUAL, summary="What a lead side marker in each corner does to score and calls, beyond its placebo."
    ),
    "shortcut.insert-text": replace(
        _COUNTERFACTUAL, summary="What a line of burned-in text does to score and calls, beyond its placebo."
    ),
    "shortcut.insert-tube": replace(
        _UNFAMILIAR,
        summary="What a catheter or an electrode does to score and calls, beyond its placebo; shown, not judged.",
    ),
    "shortcut.remove-markers": replace(
        _COUNTERFACTUAL, summary="What taking out the markers or the frame does to score and calls, beyond its placebo."
    ),
    "shortcut.remove-tubes": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.remove_tubes",
        summary="What of the score's dependence on a nuisance column goes when tubes are taken out of the organ.",
        tolerance=0.05,
        critical_harm=0.20,
    ),
    # Half: detectors of lesions kept 0.2 or less of phantoms, models that read a kernel or the brightness 0.93 or more.
    "shortcut.patch-shuffle": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.patch_shuffle",
        summary="AUROC that is left when patches change places and the layout is gone; judged only if a tolerance is stated.",
        tolerance=0.5,
        critical_harm=1.0,
        informational=True,
        judged_if_asked=True,
    ),
    "shortcut.frequency-bands": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.frequency_bands",
        summary="AUROC from coarse structure alone and from fine structure alone, and which scanner each tells; shown.",
        informational=True,
    ),
    "shortcut.masked-anatomy": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.masked_anatomy",
        summary="AUROC that is left when the anatomy is replaced by the mean image, above what its shape explains.",
        tolerance=0.05,
        critical_harm=0.20,
    ),
    "shortcut.scanner-probe": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.scanner_probe",
        summary="Whether scanner, site, view or sex are in the image, in the features and in the score; shown, not judged.",
        informational=True,
    ),
    "shortcut.spike-and-recovery": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.spike_and_recovery",
        summary="The weakest implanted marker that the shortcut audits would report here; too weak an audit cannot pass.",
        informational=True,
    ),
    "shortcut.metadata-ceiling": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.metadata_ceiling",
        summary="AUROC that the metadata reach without the image, and what the model has beyond it; shown, not judged.",
        condition=False,
        informational=True,
    ),
    # 0.02: the smallest difference that about 400 positives resolve. A marker worth 0.16 SD buys 0.013 where it goes with the
    # label as 70 to 30, and 0.027 as 90 to 10.
    # A scanner that changes the evidence itself does this too: without an intervention it is a matter of robustness.
    "shortcut.within-attribute": CheckDefaults(
        domain=Domain.ACQUISITION_SHIFT,
        judge="robustbench_rad.checks.within_attribute",
        summary="How much of the AUROC is owed to a nuisance column: pooled minus within its values, and re-weighted.",
        tolerance=0.02,
        critical_harm=0.10,
        condition=False,
    ),
    # δ and Δ as for subgroups. Only a plan can say which strata should be served alike: the strata of a risk factor need not.
    "shortcut.hidden-strata": CheckDefaults(
        domain=Domain.SHORTCUT,
        judge="robustbench_rad.checks.hidden_strata",
        summary="Sensitivity and AUROC of the worst stratum (tubes, portable, small lesions) against the rest.",
        tolerance={"auroc": 0.05, "sensitivity": 0.10},
        critical_harm={"auroc": 0.15, "sensitivity": 0.30},
        informational=True,
        judged_if_asked=True,
    ),
    # Without a confirming intervention a score that depends on the scanner is a matter of robustness, not a shortcut.
    "shortcut.scanner-dependence": CheckDefaults(
        domain=Domain.ACQUISITION_SHIFT,
        judge="robustbench_rad.checks.scanner_dependence",
        summary="How well the score tells the scanner among cases of the same label.",
        tolerance=0.05,
        critical_harm=0.20,
        condition=False,
    ),
    # Rendered images hold what the patients of a scanner have in common too, so their loss is no matter for a tolerance.
    "shift.scanner.transfer": CheckDefaults(
        domain=Domain.ACQUISITION_SHIFT,
        judge="robustbench_rad.checks.scanner_transfer",
        summary="How much of telling the scanner goes when images are rendered as of another one; shown, not judged.",
        informational=True,
    ),
    # δ as for a shift: another group of patients is no better reason to lose performance than another scanner. Δ likewise.
    "subgroup.performance": CheckDefaults(
        domain=Domain.SUBGROUP,
        judge="robustbench_rad.checks.subgroup",
        summary="Worst gap of AUROC, sensitivity and specificity between a group of patients and the rest.",
        tolerance={"auroc": 0.05, "sensitivity": 0.10, "specificity": 0.10},
        critical_harm={"auroc": 0.15, "sensitivity": 0.30, "specificity": 0.30},
        condition=False,
        options=("columns", "crossings"),
    ),
    "saliency.parameter-randomisation": CheckDefaults(
        domain=Domain.SALIENCY,
        judge="robustbench_rad.checks.parameter_randomisation",
        summary="Similarity of saliency maps of the trained and a fully randomised model.",
        tolerance=0.30,
        critical_harm=0.80,
    ),
}


def defaults(id: str) -> CheckDefaults:
    """Defaults of a check.

    Raises:
        PlanError: No such check; the nearest id is named.
    """
    from robustbench_rad.registry import find, names

    if id in _OWN:
        return _OWN[id]
    if id in SEEN_ATTACKS:
        return _SEEN
    known = find(id)
    if known and known.domain == Domain.ACQUISITION_SHIFT and known.kind == "categorical":
        return _LISTED
    if known and known.id.startswith("shift.generic."):
        return _GENERIC
    if known and known.domain in (Domain.ACQUISITION_SHIFT, Domain.ADVERSARIAL):
        return _SHIFT if known.domain == Domain.ACQUISITION_SHIFT else _ATTACK
    every = {*names(), *_OWN}
    family = next((name for name in sorted(every) if name.startswith(f"{id}.")), "")
    hint = f'Put the id in quotes: "{family}" = true' if family else suggestion(id, every)
    raise PlanError(f"[checks]: unknown check {id!r}", hint=hint)


def all_checks() -> dict[str, CheckDefaults]:
    """Every check by id, sorted."""
    from robustbench_rad.registry import catalogue

    return {id: defaults(id) for id in sorted({*catalogue(), *_OWN})}
