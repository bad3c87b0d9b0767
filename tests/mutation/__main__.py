"""Mutation testing by mutmut, an area at a time: `python -m tests.mutation AREA [--sample N --seed S --only PATTERN]`.

Each mutant is tried by those of the fast tests named here that reach its function, in a copy of the working tree. Needs
`pip install mutmut` and a system that forks. Code outside functions, decorated functions and f-strings are not mutated.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Area(NamedTuple):
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    # Of these tests, those that take too long for each mutant, depend on the machine's speed, or start programs: mutmut
    # finds its configuration in the working folder only.
    without: str = ""


_NO_SHRINKING = """
from hypothesis import Phase

settings.register_profile("mutation", settings.default, phases=[Phase.explicit, Phase.generate], database=None)
settings.load_profile("mutation")
"""
_PRICING = ("costs/test_pricing.py", "costs/test_money.py")
_SLOW = "imported_only_when_needed or does_not_wait_for_the_package or shared_among_those_who"
AREAS = {
    "plan": Area(
        ("routing/plan.py",), ("routing/test_plan.py", "routing/test_plan_resources.py", "property/test_plans.py")
    ),
    "budgets": Area(
        ("costs/budgets.py", "costs/budget_store.py", "costs/reservations.py"),
        ("costs/test_budgets.py", "costs/test_clocks.py"),
        without="postgresql or async or 500 or process or processes or event_loop or dropped_clients",
    ),
    "bills": Area(("costs/bills.py",), (*_PRICING, "costs/test_bills.py"), without=_SLOW),
    "decoders": Area(
        (
            "providers/wire/decoders.py",
            "providers/wire/openai_response.py",
            "providers/wire/ollama_response.py",
            "providers/wire/tool_calls.py",
            "providers/wire/tool_calls_in_text.py",
            "providers/wire/thinking.py",
            "providers/wire/usage.py",
            "providers/wire/sources.py",
            "providers/wire/kept_fields.py",
        ),
        # In process: a loopback server would take several times as long.
        ("wire/test_decoding.py", "property/test_answers_in_parts.py", "property/test_decoders.py"),
        without="endless or any_bytes or any_json or any_body or any_refusal or does_not_hold_up",
    ),
    "prices": Area(
        ("costs/prices.py", "catalog/prices.py"),
        (*_PRICING, "costs/test_price_sources.py", "catalog/test_prices.py"),
        without=_SLOW,
    ),
    "privacy": Area(
        ("local_only.py",),
        (
            "privacy/test_guard.py",
            "privacy/test_connections.py",
            "privacy/test_switching_on.py",
            "privacy/test_rules.py",
        ),
        without="command or async or pulling",
    ),
    "crossings": Area(("crossover/crossings.py",), ("crossover/test_crossings.py", "crossover/test_evaluation.py")),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="mutants whose name matches, such as '*x__wins*'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder, "llama-client")
        _copy(copy, AREAS[options.area])
        # mutmut reads its configuration in the working folder.
        os.chdir(copy)
        modules = AREAS[options.area].modules
        names = fnmatch.filter(_mutants(modules), options.only)
        tried = names
        if options.sample is not None and options.sample < len(names):
            tried = random.Random(options.seed).sample(names, options.sample)
        _run(copy, tried)
        _report(options.area, modules, names, tried)


def _copy(copy: Path, area: Area) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    # That a mutant is killed is enough: to find the smallest example would take hypothesis long.
    with (copy / "tests" / "conftest.py").open("a") as file:
        file.write(_NO_SHRINKING)
    quick = ["-n0", "-p", "no:cacheprovider", *(["-k", f"not ({area.without})"] if area.without else [])]
    settings = {
        "source_paths": ["llama_client"],
        "only_mutate": [f"llama_client/{module}" for module in area.modules],
        "pytest_add_cli_args_test_selection": [f"tests/{test}" for test in area.tests],
        "pytest_add_cli_args": quick,
        "also_copy": ["README.md"],
        "track_dependencies": False,
    }
    # A list or a boolean of TOML is written as Python's, but for its case.
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else value!r}" for key, value in settings.items()]
    with (copy / "pyproject.toml").open("a") as file:
        file.write("\n".join(["", "[tool.mutmut]", *lines, ""]))


def _mutants(modules: tuple[str, ...]) -> list[str]:
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    found: list[str] = []
    for path in (Path("llama_client", module) for module in modules):
        mutated = mutate_file_contents(str(path), path.read_text())
        found += [get_mutant_name(path, name) for name in mutated.mutant_names]
    return found


def _run(copy: Path, names: list[str]) -> None:
    # The programs that tests start import the mutants too. Python remembers a folder that is missing when it starts.
    (copy / "mutants").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(copy / "mutants")}
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *names]
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)


def _report(area: str, modules: tuple[str, ...], names: list[str], tried: list[str]) -> None:
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    wanted, counts = set(tried), Counter[str]()
    for path in (Path("llama_client", module) for module in modules):
        data = SourceFileMutationData(path=path)
        data.load()
        for name in wanted & data.exit_code_by_key.keys():
            status = status_by_exit_code[data.exit_code_by_key[name]]
            counts[status] += 1
            if status not in ("killed", "timeout"):
                print(f"# {name}: {status}\n{get_diff_for_mutant(name, path=path)}")
    total = counts.total()
    left = total - counts["killed"] - counts["timeout"]
    listed = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    print(f"{area}: {total} of {len(names)} mutants tried: {listed}; {left / total:.1%} not killed")


if __name__ == "__main__":
    main()
