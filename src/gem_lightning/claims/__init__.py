"""Claims of a text about an ECG, and their verification against its measurements."""
