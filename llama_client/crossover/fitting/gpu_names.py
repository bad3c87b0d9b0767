"""Which row of the tables a GPU is, by the name that its driver prints."""

from __future__ import annotations

import re

from llama_client.crossover.tables import Tables

# What drivers put around a name without telling cards apart.
_NOISE = re.compile(r"\b(?:nvidia|amd|geforce|instinct|apple|tesla|oam)\b|\((?:r|tm)\)|[®™]", re.IGNORECASE)
# The whole of what is left must match: a laptop's `RTX 4090 Laptop GPU` has 16 GB and is another card.
_ROWS = (
    (r"l4", "l4"),
    (r"a10g", "a10g"),
    (r"l40s", "l40s"),
    (r"a100[ -]sxm4?[ -]40gb", "a100_sxm_40"),
    (r"a100[ -]sxm4?[ -]80gb", "a100_sxm_80"),
    (r"a100 80gb pcie", "a100_pcie_80"),
    (r"h100(?: sxm\d?)?(?: 80gb)?(?: hbm3)", "h100_sxm"),
    (r"h100 sxm\d?", "h100_sxm"),
    (r"h100 pcie", "h100_pcie"),
    (r"h100 nvl", "h100_nvl"),
    (r"h200(?: sxm\d?)?(?: 141gb)?(?: hbm3e)?", "h200_sxm"),
    (r"b200(?: sxm\d?)?", "b200_sxm"),
    (r"rtx pro 6000 blackwell server edition", "rtx_pro_6000_server"),
    (r"mi300x", "mi300x"),
    (r"rtx 3090", "rtx_3090"),
    (r"rtx 4090", "rtx_4090"),
    (r"rtx 5090", "rtx_5090"),
    (r"gb10", "gb10"),
    (r"(?:ryzen ai max\+? (?:pro )?395.*|radeon 8060s(?: graphics)?)", "ryzen_ai_max_395"),
)


def row_name(title: str, tables: Tables) -> str | None:
    """The name of a GPU's row; None: the tables have none, or it is not certain.

    Args:
        title: As in `NVIDIA H100 80GB HBM3` or `Apple M3 Max`.
        tables: With the user's own rows, which are found by their name or title.

    Examples:
        >>> row_name("NVIDIA GeForce RTX 4090", Tables.bundled())
        'rtx_4090'
        >>> row_name("NVIDIA GeForce RTX 4090 Laptop GPU", Tables.bundled()) is None
        True
    """
    plain = " ".join(_NOISE.sub(" ", title).split()).lower()
    for pattern, name in _ROWS:
        if re.fullmatch(pattern, plain):
            return next((gpu.name for gpu in tables.gpus if gpu.name == name), None)
    words = re.sub(r"[\s_-]+", "_", plain)
    for gpu in tables.gpus:
        if words in (gpu.name, re.sub(r"[\s_-]+", "_", gpu.title.lower())):
            return gpu.name
    return None
