# SPDX-License-Identifier: Apache-2.0
"""What the training does at a given time: phases, rates and loss weights.

Everything follows the wall clock, so that the last phase always cools down to zero in the
minutes given, however busy the machine is.
"""
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Minutes and rates of a run."""
    see_minutes: float = 14.0        # phase A: vision and perceiver only
    answer_minutes: float = 68.0    # phase B: everything, with questions
    see_muon: float = 4e-3
    answer_muon: float = 2e-3
    answer_muon_late: float = 1.3e-3
    adam: float = 1e-3
    vision_share: float = 0.6       # rate of vision and perceiver in phase B
    cool_share: float = 0.4         # last part of phase B, cosine to zero
    see_pictures: int = 12          # per worker and step
    answer_pictures: int = 16
    rows_per_pair: int = 8


def rates(plan: Plan, answering: bool, share: float) -> tuple:
    """(Muon rate, Adam rate, weight of the throwaway heads) at `share` of a phase."""
    if not answering:
        fall = 1.0 if share < 0.5 else 1 - 0.65 * (share - 0.5) / 0.5
        return plan.see_muon * fall, plan.adam * fall, 1.0
    hot = 1 - plan.cool_share
    warm = min(1.0, share / 0.01)
    muon = plan.answer_muon + (plan.answer_muon_late - plan.answer_muon) * min(1.0, share / hot)
    cool = 1.0
    if share > hot:
        cool = 0.5 * (1 + math.cos(math.pi * min(1.0, (share - hot) / plan.cool_share)))
    weight = max(0.2, 1 - share / hot)
    return muon * warm * cool, plan.adam * warm * cool, weight
