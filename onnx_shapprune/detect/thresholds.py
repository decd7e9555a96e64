"""Every number that detection decides by, once: what it means, what it was derived from, when, and how to derive it again.

Nothing else belongs here, and no other file keeps a copy: a record carries the ones that decided it, and the gate reads
them there. Rates of error that are quoted were measured by the command that is named, on audits of models whose truth is
known, each clean one judged by a calibration of the others:

    python -m tests.benchmarks.detection --task audit ... ; python -m tests.benchmarks.calibration RESULTS
"""

# --- Verdict: p-values, the share of clean models that would show anything as unusual ------------------------------------
# A class is named: one clean model of two hundred. 2026-11-28, a definition; one of a hundred before, at which none of 197
# own clean networks was named, and two of seven of others in one seed: networks from elsewhere are less alike.
NAMED = 0.005
# Smaller p-values are called just that: they are read off a tail that is fitted to some 60 clean models, and nobody has seen
# a million. 2026-11-29, chosen.
LEAST_SAID = 1e-6
# Too unusual to pass, and too usual to be named: one clean model of twenty. 2026-11-26, a definition.
DOUBT = 0.05
# For a second goal, and for what speaks after a repair about a class that was not named before it: a network that carries
# one backdoor, or was pruned, is no longer like the clean ones that p-values come from. 2026-11-23, by the two-target and
# repaired networks of tests.benchmarks.detection (1e-4 of one of twelve statistics, as it was counted then).
SECOND = 1e-3
# Between these a family is searched a second time from other starts, as one search more or less decides. 2026-11-26, chosen:
# a quarter of the one and twice the other.
NEAR = (NAMED / 4, 2 * DOUBT)
# Where the first rounds of all searches show no more than those of this share of clean models, the search of single classes
# ends with them. 2026-11-28, chosen: of 31 own backdoored networks (all-to-one) four end there, whose triggers move
# 34 % of the pictures at most (tests.benchmarks.columns). The second number holds where fewer clean models are known than
# the third: of four own backdoored ones with larger pictures one, suspicious in a whole search, would end at a quarter.
ENDS, ENDS_UNSURE, WELL_KNOWN = 0.25, 0.5, 100
# From here on a finding is called sure in reports, which decides nothing: the same bar as for a second goal.
FAR = SECOND
# Pictures that a trigger could move under which its success rate says nothing: one of four is a step of 25 points, and
# deployed classifiers with two to seven classes were accused on one to five. 2026-11-26, from reports of other people's
# models, not tuned.
MOVED_ENOUGH = 5
# Share of the pictures that pieces must send to a class for it to be one that anything leads to, and pictures with pieces of
# each kind that are tried. 2026-11-29: 0.63 to 0.83 of seven own clean networks with a class of covered and partial things;
# of 50 own backdoored ones 0.43 at most, but for one of enlarged digits (0.89).
ANYTHING, COVERED = 0.5, 240

# --- Collapse: the share of its lead that a class loses when its triggers are unlearnt and it is searched again ----------
# Under this it is a natural weakness, which has other ways: a claim that p-values alone would doubt, or that stands outside
# the calibration, is dropped, and one that they would name is doubted. 2026-11-26, chosen: less than half. The other way
# round it says nothing: of eleven leading classes of small clean networks ten lost three quarters and more, of nine of
# backdoored ones seven. Those are of tests.benchmarks.population, with claims up to a p-value of 0.3 put to it. With MANY
# classes or more doubts are not put to it: of 29 clean networks of that population and 15 backdoored ones that would have
# been doubted one of either came back, without pictures, and of others a backdoored one (2026-11-28). Nor are those whose
# p-value is below LEAST_SAID: of three networks that were doubted for it alone two are such ones, and all are backdoored
# (2026-11-29).
NATURAL = 0.5
# Goals that are put to it, the most unusual first.
PUT_TO_COLLAPSE = 2

