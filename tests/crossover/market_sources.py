"""Compares the market table with newer price maps: `python -m tests.crossover.market_sources --help`."""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from llama_client.crossover.assumptions import STALE_AFTER_DAYS

Row = dict[str, str]
PRICE_COLUMNS = (
    *("input", "output", "cached", "cache_write", "batch_input", "batch_output"),
    *("flex_input", "flex_output", "off_peak_input", "off_peak_output"),
)
COLUMNS = (
    *("model", "seller", "id", "precision", "region", "context_tokens", "max_output_tokens"),
    *PRICE_COLUMNS,
    *("off_peak_utc", "first_seen", "last_confirmed", "retires", "source", "unverified"),
)
TABLE = Path(str(resources.files("llama_client.crossover.data").joinpath("market.csv")))
# One map rounds to a tenth of a cent, another converts from a currency of the seller's own.
_ROUNDING = Decimal("0.015")

# The key of a price map -> the name in the table. Keys that are neither here nor below are printed, and left out.
SELLERS = {
    **dict.fromkeys(("bedrock", "bedrock_converse", "bedrock_mantle", "aws", "amazon-bedrock"), "AWS Bedrock"),
    **dict.fromkeys(("vertex_ai-llama_models", "vertex_ai-openai_models", "google-vertex"), "Google Vertex AI"),
    **dict.fromkeys(("azure_ai", "azure"), "Azure AI Foundry"),
    **dict.fromkeys(("together_ai", "together", "togetherai"), "Together"),
    **dict.fromkeys(("fireworks_ai", "fireworks", "fireworks-ai"), "Fireworks"),
    **dict.fromkeys(("cloudflare", "cloudflare-workers-ai"), "Cloudflare"),
    **dict.fromkeys(("novita", "novita-ai"), "Novita"),
    **dict.fromkeys(("gmi", "gmicloud"), "GMI Cloud"),
    **dict.fromkeys(("gradient_ai", "digitalocean"), "DigitalOcean"),
    **dict.fromkeys(("snowflake", "snowflake-cortex"), "Snowflake"),
    "aiand": "ai&",
    "baseten": "Baseten",
    "cerebras": "Cerebras",
    "crusoe": "Crusoe",
    "darkbloom": "Darkbloom",
    "databricks": "Databricks",
    "deepinfra": "DeepInfra",
    "doubleword": "Doubleword",
    "groq": "Groq",
    "inferenceapis": "Inference APIs",
    "lambda_ai": "Lambda",
    "modal": "Modal",
    "nebius": "Nebius",
    "nscale": "Nscale",
    "oci": "Oracle Cloud",
    "ovhcloud": "OVHcloud",
    "replicate": "Replicate",
    "sail": "Sail Research",
    "sambanova": "SambaNova",
    "scaleway": "Scaleway",
    "streamlake": "StreamLake",
    "tensormesh": "Tensormesh",
    "wandb": "Weights & Biases",
    "watsonx": "IBM watsonx",
    "zerogpu": "ZeroGPU",
}
_GATEWAY = "passes calls on to other sellers"
_STOPPED = "sells no open model by the token any more"
# Keys that sell nothing of their own, or nothing any more.
NO_SELLERS = {
    **dict.fromkeys(
        ("vercel_ai_gateway", "vercel", "openrouter", "clf_ai_gateway", "aihubmix", "opencode_go"), _GATEWAY
    ),
    # Portkey-AI/gateway#1600, howardpen9/awesome-ai-api-proxy#52, theopenco/llmgateway#1404: gateways, they say.
    **dict.fromkeys(("kyma", "quicksilverpro", "llamagate"), _GATEWAY),
    **dict.fromkeys(("anyscale", "perplexity", "avian", "meta_llama", "sagemaker"), _STOPPED),
    # huggingface/huggingface_hub#4447 of 2026-06-29 takes it out as dead; one price for each size from 3B to 405B.
    "hyperbolic": _STOPPED,
    # chatmcp/mcpso#4097: one API for 180 models, closed ones of other makers too.
    "empiriolabs": _GATEWAY,
    "openai": "does not sell its open models",
    **dict.fromkeys(("lemonade", "ollama"), "runs on the user's own machine"),
}
# huggingface_groq and others: the prices of its router for calls to other sellers.
_GATEWAYS_OF = "huggingface"
# LiteLLM's figures of this seller are lower than those of two other maps, perhaps as they are in euros.
_DOUBTED_IN_LITELLM = frozenset({"ovhcloud"})
# Offers of a price map that are none: seller, pattern of the id, why.
PASSED_OVER = (
    # The map has a price by size for each model of its library; those that are sold by the token name its own list.
    ("Fireworks", r"code-llama|llama-v2|llama-v3-|llama-v3p[12]|llama4-", "needs a dedicated machine"),
    (
        "Together",
        r"Llama-2-|CodeLlama|chat-hf$|Lite$|Llama-3-8B-Instruct-Turbo|Llama-3\.1-405B-Instruct$|3\.1-8B$|Meta-Llama-3\.3",
        "ended, or needs a dedicated machine",
    ),
    ("Groq", r"preview$|llama2-70b-4096|specdec", "a preview, not in the catalogue"),
    ("Replicate", r".", "billed by the second, or a price whose page is not named"),
    ("Google Vertex AI", r"maverick-17b-16e|scout-17b-128e|llama3-", "another name of a row, with a slip"),
    ("Google Vertex AI", r"llama-3\.[12]-", "a preview, or a price that the seller's page does not name"),
    (
        "Cloudflare",
        r"thebloke|-lora$|llama-3\.1-8b-instruct-fp8-fast",
        "needs weights of the user's own, or is in one list alone",
    ),
    ("Cerebras", r"^llama-3\.1-(8b|70b)$", "an older name, or in this map alone"),
    ("AWS Bedrock", r"us-gov-east-1/meta", "an output price that looks like another model's"),
    # The map names the page of its prices for others of this seller: probably these are not on it.
    (
        "DeepInfra",
        r"Llama-3\.2-|Meta-Llama-3-8B|Llama-3\.1-(8B|70B)-Instruct$|Llama-3\.3-70B-Instruct$",
        "carried along without a page",
    ),
    ("Novita", r"llama-3\.1-70b|llama-3\.2-11b|-bf16$", "in genai-prices alone"),
    ("Nscale", r".", "not confirmed since 2025, and a price of either kind of token read as one of both"),
    ("Nebius", r"Llama-3\.1-70B", "in this map alone"),
    ("OVHcloud", r"3_1-70B", "in this map alone; models.dev lost it on 2026-01-21"),
    ("IBM watsonx", r"llama-3-2-", "carried along without a page since 2025"),
    ("Snowflake", r"llama2-|^llama3-|llama3\.2-", "no price is known"),
)


