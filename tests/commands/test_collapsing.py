"""Which of an audit's triggers an unlearning and a repair are taught."""

from dataclasses import replace

import hand_made

from onnx_shapprune.commands.collapsing import kinds_of


def test_what_works_is_one_of_each_family_and_every_mask_that_succeeded():
    for asr, families in ((0.5, ["compact", "patch"]), (0.4, ["patch"])):
        (found,) = hand_made.evidence([5.0], [3.0], asr=asr)
        failed = replace(found, patches=(*found.patches, hand_made.free_mask(0, None)))
        assert [t.family for t in kinds_of(failed)] == families
