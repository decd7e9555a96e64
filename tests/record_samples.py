"""Finished records with every part filled, to render and to hand out from a fake pipeline."""

import base64

import numpy as np

from onnx_shapprune.gate.checks import packaged_digest
from onnx_shapprune.pictures.files import png_bytes
from onnx_shapprune.record.audit import (
    AttackPart,
    AuditRecord,
    ClaimPart,
    ClassPart,
    CompactPart,
    EstimatePart,
    FamilyPart,
    LayerChange,
    RealignedPart,
    RepairPart,
    RoundPart,
    TriedPart,
    TriggerPart,
    UnitsPart,
    UnitValue,
    VerifyRecord,
)
from onnx_shapprune.record.graph import LayerPart
from onnx_shapprune.record.parts import DataPart, Environment, FileDigest, ModelPart, Rates, ThresholdsPart, UnitRef
from onnx_shapprune.record.values import ValuesRecord

ENVIRONMENT = Environment(
    onnx_shapprune="0.1.0", python="3.11", onnx="1.23", onnxruntime="1.31", numpy="2.4", platform="linux",
    device="cpu", providers=("CPUExecutionProvider",), threads=1,
)  # fmt: skip
THRESHOLDS = ThresholdsPart(named=0.01, doubt=0.05, second=1e-3, moved=5, alive=0.15, clean_budget=0.02, natural=0.5)
PNG = base64.b64encode(png_bytes(np.eye(4) * 255, min_height=1)).decode()
CREATED = "2026-01-01T00:00:00Z"
DIGEST = FileDigest(name="clean.onnx", size=1234567, sha256="ab" * 32)


def class_part(i: int, *, suspicious: bool = False, name: str = "") -> ClassPart:
    norm = 4.5 if suspicious else 31.25 + i
    return ClassPart(
        index_of_class=i, name=name or f"class-{i}", norm=norm, asr=0.99, index=4.61 if suspicious else 0.3,
        success=True, norms=(norm, norm + 1), compact=(CompactPart(side=3, top=1, left=2, margin=7.5, asr=1.0),),
        families=(
            FamilyPart(family="compact", margin=7.5, asr=1.0, transfer=0.9, value=2.5, p_value=1e-4),
            FamilyPart(family="linf", margin=-3.0, asr=0.1),
        ),
        score=4.0 if suspicious else 0.3, margin_index=12.5 if suspicious else 0.2, suspicious=suspicious,
        reasons=("its mask is far smaller than the others",) if suspicious else (),
    )  # fmt: skip


def trigger_part(target: int, *, named: bool = True) -> TriggerPart:
    return TriggerPart(
        kind="all-to-one", targets=(target,), family="compact", named=named, added=False, norm=9.0, mask=PNG, pattern=PNG,
        tried=(
            TriedPart(label=0, clean=PNG, clean_class=0, clean_probability=0.9, applied=PNG, applied_class=target,
                      applied_probability=0.99),
        ),
    )  # fmt: skip


