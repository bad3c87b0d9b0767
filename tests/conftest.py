"""What every test stands on: no network but loopback, nobody's configuration, and the demo model, really pulled."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings

from llama_client.providers.gguf.pull import SHA256, pull
from llama_client.providers.gguf.store import DEMO_NAME, ModelStore
from llama_client.providers.services import SERVICES
from llama_client.testing.network import NetworkGuard, no_network
from tests.cli.forks import end_forks, parent, shared

# Two engines at once share the cores: threads that wait for each other by spinning would take them from the other one.
# OpenMP reads it when the engine is loaded.
os.environ["OMP_WAIT_POLICY"] = "passive"

# matplotlib looks for fonts once, and not once for each test's home.
os.environ["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir()) / "llama-client-tests-matplotlib")

# How long an example takes, and how long it takes to make, depends on what else this machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Those that take longest, the longest first: the workers then end at about the same time.
_LONG_FILES = (
    "bulk/test_engines.py", "documentation/test_blocks.py", "test_examples.py", "cli/test_chat.py",
    "crossover/test_plots.py", "providers/gguf/test_pull.py", "cassettes/test_command.py", "testing/test_memory.py",
    "wire/test_misbehaviour.py", "wire/test_long_answers.py", "costs/test_budgets.py",
    "cli/test_crossover_command.py", "testing/test_faults.py", "chaos/test_chaos.py", "property/test_decoders.py",
    "documentation/test_docstrings.py", "testing/test_conformance.py", "chaos/test_mixed.py",
    "documentation/test_site.py", "costs/test_ledger.py", "crossover/test_page.py", "cli/test_costs_command.py",
    "bulk/test_plans.py", "chaos/test_interrupts.py", "cli/test_doctor_command.py", "cli/test_bench_command.py",
    "privacy/test_nothing_leaves.py", "testing/test_conformance_planted.py", "costs/test_clocks.py",
    "wire/test_cases.py", "bulk/test_idle.py", "testing/test_fault_server.py", "wire/test_failures.py",
    "costs/test_plots.py", "cli/test_looks.py", "bulk/test_killed.py", "providers/gguf/test_answers.py",
    "bulk/test_batches.py", "providers/test_packages.py", "testing/test_script_errors.py",
    "wire/test_differential.py", "property/test_ledger.py", "providers/test_openai_server.py", "bulk/test_limits.py",
    "property/test_pieces.py", "cli/test_completion.py", "wire/test_dropped.py", "costs/test_lost_answers.py",
    "wire/test_handed_back.py", "providers/gguf/test_running.py", "cli/test_messages.py", "fuzz/test_fuzz.py",
    "testing/test_script_sdk.py", "wire/test_environment.py", "privacy/test_hosts.py",
    "providers/gguf/test_loading.py", "cli/test_fit_command.py", "wire/test_sent.py", "bulk/test_batch_kills.py",
    "cli/test_config_command.py", "bulk/test_interrupted.py", "test_client.py", "routing/test_failover.py",
    "providers/gguf/test_draft_model.py", "wire/test_tools.py", "cassettes/test_plugin.py", "cache/test_calls.py",
    "routing/test_hedging.py", "wire/test_answers.py", "wire/test_leaving.py", "crash/test_kill.py",
)  # fmt: skip
# How long a worker waits for the first one to compile all tests; then it compiles them itself.
_COMPILING_S = 60.0
# What pytest's `--durations` leaves out.
_SHOWN_S = 0.005
_HOMES: pytest.StashKey[tuple[str, Iterator[int]]] = pytest.StashKey()
# Garbage is looked for a tenth as often as by default; and whole at each file's beginning.
_GC_THRESHOLDS = 7_000, 20, 20
_FILE: pytest.StashKey[Path] = pytest.StashKey()
_KEYS = frozenset(variable for row in SERVICES.values() for variable in row.key_variables)
# Where the user's own store is, read before any test changes the environment.
_USER_STORE = ModelStore.of_user()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--over-httpx", action="store_true", help='run with [http] wire = "httpx"')
    parser.addoption("--long", action="store_true", help="run the tests marked `long` too")


def pytest_unconfigure() -> None:
    end_forks()


def pytest_configure(config: pytest.Config) -> None:
    shared.address = getattr(config, "workerinput", {}).get("forks")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tells a worker where it finds who forks, and that the first one has compiled the tests, where that is needed."""
    forking = parent()
    node.workerinput["forks"] = None if forking is None else forking.address
    folder = Path(__file__).parent
    if not sys.dont_write_bytecode and not any(folder.glob("*/__pycache__/*-pytest-*.pyc")):
        compiled = Path(tempfile.gettempdir()) / f"llama-client-tests-{node.workerinput['testrunuid']}"
        node.workerinput["compiled"] = str(compiled)
        node.config.add_cleanup(partial(compiled.unlink, missing_ok=True))


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collects without the garbage collector, which then passes over what was collected.

    Half a million objects stay until the end; each `gc.collect()` of a test would look at them for 0.2 s.
    """
    worker = getattr(session.config, "workerinput", {})
    compiled = Path(worker["compiled"]) if "compiled" in worker else None
    is_first = worker.get("workerid") == "gw0"
    if compiled is not None and not is_first:
        until = time.monotonic() + _COMPILING_S
        while not compiled.exists() and time.monotonic() < until:
            time.sleep(0.05)
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        gc.enable()
        if compiled is not None and is_first:
            compiled.touch()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if item.get_closest_marker("long") is not None]
    if left_out and not config.getoption("--long"):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker("long") is None]
    if hasattr(config, "workerinput"):
        # What takes long comes first.
        counts = Counter(item.path for item in items)
        turns = {Path(__file__).parent / name: turn for turn, name in enumerate(_LONG_FILES)}
        items.sort(key=lambda item: (turns.get(item.path, len(turns)), -counts[item.path]))


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Looks for garbage once a file; and sends two messages for a test that passed, and not six: each costs 0.2 ms.

    Left out are its beginning and end, which xdist shows nowhere, and what passed before and after it, but for what
    `--durations` would show.
    """
    if item.config.stash.get(_FILE, None) != item.path:
        # What stays until the end (modules, above all) is passed over from here on: a test that collects garbage would
        # look at all of it, for 0.2 s. What is garbage is found here, before.
        item.config.stash[_FILE] = item.path
        gc.collect()
        gc.freeze()
    if not hasattr(item.config, "workerinput"):
        return None
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed or report.duration >= _SHOWN_S:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


