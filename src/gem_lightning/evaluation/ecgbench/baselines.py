"""Published figures to stand beside one's own, each with its source."""

from __future__ import annotations

GEM = "Lan et al., GEM, arXiv:2503.06073, tables 1-3"
PULSE = "Liu et al., PULSE, arXiv:2410.19008, tables 3-4"

#: Task to system to figures in per cent: AUC, F1, Hamming loss of label tasks; accuracy or judge score else.
ECG_BENCH: dict[str, dict[str, tuple[float, ...]]] = {
    "ptb-test": {
        "random": (50.3, 33.2, 50.1), "GPT-4o": (55.6, 28.3, 26.2), "PULSE": (82.4, 74.8, 11.0),
        "GEM (LLaVA)": (81.8, 73.6, 11.6), "GEM (PULSE)": (83.4, 75.8, 11.0),
    },
    "code15-test": {
        "random": (48.8, 15.0, 32.1), "GPT-4o": (59.9, 24.9, 15.7), "PULSE": (90.7, 85.4, 5.0),
        "GEM (LLaVA)": (90.5, 84.8, 5.1), "GEM (PULSE)": (91.5, 86.4, 4.7),
    },
    "cpsc-test": {
        "random": (51.2, 15.1, 28.8), "GPT-4o": (50.9, 10.6, 18.2), "PULSE": (76.9, 57.6, 8.6),
        "GEM (LLaVA)": (74.1, 52.0, 9.0), "GEM (PULSE)": (79.1, 61.1, 8.1),
    },
    "csn-test-no-cot": {
        "random": (11.6,), "GPT-4o": (57.5,), "PULSE": (85.2,), "GEM (LLaVA)": (92.6,), "GEM (PULSE)": (86.2,),
    },
    "g12-test-no-cot": {
        "random": (12.1,), "GPT-4o": (49.2,), "PULSE": (78.2,), "GEM (LLaVA)": (81.8,), "GEM (PULSE)": (80.5,),
    },
    "ecgqa-test": {
        "random": (16.2,), "GPT-4o": (35.2,), "PULSE": (73.8,), "GEM (LLaVA)": (71.0,), "GEM (PULSE)": (73.6,),
    },
    "mmmu-ecg": {"random": (24.2,), "GPT-4o": (43.5,), "PULSE": (58.0,)},
    "ptb-test-report": {
        "random": (0.0,), "GPT-4o": (50.2,), "PULSE": (61.3,), "GEM (LLaVA)": (65.0,), "GEM (PULSE)": (67.1,),
    },
    "arena": {"random": (0.0,), "GPT-4o": (33.5,), "PULSE": (38.9,)},
}  # fmt: skip

#: Judge and test set to system to the eight criteria, in the order of ``grounding.V1``.
ECG_GROUNDING: dict[str, dict[str, tuple[float, ...]]] = {
    "GPT-4o, MIMIC-IV-ECG": {
        "PULSE": (81.14, 2.37, 2.39, 7.11, 2.95, 50.18, 52.40, 51.63),
        "GEM (LLaVA)": (87.24, 4.41, 5.01, 71.07, 46.44, 75.48, 75.09, 75.28),
        "GEM (PULSE)": (86.49, 4.43, 4.91, 69.80, 45.33, 74.95, 74.70, 74.87),
    },
    "GPT-4o, PTB-XL": {
        "PULSE": (59.24, 2.20, 2.06, 11.20, 6.27, 52.52, 55.48, 53.85),
        "GEM (LLaVA)": (73.53, 4.19, 2.96, 79.54, 49.01, 74.48, 74.61, 73.84),
        "GEM (PULSE)": (73.59, 4.19, 3.00, 78.86, 47.96, 74.97, 75.41, 74.24),
    },
}
