"""The items of the preflight: each a pure function of what the model answered, or of the label table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbench_rad.classifier import Classifier, Head, InputSpec, Outputs, Resize
from robustbench_rad.conditions import Condition
from robustbench_rad.defences.sections import AnyDefence
from robustbench_rad.defences.sections import passes as defence_passes
from robustbench_rad.misfits import Misfit, misfit_summary
from robustbench_rad.probing import Probe
from robustbench_rad.profile import NEEDS, Profile
from robustbench_rad.result import PreflightItem

SATURATED_LOG_ODDS = 16.0  # float32: from 16.6 on the gradient of a positive's cross-entropy is exactly 0
NARROW = 0.1  # share of the display range
FEW = 10  # cases of a class below which hardly anything can be decided
SMALL_LESION_PX = 3.0
INVERTED_P = 0.01

SENTINEL = "attack sentinel"

Floats = NDArray[np.float64]


def caveat_items(classifier: Classifier) -> Iterator[PreflightItem]:
    """What was assumed when the model was loaded."""
    for caveat in classifier.caveats:
        yield _item(caveat.name, "warning", caveat.detail)
    if all(caveat.name != "operating point" for caveat in classifier.caveats):
        points = zip(classifier.findings, classifier.head.thresholds, strict=True)
        said = ", ".join(f"{name} {'largest class' if np.isnan(value) else f'{value:g}'}" for name, value in points)
        yield _ok("operating point", f"Declared operating points: {said}.")


def left_out_item(profile: Profile) -> PreflightItem | None:
    """Checks of the profile that the data do not allow, and what would; None when there are none."""
    if not profile.without:
        return None
    needed: dict[str, list[str]] = defaultdict(list)
    for id, needs in profile.without:
        needed[needs].append(id)
    said = "; ".join(f"{', '.join(ids)}: {NEEDS[needs]}" for needs, ids in needed.items())
    return _ok(
        "left out", f"Checks of profile {profile.name} that are no part of this audit, and what each needs. {said}."
    )


def defence_items(defences: Sequence[AnyDefence]) -> Iterator[PreflightItem]:
    """What stands between the image and the network, and how attacks go through it."""
    if defences:
        said = ", then ".join(map(str, defences))
        passes = defence_passes(defences)
        through = f"Attacks go through them; one image costs {passes} pass{'' if passes == 1 else 'es'} of the network."
        yield _ok("defences", f"{said[:1].upper()}{said[1:]}. {through}")
    if any(defence.kind == "noise" for defence in defences):
        yield _item(
            "noise of a defence",
            "warning",
            "The deployed model draws noise anew for every image; what is audited is its mean over fixed draws, which an "
            "attack can fit when they are few. Raise draws until the results stay.",
        )


def mode_item(module: nn.Module, probe: Probe) -> PreflightItem:
    """Evaluation mode: no layer may go on training."""
    name = "evaluation mode"
    if probe.training:
        return _item(
            name,
            "error",
            f"{len(probe.training)} modules stay in training mode after eval(): {_some(probe.training)}. Results would "
            "depend on chance and on the batch. Do not override train() or eval() in the model.",
        )
    batchwise = [
        place
        for place, child in module.named_modules()
        if isinstance(child, nn.modules.batchnorm._NormBase) and child.running_mean is None and _across_cases(child)
    ]
    if batchwise:
        return _item(
            name,
            "error",
            f"{len(batchwise)} batch-norm layers keep no running statistics ({_some(batchwise)}): they normalise by "
            "the batch also in evaluation mode. Train with track_running_stats = True.",
        )
    return _ok(name, "Every module is in evaluation mode; dropout and batch statistics are off.")


def _across_cases(child: nn.Module) -> bool:
    return isinstance(child, nn.modules.batchnorm._BatchNorm)


def finite_item(probe: Probe) -> PreflightItem:
    """Said once NaN, infinity and a wrong width have been ruled out (they are errors)."""
    count = len(probe.outputs)
    return _ok("finite output", f"All outputs on {count} sampled cases are finite and of the declared width.")


def determinism_item(probe: Probe) -> PreflightItem:
    """Two passes over the same images must agree."""
    difference, tolerated = _difference(probe.margins, probe.repeated)
    if tolerated:
        return _ok("determinism", f"Two passes agree (largest difference {difference:.2g} log-odds).")
    return _item(
        "determinism",
        "error",
        f"Two passes over the same images differ by up to {difference:.2g} log-odds: something random is left in the "
        "model (dropout by function, sampling). Paired differences would measure that. Switch it off for evaluation.",
    )


def independence_item(probe: Probe) -> PreflightItem:
    """A case alone must score as it does in company."""
    difference, tolerated = _difference(probe.margins[: len(probe.alone)], probe.alone)
    if tolerated:
        return _ok("independence", f"A case scores the same alone and in a batch (within {difference:.2g} log-odds).")
    return _item(
        "independence",
        "error",
        f"A case alone and the same case in a batch differ by up to {difference:.2g} log-odds: rows of a batch "
        "influence each other, so no score belongs to one case. Remove what works across the batch (batch statistics, "
        "min-max over the batch).",
    )


def _difference(one: Tensor, other: Tensor) -> tuple[float, bool]:
    """Largest difference, and whether all are within what float32 in another order of summation gives."""
    gap = (one - other).abs()
    return float(gap.max()), bool((gap <= 1e-3 * (1.0 + one.abs())).all())


def state_item(probe: Probe) -> PreflightItem:
    """A forward pass must not change the model."""
    if probe.unchanged:
        return _ok("state", "Parameters and buffers are the same after the passes.")
    return _item(
        "state",
        "error",
        "A forward pass changed parameters or buffers: the model learns from the test images, and results depend on "
        "their order. Make forward() free of side effects in evaluation mode.",
    )


def outputs_item(classifier: Classifier, probe: Probe) -> PreflightItem:
    """Whether outputs look like what was declared."""
    inside = bool(((probe.outputs >= 0) & (probe.outputs <= 1)).all())
    ones = bool(((probe.outputs.sum(1) - 1).abs() < 1e-3).all())
    softmax = classifier.head.kind is Head.SOFTMAX
    if classifier.head.outputs is Outputs.PROBABILITIES:
        if softmax and not ones:
            detail = (
                "Softmax probabilities are declared, but rows do not add up to 1. Not exclusive? Use head = 'sigmoid'."
            )
            return _item("outputs", "error", detail)
        return _ok("outputs", "Outputs are probabilities, as declared.")
    if not inside or (softmax and not ones):
        return _ok("outputs", "Outputs are not confined to [0, 1], as expected of logits.")
    certain = softmax or _ends_in_sigmoid(classifier.module)
    return _item(
        "outputs",
        "error" if certain else "warning",
        "Outputs are declared as logits, but all sampled ones lie in [0, 1]: the model seems to end in a sigmoid or "
        "softmax. Thresholds would be wrong and gradients masked. Declare outputs = 'probabilities', or remove the "
        "last layer.",
    )


def _ends_in_sigmoid(module: nn.Module) -> bool:
    leaves = [child for child in module.modules() if not any(child.children())]
    return bool(leaves) and isinstance(leaves[-1], nn.Sigmoid | nn.Hardsigmoid)


def saturation_item(findings: Sequence[str], probe: Probe) -> PreflightItem:
    """Log-odds so large that losses have no gradient left in float32."""
    share = (probe.log_odds.abs() > SATURATED_LOG_ODDS).double().mean(0).tolist()
    said = [f"{name} {part:.0%}" for name, part in zip(findings, share, strict=True) if part > 0]
    if not said:
        return _ok("saturation", f"No sampled log-odds beyond ±{SATURATED_LOG_ODDS:g}.")
    return _item(
        "saturation",
        "warning",
        f"Log-odds beyond ±{SATURATED_LOG_ODDS:g} on sampled cases: {', '.join(said)}. Attacks built on cross-entropy "
        "see no gradient there; the ones here work on the margin. Calibrate the model, and look at the honesty "
        "diagnostics.",
    )


def gradient_item(findings: Sequence[str], probe: Probe) -> PreflightItem:
    """Every margin must respond to the image."""
    dead = ~(probe.gradient.isfinite() & (probe.gradient > 0))
    counts = dead.sum(0).tolist()
    said = [f"{name} on {n} of {len(dead)}" for name, n in zip(findings, counts, strict=True) if n]
    if not said:
        return _ok("gradient", "Every finding's margin has a non-zero gradient with respect to the image.")
    return _item(
        "gradient",
        "warning",
        f"No usable gradient with respect to the image: {', '.join(said)} sampled cases. MASKED GRADIENTS: gradient "
        "attacks cannot be trusted there, and surviving them proves nothing. Look for a last ReLU, rounding, argmax or "
        "a detour through NumPy in the model, and rely on gradient-free attacks.",
    )


def sentinel_items(conditions: Sequence[Condition]) -> Iterator[PreflightItem]:
    """Whether every condition with a positive control solves it, in this process, with the options of the plan."""
    tested = [condition for condition in conditions if type(condition).self_test is not Condition.self_test]
    said = {condition.id: condition.self_test() for condition in tested}
    for id, wrong in said.items():
        if wrong:
            detail = f"{id}, {wrong}. That the model withstood it proves nothing. Raise its steps or queries, or report this."
            yield _item(f"{SENTINEL}: {id}", "error", detail)
    solved = [id for id, wrong in said.items() if not wrong]
    if solved:
        yield _ok(SENTINEL, f"Planted problems were solved to their known answers by {', '.join(solved)}.")


def unsolved(items: Sequence[PreflightItem]) -> dict[str, str]:
    """Conditions that failed their positive control, by id, with what went wrong.

    >>> unsolved([PreflightItem(name="attack sentinel: attack.x", status="error", detail="attack.x, it flipped 0.")])
    {'attack.x': 'not trustworthy: attack.x, it flipped 0.'}
    """
    named = (item for item in items if item.status == "error" and item.name.startswith(f"{SENTINEL}: "))
    return {item.name.removeprefix(f"{SENTINEL}: "): f"not trustworthy: {item.detail}" for item in named}


def range_item(probe: Probe) -> PreflightItem:
    """Display planes should use their range."""
    flat = probe.display.flatten(1)
    spread = flat.amax(1) - flat.amin(1)
    constant = [name for name, value in zip(probe.case_ids, spread.tolist(), strict=True) if value == 0]
    narrow = [name for name, value in zip(probe.case_ids, spread.tolist(), strict=True) if 0 < value < NARROW]
    if constant or narrow:
        said = [f"{len(constant)} constant ({_some(constant)})"] * bool(constant)
        said += [f"{len(narrow)} use less than {NARROW:.0%} of the range ({_some(narrow)})"] * bool(narrow)
        return _item(
            "value range",
            "warning",
            f"Of {len(flat)} sampled images after windowing, {' and '.join(said)}. Check range or window_hu in "
            "[model.input] against the stored values.",
        )
    return _ok("value range", f"Sampled images use {float(spread.min()):.0%} or more of the display range.")


def direction_items(findings: Sequence[str], labels: Floats, margins: Floats) -> Iterator[PreflightItem]:
    """Whether a finding's scores rank the wrong way round; one-sided Mann–Whitney test at p < 0.01.

    Args:
        findings: K names.
        labels: ``(n, K)``, NaN for unknown.
        margins: ``(n, K)``.
    """
    from scipy.stats import mannwhitneyu

    for name, label, margin in zip(findings, labels.T, margins.T, strict=True):
        positive, negative = margin[label == 1], margin[label == 0]
        if len(positive) < 2 or len(negative) < 2 or np.ptp(margin[~np.isnan(label)]) == 0:
            continue
        test = mannwhitneyu(positive, negative, alternative="less", method="asymptotic")
        area = float(test.statistic) / (len(positive) * len(negative))
        if test.pvalue < INVERTED_P:
            yield _item(
                f"score direction: {name}",
                "warning",
                f"Positives score lower than negatives (AUROC {area:.2f} on {len(positive)} positives and "
                f"{len(negative)} negatives, p = {test.pvalue:.1g}): labels or sign may be inverted, or "
                "outputs in another order. Check findings, classes and the label column.",
            )


def label_items(findings: Sequence[str], labels: Floats) -> Iterator[PreflightItem]:
    """Positives, negatives and unknowns of every finding in the whole set."""
    for name, column in zip(findings, labels.T, strict=True):
        positives, negatives = int((column == 1).sum()), int((column == 0).sum())
        said = f"{positives} positives, {negatives} negatives, {len(column) - positives - negatives} unknown"
        title = f"labels: {name}"
        if not positives or not negatives:
            missing = "positives" if not positives else "negatives"
            detail = f"{said}: without {missing} nothing can be judged. Check data.findings.{name} or add cases."
            yield _item(title, "warning", detail)
        elif min(positives, negatives) < FEW:
            yield _item(title, "warning", f"{said}: most verdicts will be inconclusive. Add cases of the rarer class.")
        else:
            yield _ok(title, f"{said}.")


def duplicates_item(fingerprints: Sequence[str], patients: Sequence[str]) -> PreflightItem:
    """The same stored image under several patients."""
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for fingerprint, patient in zip(fingerprints, patients, strict=True):
        owners[fingerprint].add(patient)
    shared = sum(len(names) > 1 for names in owners.values())
    if not shared:
        return _ok("duplicates", f"Among {len(fingerprints)} images none appears under two patients.")
    return _item(
        "duplicates",
        "warning",
        f"Among {len(fingerprints)} images, {shared} appear under two or more patients: intervals, which count "
        "patients, are too narrow. Remove the copies, or correct the patient column.",
    )


def lesion_item(lesion_px: float | None) -> PreflightItem | None:
    """Whether the smallest lesion is still there at the model's input; None when its size is not known."""
    if lesion_px is None:
        return None
    if lesion_px >= SMALL_LESION_PX:
        return _ok("smallest lesion", f"The smallest lesion is {lesion_px:.1f} pixels wide at the model's input.")
    return _item(
        "smallest lesion",
        "warning",
        f"The smallest lesion is {lesion_px:.1f} pixels wide at the model's input, below {SMALL_LESION_PX:g}: the "
        "model can hardly see it. Train at a larger input size, or state a larger minimum size.",
    )


def misfit_item(misfits: Mapping[str, Misfit], cases: int) -> PreflightItem | None:
    """Masks of the anatomy that are left out, being of another size than their image; None when every one fits.

    Args:
        misfits: Case id → what is wrong with the size of its mask; the item names no case.
        cases: Cases of the whole set.
    """
    return _item("anatomy masks", "warning", misfit_summary(misfits, cases)) if misfits else None


def pixels_at_input(native_px: float, shape: Sequence[int], input: InputSpec) -> float:
    """Length at the model's input of ``native_px`` pixels of an image of ``shape``, along the axis that shrinks most.

    >>> pixels_at_input(10.0, (448, 896), InputSpec(size=(224, 224)))
    2.5
    """
    scales = [target / given for target, given in zip(input.size[-2:], shape[-2:], strict=True)]
    return native_px * (max(scales) if input.resize is Resize.CROP else min(scales))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _ok(name: str, detail: str) -> PreflightItem:
    return _item(name, "ok", detail)


def _item(name: str, status: Literal["ok", "warning", "error"], detail: str) -> PreflightItem:
    return PreflightItem(name=name, status=status, detail=detail)
