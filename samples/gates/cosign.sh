#!/usr/bin/env bash
# Sign what the gate decided, and check it where the model is used. Needs cosign; not run by the tests.
#
#   ./cosign.sh sign   model.onnx report.json policy.toml cosign.key model.sigstore.json
#   ./cosign.sh verify model.onnx model.sigstore.json cosign.pub
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
type=https://in-toto.io/attestation/test-result/v0.1

case "${1:-}" in
sign)
  model=$2 report=$3 policy=$4 key=$5 bundle=$6
  statement=$(mktemp)
  trap 'rm -f "$statement"' EXIT
  # Signs only what the policy lets pass, about the bytes that are there.
  shapprune gate --isolated "$report" --model "$model" --policy "$policy"
  shapprune report --isolated "$report" --policy "$policy" -f intoto -o "$statement"
  cosign attest-blob --yes --key "$key" --statement "$statement" --bundle "$bundle" "$model"
  ;;
verify)
  model=$2 bundle=$3 key=$4
  # cosign: who signed, and that the statement is about these bytes. The second line: that it says passed.
  cosign verify-blob-attestation --key "$key" --bundle "$bundle" --type "$type" "$model"
  python3 "$here/check_attestation.py" "$bundle" "$model"
  ;;
*)
  echo "usage: $0 sign MODEL REPORT POLICY KEY BUNDLE | verify MODEL BUNDLE PUBLIC_KEY" >&2
  exit 2
  ;;
esac
