"""Another model in the place of the audited one, for attacks that prepare their images elsewhere.

The table ``surrogate`` of a check takes the keys of ``[model]``. What it does not say is as in ``[model]``, but for weights,
their hash, arguments and defences: those belong to one model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError

from robustbench_rad.classifier import Classifier
from robustbench_rad.errors import ModelError, PlanError
from robustbench_rad.loading import load_classifier, source_sha256
from robustbench_rad.plan import ModelSection, Plan, digest, explain
from robustbench_rad.programs import is_program
from robustbench_rad.weights import file_sha256, require_file

_OF_ONE_MODEL = {"factory", "weights", "sha256", "arguments", "defences", "compare_undefended", "saliency_layer"}


def surrogate_plan(plan: Plan, table: Mapping[str, Any], *, key: str) -> Plan:
    """The plan with the surrogate in the place of the model; paths are relative to the plan as those of the model.

    Args:
        plan: Of the audit.
        table: Keys of ``[model]``; at least ``factory``.
        key: Place of the table in the plan, for messages.

    Raises:
        PlanError: No factory, an unknown key, a wrong value, or other findings than the audited model has.
    """
    if "factory" not in table:
        raise PlanError(
            f"{key}: expected the previous release or another model of the same findings, got none",
            hint='For example: surrogate = { factory = "models.py:build", weights = "previous.safetensors" }',
        )
    findings = table.get("findings", plan.model.names)
    if not isinstance(findings, str | int | float) and tuple(findings) != plan.model.names:
        raise PlanError(
            f"{key}.findings: expected those of the audited model, {list(plan.model.names)}, got {list(findings)}",
            hint="A surrogate stands in for the audited model: name its outputs in the same order, or leave findings out.",
        )
    kept = plan.model.model_dump(mode="json", exclude=_OF_ONE_MODEL)
    given = {**kept["input"], **table["input"]} if isinstance(table.get("input"), Mapping) else kept["input"]
    try:
        section = ModelSection.model_validate({**kept, **table, "input": given})
    except ValidationError as error:
        raise PlanError("\n".join(f"{key}.{line}" for line in explain(error, ModelSection))) from error
    return plan.model_copy(update={"model": section})


def surrogate_sha256(plan: Plan) -> str:
    """Hash of everything that makes the surrogate: its files, and how they are declared.

    Raises:
        ModelError: A file is not there, or the factory cannot be called.
    """
    section = plan.model
    if is_program(section.factory):
        path = plan.path(section.factory)
        require_file(path, "surrogate.factory")
        return digest([file_sha256(path), section.measured()])
    if section.weights is not None:
        require_file(plan.path(section.weights), "surrogate.weights")
    classifier = load_surrogate(plan, device="cpu")
    return digest([classifier.weights_sha256, source_sha256(plan, classifier.module), section.measured()])


def load_surrogate(plan: Plan, *, device: str | torch.device) -> Classifier:
    """Load the surrogate in evaluation mode; whole pickled modules are never read.

    Raises:
        ModelError: It cannot be loaded, or gives another number of findings than is declared.
    """
    try:
        classifier = load_classifier(plan, device=device)
        with torch.no_grad():
            classifier.margins(torch.full((2, 1, *classifier.input.size), 0.5, device=classifier.device))
    except ModelError as error:
        raise ModelError(f"surrogate: {error.message}", hint=error.hint) from error
    return classifier
