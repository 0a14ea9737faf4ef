"""Presets: one module for each provider."""
