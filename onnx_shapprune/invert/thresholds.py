"""Every number that tells a trigger in the graph from what a network has learnt (invert/written.py), once: what it means and
from what.
"""

# Share of the other pictures that go to one class with the trigger, at least, and with the deciding value held still, at
# most: triggers in a graph move all, and then none. 2026-11-26, by tests/evasions.
FIRED = 0.8
IDLE = 0.3
# Share of a picture that a trigger covers at most: what covers more is another picture. 2026-11-26, chosen.
COVERED = 0.5
# Deciding values, and stored patterns, that are looked at: a file with a thousand must not take a day. 2026-11-26, chosen.
MOST = 12
# Steps by which a deciding value is driven up or down, on so many pictures; a pixel that moved by less than this many bytes
# belongs to no trigger. 2026-11-26, chosen.
CLIMB = 60
CLIMBED = 4
CHANGED = 0.5
