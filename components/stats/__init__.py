"""The statistics of all stages: pure functions of counts, answers and scores.

A folder of its own, so that evaluation, report, promotion and study compute the same interval in the same way.
"""
