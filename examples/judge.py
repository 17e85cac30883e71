"""Compares held-out views of a model of a synthetic class with the ground truth, and the mean code as a baseline.

    python examples/judge.py cars/model.h5 cars/truth.h5

Prints one JSON object; docs/results.md explains its entries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from nerfgen.evaluate.held_out_views import score_model
from nerfgen.model import load_model


def main(model: str, truth: str) -> None:
    """Print the metrics."""
    print(json.dumps(score_model(load_model(Path(model)), Path(truth)), indent=2))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} MODEL TRUTH")
    main(*sys.argv[1:])
