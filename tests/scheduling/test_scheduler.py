"""What plan_iteration promises, whatever state the utterances are in."""

from dataclasses import replace

from hypothesis import given, settings, strategies as st

from makima_tts.engines.qwen3.scheduler import (
    Costs,
    SchedulerConfig,
    UtteranceSnapshot,
    plan_iteration,
    writing_budget_s,
)

# A CPU: a step of 30 ms, 10 more for each stream's sound, a tenth of a second for a chunk of a prompt.
COSTS = Costs(((1, 0.03), (8, 0.09)), decodes=((1, 0.01),), prefills=((1, 0.003),), slice_s=0.1)
NOW_S = 100.0
CHUNK_ROWS = 32


def speaking(slot: int, ahead_s: float, *, pending: int = 0, chunk_frames: int = 4) -> UtteranceSnapshot:
    return UtteranceSnapshot(slot, True, True, NOW_S + ahead_s, (), pending, chunk_frames)


def newcomer(slot: int, *, waits_s: float = 0.0, chunks: int = 2) -> UtteranceSnapshot:
    return UtteranceSnapshot(slot, True, False, NOW_S - waits_s, (CHUNK_ROWS,) * chunks)


def test_a_single_prompt_is_prefilled_whole_and_generates_in_the_same_iteration() -> None:
    plan = plan_iteration([newcomer(0)], NOW_S, COSTS)
    assert (plan.prefill, plan.generate) == (((0, 2),), (0,))


def test_prompts_that_come_together_are_prefilled_together_as_far_as_time_allows() -> None:
    few_rows = [UtteranceSnapshot(slot, True, False, NOW_S, (10,)) for slot in range(4)]
    plan = plan_iteration(few_rows, NOW_S, COSTS)
    assert plan.prefill == ((0, 1), (1, 1), (2, 1), (3, 1))
    assert plan.generate == (0, 1, 2, 3)


def test_a_newcomer_is_not_prefilled_if_another_listener_would_run_dry_meanwhile() -> None:
    plan = plan_iteration([speaking(0, 0.15), newcomer(1)], NOW_S, COSTS)
    assert (plan.prefill, plan.generate) == ((), (0,))


def test_a_newcomer_is_prefilled_in_chunks_if_there_is_time_for_one() -> None:
    plan = plan_iteration([speaking(0, 0.3), newcomer(1)], NOW_S, COSTS)
    assert plan.prefill == ((1, 1),)
    assert 1 not in plan.generate


def test_prompts_are_written_while_no_listener_runs_dry_and_always_a_little() -> None:
    config = SchedulerConfig()
    assert writing_budget_s([], NOW_S, COSTS) == config.max_writing_s
    assert writing_budget_s([newcomer(0)], NOW_S, COSTS) == config.max_writing_s
    assert writing_budget_s([speaking(0, 5.0), speaking(1, 0.01)], NOW_S, COSTS) == config.min_writing_s
    iteration_s = COSTS.iteration_s(1) + config.margin_s
    assert config.min_writing_s < writing_budget_s([speaking(0, iteration_s + 0.01)], NOW_S, COSTS) < 0.011


def test_no_prompt_waits_for_ever() -> None:
    urgent = [speaking(slot, 0.0) for slot in range(3)]
    assert plan_iteration([*urgent, newcomer(3)], NOW_S, COSTS).prefill == ()
    assert plan_iteration([*urgent, newcomer(3, waits_s=1.0)], NOW_S, COSTS).prefill == ((3, 1),)


def test_a_well_buffered_stream_yields_only_to_a_newcomer() -> None:
    well_buffered = [speaking(1, 5.0, pending=11, chunk_frames=12)]
    prefilled = replace(newcomer(0), prefill_rows=())
    assert plan_iteration([*well_buffered, prefilled], NOW_S, COSTS).generate == (0,)
    assert plan_iteration(well_buffered, NOW_S, COSTS).generate == (1,)


