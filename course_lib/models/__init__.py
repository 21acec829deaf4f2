"""Models: networks, and the one predictor that needs no network.

A network gets noisy data, time as a fraction in [0, 1] and an optional condition; it never sees a schedule.
"""