@dataclass(frozen=True)
class Found:
    """An offer of a price map."""

    model: str
    seller: str
    id: str
    prices: Row
    source: str
    precision: str = ""
    region: str = ""
    context_tokens: str = ""
    max_output_tokens: str = ""
    retires: str = ""
    # The map names the seller's own page for it: it was compared with that, not only carried along.
    is_sourced: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        return self.seller, _last(self.id), self.region


@dataclass
class Reading:
    """What a price map has: offers, and what was left out."""

    source: str
    offers: list[Found] = field(default_factory=list)
    unknown_sellers: dict[str, int] = field(default_factory=dict)


# --- names ------------------------------------------------------------------------------------------------------------

_WORDS = (
    r"(?:-(?:instruct|chat|turbo|ultra|lite|fast|basic|hf|maas|dynamic|versatile|instant|fp8|fp16|bf16|int8|awq|vision|"
    r"17b|16e|128e|30b|816b|a42b|v\d+(?::\d+)?|\d+:\d+))*"
)
_NAMES = (
    (re.compile(rf"gpt-oss-(20|120)b{_WORDS}"), "gpt-oss-{}b"),
    (re.compile(rf"qwen-?3[.-]8-27b{_WORDS}"), "qwen3.8-27b"),
    (re.compile(rf"muse-glimmer{_WORDS}"), "muse-glimmer-30b"),
    (re.compile(rf"muse-spark-open{_WORDS}"), "muse-spark-open"),
    (re.compile(rf"code-?llama-(7|13|34|70)b{_WORDS}"), "code-llama-{}b"),
    (re.compile(rf"llama-?4-(scout|maverick){_WORDS}"), "llama-4-{}"),
    (re.compile(rf"llama-?3[.-]2-(11|90)b{_WORDS}"), "llama-3.2-{}b-vision"),
    (re.compile(rf"llama-?3[.-]([123])-(\d+)b{_WORDS}"), "llama-3.{}-{}b"),
    (re.compile(rf"llama-?([23])-(\d+)b{_WORDS}"), "llama-{}-{}b"),
)
_PRECISIONS = {"fp8": "fp8", "fp16": "bf16", "bf16": "bf16", "int8": "int8", "awq": "int4"}