def test_a_long_chunk_is_not_decoded_while_another_listener_runs_dry() -> None:
    long_chunk = speaking(1, 3.0, pending=11, chunk_frames=12)
    plan = plan_iteration([speaking(0, 0.1), long_chunk], NOW_S, COSTS)
    assert plan.generate == (0,)


def test_frames_of_an_urgent_stream_are_flushed_at_once_however_few() -> None:
    plan = plan_iteration([speaking(0, 0.09, pending=1, chunk_frames=8), speaking(1, 9.0)], NOW_S, COSTS)
    assert plan.flush_now == {0}
    assert 0 in plan.generate


def test_the_next_piece_of_an_urgent_stream_is_prefilled_before_a_newcomer() -> None:
    next_piece = UtteranceSnapshot(0, True, True, NOW_S + 0.1, (CHUNK_ROWS,))
    plan = plan_iteration([next_piece, newcomer(1)], NOW_S, COSTS)
    assert next(iter(plan.prefill))[0] == 0


def test_a_stream_that_is_not_runnable_is_left_out() -> None:
    plan = plan_iteration([replace(speaking(0, 0.0), runnable=False)], NOW_S, COSTS)
    assert (plan.prefill, plan.generate) == ((), ())


def test_a_slice_of_side_work_waits_for_time_but_not_for_ever() -> None:
    def is_planned(ahead_s: float, waited_s: float) -> bool:
        plan = plan_iteration([speaking(0, ahead_s)], NOW_S, COSTS, side_work_since_s=NOW_S - waited_s)
        return plan.side_work

    assert is_planned(1.0, 0.0)
    assert not is_planned(0.15, 0.0)
    assert is_planned(0.15, 3.0)
    assert plan_iteration([], NOW_S, COSTS, side_work_since_s=NOW_S).side_work
    assert not plan_iteration([], NOW_S, COSTS).side_work
    assert not plan_iteration([newcomer(0, chunks=9)], NOW_S, COSTS, side_work_since_s=NOW_S).side_work


@st.composite
def snapshots(draw: st.DrawFn) -> list[UtteranceSnapshot]:
    drawn = []
    for slot in draw(st.sets(st.integers(0, 7), max_size=8)):
        chunk_frames = draw(st.sampled_from([1, 2, 4, 8, 12]))
        drawn.append(
            UtteranceSnapshot(
                slot=slot,
                runnable=draw(st.booleans()),
                playback_started=draw(st.booleans()),
                underrun_at_s=NOW_S + draw(st.floats(-3, 20)),
                prefill_rows=tuple(draw(st.lists(st.integers(1, 32), max_size=4))),
                pending=draw(st.integers(0, chunk_frames - 1)),
                chunk_frames=chunk_frames,
            )
        )
    return drawn


@settings(max_examples=50)
@given(snapshots(), st.sampled_from([COSTS, Costs()]))
def test_a_plan_always_makes_progress_and_plans_only_what_there_is_to_do(
    some: list[UtteranceSnapshot], costs: Costs
) -> None:
    plan = plan_iteration(some, NOW_S, costs)
    by_slot = {each.slot: each for each in some if each.runnable}
    assert bool(plan.prefill or plan.generate) == bool(by_slot)
    assert all(0 < count <= len(by_slot[slot].prefill_rows) for slot, count in plan.prefill)
    assert plan.flush_now <= set(plan.generate)
    read = dict(plan.prefill)
    assert all(read.get(slot, 0) == len(by_slot[slot].prefill_rows) for slot in plan.generate)
    assert plan.generate == tuple(sorted(plan.generate))


@settings(max_examples=50)
@given(snapshots())
def test_the_order_of_the_snapshots_does_not_matter(some: list[UtteranceSnapshot]) -> None:
    distinct = {each.underrun_at_s for each in some}
    if len(distinct) == len(some):
        assert plan_iteration(some, NOW_S, COSTS, config=SchedulerConfig()) == plan_iteration(
            some[::-1], NOW_S, COSTS
        )
