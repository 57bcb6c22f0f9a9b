"""Tests that compare CUDA with the CPU, skipped where there is no CUDA device."""
