"""From judged criteria to the score: a pure function of the criteria and the profile.

Check: the worst of its criteria. Domain: the mean of the worst quarter of the profile's checks, a missing check counting 0.
Total: the weighted geometric mean of the domains, less what a failed saliency check takes where a shortcut failed too, and
capped by critical checks. The whole formula is written for many draws at once, so the score and its interval share one path.
"""

from robustbench_rad.scoring.score import overall, score_audit

__all__ = ["overall", "score_audit"]
