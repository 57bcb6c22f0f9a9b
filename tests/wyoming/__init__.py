"""Tests of the bridge to Home Assistant."""
