"""Features of an ECG: delineation, measurements, and findings by published criteria."""

# Imported at once, not lazily: the functions share the names of their modules, and a lazy package would hand out
# whichever was touched first. Everything heavy (YAML, neurokit2, pandas) is imported where it is used.
from gem_lightning.features.delineate import delineate
from gem_lightning.features.export import features_row, parquet_schema, to_measurements
from gem_lightning.features.findings import findings
from gem_lightning.features.measure import measure
from gem_lightning.features.mimic import from_mimic_csv
from gem_lightning.features.schema import BeatTable, Delineation, EcgFeatures, Finding, LeadFeatures, Rhythm

__all__ = [
    "BeatTable",
    "Delineation",
    "EcgFeatures",
    "Finding",
    "LeadFeatures",
    "Rhythm",
    "delineate",
    "features_row",
    "findings",
    "from_mimic_csv",
    "measure",
    "parquet_schema",
    "to_measurements",
]
