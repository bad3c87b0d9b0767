#!/usr/bin/env bash
# genai-prices 0.2.3: DeepSeek's peak price is applied on Sundays too.
#
# Its data gives deepseek-v4-flash a peak price at 01:00-04:00 and 06:00-10:00 UTC through a constraint of hours alone, without
# a weekday. DeepSeek's price page limits peak hours to working days (Beijing time), so a call at 02:00 UTC on a Sunday gets
# twice its list price. A weekend cost of DeepSeek by this package is an estimate.
#
# Seen: Sunday 2026-11-29 02:00 UTC: 0.30 1.20; Sunday 12:00 UTC: 0.15 0.60; Monday 02:00 UTC: 0.30 1.20 ($ per million tokens).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "genai-prices==0.2.3"
"$work/venv/bin/python" - <<'PY'
from datetime import UTC, datetime
from decimal import Decimal

from genai_prices import Usage, calc_price

MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)


def price(day: int, hour: int) -> tuple[Decimal, Decimal]:
    at = datetime(2026, 11, day, hour, tzinfo=UTC)
    found = calc_price(MILLION, "deepseek-v4-flash", provider_id="deepseek", genai_request_timestamp=at)
    return found.input_price, found.output_price


sunday_peak, sunday, monday_peak = price(29, 2), price(29, 12), price(30, 2)
print("Sunday 02:00", *sunday_peak, "| Sunday 12:00", *sunday, "| Monday 02:00", *monday_peak)
assert sunday_peak == monday_peak == (2 * sunday[0], 2 * sunday[1]), "the weekend is priced otherwise now"
PY
