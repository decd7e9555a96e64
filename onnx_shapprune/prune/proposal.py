"""A repair before it is believed: what it changes in the original file.

Two kinds of edits, which may stand together: units that are switched off, and layers that are realigned. Both are said
about the original file and whole, so that a proposal never depends on the ones before it, and what is searched, measured
and written is always the file that `applied` gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from onnx_shapprune.case.subject import Subject
from onnx_shapprune.game.replay import Player
from onnx_shapprune.graph.bake import bake
from onnx_shapprune.graph.canonical import canonical
from onnx_shapprune.graph.interface import Interface
from onnx_shapprune.graph.linear import Change, Linear, rewrite
from onnx_shapprune.graph.prepare import prepare
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.prune.lesson import Unseen
from onnx_shapprune.prune.realign import Fit
from onnx_shapprune.prune.round import Round

if TYPE_CHECKING:  # onnx stays inside runtime/, graph/ and autodiff/
    import onnx

Off = Mapping[str, Sequence[int]]
Changes = Mapping[str, tuple[Linear, Change]]


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """The file that is to be repaired, as it was read, with its data inside; layers: those whose units may go."""

    model: "onnx.ModelProto"
    interface: Interface
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """off: layer name -> channels that are switched off; changes: layer name -> the layer as it was found in the file with
    these units off, and its new weights. chosen: the units that it switches off beyond the proposal before it, and round:
    the game that chose them; () and None where no game did. fit: what a realignment was fitted with; unseen: what it does
    on pictures that a fit was kept from; None where that was not measured.
    """

    off: Off = field(default_factory=dict)
    changes: Changes = field(default_factory=dict)
    chosen: tuple[Player, ...] = ()
    round: Round | None = None
    fit: Fit | None = None
    unseen: Unseen | None = None

    @property
    def count(self) -> int:
        """How many units are off."""
        return sum(len(channels) for channels in self.off.values())

    @property
    def by_cost(self) -> list[Player]:
        """The chosen units, those first that cost most of the clean part when they go alone."""
        return self.round.by_cost(self.chosen) if self.round else list(self.chosen)

    def further(self, layers: Sequence[Layer], chosen: Sequence[Player], round_: Round) -> "Proposal":
        """This proposal with more units off."""
        more = {name: list(channels) for name, channels in self.off.items()}
        for player in chosen:
            more.setdefault(layers[player.layer].name, []).append(player.channel)
        return replace(self, off=more, chosen=tuple(chosen), round=round_)


@dataclass(frozen=True, slots=True, eq=False)
class Edited:
    """A proposal, and the file with it, ready to be run."""

    proposal: Proposal
    subject: Subject


def applied(original: Original, proposal: Proposal) -> "onnx.ModelProto":
    """The edited file; the original stays as it is. Raises VerifyError for what the original does not have."""
    baked = bake(original.model, original.layers, proposal.off)
    return rewrite(baked, proposal.changes) if proposal.changes else baked


def edited(original: Original, proposal: Proposal, like: Subject) -> Edited:
    """The edited file, prepared like the unedited one."""
    prepared = prepare(applied(original, proposal), original.interface, like.prepared.input_shape, like.device)
    prepared = canonical(prepared, like.device)
    return Edited(proposal, Subject(prepared, like.preprocessing, like.device, like.work, like.reach))