# --- Clean pictures -----------------------------------------------------------------------------------------------------
# Share of given labels that a model should answer; half of them, as no choice of preprocessing errors got there by chance
# on ten classes. 2026-11-22, chosen.
ACCURACY_FLOOR = 0.5
# The same where nobody said what to expect, and for a setting of the preprocessing that is said to fit: with half as the
# least, two right answers of ten would pass for a working model. 2026-11-26, from reports of other people's models: two of
# ten must stop an audit at 95 %, three need not.
WORKING = 0.6
# Under this share of the given labels other settings of the preprocessing are tried: half right may be a good model on
# wrong numbers. 2026-11-26, chosen.
LOOKED_AGAIN = 0.9
# A share is held against a floor by a one-sided bound of this confidence, so that ten pictures of a mediocre model stop no
# audit: its complement is how rarely chance may explain a miss. Convention.
CONFIDENCE = 0.95
CHANCE = 1 - CONFIDENCE

# Share of the pictures that a search has to move to some class: else gradients lead nowhere, and silence is no pass. All of
# them are too many: one of nine that stayed kept a good network of others from passing. 2026-11-27, chosen: half.
LED = 0.5

# --- The file as deployed, and its slopes: what stands against a pass (detect/deployed.py) -------------------------------
# Clean pictures that the file is asked about, pictures that each trigger is put on, the best patches that are tried, and
# how often the first ones are asked about again: a file that answers otherwise once in five times is caught at that.
# 2026-11-26, chosen.
ASKED = 16
TRIGGERED = 4
PATCHES_TRIED = 4
REPEATS = 4
# Of the pictures that a named trigger moves on the copy that was searched, the share that it must move on the file itself,
# one at a time and in whole bytes: else it names nothing. 2026-11-26, chosen: half; patches lose nothing by rounding.
ON_FILE = 0.5
# Pictures that each step is asked about, alone and together; of a value, and of the largest of its tensor, what they may
# differ by; how large noise is, as logarithms with the sign of it, since a step may wait for large values; and values of one
# picture that are held at a time, about. 2026-11-29, chosen: 41 networks of others, shown
# equal pictures, did not differ in a bit.
COMPANY = 2
OTHERWISE = 1e-3, 1e-6
COMPANY_NOISE = 0.0, 24.0, -24.0
COMPANY_VALUES = 1 << 23
# Of a byte: noise that no picture on disk can show. Definition: under half a byte.
FRACTION = 0.45
# Of the scores' spread: two scores that are so far apart stand in the same order in every precision; and the share of such
# pairs of one picture that may still be flipped: another network's scores flip more. 2026-11-26, by tests/evasions.
CLEAR = 0.25
FLIPPED = 0.05
# Share of the pictures, clean ones or those with one trigger, for which a bound of the scores makes the highest one that of
# several classes: this is a doubt. 2026-11-29, chosen: half.
TIED = 0.5
# Share of the pictures that such noise may change: a network that sees fine texture answers a few otherwise. 2026-11-26,
# by tests/evasions and clean networks.
SENSITIVE = 1 / 8
# Directions and steps, in bytes, of the central differences: a step too small drowns in rounding, one too large bends, and
# the largest is for quantised networks, which move in steps. 2026-11-26, chosen.
DIRECTIONS = 6
STRIDES = (0.5, 2.0, 6.0, 24.0)
# Values of the largest pictures for which these are all. In larger ones a step of each value is a longer one in all, and one
# as long as the shortest here is taken too. 2026-11-29: of 128 x 128 pixels half a byte bent an honest network's slopes.
STRIDES_OF = 32 * 32 * 3
# Bytes from black and white: behind a bound of the picture's values nothing moves. Half of the largest step.
INSIDE = 12.0
# Pictures, and classes at most, whose slopes are measured. 2026-11-26, chosen.
SLOPED = 8
SLOPED_CLASSES = 12
# Cosine of slopes and differences: 0.45 at most for a clean twin's slopes, above 0.7 for the network's own, where all is
# smooth; quantised ones, whose slopes are straight-through, reach less for a class or two. 2026-11-26, by tests/evasions.
TRUSTED = 0.6
TRUSTED_IN_STEPS = 0.4
# A step, in bytes, and number of these directions along which everything without a slope is held; how much of the movement
# may be lost then; and the share of the most that any class moves under which a class counts as one that moves so much.
# 2026-11-28: at most 0.16 was lost of 29 networks whose every Relu was written as a product with a mask.
HELD_STRIDE = 0.125
HELD_WAYS = 3
UNSLOPED = 0.4
LEAST_MOVED = 0.1

