"""How many of a study's own responses would be other tokens if their text were tokenised anew.

python benchmarks/roundtrip.py results/default/models/smollm2-135m-instruct \
        results/default/pairs/smollm2-135m-instruct
"""

import argparse
from pathlib import Path

import polars as pl

from lesion.io.formats import read_parquet
from lesion.models.load import open_chat
from lesion.models.text import encode_pair
from lesion.pairs.tables import PAIRS, encode_row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="a prepared checkpoint folder")
    parser.add_argument("pairs", type=Path, help="its folder of tables of pairs")
    arguments = parser.parse_args()
    chat = open_chat(arguments.model)
    tables = [read_parquet(path, PAIRS) for path in sorted(arguments.pairs.glob("[!.]*.parquet"))]
    written = pl.concat(tables).filter(pl.col("token_ids").is_not_null())
    differing = 0
    for row in written.iter_rows(named=True):
        fields = (row["prompt"], row["prefill"], row["response"], row["finished"])
        differing += encode_pair(chat, *fields) != encode_row(chat, row)
    print(f"{differing} of {written.height} responses would be other tokens")


if __name__ == "__main__":
    main()
