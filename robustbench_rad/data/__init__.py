"""Readers: one file per image format, all giving a physical image with its unit, spacing and bit depth."""
