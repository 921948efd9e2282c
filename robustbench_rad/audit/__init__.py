"""The main job: a plan in, a result out.

prepare (load model and cases, check every file) → preflight → fit → pass (chunk by chunk, resumable) → judge → assemble.
Everything after the pass is a pure function of the scores on disk, so a finished run is judged again in seconds.
"""

from robustbench_rad.audit.prepared import Prepared, prepare
from robustbench_rad.audit.running import Audit, run_audit

__all__ = ["Audit", "Prepared", "prepare", "run_audit"]