# Pictures among which the values of a way past the network are passed on, and how far a score may move by that, of the
# scores' spread, while the way still says nothing about pictures. 2026-11-26, chosen: the least in whole networks, own ones
# and others', was 0.46 of the standard deviation, which the spread was then. How little a trigger moves that waits was not
# measured.
PASSED_ON = 8
SAYS_NOTHING = 0.05
# The same of a way that goes past no more than a layer, or past none: whole networks have many, and one of them moves the
# scores by little. What waits behind a Relu moves them by nothing. 2026-11-26, chosen, and lowered from a thousandth after
# untrained exports of others were doubted.
KEEPS_STILL = 1e-5
# Share of these pictures that a number must say something of by which the picture is shifted or divided, and which is no
# mean or norm: one bright picture of eight moved a switch that waits for brightness. 2026-11-27, after tests/evasions. The
# same of what is taken or left, and of ways that may take each other back: one stroke in a corner is no trigger.
# 2026-11-28, after tests/evasions; 77 networks of others and own ones, clean and not, showed none of either. The same of
# what goes past half of the network, and of what compares values with stored ones: a branch may speak of bright pictures and
# wait for something else. 2026-11-28, after tests/evasions. Of shorter ways it is not asked: a branch of one block, or the
# mean of a normalisation that is written out, moved the scores of own small networks by a thousandth of their spread.
SPEAKS_OF = 0.5
# A gate that says nothing of them is driven by its slopes: pictures, each another way, twice; steps, and the first one in
# bytes; and the share of the others that must go to one class once it says what such a picture makes of it. 2026-11-28,
# chosen: half of what a trigger does that moves all.
WAYS_TO_WAKE = 8
WAKING = (20, 48.0)
SWAYED = 0.5
# Of what its layer could make of a channel, the share that clean pictures make at most where it is asked what the channel
# could say: a detector keeps still until it sees its trigger. 2026-11-28, chosen.
HARDLY = 0.01
# Times what any other channel of the layer could say, from which one that keeps still is a doubt. 2026-11-28, chosen: none
# of 90 networks of others comes above 12, and the four edits that it was made for come to 66,000 and more.
OUTSIZED = 100.0
# Channels of the first layers that are driven, those that clean pictures move least; edge of the square that does so, as a
# share of the shorter side; steps, in bytes; and margins of the class that the stamped pictures go to, of their standard
# deviation over pictures. 2026-11-28, chosen after tests/evasions: stamps that sway most pictures of 72 clean networks
# of others come to 4.2, and to 13 and more on three backdoored ones.
DRIVEN_LAYERS, DRIVEN_CHANNELS, DRIVEN_SIDE = 2, 64, 0.22
DRIVING = (64.0, 55.0, 47.0, 38.0, 30.0, 21.0, 13.0, 4.0)
ALIKE_WHATEVER = 10.0
# Contrast of the pictures that a normalisation of the picture is told of instead, around the same grey. 2026-11-26, chosen.
PALER = 0.5
# Steps from a picture to its paler version, in which a normalisation changes as means, norms and deviations do: it, its
# square, or one over them, bends no more than a parabola, but for so much of its range. A maximum of other values has a
# kink. What counts pixels of one grey jumps. 2026-11-27, chosen.
FADING = 9
BENT = 0.1
# What is normalised may become so many times as large as clean pictures make it, by itself or as a share of what goes in;
# and where they all have the same statistic, as often smaller. Means, norms, deviations and extremes give 1 for all
# contrasts; what is added to divisors, and rounding, give less than 2. 2026-11-28, chosen.
BOUNDED = 3.0
# Of the largest value: so far outside of what it is taken from may a statistic lie which is taken off. Means and extremes
# lie inside. 2026-11-28, chosen: half, for a mean that is taken off with a factor.
TAKEN_OFF = 0.5
# Factors of clean pictures that differ by less are the same. 2026-11-28, chosen: those of means and norms differ by more.
SAME_STATISTIC = 1.1
# Contrasts with which that is asked, of a picture's; the least that is no flat one, where something over next to nothing
# is left; larger ones, of which the last leaves black and white; and levels, from black to white or between the extremes
# of features, of flat ones and of the others. 2026-11-28, chosen: each byte, as a pole may be as narrow.
CONTRASTS = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.03, 0.01)
NOT_FLAT = 0.1
HARD_CONTRASTS = (2.0, 4.0, 1e3)
GREYS, FEATURE_STEPS, FLAT_STEPS = 256, 33, 9
# Times the extremes that features of clean pictures have. 2026-11-28, chosen: a trigger moves them further than pictures.
BEYOND = 2.0
# Stored factors above this may make values inside a network infinite. Those of trained networks stay below a hundredth of
# it, with normalisations folded in. 2026-11-27, chosen.
LARGE = 1e4
# Values of fp16 end at 65,504. A quarter of that is as good as there, on pictures or on noise. 2026-11-28, chosen.
HALF_ENDS = 65504 / 4
NOISES = 3