def model_of(model_id: str) -> str | None:
    """The table's name of the model that a seller's id means; None: none of ours."""
    name = re.sub(r"(?<=\d)p(?=\d)", ".", _last(model_id).replace("_", "."))
    name = re.sub(r"^(?:us-gov|us|eu|apac|global)\.", "", name)
    name = re.sub(r"^(?:meta|openai|qwen)\.|^(?:databricks|snowflake|fw|meta)-", "", name)
    name = re.sub(r"^meta-|(?<=llama-)v(?=\d)", "", name)
    for pattern, text in _NAMES:
        if match := pattern.fullmatch(name):
            return text.format(*match.groups())
    return None


def precision_of(model_id: str) -> str:
    words = re.split(r"[-_/]", model_id.lower())
    return next((name for word, name in _PRECISIONS.items() if word in words), "")


def _last(model_id: str) -> str:
    """What remains of an id under all its spellings."""
    return re.sub(r"(?:-v?\d+:\d+|-maas)$", "", model_id.rpartition("/")[2].lower())


_REGION = re.compile(r"^(?:bedrock|bedrock_mantle)/(?P<region>[a-z]+(?:-[a-z]+)+-\d)/")
_PROFILE = re.compile(r"^(?P<region>us-gov|us|eu|apac)\.")


# --- price maps -------------------------------------------------------------------------------------------------------

_OF_LITELLM = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "batch_input": "input_cost_per_token_batches",
    "batch_output": "output_cost_per_token_batches",
    "flex_input": "input_cost_per_token_flex",
    "flex_output": "output_cost_per_token_flex",
}
_OF_GENAI = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}
_OF_MODELS_DEV = {"input": "input", "output": "output", "cached": "cache_read", "cache_write": "cache_write"}


def of_litellm(document: Mapping[str, Any], source: str) -> Reading:
    """LiteLLM's `model_prices_and_context_window.json`: US dollars a token."""
    reading = Reading(source)
    for name, row in document.items():
        key = str(row.get("litellm_provider", ""))
        if key in _DOUBTED_IN_LITELLM or row.get("mode", "chat") not in ("chat", "completion", "responses"):
            continue
        prices = {
            column: _usd(row[theirs], 10**6) for column, theirs in _OF_LITELLM.items() if row.get(theirs) is not None
        }
        prices |= _off_peak(row.get("off_peak_pricing"))
        region = next((match["region"] for match in (_REGION.match(name), _PROFILE.match(name)) if match), "")
        bare = _REGION.sub("", name).removeprefix(f"{key}/")
        bare = re.sub(r"^(?:vertex_ai|bedrock_mantle|bedrock)/", "", bare)
        # What is passed over may depend on the region, which is not part of the id.
        if any(SELLERS.get(key) == seller and re.search(pattern, name) for seller, pattern, _ in PASSED_OVER):
            continue
        page = str(row.get("source", ""))
        _add(
            reading,
            key,
            bare,
            prices,
            region=region,
            context_tokens=_text(row.get("max_input_tokens")),
            max_output_tokens=_text(row.get("max_output_tokens")),
            retires=str(row.get("deprecation_date", "")),
            source=f"{source}: {page}" if page else source,
            is_sourced=bool(page),
        )
    return reading


