"""Coverage is of the library, which other rooms test: nothing is traced here."""

import pytest
from support.tracing import untraced


@pytest.fixture(scope="module", autouse=True)
def _untraced():
    with untraced():
        yield
