"""Tests of the qwen3 engine: what it does around the model."""
