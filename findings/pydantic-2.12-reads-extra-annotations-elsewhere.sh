#!/usr/bin/env bash
# pydantic 2.12.5: a base class's type of further fields is looked up in the module of the derived class.
#
# A base class says of what type further fields are (`__pydantic_extra__: dict[str, Price]`), in a module whose annotations are
# texts (`from __future__ import annotations`). A class derived from it in another module, where `Price` is no name, is not
# built: 2.12.5 fails with NameError, at the first use where `defer_build` is set. 2.13.0 looks the name up where it was written.
#
# Seen: pydantic 2.12.5: NameError: name 'Price' is not defined; pydantic 2.13.0: {'a': 1}.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/base.py" <<'PY'
from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Price = Annotated[int, Field(ge=0)]


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", defer_build=True)
    __pydantic_extra__: dict[str, Price]
PY
cat >"$work/derived.py" <<'PY'
import base
import pydantic


class Row(base.Open):
    name: str


try:
    print(f"pydantic {pydantic.VERSION}: {Row(name='x', a=1).__pydantic_extra__}")
except NameError as error:
    print(f"pydantic {pydantic.VERSION}: NameError: {error}")
PY
for version in 2.12.5 2.13.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet "pydantic==$version"
    (cd "$work" && "$version/bin/python" derived.py) | tee -a "$work/said"
done
grep -q "^pydantic 2.12.5: NameError: name 'Price' is not defined$" "$work/said"
grep -q "^pydantic 2.13.0: {'a': 1}$" "$work/said"
