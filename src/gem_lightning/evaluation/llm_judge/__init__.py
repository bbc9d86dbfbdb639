"""LLM judges: prompts, parsing of their output, aggregation."""
