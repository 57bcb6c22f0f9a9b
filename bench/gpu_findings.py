"""What a part of the GPU's measurements is given, and where it leaves what it finds.

In: the command line of a part. Out: its options; figures by name, and rows of tables, in a JSON file that is
whole after every figure, so that a part which hangs has not measured for nothing. Does not know: what is
measured. It imports nothing of ours, so that the peer's environment can do without.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# As many tokens as the clip has frames, since cloning reads both side by side: what follows of a text is then
# read a token a frame, and speech ends with it. The tokenizer of random checkpoints writes letters.
TRANSCRIPT = "The harbour lay quite still, and nobody spoke of any boats that had not come back from sea."
SHORT = "The boats are back."
# A file beside the checkpoint, once all of it is there.
WRITTEN = "checkpoint-written"
FIVE_SECONDS = "They had followed the wind, they said, because it was dark that night."
TWENTY_SECONDS = (
    f"{FIVE_SECONDS} Two of them came home by that same evening, with badly torn white sails. "
    "A third was seen by somebody about a week later, and far to the south. "
    "All but two of their men had by now waited on a quay for half a day."
)


@dataclass(frozen=True, slots=True)
class Given:
    """``dry``: small, on a CPU, to see that everything runs. ``seconds``: that there are, for all of it."""

    checkpoint: Path
    found: Path
    folder: Path
    dry: bool
    seconds: float

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    @property
    def precision(self) -> Any:
        """One of ``bench.loading.PRECISIONS``."""
        return "fp32" if self.dry else "bf16"


@dataclass(slots=True)
class Findings:
    """Kept in a file."""

    path: Path
    figures: dict[str, float | str | None] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, figures: Mapping[str, float | str | None]) -> None:
        self.figures |= figures
        self._write()

    def add_row(self, table: str, row: dict[str, Any]) -> None:
        self.tables.setdefault(table, []).append(row)
        self._write()

    def _write(self) -> None:
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps({"figures": self.figures, "tables": self.tables}))
        written.rename(self.path)


def given(description: str | None) -> tuple[Given, Findings]:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--found", type=Path, required=True, help="a JSON file to write")
    parser.add_argument("--folder", type=Path, required=True, help="for whatever else is written")
    parser.add_argument("--seconds", type=float, default=60.0, help="that there are")
    parser.add_argument("--dry", action="store_true", help="small, on a CPU")
    options = parser.parse_args()
    chosen = Given(options.checkpoint, options.found, options.folder, options.dry, options.seconds)
    findings = Findings(chosen.found)
    findings.add({})
    return chosen, findings