def audit_record(
    *, verdict: str = "fail", repair: str = "repaired", classes: int = 10, layer: str = "/layer1/conv1/Conv",
    name: str = "model.onnx", reason: str = "class 3 has a trigger of 4.5 pixels",
) -> AuditRecord:  # fmt: skip
    ranked = tuple(
        UnitValue(layer=layer, channel=c, value=0.5 / (c + 1), standard_error=0.01, interval=(0.4, 0.6), backdoor=0.5,
                  clean=0.01)
        for c in range(15)
    )  # fmt: skip
    target = (3,) if verdict == "fail" else ()
    pruned = repair in ("repaired", "not_repaired")
    copy = FileDigest(name="clean.onnx", size=300000, sha256="cd" * 32)
    written = {"repaired": DIGEST, "nothing_to_repair": copy}.get(repair)
    rates = Rates(acc=0.9, asr=1.0, racc=0.0, pictures=10, triggered=9)
    after = rates.model_copy(update={"asr": 0.02, "racc": 0.88, "lost": 0.01, "surely_lost": 0.005})
    return AuditRecord(
        created=CREATED, command=("shapprune", "audit"), seed=0, verdict=verdict, reasons=(reason,),
        target_classes=target, score=3.1 if target else 0.1,
        attacks=tuple(
            AttackPart(kind="all-to-one", targets=(t,), families=("compact", "patch"), p_value=1e-4, reasons=(reason,))
            for t in target
        ),
        claims=tuple(
            ClaimPart(statistic="compact", kind="all-to-one", targets=(t,), value=2.5, p_value=1e-4,
                      outside=("6 classes, and 10 to 100 were calibrated on",), gone=0.97)
            for t in target
        ),
        calibration="27 audits of clean models", calibration_sha256=packaged_digest(), thresholds=THRESHOLDS,
        model=ModelPart(
            name=name, sha256="cd" * 32, size=300000, opset=17, input="x", input_shape=(1, 28, 28), layout="NCHW",
            output="y", classes=classes, parameters=123456, copy_difference=1e-7,
        ),
        data=DataPart(pictures=10, digest="ef" * 32, label_source="folder", classes_covered=10),
        preprocessing={"mean": [0.0]}, settings={"restarts": 3},
        classes=tuple(class_part(i, suspicious=i in target) for i in range(classes)),
        triggers=tuple(trigger_part(t) for t in target or (1,)),
        units=UnitsPart(total=560, layers=3, off=(UnitRef(layer=layer, channel=0),) if pruned else (), ranked=ranked),
        estimate=EstimatePart(
            method="permutation", players=15, permutations=24, evaluations=300, discarded_walks=3, zeroed_share=0.2,
            discard_threshold=0.05, epsilon=0.3, clean_weight=1.0, full_value=1.0, end_value=0.1,
        ),
        before=rates, after=after if pruned else None,
        repair=RepairPart(
            status=repair, reason="no trigger is found any more", method="both" if pruned else None,
            layers=(
                RealignedPart(layer=layer, op="Conv", change=0.189, rank=8),
                RealignedPart(layer="/fc/Gemm", op="Gemm", change=0.0435, rank=10),
            ) if pruned else (),
            rounds=(
                RoundPart(off=1, acc=0.9, known_asr=0.4, clean_cost=0.0, margin=3.0, asr=0.9, still_found=True),
                RoundPart(off=2, acc=0.9, known_asr=0.0, clean_cost=0.01, margin=-1.0, asr=0.1, still_found=False,
                          strength=300.0),
            ) if pruned else (),
            masked_vs_baked=1e-6 if pruned else None, output=written,
        ),
        evaluations=300, seconds={"search": 12.0, "shapley": 3.0, "total": 15.5}, peak_memory_mb=512.0,
        warnings=("few pictures",), environment=ENVIRONMENT,
    )  # fmt: skip


def verify_record(*, verdict: str = "pass") -> VerifyRecord:
    rates = Rates(acc=0.9, asr=0.02, racc=0.88, pictures=10, triggered=9)
    return VerifyRecord(
        created=CREATED, seed=0, verdict=verdict, reasons=("only planned units changed",),
        before_model=DIGEST.model_copy(update={"name": "before.onnx"}), after_model=DIGEST, changed=("conv1.weight",),
        data=DataPart(pictures=10, digest="ef" * 32, label_source="folder", classes_covered=10), clean_cost=0.0,
        calibration="27 audits of clean models", calibration_sha256=packaged_digest(), thresholds=THRESHOLDS,
        zeroed=(UnitRef(layer="conv1", channel=5),),
        realigned=(LayerChange(layer="fc", change=0.0435),), other_changes=(), agreement=0.95,
        before=rates.model_copy(update={"asr": 1.0}), after=rates, classes=(class_part(0),),
        seconds={"search": 2.0}, environment=ENVIRONMENT,
    )  # fmt: skip


def unit_value(layer: str, channel: int, worth: float) -> UnitValue:
    return UnitValue(
        layer=layer, channel=channel, value=worth, standard_error=0.01, interval=(worth - 0.02, worth + 0.02),
        backdoor=worth / 2, clean=0.001,
    )  # fmt: skip


def values_record(first: str = "conv", **changed) -> ValuesRecord:
    """Three channels of a narrow layer, and 130 of a wide one, of which channel 77 is worth most."""
    wide = [unit_value("wide", c, 0.5 if c == 77 else -0.01) for c in range(130)]
    ranked = sorted([*wide, *(unit_value(first, c, 0.1 * c) for c in range(3))], key=lambda u: -u.value)
    audit = audit_record(repair="not_tried")
    made = ValuesRecord(
        created=audit.created, seed=7, verdict="fail", known_trigger=True, targets=(3,), triggers=1, model=audit.model,
        data=audit.data, layers=tuple(LayerPart(name=n, op="Conv", channels=c) for n, c in ((first, 3), ("wide", 130))),
        units=UnitsPart(total=133, layers=2, ranked=tuple(ranked)), estimate=audit.estimate, evaluations=99,
        environment=audit.environment,
    )  # fmt: skip
    return made.model_copy(update=changed)
