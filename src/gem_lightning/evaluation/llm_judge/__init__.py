"""LLM judges: prompts, parsing of their answers, aggregation."""