def of_genai_prices(document: Sequence[Mapping[str, Any]], source: str, day: date) -> Reading:
    """The `data.json` of genai-prices: US dollars a million tokens, by the day from which they hold."""
    reading = Reading(source)
    for provider in document:
        for row in provider["models"]:
            theirs = row["prices"]
            if isinstance(theirs, list):
                held = [each for each in theirs if _start(each) <= day]
                theirs = max(held, key=_start)["prices"] if held else {}
            prices = {
                column: _usd(_base(theirs[name])) for column, name in _OF_GENAI.items() if theirs.get(name) is not None
            }
            if not row.get("deprecated"):
                context = _text(row.get("context_window"))
                _add(reading, str(provider["id"]), str(row["id"]), prices, context_tokens=context, source=source)
    return reading


def of_models_dev(document: Mapping[str, Any], source: str) -> Reading:
    """The `api.json` of models.dev: US dollars a million tokens."""
    reading = Reading(source)
    for key, provider in document.items():
        for name, row in provider["models"].items():
            cost, limit = row.get("cost") or {}, row.get("limit") or {}
            prices = {
                column: _usd(cost[theirs]) for column, theirs in _OF_MODELS_DEV.items() if cost.get(theirs) is not None
            }
            if row.get("status") != "deprecated":
                context, output = _text(limit.get("context")), _text(limit.get("output"))
                _add(reading, key, name, prices, context_tokens=context, max_output_tokens=output, source=source)
    return reading


def _add(reading: Reading, key: str, model_id: str, prices: Row, **facts: Any) -> None:
    model = model_of(model_id)
    if model is None or not {"input", "output"} <= set(prices):
        return
    if key in NO_SELLERS or key.partition("_")[0] == _GATEWAYS_OF:
        return
    # A free row is a preview, or an unknown price.
    if not any(Decimal(prices[name]) for name in ("input", "output")):
        return
    seller = SELLERS.get(key)
    if seller is None:
        reading.unknown_sellers[key] = reading.unknown_sellers.get(key, 0) + 1
        return
    if any(seller == theirs and re.search(pattern, model_id) for theirs, pattern, _ in PASSED_OVER):
        return
    reading.offers.append(Found(model, seller, model_id, _telling(prices), precision=precision_of(model_id), **facts))


def _telling(prices: Row) -> Row:
    """The prices without those of caching that are only the usual one again."""
    usual = Decimal(prices["input"])
    kept = dict(prices)
    if "cached" in kept and Decimal(kept["cached"]) >= usual * (1 - _ROUNDING):
        del kept["cached"]
    if "cache_write" in kept and Decimal(kept["cache_write"]) <= usual * (1 + _ROUNDING):
        del kept["cache_write"]
    return kept


def merged(offers: Iterable[Found]) -> list[Found]:
    """One offer for several names or regions of a seller at the same prices: of no region, else the shortest name."""
    groups: dict[tuple[str, ...], list[Found]] = {}
    for each in offers:
        groups.setdefault((each.seller, each.model, each.prices["input"], each.prices["output"]), []).append(each)
    found = []
    for group in groups.values():
        best = min(group, key=lambda each: (bool(each.region), len(each.region), len(each.id), each.id))
        prices = dict(best.prices)
        for each in group:
            prices = each.prices | prices
        found.append(replace(best, prices=prices))
    return found


def _usd(value: object, times: int = 1) -> str:
    return f"{(Decimal(str(value)) * times).normalize():f}"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _base(value: Any) -> Any:
    """Of a price by the length of the prompt, that of short ones."""
    return value["base"] if isinstance(value, Mapping) else value


def _start(each: Mapping[str, Any]) -> date:
    text = (each.get("constraint") or {}).get("start_date")
    return date.fromisoformat(text) if text else date.min


