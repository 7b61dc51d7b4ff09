"""The pytest plugin: fixtures, a marker, and what is shown of a test that fails.

- ``injector``: a client whose partitions are healed at the end of the test, however it ends.
- ``lab``, ``session_lab``: a daemon that is started from a config, and stopped at the end of the run.
- ``@pytest.mark.partition(isolate=["n1"])``: cuts for the test's call alone, and heals after it.
- ``@pytest.mark.injector_lab("lab.yaml")``: the config of this test's ``lab``.
"""

from __future__ import annotations

from typing import Generator, Iterator, NoReturn, Optional

import pytest

from ..errors import InjectorError, Missing, NotPermitted, Unreachable, UsageError, hides_frames
from ..lab import Lab
from .marked import Marked
from .options import Options, add_options
from .scope import Scope, TestInjector
from .labs import Labs

__tracebackhide__ = hides_frames

_OPTIONS = pytest.StashKey[Options]()
_LABS = pytest.StashKey[Labs]()
_SCOPE = pytest.StashKey[Scope]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "partition(name=None, recovers_within=None, endpoint=None, **cut): cuts for the test's call, and heals after "
        "it; with recovers_within, the test fails unless the cluster settles in that time.",
    )
    config.addinivalue_line("markers", "injector_lab(config): the config of this test's lab.")
    config.stash[_OPTIONS] = Options(config)
    config.stash[_LABS] = Labs(config.stash[_OPTIONS])


def pytest_unconfigure(config: pytest.Config) -> None:
    labs = config.stash.get(_LABS, None)
    if labs is not None:
        labs.stop()


def _give_up(config: pytest.Config, error: InjectorError) -> NoReturn:
    """Fails with the error's sentence alone. What is missing on a machine skips if that was asked for."""
    is_missing = isinstance(error, (Missing, NotPermitted, Unreachable))
    if is_missing and config.stash[_OPTIONS].skips_missing:
        pytest.skip(str(error))
    pytest.fail(str(error), pytrace=False)


def _lab(config: pytest.Config, marked: Optional[pytest.Mark]) -> Lab:
    try:
        return config.stash[_LABS].get(marked.args[0] if marked and marked.args else None)
    except InjectorError as error:
        failure = error
    # Outside of the handler, so that the failure has no context: its sentence is all that is shown.
    _give_up(config, failure)


@pytest.fixture(scope="session")
def session_lab(pytestconfig: pytest.Config) -> Lab:
    """The daemon of the configured config, for fixtures of a wider scope."""
    return _lab(pytestconfig, None)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Lab:
    """The daemon of the configured config, or of the marker ``injector_lab``. It is shared by the tests that have the
    same config, also those of other workers, and ends with the last of them."""
    return _lab(request.config, request.node.get_closest_marker("injector_lab"))


def _scope(request: pytest.FixtureRequest, options: Options, of: Optional[Lab]) -> Scope:
    try:
        return Scope(request.node, options, of)
    except InjectorError as error:
        failure = error
    _give_up(request.config, failure)


@pytest.fixture
def injector(request: pytest.FixtureRequest) -> Iterator[TestInjector]:
    """A client for this test. All that it cut is healed at the end of the test, also after a failure or Ctrl-C; the
    partitions of others are left alone."""
    options = request.config.stash[_OPTIONS]
    wants_lab = {"lab", "session_lab"} & set(request.fixturenames) or request.node.get_closest_marker("injector_lab")
    of: Optional[Lab] = request.getfixturevalue("lab") if wants_lab or options.config is not None else None
    scope = _scope(request, options, of)
    request.node.stash[_SCOPE] = scope
    try:
        yield scope.injector
    finally:
        # The record of a test that passed is kept as well.
        scope.finish()


@pytest.fixture(autouse=True)
def _injector_for_marker(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("partition") is not None:
        request.getfixturevalue("injector")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """The partitions of markers begin after all fixtures, and end with the test's call."""
    marks = list(item.iter_markers("partition"))
    scope = item.stash.get(_SCOPE, None)
    if not marks:
        return (yield)
    if scope is None:
        # Another fixture has its name, and the test would run uncut.
        raise UsageError(
            "the marker `partition` needs the plugin's fixture `injector`, and the suite has one of its own with this name",
            remedy="rename the suite's fixture",
        )
    marked = Marked(scope.injector, marks)
    with marked:
        result = yield
    marked.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    scope = item.stash.get(_SCOPE, None)
    if scope is not None and report.failed:
        scope.report(report, call.excinfo.value if call.excinfo is not None else None)
    return report
