"""The identity of plain data."""

from __future__ import annotations

import hashlib
import json


def digest(content: object) -> str:
    """SHA-256 of plain data in canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
