"""Every number that decides something in a repair: what it means, and what it was derived from.

Where no derivation stands, none was written down when the number was chosen. Widths of searches are no thresholds: those
stand in HuntSettings and RoundSettings.
"""

# --- Does a trigger still work? -----------------------------------------------------------------------------------------

# A known trigger of the audit's size that sends no more of the pictures to its target is dead.
KNOWN_ALIVE = 0.15
# Triggers that reach fewer of the pictures teach the game nothing about the backdoor; one of the audit's budget that
# reaches as many, with more than the natural margin, stands out.
WORKING = 0.5
# A free mask must be so much smaller than the smallest natural one to count as better than natural.
SMALL_NORM = 0.6
# A trigger that drags pictures over more than this share of their way is alive, though it moves none: the attacker's may
# be somewhat stronger than the recovered ones. On models whose true trigger is known this and KNOWN_ALIVE are the sharp
# tests: at a known ASR of 0.44 the true trigger still had one of 66 %, at 0.08 and without wide patches 18 %.
PULL_ALIVE = 0.5
# Patches that cover more than this, in units of the audit's, are not learnt on: they would find what is natural for the
# pruned model.
ADAPTED = 2.0
# First step of a warm start, as a share of a fresh start's.
WARM = 0.75
# So many of the strongest known triggers are also tried two pixels away: a pruned path often opens again beside the old
# place.
SHIFTED = 2
SHIFTS = ((-2, 0), (2, 0), (0, -2), (0, 2))
# Triggers kept as the growing test set.
EVER = 64
# Known triggers to play on when no trigger works on half of the pictures.
LAST = 8

# --- What may it cost? --------------------------------------------------------------------------------------------------

# Views on which the clean cost is measured, at most sixteen of each picture.
COST_VIEWS = 160
# Accuracy lost on unseen pictures per unit of distortion: 0.25 to 0.65 on half of 28 networks (14 random sets each, 1,000
# pictures), 0 to 1.4 on all. Neither wrong answers on views nor margins under noise tell which network has how much.
LOSS_PER_DISTORTION = 0.5
# A view whose logits are over so many times as large as the median one's gives no ordinary answer: a planted unit that a
# clean picture wakes makes thousands. 2026-11-27, chosen, after a network of others in which they were all that counted.
ODD = 5.0
# Weight of the target's pictures among the clean ones: what pruning costs falls on that class (39 % of its recall on NAD's
# network, where the other classes lost 7 % at most).
TARGET_SHARE = 1 / 3
# Quantile of the normal distribution for a one-sided bound of 95 %.
ONE_SIDED_95 = 1.645
# Units that were tried and cost too much, before pruning gives up.
MAX_BANNED = 24

# --- Once it holds: a margin --------------------------------------------------------------------------------------------

# Rounds after the first that holds: the attacker's trigger is not the recovered one.
MARGIN_ROUNDS = 3
# Share of the clean budget that a plan with its margin may use up.
MARGIN_BUDGET = 0.75
# What is left of a backdoor counts as 1 in every round's game. Where little is left, a clean answer is worth more of it.
MARGIN_WEIGHT = 3.0
# Units a round, then.
MARGIN_GROUP = 2
# Before that, clean answers weigh less the nearer the limit of units comes, but this share of their weight at least: a
# concentrated backdoor falls early and cheaply, a distributed one needs bolder steps.
LEAST_WEIGHT = 1 / 3

# --- Realignment ---------------------------------------------------------------------------------------------------------

