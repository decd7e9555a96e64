"""First-order effect of switching each channel off, for all channels in one backward pass.

d loss / d mask at mask = 1 comes almost free with the gradient graph. It is no Shapley value: it does not see redundancy
or saturation, and only decides which channels are worth playing for.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_shapprune.autodiff.loss import attack_gradient
from onnx_shapprune.case.subject import BATCH, Floats, Labels
from onnx_shapprune.graph.mask import insert_masks, mask_name, mask_shape
from onnx_shapprune.graph.prepare import Prepared
from onnx_shapprune.graph.units import Layer
from onnx_shapprune.runtime.probe import probe
from onnx_shapprune.runtime.session import Array, Device, Session
from onnx_shapprune.runtime.weights import elsewhere, shell


class Sensitivity:
    """Gradients of margins with respect to every unit's mask, for one prepared model."""

    def __init__(self, prepared: Prepared, layers: Sequence[Layer], device: Device) -> None:
        self._prepared = prepared
        masked = insert_masks(shell(prepared.model, elsewhere), dict(enumerate(layers)), prepared.infos)
        self._ones: dict[str, Array] = {
            mask_name(i): np.ones((1, *mask_shape(layer, prepared.infos)), np.float32) for i, layer in enumerate(layers)
        }
        rng = np.random.default_rng(0)
        small, large = (2, 3) if prepared.batch_free else (1, 1)
        feeds = [
            {prepared.input: rng.random((n, *prepared.input_shape), np.float32), **self._ones} for n in (small, large)
        ]
        infos = probe(masked, feeds[0], feeds[1], device, prepared.model)
        names = list(self._ones)
        model = attack_gradient(
            masked,
            infos,
            input_name=prepared.input,
            logits_name=prepared.logits,
            wrt=names,
            weights=prepared.model,
        )
        self._session = Session(model, device, weights=prepared.model)
        self._outputs = [f"grad::{n}" for n in names]

    def margin_drop(self, inputs: Floats, targets: Labels, weights: NDArray[np.floating]) -> NDArray[np.float64]:
        """First-order fall of sum_i weights[i] * margin_i when a unit is switched off: float64 (units,).

        inputs: model inputs [m, ...]; targets: int64 [m]. Units in the order of the layers, channel by channel.
        """
        if not self._outputs:
            return np.zeros(0)
        step = BATCH if self._prepared.batch_free else 1
        total: NDArray[np.float64] | None = None
        for start in range(0, len(inputs), step):
            s = slice(start, start + step)
            x = inputs[s]
            one_hot = np.zeros((len(x), self._prepared.classes), np.float32)
            one_hot[np.arange(len(x)), targets[s]] = 1
            feeds: dict[str, Array] = {
                self._prepared.input: x,
                **self._ones,
                "target": one_hot,
                "w_ce": np.zeros(len(x), np.float32),
                "w_margin": np.asarray(weights[s], np.float32),
                "margin_cap": np.asarray(1e9, np.float32),
            }
            parts = self._session.run(feeds, self._outputs)
            # The loss is -margin, and switching off moves a mask by -1: both signs cancel.
            flat = -np.concatenate([p.reshape(-1) for p in parts]).astype(np.float64)
            total = flat if total is None else total + flat
        assert total is not None, "no inputs"
        return total
