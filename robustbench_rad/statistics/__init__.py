"""Estimators with honest intervals; knows nothing of models, images or plans."""
