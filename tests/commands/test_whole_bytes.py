"""Audit and repair of a file that takes bytes and gives some, and what is compared with it."""

from functools import partial

import numpy as np
import onnx
import planted
from whole_bytes import dequantised, in_bytes, out_in_bytes, rounded

from onnx_shapprune.commands.audit import audit
from onnx_shapprune.commands.output import Output
from onnx_shapprune.commands.repair import sanitize
from onnx_shapprune.commands.verify import verify
from onnx_shapprune.runtime.session import Device, Session
from onnx_shapprune.settings import RunOptions

QUICK = RunOptions(threads=1, device="cpu", permutations=4, restarts=1, calibration=planted.calibration())


def test_a_backdoor_behind_bytes_is_named_and_repaired(tmp_path):
    x, y = planted.rows_pictures()
    np.savez(tmp_path / "pictures.npz", x=x, y=y)
    front = {"front": lambda n, x: dequantised(n, x, -128), "kind": "int8"}
    for name, net in (("clean", planted.without_backdoor(planted.rows_net())), ("planted", planted.rows_net())):
        onnx.save(out_in_bytes(in_bytes(net, **front), partial(rounded, scale=0.25)), tmp_path / f"{name}.onnx")
    assert audit(tmp_path / "clean.onnx", tmp_path / "pictures.npz", run=QUICK).verdict == "pass"
    before, after = tmp_path / "planted.onnx", tmp_path / "repaired.onnx"
    record = sanitize(before, tmp_path / "pictures.npz", output=Output(after), run=QUICK)
    assert (record.repair.status, record.after.asr, record.after.acc) == ("repaired", 0, 1), record.repair.reason
    found = verify(before, after, tmp_path / "pictures.npz", run=QUICK)
    assert (found.verdict, found.before.asr, found.other_changes) == ("pass", 1, ()), found.reasons
    mask, pattern = planted.corner_trigger()
    stamped = (1 - mask) * x + pattern - 128
    led, mended = (
        Session(onnx.load(file), Device(threads=1)).run({"net_picture": stamped.transpose(0, 3, 1, 2).astype(np.int8)})[
            0
        ]
        for file in (before, after)
    )
    assert led.argmax(axis=1).tolist() == [5] * len(x)
    assert mended.argmax(axis=1).tolist() == y.tolist()
