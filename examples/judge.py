"""Judges a model of a synthetic class by its truth: views that no picture showed, beside those of the mean code.

    python examples/judge.py cars/model.h5 cars/truth.h5

Prints one JSON object; what its entries are, docs/results.md says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nerfgen.evaluate.truth import judge
from nerfgen.field import load_model


def main(model: str, truth: str) -> None:
    """Print the figures."""
    print(json.dumps(judge(load_model(Path(model)), Path(truth)), indent=2))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} MODEL TRUTH")
    main(*sys.argv[1:])
