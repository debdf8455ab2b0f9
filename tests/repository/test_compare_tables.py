"""`benchmarks/compare_tables.py` knows the key of every table."""

import importlib.util

from lesion.tables import TABLES
from lesion.tables.schemas import SCHEMAS
from lesion_testing import ROOT


def test_every_table_has_a_key_of_its_own_columns() -> None:
    path = ROOT / "benchmarks" / "compare_tables.py"
    spec = importlib.util.spec_from_file_location("compare_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tables = {name for name in TABLES if name in SCHEMAS}
    assert set(module.KEYS) >= tables
    for name in tables:
        assert {*module.KEYS[name]} <= {*SCHEMAS[name]}, name
