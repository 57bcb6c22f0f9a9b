"""The scheduler and the admission in virtual time: figures of policies, and values for their defaults.

In: figures of machines (assumptions, each with its origin below), arrival traces, a seed. Out: tables; with
--docs the plots and the figures of docs/scheduling.md. Does not know: models, sound, this machine.

    python -m bench.simulate            # tables
    python -m bench.simulate --docs     # and docs/plots/scheduling*.png, scheduling.json

The policies: ``before`` is the previous one (all streams in every step, prompts are prefilled whole, a
free slot is enough for admission); ``deadlines`` replaces the order of work, ``admission`` admits only
streams that there is time for, ``both`` is what runs.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.report import table
from makima_tts.engines.qwen3.scheduler import SchedulerConfig, plan_iteration
from tests.scheduling.arrival_traces import Arrival, bursts, poisson, stored
from tests.scheduling.virtual_clients import figures, served
from tests.scheduling.virtual_engine import Machine, Policy, Replica, SimulatedListener, plan_everything

PLOTS = Path(__file__).parents[1] / "docs" / "plots"

# Two cores with int4 weights. Linear layers as measured on such a machine: 28 ms for one stream, 30 for two,
# 84 for eight; the rest of a step, and what a prompt takes, are assumed.
CPU = Machine(
    "2-core CPU, int4 (assumed)",
    steps=((1, 0.030), (2, 0.033), (8, 0.090)),
    codec_frame_s=0.0095,
    codec_call_s=0.001,
    prompt_row_s=0.0026,
    prompt_chunk_s=0.008,
    slots=8,
    chunk_rows=32,
)
# Weights and keys read once at the memory's speed take 0.8 ms for one stream, 1.8 for 32, 4.8 for 128:
# assumed are three times that, and 2 ms for launches.
GPU = Machine(
    "H100-like GPU (assumed)",
    steps=((1, 0.0044), (32, 0.0074), (128, 0.0164)),
    codec_frame_s=0.00015,
    codec_call_s=0.001,
    prompt_row_s=0.00002,
    prompt_chunk_s=0.004,
    slots=128,
    chunk_rows=128,
)

BEFORE = Policy("before", plan_everything, "slots")
DEADLINES = Policy("deadlines", rule="slots")
ADMISSION = Policy("admission", plan_everything)
BOTH = Policy("both")
POLICIES = (BEFORE, ADMISSION, DEADLINES, BOTH)

# Listeners per second; the last is more than can be served.
LOADS: dict[str, tuple[Machine, tuple[float, ...], float]] = {
    "cpu": (CPU, (0.05, 0.1, 0.2, 0.3, 0.4), 300.0),
    "gpu": (GPU, (5, 10, 20, 30, 40), 20.0),
}
SEEDS = (0, 1, 2)

Row = dict[str, Any]


def played(
    machine: Machine, policy: Policy, traces: Iterable[Iterable[Arrival]], voices: Sequence[float] = ()
) -> list[SimulatedListener]:
    """One replica per trace, one after the other. ``voices``: the times at which voices are encoded."""
    heard = []
    for seed, trace in enumerate(traces):
        work = [(at_s, slices_of(machine)) for at_s in voices]
        heard += served([Replica(machine, policy, seed, work)], trace, seed)
    return heard


def slices_of(machine: Machine) -> list[float]:
    """Encoding a voice of ten seconds: the encoders, then a frame of the codec at a time."""
    return [0.12] * 6 + [machine.codec_call_s + machine.codec_frame_s] * 125


def loads() -> list[Row]:
    """Poisson arrivals at several rates."""
    rows = []
    for machine, rates, duration_s in LOADS.values():
        for rate_hz in rates:
            for policy in POLICIES:
                traces = [list(poisson(rate_hz, duration_s, seed)) for seed in SEEDS]
                rows.append(_row(machine, policy, f"{rate_hz:g}/s", played(machine, policy, traces)))
    return rows


def other_traces() -> list[Row]:
    """Bursts, conversations, and voices that are encoded meanwhile."""
    speaking = [list(poisson(0.1, 300.0, seed)) for seed in SEEDS]
    uploads = [float(at_s) for at_s in range(10, 300, 20)]
    cases: list[tuple[str, Machine, list[list[Arrival]], list[float]]] = [
        ("2 at once, every 15 s", CPU, [list(bursts(2, 15.0, 300.0, seed)) for seed in SEEDS], []),
        ("6 at once, every 40 s", CPU, [list(bursts(6, 40.0, 300.0, seed)) for seed in SEEDS], []),
        ("64 at once, every 5 s", GPU, [list(bursts(64, 5.0, 30.0, seed)) for seed in SEEDS], []),
        ("conversations (stored)", CPU, [stored()], []),
        ("conversations (stored)", GPU, [stored()], []),
        ("0.1/s, a voice every 20 s", CPU, speaking, uploads),
    ]
    return [
        _row(machine, policy, name, played(machine, policy, traces, voices))
        for name, machine, traces, voices in cases
        for policy in (BEFORE, BOTH)
    ]


def fleet(listeners: int = 10_000, duration_s: float = 10.0) -> list[Row]:
    """So many listeners within ten seconds, over some replicas."""
    rows = []
    for count in (16, 24, 32):
        for policy in (BEFORE, BOTH):
            trace = list(poisson(listeners / duration_s, duration_s * 1.1, 0))[:listeners]
            replicas = [Replica(GPU, policy, seed) for seed in range(count)]
            rows.append(_row(GPU, policy, f"{count} replicas", served(replicas, trace)))
    return rows


TRIED: dict[str, tuple[float, ...]] = {
    "headroom": (0.6, 0.7, 0.8, 0.85, 0.9, 1.0, 1.2),
    "margin_s": (0.0, 0.02, 0.05, 0.08),
    "well_buffered_s": (0.3, 1.0, 3.0),
    "yielding_share": (0.0, 0.5, 1.0, 3.0),
    "max_prefill_s": (0.05, 0.1, 0.2, 0.4),
    "max_wait_s": (0.2, 0.5, 1.0),
    "chunk_rows": (16, 32, 56),
}


def defaults() -> list[Row]:
    """Each figure of the order of work and the admission, changed alone."""
    rows = []
    for machine, rate_hz, duration_s in ((CPU, 0.2, 300.0), (GPU, 40, 8.0)):
        traces = [list(poisson(rate_hz, duration_s, seed)) for seed in SEEDS]
        for name, values in TRIED.items():
            for value in values:
                other, policy = _changed(machine, name, value)
                row = _row(other, policy, f"{name} {value:g}", played(other, policy, traces))
                rows.append({**row, "changed": name, "value": value})
    return rows


def _changed(machine: Machine, name: str, value: float) -> tuple[Machine, Policy]:
    match name:
        case "headroom":
            return machine, replace(BOTH, headroom=value)
        case "chunk_rows":
            return replace(machine, chunk_rows=int(value)), BOTH
        case _:
            config = replace(SchedulerConfig(), **{name: value})
            return machine, replace(BOTH, planner=partial(plan_iteration, config=config))


def _row(machine: Machine, policy: Policy, trace: str, heard: Sequence[SimulatedListener]) -> Row:
    limit = Replica(machine, policy, 0).limit
    return {
        "machine": machine.name,
        "trace": trace,
        "policy": policy.name,
        "streams at most": limit,
        **figures(heard),
    }


PARTS: dict[str, Callable[[], list[Row]]] = {
    "loads": loads,
    "other traces": other_traces,
    "fleet": fleet,
    "defaults": defaults,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--docs", action="store_true", help="write the plots and figures of docs/scheduling.md"
    )
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    asked = parser.parse_args()
    found = {name: play() for name, play in PARTS.items() if asked.only in (None, name)}
    for name, rows in found.items():
        print(f"\n## {name}\n\n{table(rows)}")
    if asked.docs:
        from bench.simulate_plots import draw  # noqa: PLC0415  matplotlib, which the tables do not need

        PLOTS.mkdir(parents=True, exist_ok=True)
        (PLOTS / "scheduling.json").write_text(json.dumps(found, indent=1) + "\n")
        draw(found, PLOTS)


if __name__ == "__main__":
    main()
