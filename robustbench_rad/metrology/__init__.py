"""What an image says of its own making: noise, sharpness, texture, uniformity, ghosts, grey levels in use.

Pure functions of arrays, each with a known answer on a phantom; ``robustbench-rad measure`` prints them for files.
"""
