"""The Physics-IQ evaluation: does a generated clip move where, when and as much as the real ones did?

    python -m wmreward.physics_iq --real physics-IQ-benchmark --generated my_clips

Motion masks, the four raw measures, and both published scores (Original and Verified), equal to the
benchmark's own code at the bit where masks are kept in memory. The benchmark stores its masks as lossy
MPEG-4 files, which flips pixels of which half is on; `--real_masks` reads such files for a comparison
with a published run. For clips in memory: `compare`, then `original_score` and `verified_score`.
"""

from wmreward.physics_iq.dataset import Job, find_jobs, read_list
from wmreward.physics_iq.evaluate import Evaluation, Failure, evaluate
from wmreward.physics_iq.masks import MotionMask, motion_masks
from wmreward.physics_iq.metrics import Metrics, compare
from wmreward.physics_iq.official_csv import read_csv, write_csv
from wmreward.physics_iq.scores import (
    Interval,
    Intervals,
    OriginalScore,
    Sample,
    VerifiedScore,
    by_category,
    intervals,
    original_score,
    published_summary,
    verified_score,
)

__all__ = [
    "Evaluation",
    "Failure",
    "Interval",
    "Intervals",
    "Job",
    "Metrics",
    "MotionMask",
    "OriginalScore",
    "Sample",
    "VerifiedScore",
    "by_category",
    "compare",
    "evaluate",
    "find_jobs",
    "intervals",
    "motion_masks",
    "original_score",
    "published_summary",
    "read_csv",
    "read_list",
    "verified_score",
    "write_csv",
]
