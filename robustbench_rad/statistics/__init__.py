"""Estimators with honest intervals: numpy and SciPy only, nothing of models, images or plans.

Every estimator takes one number per case and the patient each case belongs to, and gives back an
:class:`~robustbench_rad.statistics.estimate.Estimate`: value, interval, and one influence number per patient, by which
any set of estimates can be resampled jointly.
"""
