"""Attenuation of soft tissue and bone by tube voltage, for beams as they reach the detector.

The effective energy of a beam is that of photons with its half-value layer in aluminium. Beams behind a patient are those of
IEC 61267 (RQA3, 5, 7, 9, 10). Mass attenuation coefficients: Hubbell and Seltzer 2004, NIST XAAMDI.
"""

from __future__ import annotations

import numpy as np

TUBE_VOLTAGES_KV = (50.0, 70.0, 90.0, 120.0, 150.0)
_HALF_VALUE_MM_AL = (3.8, 6.8, 9.2, 11.6, 13.3)
_ENERGY_KEV = (30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 150.0)
_CM2_PER_G = {
    "aluminium": (1.128, 0.5685, 0.3681, 0.2778, 0.2018, 0.1704, 0.1378),
    "water": (0.3756, 0.2683, 0.2269, 0.2059, 0.1837, 0.1707, 0.1505),
    "bone": (1.331, 0.6655, 0.4242, 0.3148, 0.2229, 0.1855, 0.1480),
}
_ALUMINIUM_G_PER_CM3 = 2.699


def effective_energy_kev(tube_voltage_kv: float) -> float:
    """Effective energy behind a patient; linear between the beams of the table.

    >>> [round(effective_energy_kev(voltage)) for voltage in (50, 70, 90, 120, 150)]
    [37, 49, 60, 74, 85]
    """
    coefficients = np.log(2.0) / (np.array(_HALF_VALUE_MM_AL) / 10.0) / _ALUMINIUM_G_PER_CM3
    table = np.log(np.array(_CM2_PER_G["aluminium"]))
    energies = np.exp(np.interp(-np.log(coefficients), -table, np.log(_ENERGY_KEV)))
    return float(np.interp(tube_voltage_kv, TUBE_VOLTAGES_KV, energies))


def attenuation_cm2_per_g(material: str, tube_voltage_kv: float) -> float:
    """Mass attenuation coefficient of ``water`` or ``bone`` at the effective energy, log-log interpolated.

    >>> round(attenuation_cm2_per_g("bone", 70) / attenuation_cm2_per_g("water", 70), 2)
    1.9
    """
    energy = np.log(effective_energy_kev(tube_voltage_kv))
    return float(np.exp(np.interp(energy, np.log(_ENERGY_KEV), np.log(_CM2_PER_G[material]))))


def contrast_factor(material: str, source_kv: float, target_kv: float) -> float:
    """By how much the log contrast of a material grows from one tube voltage to another.

    >>> round(contrast_factor("water", 125, 70), 2), round(contrast_factor("bone", 125, 70), 2)
    (1.22, 1.82)
    """
    return attenuation_cm2_per_g(material, target_kv) / attenuation_cm2_per_g(material, source_kv)
