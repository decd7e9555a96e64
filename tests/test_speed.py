"""The comparison of two checkouts tells a slower one, and runs the program of each."""

import pytest
from benchmarks import speed
from benchmarks.speed import HERE, Cost, complaints, paired, row


def test_a_slower_checkout_and_another_ending_are_told():
    before = Cost(2.0, 3.0, 0)
    slow, same, other = Cost(3.0, 3.0, 0), Cost(2.1, 3.0, 0), Cost(2.0, 3.0, 3)
    assert complaints({"audit": [(same, before)] * 3}, 1.15) == []
    assert complaints({"audit": [(slow, before), (slow, before), (same, before)]}, 1.15) == [
        "audit: 1.50 times the processor time, more than 1.15"
    ]
    assert complaints({"audit": [(other, before)]}, 1.15) == ["audit: the exit codes differ"]
    assert row("audit", [(slow, before), (same, before)]) == "| audit | 2.0 | 2.5 | 1.27 | 1.05 to 1.50 | 1.00 | [0] |"


def test_both_checkouts_run_in_turn(monkeypatch, tmp_path):
    ran = []
    monkeypatch.setattr(speed, "cost_of", lambda checkout, arguments: ran.append(checkout) or Cost(len(ran), 1.0, 0))
    costs = paired(HERE, tmp_path, ["inspect"], 2)
    assert ran == [tmp_path, HERE, HERE, tmp_path]
    assert [(a.cpu, b.cpu) for a, b in costs] == [(2, 1), (3, 4)]


def test_the_program_of_the_checkout_is_what_runs():
    cost = speed.cost_of(HERE, ["--version"])
    assert cost.code == 0
    assert 0 < cost.cpu < 60


def test_commands_are_the_programs_own(tmp_path):
    made = speed.commands(tmp_path)
    assert set(made) >= {"inspect", "audit-sample", "audit-32", "audit-224", "sanitize-sample", "game"}
    arguments = made["audit-32"]()
    assert arguments[0] == "audit"
    assert (tmp_path / "32.onnx").exists()


@pytest.mark.parametrize("arguments", [["--against", "nowhere"], []])
def test_what_is_no_checkout_is_refused(monkeypatch, arguments, capsys):
    monkeypatch.setattr("sys.argv", ["speed", *arguments])
    with pytest.raises(SystemExit) as ended:
        speed.main()
    assert ended.value.code == 2
    assert "against" in capsys.readouterr().err or arguments