def _off_peak(rule: Mapping[str, Any] | None) -> Row:
    if not rule:
        return {}
    windows: list[str] = []
    for window in rule.get("windows", ()):
        hours = window["hours_utc"]
        days = "".join(str(day) for day in window.get("weekdays", ()))
        windows += [f"{days}@{each}" if days else each for each in ([hours] if isinstance(hours, str) else hours)]
    if not windows:
        return {}
    prices = {f"off_peak_{kind}": _usd(rule[f"{kind}_cost_per_token"], 10**6) for kind in ("input", "output")}
    return prices | {"off_peak_utc": " ".join(windows)}


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass
class Comparison:
    """A table beside price maps."""

    new: list[Row] = field(default_factory=list)
    changed: list[tuple[Row, Row]] = field(default_factory=list)  # before and after
    confirmed: list[tuple[Row, Row]] = field(default_factory=list)
    # Another of the given maps has the table's price, or a later day does.
    disputed: list[tuple[Row, Found]] = field(default_factory=list)
    gone: list[Row] = field(default_factory=list)  # in the table from a given map, which has them no more
    unknown_sellers: dict[str, int] = field(default_factory=dict)

    def table(self, rows: Iterable[Row]) -> list[Row]:
        """The rows with all of that."""
        later = {_key(before): after for before, after in (*self.confirmed, *self.changed)}
        return sorted([*(later.get(_key(row), row) for row in rows), *self.new], key=_order)


def compare(rows: Sequence[Row], readings: Iterable[Reading], day: date) -> Comparison:
    """What price maps of a day have that the table has not, or otherwise."""
    result = Comparison()
    offers: dict[tuple[str, str, str], list[Found]] = {}
    for reading in readings:
        for key, count in reading.unknown_sellers.items():
            result.unknown_sellers[key] = result.unknown_sellers.get(key, 0) + count
        for each in merged(reading.offers):
            offers.setdefault(each.key, []).append(each)
    known = {_key(row): row for row in rows}
    kinds = {_kind(each.source) for found in offers.values() for each in found}
    for place, found in offers.items():
        row = known.get(place)
        if row is None:
            result.new.append(_new(found[0], day))
            continue
        same = [each for each in found if _agrees(row, each)]
        others = [each for each in found if each not in same]
        if same:
            named = any(each.is_sourced for each in same) or len(same) > 1
            last = max(row["last_confirmed"], day.isoformat() if named else "")
            after = _filled(row, same) | {"last_confirmed": last}
            if after != row:
                result.confirmed.append((row, after))
            result.disputed += [(row, each) for each in others]
        elif day.isoformat() <= row["last_confirmed"]:
            # An older map does not know better.
            result.disputed += [(row, each) for each in others]
        else:
            result.changed.append((row, _changed(row, found[0], day)))
    result.gone = [
        row for key, row in known.items() if key not in offers and _kind(row["source"]) in kinds and not row["retires"]
    ]
    return result


def _key(row: Row) -> tuple[str, str, str]:
    return row["seller"], _last(row["id"]), row["region"]


def _order(row: Row) -> tuple[object, ...]:
    return row["model"], Decimal(row["input"]) + Decimal(row["output"]), row["seller"], row["id"]


def _kind(source: str) -> str:
    return source.partition(" ")[0]


def _agrees(row: Row, found: Found) -> bool:
    """The same two prices, but for the rounding of a map."""
    pairs = [(Decimal(row[name]), Decimal(found.prices[name])) for name in ("input", "output")]
    return all(abs(ours - theirs) <= ours * _ROUNDING for ours, theirs in pairs)


def _filled(row: Row, found: Iterable[Found]) -> Row:
    """The row with what it lacks: prices beside the two, limits, the day of its end."""
    filled = dict(row)
    for each in found:
        more = each.prices | {name: getattr(each, name) for name in ("context_tokens", "max_output_tokens", "retires")}
        filled |= {name: value for name, value in more.items() if value and not filled[name]}
    return filled


