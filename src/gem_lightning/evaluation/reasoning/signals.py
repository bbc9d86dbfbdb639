"""Signals of chains: where a data set keeps each record, and one message about those that are missing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gem_lightning.composition.chains.chain import Chain
from gem_lightning.ecg.record import EcgRecord
from gem_lightning.errors import DataError
from gem_lightning.samples.io import known_paths
from gem_lightning.samples.sample import RecordRef
from gem_lightning.sources.public import MimicIvEcg, PtbXl
from gem_lightning.sources.tables import age_or_none, normalise_sex


def _ptbxl(chain: Chain) -> str:
    number = int(chain.record)
    return f"records500/{number // 1000 * 1000:05d}/{number:05d}_hr"


def _mimic(chain: Chain) -> str:
    if "subject_id" not in chain.facts:
        raise DataError(f"chain {chain.id}: expected subject_id in the metadata of a MIMIC-IV-ECG record, got none")
    subject = str(chain.facts["subject_id"])
    return f"files/p{subject[:4]}/p{subject}/s{chain.record}/{chain.record}"


#: Data set of the published chains → path of a record below its root, and its download address.
PUBLISHED = {"ptbxl": (_ptbxl, PtbXl.home), "mimic_iv_ecg": (_mimic, MimicIvEcg.home)}


@dataclass(frozen=True)
class Signals:
    """Finds and reads the records of chains.

    Args:
        file: File of the chains; ``paths.json`` next to it maps the leading folders of ``ecg`` references.
        root: Folder of the data set, where all chains are of one.
        folders: Data set (``ptbxl``, ``mimic_iv_ecg``) or leading folder of ``ecg`` references → folder here.
    """

    file: str
    root: str | None = None
    folders: Mapping[str, str] | None = None

    def reference(self, chain: Chain) -> RecordRef | None:
        """Return the location of a chain's record; None where the folder of its data set is not known."""
        folders = dict(self.folders or {})
        if "ecg" in chain.facts:  # chains of this library name their record
            paths = known_paths(self.file) if Path(self.file).is_file() else {}
            default = {"": self.root} if self.root else {}
            return RecordRef.parse(str(chain.facts["ecg"]), chain.facts.get("ecg_format")).mapped(
                paths | default | folders
            )
        if chain.source not in PUBLISHED:
            return None
        root = folders.get(chain.source, self.root)
        if root is None:
            return None
        return RecordRef(os.path.join(root, PUBLISHED[chain.source][0](chain)))

    def missing(self, chains: list[Chain]) -> dict[str, list[str]]:
        """Return the ids of chains without a signal, by data set."""
        found: dict[str, list[str]] = {}
        for chain in chains:
            ref = self.reference(chain)
            if ref is None or not ref.exists:
                found.setdefault(chain.source, []).append(chain.id)
        return found

    def message(self, chains: list[Chain], missing: Mapping[str, list[str]]) -> str:
        """Describe what is missing: which data set, how many records, where to get them, which option names them."""
        every = Counter(chain.source for chain in chains)
        parts, first = [], {chain.id: chain for chain in reversed(chains)}
        for source, ids in missing.items():
            ref = self.reference(first[ids[0]])
            where = PUBLISHED[source][1] if source in PUBLISHED else "the maker of the chains"
            looked = f"looked for {ref.path}" if ref else f"name its folder: benchmark.folders={{{source}: FOLDER}}"
            parts.append(f"{len(ids)} of {every[source]} of {source} (get them from {where}; {looked})")
        return f"expected the signals of {len(chains)} chains, got none for {'; '.join(parts)}"

    def read(self, chain: Chain) -> EcgRecord:
        """Read a chain's record, with the age (years) and sex that its metadata state.

        Raises:
            EcgReadError: It cannot be read.
            DataError: Its place is not known.
        """
        ref = self.reference(chain)
        if ref is None:
            raise DataError(self.message([chain], {chain.source: [chain.id]}))
        record = ref.read()
        known = {"age": age_or_none(chain.facts.get("age")), "sex": normalise_sex(chain.facts.get("sex"))}
        return replace(record, meta={**record.meta, **{k: v for k, v in known.items() if v is not None}})
