"""A policy says what it says: the default agrees with its own text, and every slip is an error that names the key."""

import hashlib
import time
import tomllib

import pytest

from onnx_shapprune.errors import PolicyError
from onnx_shapprune.gate.policy import Fail, RepairLimits, Require, default_policy_text, load_policy

WAIVER = {
    "rule": '"OSP101"', "model_sha256": f'"{"ab" * 32}"', "target_class": "3", "until": "2030-12-31",
    "reason": '"small digit"', "by": '"alice"',
}  # fmt: skip


@pytest.fixture
def policy(tmp_path):
    def load(text: str, *, head: str = "schema = 1\n"):
        path = tmp_path / "policy.toml"
        path.write_text(head + text)
        return load_policy(path)

    return load


@pytest.fixture
def refused(policy):
    def why(text: str, **options: str) -> str:
        with pytest.raises(PolicyError) as caught:
            policy(text, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return why


def waiver(**changes: str) -> str:
    return "[[waiver]]\n" + "".join(f"{k} = {v}\n" for k, v in (WAIVER | changes).items() if v)


def test_the_default_policy_is_its_text_and_the_classes_agree():
    default = load_policy(None)
    assert (default.name, default.sha256) == ("default", hashlib.sha256(default_policy_text().encode()).hexdigest())
    assert (default.require, default.fail, default.repair) == (Require(), Fail(), RepairLimits())
    written = tomllib.loads(default_policy_text())
    for section, model in (("require", Require), ("fail", Fail), ("repair", RepairLimits)):
        assert written[section] == model().model_dump()


def test_the_waiver_in_the_default_policys_comment_is_one(policy):
    _, _, example = default_policy_text().partition("# [[waiver]]")
    text = "[[waiver]]\n" + "\n".join(line.removeprefix("# ") for line in example.splitlines() if line)
    (read,) = policy(text.replace('"..."', f'"{"ab" * 32}"')).waivers
    assert (read.rule, read.target_class, read.until) == ("OSP101", 3, "2030-12-31")


def test_name_digest_and_values(policy, tmp_path):
    read = policy("[fail]\np_value = 0.001\n[repair]\nallowed = false\n" + waiver())
    assert read.name == "policy.toml"
    assert read.sha256 == hashlib.sha256((tmp_path / "policy.toml").read_bytes()).hexdigest()
    assert (read.fail.p_value, read.repair.allowed, read.require) == (0.001, False, Require())
    assert read.waivers[0].by == "alice"


def test_slips_name_their_key(refused):
    assert "unknown key fail.p_valeu; did you mean p_value?" in refused("[fail]\np_valeu = 0.1\n")
    assert "unknown key requires; did you mean require?" in refused("[requires]\n")
    assert "unknown key require.zzz (known: min_pictures" in refused("[require]\nzzz = 1\n")
    assert "unknown key waiver.1.untill; did you mean until?" in refused(waiver(untill="2030-01-01"))
    assert "schema is missing" in refused("", head="")
    assert "schema: " in refused("", head="schema = 2\n")
    assert "require.min_pictures: " in refused('[require]\nmin_pictures = "10"\n')
    assert "require.min_pictures: " in refused("[require]\nmin_pictures = 10.5\n")
    assert "require.min_pictures: " in refused("[require]\nmin_pictures = true\n")
    assert "require.labels: " in refused("[require]\nlabels = 1\n")
    assert "require.min_accuracy: " in refused("[require]\nmin_accuracy = 50\n")
    assert "fail.p_value: " in refused("[fail]\np_value = 0\n")
    assert "fail.p_value: " in refused("[fail]\np_value = nan\n")
    assert "repair.max_residual_asr: " in refused("[repair]\nmax_residual_asr = -0.1\n")
    assert "repair.max_difference: " in refused("[repair]\nmax_difference = inf\n")
    assert "no policy" in refused("[fail\n")


def test_dotted_keys_that_mean_nothing_are_one_line(refused):
    assert "fail.p_value is no table: fail.p_value.x means nothing" in refused("fail.p_value.x = 1\n")
    assert "require.labels is no table: [require.labels] means nothing" in refused("[require.labels]\n")
    assert "waiver.1.rule is no table: waiver.1.rule.id means nothing" in refused(waiver(**{"rule.id": "1"}, rule=""))
    assert "waiver must be a list of tables, [[waiver]]" in refused('waiver.rule = "OSP101"\n')
    assert "require must be a table, [require]" in refused("require = 1\n")
    assert "unknown key fail.a" in refused("fail.a.b.c = 1\n")


@pytest.mark.parametrize("key", [".".join("a" * 20_000), "fail." + ".".join("b" * 20_000)])
def test_a_key_of_very_many_parts_takes_no_time(refused, key):
    began = time.monotonic()
    assert "line 2 has a key of more than 100 parts" in refused(f"{key} = 1\n")
    assert time.monotonic() - began < 5


def test_waivers_are_whole_dated_and_single(refused):
    assert "waiver.1.reason is missing" in refused(waiver(reason=""))
    assert "waiver.1.by: " in refused(waiver(by='""'))
    assert "waiver.1.until: " in refused(waiver(until='"2030-12-31"'))
    assert "waiver.1.until: " in refused(waiver(until="2030-12-31T00:00:00"))
    assert "no policy" in refused(waiver(until="2030-02-31"))
    assert "waiver.1.model_sha256: " in refused(waiver(model_sha256='"*"'))
    assert "waiver.1.target_class: " in refused(waiver(target_class="-1"))
    assert "waiver 1: no rule 'OPS101'; did you mean OSP101?" in refused(waiver(rule='"OPS101"'))
    assert "waiver 2 is about the same finding as waiver 1" in refused(waiver() + waiver(reason='"again"'))


def test_what_was_not_measured_cannot_be_waived(refused):
    assert "no waiver makes up for" in refused(waiver(rule='"OSP903"'))


def test_a_file_that_is_no_policy(tmp_path):
    with pytest.raises(PolicyError, match="not found"):
        load_policy(tmp_path / "none.toml")
    (tmp_path / "p.toml").write_bytes(b"\xff")
    with pytest.raises(PolicyError, match="no policy"):
        load_policy(tmp_path / "p.toml")