@pytest.fixture(autouse=True)
def only_loopback() -> Iterator[NetworkGuard]:
    """Only loopback can be reached from within the tests' process."""
    with no_network() as guard:
        yield guard


# One fixture, as each costs a test a tenth of a millisecond, and all tests have it.
@pytest.fixture(autouse=True)
def clean_home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty working folder, home and store, and none of the user's variables; returns the home."""
    stash = request.config.stash
    if _HOMES not in stash:
        factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        # `mktemp` reads the names of all that it has made, each time: 5 ms of 6,000.
        stash[_HOMES] = (str(factory.getbasetemp()), itertools.count())
    base, numbers = stash[_HOMES]
    home = Path(f"{base}/home{next(numbers)}")
    with pytest.MonkeyPatch.context() as monkeypatch:
        _set_up_home(home, monkeypatch)
        if request.config.getoption("--over-httpx"):
            _choose_wire(request, monkeypatch)
        yield home


def _choose_wire(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other wire, where the command line asks for it."""
    own = request.node.get_closest_marker("own_wire")
    if own is not None and all(request.node.callspec.params[name] in values for name, values in own.kwargs.items()):
        pytest.skip("tests the package's own wire")
    # For the processes that tests start.
    monkeypatch.setenv("LLAMA_CLIENT_HTTP__WIRE", "httpx")
    from llama_client.providers.http.client_pool import ClientPool

    monkeypatch.setattr(ClientPool, "__init__", partialmethod(ClientPool.__init__, over_httpx=True))


def _set_up_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = home / "work"
    work.mkdir(parents=True)
    for name in list(os.environ):
        ours = ("LLAMA_CLIENT_", "XDG_", "OLLAMA_", "HF_", "GROQ_", "TOGETHER_", "OPENAI_", "SSL_CERT_")
        if name.startswith(ours) or name in _KEYS or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    # Thousands of tests open a client; those that are about the ledger switch it on.
    monkeypatch.setenv("LLAMA_CLIENT_LEDGER__ENABLED", "false")
    # Nobody listens there: an Ollama that runs on this machine is none of the tests' business.
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("APPDATA", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(home / name))
    monkeypatch.setenv("LLAMA_CLIENT_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    monkeypatch.chdir(work)


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's file, in the user's own store as the command would put it; fetched where it is not there yet."""
    return pull(DEMO_NAME, _USER_STORE, progress=lambda *_: None).path


@pytest.fixture
def store(clean_home: Path) -> ModelStore:
    """The empty store of the test."""
    return ModelStore(clean_home / "cache" / "models")


@pytest.fixture
def demo_pulled(store: ModelStore, demo_model: Path) -> ModelStore:
    """The store of the test, with the demo model in it, as `pull` of its file would record it."""
    # Its bytes were checked once, by `demo_model`.
    store.add(DEMO_NAME, demo_model, sha256=SHA256, source=str(demo_model))
    return store


@pytest.fixture
def config(demo_model: Path) -> dict[str, Any]:
    """A configuration whose default is the demo model with two slots, asked once.

    One thread: those that wait for each other by turning in circles are slow where other processes want the cores too.
    """
    laptop = {"kind": "gguf", "model_path": str(demo_model), "n_ctx": 2048, "n_parallel": 2, "n_threads": 1}
    return {"default_model": "laptop/default", "providers": {"laptop": laptop}, "routing": {"retries": 0}}


@pytest.fixture(scope="session")
def warm_engine(demo_model: Path) -> Iterator[None]:
    """Keeps the engine of `config` loaded, so that each test's own client finds it."""
    from llama_client import LlamaClient

    laptop = {"model_path": str(demo_model), "n_ctx": 2048, "n_parallel": 2, "n_threads": 1}
    configuration = {"providers": {"gguf": laptop}, "default_model": "gguf/default", "ledger": {"enabled": False}}
    with LlamaClient(configuration) as client:
        client.ask("Say hello.", max_tokens=1)
        yield
