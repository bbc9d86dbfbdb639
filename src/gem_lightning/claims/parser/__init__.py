"""Stages of the claim parser: lexicon, tokens, quantities, locations, mentions, linking, negation."""