# What a clean row weighs against a triggered one, tried from the gentlest on: the largest that the adversary does not get
# through is the cheapest. On small MNIST networks 300 leaves 94 % and 10 leaves 1 %; on CIFAR-10 ones 300 is enough (own
# networks of tests/benchmarks/poison.py, patch3, 2026-11-26).
# Those under LAST_RESORT are for triggers that outlive all others, and are no margin: own networks 348 and 256 hold at 0.3
# and 1 with a true ASR of 7.6 and 1.7 %, and were refused at 3 (tests.benchmarks.population, 2026-11-27).
STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
LAST_RESORT = 3.0
# Fits at one strength, the second one taught by what the adversary found after the first. 2026-11-27, chosen.
FITS_AT_ONE = 2
# Share of a row's power that holds the weights where they are. 0.001 overfits dense layers with fewer rows than inputs.
RIDGE = 1e-2
# The same where a clean row weighs less than LAST_RESORT. 2026-11-27, own networks (tests.benchmarks.population) at a weight
# of 0.3, points lost and true ASR in percent with 0.01 and with this: 166 2.0, 0.8 and 0.3, 1.0; 176 2.2, 0.8 and 1.7, 1.4;
# 232 0.8, 0.0 and 0.2, 0.0; 319 1.2, 0.9 and 0.8, 0.4; 434 1.7, 0.9 and 0.3, 0.0; 050 8.8, 5.9 and 7.1, 0.6. At 3 and above
# a larger one only leaves more of the trigger.
RIDGE_LOOSE = 0.3
# The same where pictures are drawn: they leave out directions that real ones use, in which nothing else holds the weights.
# Own networks 259, 434 and 319 without pictures (tests.benchmarks.population, 2026-11-27): with 0.01 they lose 15.6, 0.0 and
# 0.8 points, with 0.3 they lose 3.4, 0.2 and 1.0, and with 1 the first is not repaired and the second loses 0.8.
RIDGE_DRAWN = 0.3
# Views of each clean picture in a fit, and of all of them at most; triggers that teach it; views of each trigger.
FIT_VIEWS, MOST_VIEWS, TEACHERS, VIEWS_OF_TRIGGER = 8, 160, 24, 12
# Unlabelled pictures in a fit. On an own CIFAR-10 network (patch3, 2026-11-26) ten pictures cost 1.0 points at a strength of
# 10 and 2.5 at 3; with 100 unlabelled ones -0.6 and 0.5, with 1,000 of them 0.0 and -0.1.
MOST_UNLABELLED = 500
# A change of the whole picture has many ways of its kind, and patches say little about it: of each such family that works,
# so many fresh ones are taught, and all of them stronger by so much as well; of the other triggers only so many. On an own
# network with a smooth trigger of 97 % (tests/benchmarks/poison.py, plain, CIFAR-10, 2026-11-26) that leaves 9 % for 0.9
# points where the bank alone leaves 16 % for 4.0.
RESTARTS, STRONGER, BESIDE = 4, 1.5, 12
# Share of the clean budget that a fit may be expected to use up when it goes further than it must: the attacker's trigger is
# not the recovered one. 2026-11-26, chosen, not tuned; that first fits which held left true triggers at up to 14 % was seen
# on networks of others, so those are no untouched test of this step.
MARGIN_FIT = 0.5
# And by how much smaller a weight of clean rows than the one that held, at most, which is one step: what is expected is an
# estimate from ten pictures, and networks of others lost 3 to 4 points at a tenth and a hundredth where less than one was
# expected. 2026-11-27, after that, and by 15 own networks that hold: no step leaves 5.2 % of their true triggers on average
# and loses 0.88 points, one 3.5 % and 0.95, two 3.4 % and 0.99.
MARGIN_REACH = 4.0
# Folds over the pictures. Those of a target class stay in every fit: without any of them a fit takes the class itself for
# the backdoor, which no repair with that picture does.
FOLDS = 3
# A picture that is kept from a fit has a class that the fit never saw; one that a user shows later has not. So many of the
# answers lost on the former are lost on the latter (own networks of tests/benchmarks/poison.py, 2026-11-26).
LOST_UNSEEN = 0.25
# Accuracy lost on unseen pictures per unit of distortion of the logits of pictures that were kept from a fit. 2026-11-29, on
# 12 own networks (tests.benchmarks.population, six strengths each): 0.5 by least squares, of fits that lost less than 6
# points. With 0.4 the estimate is within a point in 44 of 72 fits, 12 read too little and 16 too much, 1.15 points off on
# average; folds that were fits of their own, at 0.1, 46, 12, 14 and 1.24.
LOST_BY_MOVING = 0.4
# Pictures that count as lost before any was looked at: that none of nine is lost does not promise that none will be.
PRIOR_LOST = 0.25
# Triggers of maps that are put on pictures which a fit never saw, and the share of these that they may move on average:
# twice what a dead trigger may. 2026-11-27, by own all-to-all networks of tests/benchmarks/poison.py on MNIST: a fit that
# left 11 % read 0.77, those that left 6.5 % and less 0.27 and less; two that left 14 % read 0.07 and 0.17 and are not told.
# That it is needed was seen on a network of others (csaw F), which is no test of it any more.
PUT_ON, UNSEEN_ALIVE = 8, 2 * KNOWN_ALIVE
# By how much an expected loss may exceed the clean budget: it comes from ten pictures, and read 2.3 to 2.6 points where
# 0.0 to 0.6 were lost (the packaged sample), and 0.6 where 1 to 2 were (I-BAU's networks). What is surely lost may not
# exceed it. 2026-11-26, by the sample.
EXPECTED_SLACK = 1.5
# How far above the model's other classes a trigger for the target must be, on the same repaired model, to be the backdoor
# and no natural weakness: passes against natural weaknesses cost one network 15 points.
RIVAL_LEAD = 1.25
# So many of the other classes are searched for that, drawn.
RIVALS = 9
# Share of the lead that the class had in the original file by which a family must lead that did not speak for it there: fits
# move every boundary a little. 2026-11-27, chosen.
NEW_WAY = 0.1

# --- Collapse -----------------------------------------------------------------------------------------------------------

# Triggers of a class that are unlearnt before it is searched again.
COLLAPSE_TAUGHT = 12
# Starts of the search of an unlearnt class in a family without places. 2026-11-27, chosen.
STARTS = 4
# The strongest fit for that, by what a clean row weighs: stronger ones move the boundaries of a model with few classes so
# far that natural weaknesses go as well.
GENTLE = 30.0

# --- The game -----------------------------------------------------------------------------------------------------------

# So few players are enumerated where that is no dearer than sampling.
ENUMERATED = 12
# Walks that advance together, and steps under the discarding threshold that end one.
LOCKSTEP, PATIENCE = 6, 3

# --- The proof ----------------------------------------------------------------------------------------------------------

# Logits of the masked run and of the baked file may differ by so much, relative to max(1, largest logit): room for float32
# sums in another order (on the nets of the tests they differ by under 2e-6), and far under what a wrong edit does.
TOLERANCE = 1e-4
