"""The embedded demo: procedural chest phantoms and two small classifiers, one with a planted shortcut."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

Kind = Literal["clean", "shortcut"]
KINDS: tuple[Kind, ...] = ("clean", "shortcut")

_TITLES: dict[Kind, str] = {
    "clean": "Demo: lesion classifier trained on balanced phantoms",
    "shortcut": "Demo: the same classifier after tuning on images whose marker gives the label away",
}


def demo_plan(kind: Kind, *, folder: Path | None = None) -> dict[str, Any]:
    """The content of a plan that audits one of the demo's classifiers, for :func:`robustbench_rad.plan.make_plan`.

    Args:
        kind: Which classifier.
        folder: Where ``train_all`` has made the weights again; default: the weights of the package.
    """
    folder = folder or Path(str(resources.files(__name__)))
    made = tomllib.loads((folder / "models.toml").read_text("utf-8"))[kind]
    plan = tomllib.loads(resources.files(__name__).joinpath("plan.toml").read_text("utf-8"))
    plan["title"] = _TITLES[kind]
    plan["model"] |= {
        "weights": str((folder / f"{kind}.safetensors").resolve()),
        "sha256": made["sha256"],
        "thresholds": {"lesion": made["threshold"]},
    }
    return plan
