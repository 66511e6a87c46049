"""What a training tells of itself: steps, the batch chosen for it, and whether the loss moved."""

import pytest

from muse_eval.config.workload import LARGEST, STEPS, Learned, Workload, fitting_batch, learned


@pytest.mark.parametrize(
    ("rows", "batch"),
    [(1, 1), (12, 1), (23, 1), (24, 2), (47, 2), (48, 4), (383, 16), (384, 32), (10**6, 32)],
)
def test_a_chosen_batch_leaves_a_dozen_steps_an_epoch(rows: int, batch: int) -> None:
    assert fitting_batch(rows) == batch
    assert rows // batch >= min(STEPS, rows)
    assert batch == LARGEST or rows // (2 * batch) < STEPS


def test_a_workload_is_one_line() -> None:
    work = Workload(rows=41, tokens=2083, epochs=4, batch=2, lr=2e-4, device="cpu")
    assert str(work) == (
        "41 rows, 2,083 tokens an epoch; 21 steps an epoch, 84 in all; batch 2, lr 0.0002; on cpu"
    )
    assert str(Workload(1, 1, 1, 32, 1e-5, "cpu")) == (
        "1 row, 1 token an epoch; 1 step an epoch, 1 in all; batch 32, lr 1e-05; on cpu"
    )


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "few"),
    [
        (24, 32, 5, True),  # the silent default of 0.1.0: five steps
        (24, 4, 8, False),  # learned by heart
        (24, 4, 5, True),  # not learned by heart
        (340, 32, 5, False),  # MUSE's retrain model of the books
        (40, 2, 1, False),
    ],
)
def test_few_steps_are_told(rows: int, batch: int, epochs: int, few: bool) -> None:
    assert Workload(rows, 1, epochs, batch, 1e-5, "cpu").few is few


def log(losses: list[float], steps_an_epoch: int) -> list[dict[str, float]]:
    return [{"loss": loss, "epoch": step / steps_an_epoch} for step, loss in enumerate(losses, 1)]


def test_the_first_quarter_of_an_epoch_is_held_against_the_last_epoch() -> None:
    moved = learned(log([4, 2, 1, 1, 1, 1, 1, 1, 0.5, 0.5, 0, 0, 0, 0, 1, 1], 8))
    assert moved == Learned(3.0, 0.375)
    assert str(moved) == "loss 3.00 → 0.38"
    assert not moved.hardly


@pytest.mark.parametrize(
    ("losses", "hardly"), [([3.07, 3.04, 3.0, 2.95, 2.90], True), ([3.07, 2.5, 2.0, 1.5, 1.09], False)]
)
def test_a_loss_that_hardly_moved_is_seen(losses: list[float], hardly: bool) -> None:
    # One step an epoch: the first is before anything was learned.
    moved = learned(log(losses, 1))
    assert moved == Learned(losses[0], losses[-1])
    assert moved.hardly is hardly


def test_no_step_tells_nothing() -> None:
    assert learned([]) is None
