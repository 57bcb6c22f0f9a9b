"""What every suite shares: time budgets."""

import pytest

from tests.budgets import SuiteBudgets


def pytest_configure(config: pytest.Config) -> None:
    """Every run is held to the budgets, whichever part of the tests it runs."""
    config.pluginmanager.register(SuiteBudgets())
