"""Files made to hurt, each as small as it gets: named by the right rule, refused before onnxruntime sees them.

The cases are those that are known from advisories about onnx and onnxruntime; the identifiers stand beside them.
"""

import os
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_shapprune.commands.inspect import inspect
from onnx_shapprune.errors import HostileFileError, ModelError
from onnx_shapprune.gate.rules import RULES
from onnx_shapprune.graph.file import load_model
from onnx_shapprune.graph.limits import FileLimits
from onnx_shapprune.graph.payload import BITS, tensor_fault
from onnx_shapprune.graph.preflight import KNOWN_DOMAINS, REFUSED, preflight

LIMITS = FileLimits(nodes=200, depth=8, generated_mib=1, trips=100)


def model(*nodes: onnx.NodeProto, initializers=(), functions=(), sparse=(), domains=("",)) -> onnx.ModelProto:
    """A classifier with these nodes in front of it; they do not matter for its answer."""
    made = models.conv_bn_relu_residual()
    for i, node in enumerate(nodes):
        made.graph.node.insert(i, node)
    made.graph.initializer.extend(initializers)
    made.graph.sparse_initializer.extend(sparse)
    made.functions.extend(functions)
    made.opset_import.extend(helper.make_opsetid(d, 1) for d in domains if d)
    return made


def rules(made: onnx.ModelProto, limits: FileLimits = LIMITS) -> set[str]:
    return {hazard.rule for hazard in preflight(made, limits)}


def text(made: onnx.ModelProto, limits: FileLimits = LIMITS) -> str:
    return " | ".join(hazard.text for hazard in preflight(made, limits))


def external(location: str, name: str = "w", dims=(4,), **entries: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": location} | entries).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def const(name: str, values, dtype=np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def body(*nodes: onnx.NodeProto, name: str = "inner", initializers=()) -> onnx.GraphProto:
    """A subgraph without inputs that gives one float."""
    out = helper.make_tensor_value_info("inner_out", TensorProto.FLOAT, [])
    last = helper.make_node("Constant", [], ["inner_out"], value_float=1.0)
    return helper.make_graph([*nodes, last], name, [], [out], initializer=initializers)


def branch(*nodes: onnx.NodeProto, **keywords) -> onnx.NodeProto:
    return helper.make_node(
        "If", ["condition"], ["branched"], then_branch=body(*nodes, **keywords), else_branch=body(name="other")
    )


def loop(count: str, *nodes: onnx.NodeProto, output: str = "looped") -> onnx.NodeProto:
    """A Loop whose body hands its condition on, with nodes in front."""
    ins = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried", TensorProto.FLOAT, []),
    ]
    outs = [
        helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
        helper.make_tensor_value_info("carried_out", TensorProto.FLOAT, []),
    ]
    inside = [
        *nodes,
        helper.make_node("Identity", ["go_on"], ["go_on_out"]),
        helper.make_node("Identity", ["carried"], ["carried_out"]),
    ]
    graph = helper.make_graph(inside, "body", ins, outs)
    return helper.make_node("Loop", [count, "condition", "start"], [output], body=graph, name=output)


CONDITION = const("condition", True, np.bool_)
START = const("start", 1.0, np.float32)


