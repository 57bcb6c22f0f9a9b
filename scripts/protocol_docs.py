"""Writes the generated sections of docs/protocol.md: the state diagrams, and the recorded conversations.

In: the session's tables, docs/conversations/*.jsonl. Out: the document, with new text between its
``<!-- generated: … -->`` and ``<!-- end -->`` marks. Does not know: the rest of the document. Run by `make
docs`; a test compares.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from makima_tts.session.machine import SESSION_TABLE
from makima_tts.session.tables import Cell
from makima_tts.session.utterance import UTTERANCE_TABLE

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "protocol.md"
_MARKED = re.compile(r"(<!-- generated: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def diagram(table: Mapping[Any, Mapping[type, Cell[Any, Any]]]) -> str:
    """A state diagram in Mermaid: one edge for each pair of states, with the inputs that may take it."""
    inputs: defaultdict[tuple[StrEnum, StrEnum], list[str]] = defaultdict(list)
    for state, row in table.items():
        for event, cell in row.items():
            for target in cell.leads_to:
                if target is not state and event.__name__ not in inputs[state, target]:
                    inputs[state, target].append(event.__name__)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {_name(next(iter(table)))}"]
    lines += [
        f"    {_name(state)} --> {_name(target)}: {', '.join(events)}"
        for (state, target), events in inputs.items()
    ]
    lines += [f"    {_name(state)} --> [*]" for state, row in table.items() if not row]
    return "\n".join([*lines, "```", ""])


def conversations() -> str:
    """Every recorded conversation, a line each: ``→`` from the client, ``←`` from the server."""
    parts = []
    for path in sorted((ROOT / "docs" / "conversations").glob("*.jsonl")):
        head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
        parts += [f"### {head['title']}\n", "```text", *map(_shown, lines), "```\n"]
    return "\n".join(parts)


def rendered(document: str) -> str:
    """The document with its sections generated again."""
    generate: dict[str, Callable[[], str]] = {
        "session": lambda: diagram(SESSION_TABLE),
        "utterance": lambda: diagram(UTTERANCE_TABLE),
        "conversations": conversations,
    }
    return _MARKED.sub(lambda found: f"{found[1]}{generate[found[2]]()}{found[3]}", document)


def _name(state: StrEnum) -> str:
    return state.value.replace(" ", "_")


def _shown(line: dict[str, Any]) -> str:
    if "client" in line:
        return f"→ {_json(line['client'])}"
    if "server" in line:
        return f"← {_json(line['server'])}"
    return (
        f"← ({line['audioBytes']} bytes of audio)" if "audioBytes" in line else f"← (close {line['close']})"
    )


def _json(message: dict[str, Any]) -> str:
    """One line; the long lists of `ready` are shown once, above."""
    shown = {name: "…" if name in ("capabilities", "limits") else value for name, value in message.items()}
    return json.dumps(shown, ensure_ascii=False)


if __name__ == "__main__":
    DOCUMENT.write_text(rendered(DOCUMENT.read_text()))
