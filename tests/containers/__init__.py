"""Tests of the images, the compose files and .env.example."""