def save(folder: Path, made: onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = folder / name
    path.write_bytes(made.SerializeToString())
    return path


def refused(path: Path, **settings) -> str:
    """The message of a refusal, which inspect agrees with."""
    with pytest.raises(HostileFileError) as caught:
        load_model(path, **settings)
    record = inspect(path, **settings)
    assert not record.readable
    assert {f.rule for f in record.findings if f.level in ("high", "critical")} == {h[0] for h in caught.value.hazards}
    assert record.reason == str(caught.value)
    assert "\n" not in record.reason
    return record.reason


def test_ordinary_models_break_no_rule():
    for family in models.FAMILIES.values():
        assert preflight(family(), FileLimits()) == ()
    assert preflight(model(), LIMITS) == ()


def test_what_is_refused_is_what_the_rules_call_high_or_critical():
    grave = {r.id for r in RULES.values() if r.id < "OSP1" and r.severity in ("high", "critical")}
    assert grave == REFUSED
    assert set(KNOWN_DOMAINS) == {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


# Where external data can hide: GATES of every reader begin with the initializers, and many end there.
PLACES = {
    "initializer": lambda t: model(initializers=[t]),
    "constant": lambda t: model(helper.make_node("Constant", [], ["k"], value=t)),
    "constant of shape": lambda t: model(
        helper.make_node("ConstantOfShape", ["s"], ["k"], value=t), initializers=[const("s", [1])]
    ),
    "subgraph": lambda t: model(branch(initializers=[t]), initializers=[CONDITION]),
    "constant of a subgraph": lambda t: model(
        branch(helper.make_node("Constant", [], ["k"], value=t)), initializers=[CONDITION]
    ),
    "function": lambda t: model(
        functions=[
            helper.make_function(
                "own", "f", [], ["k"], [helper.make_node("Constant", [], ["k"], value=t)], [helper.make_opsetid("", 17)]
            )
        ],
        domains=["own"],
    ),
    "default of a function's attribute": lambda t: _with_default(t),
    "sparse initializer": lambda t: model(sparse=[helper.make_sparse_tensor(t, const("i", [0, 1, 2, 3]), [9])]),
    "training": lambda t: _with_training(t),
}


def _with_default(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model(functions=functions(("Relu",)), domains=["own"])
    made.functions[0].attribute_proto.add(name="value", type=onnx.AttributeProto.TENSOR, t=tensor)
    return made


def _with_training(tensor: onnx.TensorProto) -> onnx.ModelProto:
    made = model()
    made.training_info.add().algorithm.initializer.append(tensor)
    return made


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("../secret", "OSP001"),  # CVE-2022-25882
        ("sub/../../secret", "OSP001"),  # CVE-2024-27318
        ("/etc/passwd", "OSP001"),
        ("C:\\secret", "OSP001"),
        ("sub\\..\\..\\secret", "OSP001"),
        ("*/_ORT_MEM_ADDR_/*", "OSP002"),  # CWE-822: the offset is taken for a pointer
    ],
)
def test_external_data_that_escapes(place, location, rule, tmp_path):
    made = PLACES[place](external(location, offset="0", length="16"))
    assert rules(made) == {rule}
    assert repr(location)[1:-1] in refused(save(tmp_path, made))


@pytest.mark.parametrize(
    "entries",
    [
        {"surprise": "1"},
        {"__class__": "x"},  # CVE-2026-34445: keys set as attributes of an object
        {"basepath": "/etc"},
        {"offset": "-1"},
        {"length": "18446744073709551615"},
        {"offset": "0x10"},
        {"length": "٣"},  # int() takes digits of every script
    ],
)
def test_external_entries_that_no_exporter_writes(entries):
    assert rules(model(initializers=[external("w.bin", **entries)])) == {"OSP003"}


def test_an_external_key_that_is_there_twice():
    tensor = external("w.bin")
    tensor.external_data.add(key="location", value="other.bin")
    assert rules(model(initializers=[tensor])) == {"OSP003"}
    assert rules(model(initializers=[external("")])) == {"OSP003"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model's folder, with a secret beside it that is not part of it."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\7" * 16)
    return inside


def test_links_out_of_the_folder(folder):
    """CVE-2026-27489 and CVE-2026-34447."""
    path = save(folder, model(initializers=[external("w.bin", length="16")]))
    (folder / "w.bin").symlink_to("../secret.bin")
    assert "OSP002" in refused(path)
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to(folder.parent / "secret.bin")
    assert "OSP002" in refused(path)
    (folder / "sub").symlink_to("..")
    assert "OSP002" in refused(save(folder, model(initializers=[external("sub/secret.bin", length="16")])))


def test_what_is_no_regular_file(folder):
    os.mkfifo(folder / "w.bin")
    assert "is not a regular file" in refused(save(folder, model(initializers=[external("w.bin", length="16")])))
    assert "is not a regular file" in refused(save(folder, model(initializers=[external(".", length="16")])))


def test_a_hard_link_is_read_as_the_file_that_it_is(folder):
    """CVE-2026-34446. Caches hard-link a lot; whoever can make one can also copy, and the digest says what was read."""
    os.link(folder.parent / "secret.bin", folder / "w.bin")
    file = load_model(save(folder, model(initializers=[external("w.bin", length="16")])))
    assert (file.external[0].location, file.external[0].size) == ("w.bin", 16)


def test_a_cache_of_links_needs_its_root(tmp_path):
    """The layout of a Hugging Face cache: snapshots/<revision>/ holds links to blobs/."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    made = model(initializers=[external("model.onnx_data", length="16")])
    save(blobs, made, "one")
    (blobs / "two").write_bytes(b"\1" * 16)
    (snapshot / "model.onnx").symlink_to("../../blobs/one")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/two")
    with pytest.raises(ModelError, match="--allow-root"):
        load_model(snapshot / "model.onnx")
    file = load_model(snapshot / "model.onnx", allow_root=tmp_path)
    assert file.loaded.graph.initializer[-1].raw_data == b"\1" * 16
    (blobs / "two").unlink()
    (blobs / "two").symlink_to("/etc/hostname")
    assert "OSP002" in refused(snapshot / "model.onnx", allow_root=tmp_path)
    # Another folder says nothing about this model.
    with pytest.raises(ModelError, match="--allow-root"):
        load_model(snapshot / "model.onnx", allow_root=blobs)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dims": [10**10, 10**10], "raw_data": b""}, "declares more than 10^18 values"),
        ({"dims": [10**10], "float_data": [1.0]}, "declares 10,000,000,000 values"),
        ({"dims": [2**62, 4], "raw_data": b"\0" * 16}, "more than 10^18"),  # wraps around to 0 in 64 bits
        ({"dims": [-1], "raw_data": b""}, "impossible shape"),
        ({"dims": [1] * 100, "raw_data": b"\0" * 4}, "impossible shape"),
        ({"dims": [4], "raw_data": b"\0" * 15}, "has 15 bytes"),  # CVE-2024-27319: read beyond the end
        ({"dims": [4], "raw_data": b"\0" * 17}, "has 17 bytes"),
        ({"dims": [4]}, "has 0 numbers"),
        ({"dims": [1], "raw_data": b"\0" * 4, "float_data": [1.0]}, "two payloads: float_data, raw_data"),
        ({"dims": [1], "float_data": [1.0], "int32_data": [1]}, "two payloads"),
        ({"dims": [1], "int64_data": [1]}, "holds them in int64_data"),
        ({"dims": [1], "data_type": 99, "raw_data": b"\0" * 4}, "type that ONNX does not know: 99"),
        ({"dims": [1], "data_type": 0, "raw_data": b"\0" * 4}, "type that ONNX does not know: 0"),
        ({"dims": [1], "data_type": TensorProto.COMPLEX64, "float_data": [1.0]}, "has 1 numbers"),
        ({"dims": [3], "data_type": TensorProto.INT4, "int32_data": [1]}, "has 1 numbers"),
    ],
)
def test_a_tensor_that_is_not_what_it_says(values, words, tmp_path):
    tensor = TensorProto(**{"name": "w", "data_type": TensorProto.FLOAT} | values)
    assert words in text(model(initializers=[tensor]))
    assert "OSP003" in refused(save(tmp_path, model(initializers=[tensor])))


def test_external_and_inline_payload_together():
    tensor = external("w.bin")
    tensor.raw_data = b"\0" * 16
    assert "two payloads: raw_data, external data" in text(model(initializers=[tensor]))


def test_sound_tensors_of_every_type():
    for name, kind in TensorProto.DataType.items():
        if name not in ("UNDEFINED", "STRING"):
            size = (5 * BITS[name] + 7) // 8
            assert tensor_fault(TensorProto(name="w", data_type=kind, dims=[5], raw_data=b"\0" * size)) == ""
    for kind in (TensorProto.FLOAT, TensorProto.INT4, TensorProto.BFLOAT16, TensorProto.COMPLEX64, TensorProto.UINT64):
        assert tensor_fault(helper.make_tensor("w", kind, [4], [1, 0, 1, 0])) == ""
    assert tensor_fault(helper.make_tensor("w", TensorProto.STRING, [1], [b"a"])) == ""
    assert tensor_fault(TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[0])) == ""


@pytest.mark.parametrize(
    ("dims", "indices"),
    [
        ([9], [0, 9]),
        ([9], [-1, 0]),
        ([3, 3], [[0, 0], [0, 3]]),
        ([3, 3], [[0, 0, 0], [0, 1, 1]]),
        ([9], [0]),
        ([-9], [0, 1]),
    ],
)
def test_a_sparse_tensor_that_writes_beyond_its_shape(dims, indices):
    sparse = onnx.SparseTensorProto(dims=dims)
    sparse.values.CopyFrom(const("v", [1, 2], np.float32))
    sparse.indices.CopyFrom(const("i", indices))
    assert rules(model(sparse=[sparse])) == {"OSP003"}


def test_a_sparse_tensor_that_stands_for_too_much():
    sparse = helper.make_sparse_tensor(const("v", [1], np.float32), const("i", [[0, 0]]), [10**9, 10**9])
    assert rules(model(sparse=[sparse])) == {"OSP004"}


def node(op: str, *inputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), ["made"], name="bomb", **attributes)


MILLION = [const("one", 1.0, np.float32), const("n", [10**6]), const("data", [[1.0]], np.float32)]


@pytest.mark.parametrize(
    ("bomb", "initializers"),
    [
        (node("ConstantOfShape", "n"), MILLION),  # onnxruntime#28730: 152 bytes made 287 MB while the session opened
        (node("ConstantOfShape", "n"), [const("n", [2**62, 4])]),
        (node("ConstantOfShape", "n", value=const("v", [0], np.float64)), [const("n", [200_000])]),
        (node("Expand", "data", "n"), MILLION),
        (node("Tile", "data", "n"), [MILLION[2], const("n", [1000, 1000])]),
        (node("Tile", "x", "n"), [const("n", [1, 1, 1000, 1000])]),
        (node("Range", "n", "m", "d"), [const("n", 0), const("m", 10**6), const("d", 1)]),
        (node("Range", "n", "m", "d"), [const(n, v, np.float32) for n, v in (("n", 0), ("m", np.inf), ("d", 1))]),
        (node("Resize", "x", "", "", "n"), [const("n", [1, 3, 1000, 1000])]),
        (node("Resize", "x", "", "n"), [const("n", [1, 1, 1000, 1000], np.float32)]),
        (node("Upsample", "x", "n"), [const("n", [1, 1, 1000, 1000], np.float32)]),
        (node("Pad", "x", "n"), [const("n", [0, 0, 500, 500, 0, 0, 500, 500])]),
        (node("Pad", "x", pads=[0, 0, 500, 500, 0, 0, 500, 500]), []),
        (node("OneHot", "data", "n", "data"), [*MILLION]),
        (node("EyeLike", "data"), [const("data", np.zeros((600, 600)), np.float32)]),
        (node("RandomNormal", shape=[1000, 1000]), []),
        (node("ConvTranspose", "x", "w", output_shape=[1000, 1000]), []),
        (node("HannWindow", "n"), MILLION),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_constant_bombs(bomb, initializers):
    made = model(bomb, initializers=initializers)
    assert rules(made) == {"OSP004"}
    assert "'bomb'" in text(made)
    assert rules(made, FileLimits(generated_mib=2**50)) == set()


def test_bombs_that_hide():
    """Behind nodes that hand their constant on, in a subgraph, in a function, and in many small pieces."""
    bomb = node("ConstantOfShape", "renamed")
    chain = [helper.make_node("Identity", ["n"], ["a"]), helper.make_node("Cast", ["a"], ["renamed"], to=7)]
    assert rules(model(*chain, bomb, initializers=MILLION)) == {"OSP004"}
    assert rules(model(branch(node("ConstantOfShape", "n")), initializers=[*MILLION, CONDITION])) == {"OSP004"}
    inside = [helper.make_node("Constant", [], ["n"], value_ints=[10**6]), node("ConstantOfShape", "n")]
    function = helper.make_function("own", "f", [], ["made"], inside, [helper.make_opsetid("", 17)])
    assert rules(model(functions=[function], domains=["own"])) == {"OSP004"}
    pieces = [helper.make_node("ConstantOfShape", ["n"], [f"piece{i}"]) for i in range(6)]
    assert rules(model(*pieces[:5], initializers=[const("n", [50_000])])) == set()
    assert rules(model(*pieces, initializers=[const("n", [50_000])])) == {"OSP004"}
    chained = [
        helper.make_node("ConstantOfShape", ["n"], ["row"]),
        helper.make_node("Tile", ["row", "n"], ["made"]),
    ]
    assert rules(model(*chained, initializers=[const("n", [1000])])) == {"OSP004"}


def test_a_shape_that_is_kept_outside(folder):
    outside = external("n.bin", name="n", dims=[1], length="8")
    outside.data_type = TensorProto.INT64
    (folder / "n.bin").write_bytes(np.int64(10**12).tobytes())
    made = model(node("ConstantOfShape", "n"), initializers=[outside])
    assert rules(made) == set()
    assert "OSP004" in refused(save(folder, made))


@pytest.mark.parametrize(
    ("loops", "words"),
    [
        ([loop("count")], "runs 4,611,686,018,427,387,904 times"),
        ([loop("")], "no constant"),
        ([loop("x")], "no constant"),
        ([loop("ten", loop("eleven"))], "runs 110 times"),
    ],
)
def test_loops_without_a_reasonable_end(loops, words, tmp_path):
    numbers = [CONDITION, START, const("count", 2**62), const("ten", 10), const("eleven", 11)]
    made = model(*loops, initializers=numbers)
    assert rules(made) == {"OSP006"}
    assert words in text(made)
    assert "OSP006" in refused(save(tmp_path, made), limits=LIMITS)


def test_a_loop_that_ends_is_allowed_and_multiplies_what_is_made_in_it():
    numbers = [CONDITION, START, const("ten", 10), const("n", [50_000])]
    assert rules(model(loop("ten"), initializers=numbers)) == set()
    assert rules(model(loop("ten", node("ConstantOfShape", "n")), initializers=numbers)) == {"OSP004"}


def nested(depth: int) -> onnx.NodeProto:
    inner = branch()
    for _ in range(depth - 1):
        inner = branch(inner)
    return inner


def test_depth_nodes_and_size(tmp_path):
    assert rules(model(nested(8), initializers=[CONDITION])) == set()
    deep = model(nested(9), initializers=[CONDITION])
    assert rules(deep) == {"OSP007"}
    many = model(*[helper.make_node("Identity", ["x"], [f"i{k}"]) for k in range(200)])
    assert "more than 200 nodes" in text(many)
    with pytest.raises(ModelError, match=r"OSP007.*--limit only for a source that you trust") as caught:
        load_model(save(tmp_path, many), limits=LIMITS)
    assert caught.value.exit_code == 2
    assert not inspect(tmp_path / "m.onnx", limits=LIMITS).readable
    assert load_model(tmp_path / "m.onnx").hazards == ()


def test_a_graph_nested_deeper_than_protobuf_reads(tmp_path):
    """A graph is field 6 of an attribute, that is field 5 of a node, and a node is field 1 of the graph around it."""
    graph = b""
    for _ in range(60):
        for field in (6, 5, 1):
            size = len(graph)
            prefix = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14])
            graph = bytes([field << 3 | 2]) + prefix + graph
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString() + b"\x3a" + bytes([len(graph) & 127 | 128, len(graph) >> 7]) + graph)
    with pytest.raises(ModelError, match="cannot be parsed"):
        load_model(path)


def functions(*calls: tuple[str, ...]) -> list[onnx.FunctionProto]:
    """Function f<i> calls those named."""
    return [
        helper.make_function(
            "own", f"f{i}", ["a"], ["b"],
            [helper.make_node(c, ["a"], [f"t{k}" if k else "b"], domain="own" if c[0] == "f" else "")
             for k, c in enumerate(called)], [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
        )
        for i, called in enumerate(calls)
    ]  # fmt: skip


def test_functions_that_multiply():
    """Forty functions, each calling the next one twice, are 2^40 nodes once they are written out."""
    call = helper.make_node("f0", ["x"], ["called"], domain="own")
    harmless = functions(("f1", "f1"), ("Relu",))
    assert rules(model(call, functions=harmless, domains=["own"])) == set()
    laughs = functions(*[(f"f{i + 1}",) * 2 for i in range(7)], ("Relu",))
    assert "written out make" in text(model(call, functions=laughs, domains=["own"]))
    laughs = functions(*[(f"f{i + 1}",) * 2 for i in range(40)], ("Relu",))
    assert rules(model(call, functions=laughs, domains=["own"])) == {"OSP007"}
    for circle in (functions(("f0",)), functions(("f1",), ("f0",))):
        assert "call themselves" in text(model(call, functions=circle, domains=["own"]))
    tower = functions(*[(f"f{i + 1}",) for i in range(9)], ("Relu",))
    assert "deeper than 8" in text(model(call, functions=tower, domains=["own"]))


def test_unknown_domains_are_reported_and_not_refused():
    strange = model(helper.make_node("Anything", ["x"], ["y0"], domain="acme"), domains=["acme"])
    assert rules(strange) == {"OSP005"}
    assert rules(model(helper.make_node("Gelu", ["x"], ["y0"], domain="com.microsoft"))) == set()


@pytest.mark.parametrize("evil", ["a\x1b[2Jb", "a\nb", "a\x00b", "a\u202eb", "a\u2028b", "\x9b31m"])
def test_control_characters_in_names(evil, tmp_path):
    named = model(helper.make_node("Relu", ["x"], [evil], name=evil))
    assert rules(named) == {"OSP008"}
    assert evil not in text(named)
    assert rules(model(helper.make_node("Constant", [], ["k"], value=const(evil, [1])))) == {"OSP008"}
    record = inspect(save(tmp_path, named))
    assert record.readable
    assert {(f.rule, f.level) for f in record.findings if f.rule} == {("OSP008", "note")}


def test_many_small_things_do_not_hide_a_large_one(tmp_path):
    names = [helper.make_node("Relu", ["x"], [f"a\n{k}"]) for k in range(150)]
    made = model(*names, initializers=[external("../secret")])
    assert rules(made) == {"OSP001", "OSP008"}
    assert sum(h.rule == "OSP008" for h in preflight(made, LIMITS)) == 10
    record = inspect(save(tmp_path, made))
    assert record.findings[0].rule == "OSP001"
    assert len(text(model(initializers=[external("../" + "s" * 10**6)]))) < 400


def test_names_that_are_no_text(tmp_path):
    made = model(helper.make_node("Relu", ["x"], ["A" * 9]))
    path = save(tmp_path, made)
    path.write_bytes(path.read_bytes().replace(b"A" * 9, b"\xff" * 9))
    with pytest.raises(ModelError, match="not UTF-8"):
        load_model(path)
