"""Shortcut images and probes: does the model look at the anatomy?"""
