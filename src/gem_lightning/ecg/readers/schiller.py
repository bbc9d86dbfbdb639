"""Schiller XML (SEMA): comma-separated counts in the block ``ECG_RHYTHMS``."""

from __future__ import annotations

from gem_lightning.ecg.readers import xml
from gem_lightning.ecg.readers.base import Options, RawEcg, Source, acquired, check_rate, number, patient, years_between
from gem_lightning.errors import EcgReadError


def read(source: Source, options: Options) -> RawEcg:
    """The rhythm, not the averaged beats."""
    root = xml.parse(source)
    waves = [wave for wave in root.iter("wavedata") if xml.text(wave, "type").upper() == "ECG_RHYTHMS"]
    if not waves:
        raise EcgReadError(f"expected wavedata of type ECG_RHYTHMS, got none in {source.name}; export the rhythm")
    wave = waves[0]
    rate, exponent = (number(xml.text(wave, f"resolution/samplerate/{tag}")) for tag in ("value", "exponent"))
    step, unit = number(xml.text(wave, "resolution/yres/unitperbit")), xml.text(wave, "resolution/yres/units")
    if not rate or not step or exponent not in (None, 0.0, 1.0):
        raise EcgReadError(
            f"expected samplerate and unitperbit, got {rate} and {step} with exponent {exponent} in {source.name}; "
            "export the ECG again"
        )
    channels = list(wave.iter("channel"))
    signal = xml.equal_rows([xml.integers(xml.text(one, "data"), source) for one in channels], source) * step
    names = tuple(xml.text(one, "name") for one in channels)
    birth, taken = xml.text(root, ".//birthdate"), xml.text(root, ".//startdatetime/date") or xml.text(root, ".//date")
    meta = patient(years_between(birth, taken), xml.text(root, ".//gender"))
    meta |= acquired(xml.text(root, ".//startdatetime/time"))
    identity = xml.identity(root, ".//id", ".//lastname", ".//firstname", ".//birthdate", ".//startdatetime/date")
    statements = xml.texts(root, "statement")
    meta |= {"statements": statements} if statements else {}
    return RawEcg(signal, check_rate(rate), names, (unit or "uV",) * len(names), meta, identity)
