"""Every number that tells which of a model's classes anything reaches (case/reach.py), once: what it means and from what.

All are in the spread or the usual distance of the model's own scores, so that no rescaling of a file changes an answer.
"""

# Pictures that show nothing, and clean ones at most, on which scores are watched. 2026-11-26, chosen: a score that is still
# on 48 pictures is a constant.
NOISE = 16
SHOWN = 32
# Of the usual spread: a score that moves by less does not move, and two that differ by no more are one and the same.
# 2026-11-26, chosen between what constants and copies round to and what learnt scores do; held by tests/evasions.
STILL = 1e-4
ALIKE = 1e-3
# Sizes of the noise that the last layers are given in the place of features, and how often each; and the share of the
# largest score that rounding may move one by. 2026-11-29, chosen: what waits for large features is moved by the largest.
FEATURES, ASKED, ROUNDED = (1.0, 1e3, 1e6, 1e9, 1e15, 1e25), 8, 1e-6
# Usual distances below the largest score on every picture from which a class looks out of reach, before gradients are asked
# to lead there. 2026-11-26, chosen.
FAR = 5.0
# Steps of that climb, and their length in bytes: enough to cross all values of a pixel twice. 2026-11-26, chosen.
STEPS = 30
STRIDE = 16.0
# Usual distances by which a copy is moved down, so that it is nobody's runner-up. Definition: far beyond FAR.
PUSHED = 50.0
# Spreads of the scores within a picture at which searches work as they are, and the one that others are brought to: the
# order of what trained networks have. 2026-11-26, chosen; held by tests/evasions.
USUAL = (0.1, 1e3)
SPREAD = 5.0