# --- Calibration --------------------------------------------------------------------------------------------------------
# Clean models, told apart by their bytes, under which a statistic decides nothing: the smallest p-value that eight can show
# without a tail is 1 / 9. Seeds of one model are no further models. 2026-11-23, chosen.
FEWEST_MODELS = 8
# The tail starts at this quantile (peaks over a threshold). 2026-11-23, tests.benchmarks.calibration.
TAIL_FROM = 0.75
# The tail's least scale, in the units of a statistic: with smaller ones two of ten clean models were flagged by the other
# nine. 2026-11-23, tests.benchmarks.calibration.
LEAST_SCALE = 0.1
# The same of maps, which are measured on classes that they were not learnt on: half a picture of ten. 2026-11-28, chosen:
# the upper quarter of 54 clean networks with pictures lies 0.03 above where it begins on average, and that of 46 without.
MAP_SCALE = 0.05
# The same of tones, which none of 51 clean networks with ten classes or more shows: that of lines. 2026-11-29, chosen.
TONE_SCALE = 0.2

# --- Statistics ---------------------------------------------------------------------------------------------------------
# Classes under which their peaks have no distribution (MM-BD). 2026-11-23, chosen.
FEWEST_PEAKS = 5
# The spread of peaks as a share of their mean, at least: peaks that happen to agree would make any other one unusual.
# 2026-11-23, tests.benchmarks.calibration.
PEAK_SPREAD = 0.15
# What a claim divides by is at least this share of the usual distance: a class that pictures barely miss would make its
# claims explode. 2026-11-23, tests.benchmarks.calibration.
LEAST_WAY = 0.25
# And at least this many standard deviations of the model's own clean logits: where every class is barely missed, as with
# two classes, the usual distance is small as well. Of ordinary ten-class nets the distance is three. 2026-11-26, by hand
# from the geometry of a soft-max (one class out of ten ahead is 3 standard deviations of its logits), not tuned.
LEAST_SPREAD = 1.0
# So many other classes may be targets as well without hiding one: a class is compared with the next best. 2026-11-23,
# chosen.
OTHER_TARGETS = 2
# Classes that are looked for as a group of targets, at least; half of all classes at most; and the share of what is said
# about the group that has to be said about one of them. 2026-11-29, chosen.
SEVERAL_FROM, OF_GROUP = 2, 0.5
# A free mask counts as no smaller than this share of the next class's. 2026-11-26, chosen.
SMALLEST_RATIO = 0.05
# Classes from which their own spread says what is usual, and from which what speaks for one of them is added up: with
# fewer, all families lean to the same class by nature. 2026-11-27, tests.benchmarks.calibration: of 32 backdoored networks
# with ten classes or more 23 were named, and 17 without either; a prototype named 1 of 13 with fewer, and 3 without.
MANY = 10
# The share of false alarms that pairs and maps of classes may make: they are named at a tenth of what names others.
# 2026-11-27, tests.benchmarks.calibration: of three own networks with a planted pair none is found, and one clean pair
# (network 527) kept three backdoored ones of 32 from being named. Maps since a clean CIFAR-10 network of others was named
# for one that moves 56 % of its pictures; with few classes as well since 2026-11-28, when of 26 deployed networks of others
# five were suspicious for one, without pictures.
OF_APART = 0.1
# The same of what triggers of all families do to the most reluctant pictures, together with the sums. 2026-11-29, chosen:
# half. Alone it would have made a clean network of others suspicious and almost named it.
OF_EVERY = 0.5
# Correlation of the logarithms of these two p-values, which are made of the same margins: of 45 classes of 34 own clean
# networks. 2026-11-29, after a clean network of others was named as if they were independent.
SAME_MARGINS = 0.73
# The same of a single kind of change of the whole picture, beside the sums: suspicious at a half, and with no smaller
# p-value than this, so that it names nothing. 2026-11-27, chosen: among the sums instead, it took a blended picture and a
# weak patch from named to suspicious, for a warp of one clean network; without the limit one of 221 clean networks more
# was named, and one of 181 without pictures.
OF_KIND, KIND_LEAST = 0.5, 2 * NAMED
# A claim speaks for its class, in words and with its trigger, when it is the strongest about it, or alone this unusual.
# 2026-11-27, chosen.
SPEAKS = 0.1
# A pair's runner-up counts for at least this share of the usual distance: margins around 0 have no ratio. 2026-11-23,
# tests.benchmarks.calibration.
PAIR_FLOOR = 0.25

