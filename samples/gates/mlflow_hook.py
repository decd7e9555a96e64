"""Judge a version of a registered MLflow model, write the verdict on it as tags, and move an alias only on a pass.

    python mlflow_hook.py NAME VERSION --report report.json [--policy policy.toml] [--alias champion]

For a webhook on `model_version.created`, or a job that follows registration. The report comes from your own audit, never
from the model's artifacts: who ships a model must not ship its verdict. Exits as `shapprune gate` does.
"""

import argparse
import datetime
import sys
import tempfile
from pathlib import Path

from mlflow import MlflowClient, artifacts

from onnx_shapprune.cli.exits import VERDICTS
from onnx_shapprune.errors import ShapPruneError
from onnx_shapprune.gate.evidence import check_model, load_record
from onnx_shapprune.gate.judge import judge
from onnx_shapprune.gate.judgement import Judgement
from onnx_shapprune.gate.policy import load_policy


def judge_version(client: MlflowClient, name: str, version: str, report: Path, policy: Path | None) -> Judgement:
    """Download a version's only .onnx file and hold the report against its bytes and a policy."""
    record, wanted = load_record(report), load_policy(policy)
    with tempfile.TemporaryDirectory() as folder:
        place = artifacts.download_artifacts(
            artifact_uri=client.get_model_version_download_uri(name, version), dst_path=folder
        )
        models = sorted(Path(place).rglob("*.onnx"))
        if len(models) != 1:
            raise ShapPruneError(f"{name} {version} holds {len(models)} .onnx files, not one")
        check_model(record, models[0])
    today = datetime.datetime.now(datetime.UTC).date()
    return judge(record, wanted, today=today, model_checked=True)


def mark(client: MlflowClient, name: str, version: str, verdict: str, tags: dict[str, str], alias: str) -> None:
    """Tags always; the alias on a pass. A version that does not pass, or no longer, loses the alias."""
    for key, value in (tags | {"verdict": verdict}).items():
        client.set_model_version_tag(name, version, f"shapprune.{key}", value)
    if verdict == "pass":
        client.set_registered_model_alias(name, alias, version)
    elif str(client.get_registered_model(name).aliases.get(alias)) == str(version):
        client.delete_registered_model_alias(name, alias)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--policy", type=Path)
    parser.add_argument("--alias", default="champion")
    asked = parser.parse_args(arguments)
    client = MlflowClient()
    try:
        judgement = judge_version(client, asked.name, asked.version, asked.report, asked.policy)
    except ShapPruneError as error:
        mark(client, asked.name, asked.version, "could not run", {"reason": str(error)[:500]}, asked.alias)
        print(f"error: {error}", file=sys.stderr)
        return 2
    tags = {
        "reason": judgement.reasons[0][:500],
        "policy": judgement.policy_sha256,
        "sha256": judgement.judged[0].sha256,
        "waived": ", ".join(s.finding.rule for s in judgement.suppressed) or "nothing",
    }
    mark(client, asked.name, asked.version, judgement.verdict, tags, asked.alias)
    print(f"{asked.name} {asked.version}: {judgement.verdict}: {judgement.reasons[0]}")
    return VERDICTS[judgement.verdict]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
