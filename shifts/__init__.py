"""Acquisition shifts in physical units, one file per family, in physical space."""
