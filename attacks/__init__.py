"""Adversarial attacks, one file each, in display space on the one grey plane."""
