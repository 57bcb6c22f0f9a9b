"""Whose turn it is: what plan_step promises, whatever stands where."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from makima_tts.engines.qwen3.costs import Costs
from makima_tts.engines.qwen3.scheduler import Order, Standing, plan_step, writing_s

# A CPU: a step of 30 ms, 10 more for each stream's sound, a tenth of a second for a part of a prompt.
COSTS = Costs(((1, 0.03), (8, 0.09)), sounds=((1, 0.01),), reads=((1, 0.003),), slice_s=0.1)
NOW_S = 100.0
PART = 32


def speaking(slot: int, ahead_s: float, *, pending: int = 0, chunk_frames: int = 4) -> Standing:
    return Standing(slot, True, True, NOW_S + ahead_s, (), pending, chunk_frames)


def newcomer(slot: int, *, waits_s: float = 0.0, parts: int = 2) -> Standing:
    return Standing(slot, True, False, NOW_S - waits_s, (PART,) * parts)


def test_alone_a_prompt_is_read_whole_and_spoken_in_the_same_turn() -> None:
    plan = plan_step([newcomer(0)], NOW_S, COSTS)
    assert (plan.read, plan.speak) == (((0, 2),), (0,))


def test_those_who_come_together_are_read_together_as_far_as_the_time_goes() -> None:
    few_rows = [Standing(slot, True, False, NOW_S, (10,)) for slot in range(4)]
    plan = plan_step(few_rows, NOW_S, COSTS)
    assert plan.read == ((0, 1), (1, 1), (2, 1), (3, 1))
    assert plan.speak == (0, 1, 2, 3)


def test_a_newcomer_is_not_read_when_somebody_would_run_dry_meanwhile() -> None:
    plan = plan_step([speaking(0, 0.15), newcomer(1)], NOW_S, COSTS)
    assert (plan.read, plan.speak) == ((), (0,))


def test_a_newcomer_is_read_in_parts_when_there_is_time_for_one() -> None:
    plan = plan_step([speaking(0, 0.3), newcomer(1)], NOW_S, COSTS)
    assert plan.read == ((1, 1),)
    assert 1 not in plan.speak


def test_prompts_are_written_as_long_as_nobody_runs_dry_for_and_always_a_little() -> None:
    order = Order()
    assert writing_s([], NOW_S, COSTS) == order.most_writing_s
    assert writing_s([newcomer(0)], NOW_S, COSTS) == order.most_writing_s
    assert writing_s([speaking(0, 5.0), speaking(1, 0.01)], NOW_S, COSTS) == order.least_writing_s
    turn_s = COSTS.turn_s(1) + order.margin_s
    assert order.least_writing_s < writing_s([speaking(0, turn_s + 0.01)], NOW_S, COSTS) < 0.011


def test_nobody_waits_for_ever_to_be_read() -> None:
    hurried = [speaking(slot, 0.0) for slot in range(3)]
    assert plan_step([*hurried, newcomer(3)], NOW_S, COSTS).read == ()
    assert plan_step([*hurried, newcomer(3, waits_s=1.0)], NOW_S, COSTS).read == ((3, 1),)


def test_who_has_plenty_yields_to_a_newcomer_and_not_to_nobody() -> None:
    rich = [speaking(1, 5.0, pending=11, chunk_frames=12)]
    assert plan_step([*rich, replace(newcomer(0), unread=())], NOW_S, COSTS).speak == (0,)
    assert plan_step(rich, NOW_S, COSTS).speak == (1,)


def test_a_long_chunk_of_one_is_not_decoded_while_another_runs_dry() -> None:
    long_chunk = speaking(1, 3.0, pending=11, chunk_frames=12)
    plan = plan_step([speaking(0, 0.1), long_chunk], NOW_S, COSTS)
    assert plan.speak == (0,)


def test_who_is_about_to_run_dry_is_heard_at_once_however_few_frames() -> None:
    plan = plan_step([speaking(0, 0.09, pending=1, chunk_frames=8), speaking(1, 9.0)], NOW_S, COSTS)
    assert plan.hasten == {0}
    assert 0 in plan.speak


def test_the_next_piece_of_one_who_runs_dry_is_read_before_a_newcomer() -> None:
    goes_on = Standing(0, True, True, NOW_S + 0.1, (PART,))
    plan = plan_step([goes_on, newcomer(1)], NOW_S, COSTS)
    assert next(iter(plan.read))[0] == 0


def test_without_a_piece_or_credit_nothing_is_done() -> None:
    plan = plan_step([replace(speaking(0, 0.0), able=False)], NOW_S, COSTS)
    assert (plan.read, plan.speak) == ((), ())


def test_a_slice_of_other_work_waits_for_time_but_not_for_ever() -> None:
    def has_its_turn(ahead_s: float, waited_s: float) -> bool:
        return plan_step([speaking(0, ahead_s)], NOW_S, COSTS, work_since_s=NOW_S - waited_s).work

    assert has_its_turn(1.0, 0.0)
    assert not has_its_turn(0.15, 0.0)
    assert has_its_turn(0.15, 3.0)
    assert plan_step([], NOW_S, COSTS, work_since_s=NOW_S).work
    assert not plan_step([], NOW_S, COSTS).work
    assert not plan_step([newcomer(0, parts=9)], NOW_S, COSTS, work_since_s=NOW_S).work


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    made = []
    for slot in draw(st.sets(st.integers(0, 7), max_size=8)):
        chunk_frames = draw(st.sampled_from([1, 2, 4, 8, 12]))
        made.append(
            Standing(
                slot=slot,
                able=draw(st.booleans()),
                heard=draw(st.booleans()),
                due_s=NOW_S + draw(st.floats(-3, 20)),
                unread=tuple(draw(st.lists(st.integers(1, 32), max_size=4))),
                pending=draw(st.integers(0, chunk_frames - 1)),
                chunk_frames=chunk_frames,
            )
        )
    return made


@settings(max_examples=50)
@given(standings(), st.sampled_from([COSTS, Costs()]))
def test_there_is_always_something_to_do_for_somebody_and_only_what_there_is(
    stand: list[Standing], costs: Costs
) -> None:
    plan = plan_step(stand, NOW_S, costs)
    by_slot = {each.slot: each for each in stand if each.able}
    assert bool(plan.read or plan.speak) == bool(by_slot)
    assert all(0 < count <= len(by_slot[slot].unread) for slot, count in plan.read)
    assert plan.hasten <= set(plan.speak)
    read = dict(plan.read)
    assert all(read.get(slot, 0) == len(by_slot[slot].unread) for slot in plan.speak)
    assert plan.speak == tuple(sorted(plan.speak))


@settings(max_examples=50)
@given(standings())
def test_the_order_in_which_they_are_told_of_does_not_matter(stand: list[Standing]) -> None:
    due = {each.due_s for each in stand}
    if len(due) == len(stand):
        assert plan_step(stand, NOW_S, COSTS, order=Order()) == plan_step(stand[::-1], NOW_S, COSTS)
