"""Networks of full width come back from their rounded weights as they were measured."""

import numpy as np
import pytest
from onnxruntime import InferenceSession

torch = pytest.importorskip("torch", reason="torch is only needed by benchmarks")

from benchmarks.full_width import ATTACKS, PART, assemble, restored, rounded  # noqa: E402
from benchmarks.measure import TrueTrigger  # noqa: E402
from benchmarks.wide_designs import WIDE_DESIGNS  # noqa: E402


def test_large_weights_are_rounded_by_channel_and_small_ones_kept():
    rng = np.random.default_rng(0)
    weights = np.float32(rng.normal(size=(40, 30)) * np.geomspace(0.01, 10, 40)[:, None])
    kept = rounded(weights)
    assert kept["whole"].dtype == np.int8
    off = np.abs(restored(kept) - weights).max(1) / weights.std(1)
    assert off.max() <= 0.51 / PART
    assert off.min() > 0
    bias = np.float32(rng.normal(size=2000))
    np.testing.assert_array_equal(restored(rounded(bias)), bias)


def test_the_file_that_is_assembled_is_the_rounded_network(tmp_path):
    torch.manual_seed(0)
    net = WIDE_DESIGNS["convnext"](10).eval()
    state = {k: rounded(v.numpy()) for k, v in net.state_dict().items()}
    kept = {f"state/{k}/{part}": v for k, parts in state.items() for part, v in parts.items()}
    trigger = ATTACKS["badnets"].make(32, 3, np.random.default_rng(0))
    kept |= {f"trigger/badnets/{k}": v for k, v in trigger.items()} | {"measured/acc/value": np.float32(0.5)}
    np.savez(tmp_path / "convnext_cifar10_badnets.npz", **kept, **{"classes/all/value": 10})
    for folder in ("backdoored", "triggers"):
        (tmp_path / folder).mkdir()
    row = assemble("convnext_cifar10_badnets", tmp_path, tmp_path)
    assert (row["kind"], row["target"], row["measured"]) == ("all-to-one", 6, {"acc": 0.5})
    assert TrueTrigger.load(tmp_path / "triggers" / f"{row['trigger']}.npz").mode == "replace"
    net.load_state_dict({k: torch.from_numpy(np.asarray(restored(v))) for k, v in state.items()})
    x = torch.rand(3, 3, 32, 32)
    (logits,) = InferenceSession(tmp_path / "backdoored" / row["file"]).run(None, {"input": x.numpy()})
    np.testing.assert_allclose(logits, net(x).detach().numpy(), atol=1e-4)