def _new(found: Found, day: date) -> Row:
    empty = dict.fromkeys(COLUMNS, "")
    facts = {name: getattr(found, name) for name in COLUMNS if hasattr(found, name)}
    days = {"first_seen": day.isoformat(), "last_confirmed": day.isoformat()}
    doubt = {} if found.is_sourced else {"unverified": "the price map names no page of the seller"}
    return empty | facts | found.prices | days | doubt


def _changed(row: Row, found: Found, day: date) -> Row:
    kept = {name: row[name] for name in ("precision", "region") if row[name]}
    kept |= {"retires": row["retires"]} if row["retires"] and not found.retires else {}
    return _new(found, day) | kept


def stale(rows: Iterable[Row], day: date) -> list[Row]:
    """Rows that are still sold, as far as is known, and were not confirmed within 60 days."""
    return [
        row
        for row in rows
        if (day - date.fromisoformat(row["last_confirmed"])).days > STALE_AFTER_DAYS
        and (not row["retires"] or date.fromisoformat(row["retires"]) > day)
    ]


# --- command ----------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def write_table(path: Path, rows: Iterable[Row]) -> None:
    head = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("#")]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(head)
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_map(place: str) -> Any:
    """A JSON document of a file or an address; numbers stay decimal."""
    if place.startswith("https://"):
        with urlopen(place, timeout=60) as response:
            text = response.read().decode()
    else:
        text = Path(place).read_text(encoding="utf-8")
    return json.loads(text, parse_float=Decimal)


def lines_of(found: Comparison) -> Iterator[str]:
    for row in found.new:
        yield f"new      {_shown(row)}"
    for before, after in found.changed:
        yield f"changed  {_shown(before)} -> {after['input']}/{after['output']}"
    for row, other in found.disputed:
        yield f"disputed {_shown(row)}; {other.source}: {other.prices['input']}/{other.prices['output']}"
    for row in found.gone:
        yield f"gone     {_shown(row)}"
    for key, count in sorted(found.unknown_sellers.items()):
        yield f"unknown seller {key}: {count} offers; add it to SELLERS or NO_SELLERS"
    counts = (len(each) for each in (found.new, found.changed, found.confirmed, found.disputed, found.gone))
    yield "{} new, {} changed, {} confirmed, {} disputed, {} gone".format(*counts)


def _shown(row: Row) -> str:
    return f"{row['model']} {row['seller']} {row['id']} {row['input']}/{row['output']}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Compares market.csv with price maps: JSON files, or https addresses.")
    two: dict[str, Any] = {"nargs": 2, "metavar": ("MAP", "VERSION")}
    parser.add_argument("--litellm", **two, help="LiteLLM's model_prices_and_context_window.json, and its version")
    parser.add_argument("--genai-prices", **two, help="genai-prices' data.json")
    parser.add_argument("--models-dev", **two, help="models.dev's api.json, and the day or commit of it")
    parser.add_argument("--day", type=date.fromisoformat, default=datetime.now(UTC).date(), help="of the maps")
    parser.add_argument("--table", type=Path, default=TABLE, help="the table; default: the package's")
    parser.add_argument("--write", action="store_true", help="write new, changed and confirmed rows; gone ones stay")
    parser.add_argument("--stale", action="store_true", help="list rows that were not confirmed within 60 days")
    given = parser.parse_args(arguments)
    rows = read_table(given.table)
    readings = []
    if given.litellm:
        place, version = given.litellm
        readings.append(of_litellm(read_map(place), f"litellm {version}"))
    if given.genai_prices:
        place, version = given.genai_prices
        readings.append(of_genai_prices(read_map(place), f"genai-prices {version}", given.day))
    if given.models_dev:
        place, version = given.models_dev
        readings.append(of_models_dev(read_map(place), f"models.dev {version}"))
    if readings:
        found = compare(rows, readings, given.day)
        print("\n".join(lines_of(found)))
        if given.write:
            write_table(given.table, found.table(rows))
    if given.stale:
        for row in stale(rows, given.day):
            print(f"stale    {_shown(row)}, last confirmed {row['last_confirmed']}")


if __name__ == "__main__":
    main()
