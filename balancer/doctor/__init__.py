"""`balancer doctor`: what to look at before trouble, and in it. One small file a subject; each check only reads."""

from balancer.doctor.examine import Examination, examine
from balancer.doctor.finding import Finding, Level
from balancer.doctor.start import refusals

__all__ = ["Examination", "Finding", "Level", "examine", "refusals"]
