"""Recorded sessions. Today: packets written as pcapng, with what was decided on each as its comment."""

from layergate.capture.pcapng import Captured, compose

__all__ = ["Captured", "compose"]
