"""Clinical criteria on measurements."""