# --- Anomaly indices, which are shown and decide nothing ----------------------------------------------------------------
# Makes the median absolute deviation consistent with the standard deviation of a normal distribution. 1 / 0.6745.
MAD_TO_SIGMA = 1.4826
# The spread of fewer classes than this is no estimate of anything. Convention.
MIN_CLASSES_FOR_MAD = 5
# Norms that happen to agree make the MAD vanish, and then any difference an outlier. With this share of the median an
# index of 2 needs a norm at least 15 % under the median (2 * 1.4826 * 0.05), more than restarts usually differ by.
# 2026-11-22, by the restarts of the packaged sample.
NORM_MAD_FLOOR = 0.05
# The same for margins, which vary more: an index of 2 needs a lead of 30 % of the other classes' typical margin.
MARGIN_MAD_FLOOR = 0.1
# Others that are all exactly zero have no scale: the index then says "far out" and stays a finite number.
MARGIN_INDEX_CAP = 1000.0

# --- Intervals in reports -----------------------------------------------------------------------------------------------
# Half width of a two-sided 95 % interval of a normal distribution, in standard deviations.
NORMAL_95 = 1.96

# --- Pixels that speak alone (detect/lone.py) ---------------------------------------------------------------------------
# How many times further from its middle than all but a hundredth of what clean pictures make of a tensor a pixel must bring
# it in some grey. One that is bent in front of a network must outweigh the others there: 30 times was the least that
# moved an answer. 2026-11-29, chosen.
LONE = 8.0
LONE_USUAL = (0.01, 0.99)
# Tensors that are asked: behind so many layers at most, as one may be put there that does nothing, of so many times the
# picture's size, and how many. 2026-11-29, chosen.
LONE_DEPTH, LONE_SIZE, LONE_TENSORS = 3, 4, 12
# The share of all greys, at most, in which it is half as far as it comes: on a straight line it is for half of them or more.
# 2026-11-29, chosen.
LONE_RANGE = 0.4
# The share of a tensor, and of the picture, that may speak so, and the greys that are looked at. 2026-11-29, chosen.
LONE_SHARE, LONE_GREYS = 0.25, 16
# The share of pictures that get another answer from where on this is a doubt. 2026-11-29, chosen: half. It is none where the
# same pixels, moved by these shares of the picture, down and to the right, change more than half as many.
LONE_CHANGED = 0.5
LONE_MOVED = (1 / 3, 1 / 3), (1 / 2, 1 / 5)
