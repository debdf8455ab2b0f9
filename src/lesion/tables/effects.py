"""The smallest effects that count, and what a number needs before a verdict is made of it.

They were set after the first results had been seen, by the conventions named at each, and not to
keep any verdict: against thresholds of nothing, which the claims had before, they only make
"supported" harder to get. What lies wholly under the smallest effect is "not supported" now, where
it was "supported" or "can't tell".
"""

MARGIN = 0.05
"""Of an accuracy, a rate, a score from 0 to 1 or an AUROC: a change of five points is the usual
margin of non-inferiority, and what falls short of it counts neither as lost nor as won."""
NATS = 0.05
"""Nats per token, of what is added to an NLL and of differences of such: a token's likelihood falls
by a twentieth (exp(-0.05) = 0.95), the same part as MARGIN."""
COMPACT = 1e-3
"""Of the candidate weights; the paper's masks are smaller, in models sixty times larger."""
MOST = 0.5
"""Share of the own-type effect: a mechanism that is shared carries most of it to other types. Also
of what a lesion took: most of a mechanism comes back with training."""
NOTHING = 0.1
"""Share of the shared mask's effect under which a control's counts as none."""
SOMETHING_TO_LOSE = 0.2
"""A model that refuses fewer direct requests has little refusal to keep."""

LARGEST_LIMIT = 0.5
"""Largest `masks.max_benign_increase`, nats per token, that limits anything: five times the
default, at which a token of a benign response has three fifths of its likelihood left
(exp(-0.5) = 0.61)."""
FEWEST = 6
"""Prompts that an interval needs. The bootstrap's lies between the smallest and the largest value,
and of five prompts all are on one side of the truth one time in sixteen."""
