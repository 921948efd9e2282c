"""Print the schema of a result: ``python -m robustbench_rad.result > robustbench_rad/result.schema.json``."""

import json
import sys

from robustbench_rad.result.audit_result import AuditResult

if __name__ == "__main__":
    sys.stdout.write(json.dumps(AuditResult.model_json_schema(), indent=1, ensure_ascii=False) + "\n")
